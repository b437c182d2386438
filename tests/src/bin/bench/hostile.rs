//! What twenty hostile policies cost the honest groups beside them: one that goes by the built-in
//! policy, and one with a policy of its own. Groups that are asked twenty times a second cost
//! something whoever decides for them, on a machine that the API server shares; so the same is
//! measured beside twenty honest ones.

use crate::handover::{collect, groups, node, steps};
use crate::policies::{create, put, start, variant, work};
use crate::samples::{Samples, ms};
use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use hostile_policies::Hostile;
use kube::Client;
use kube::api::{Patch, PatchParams};
use oaat_tests::ControlPlane;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Those that cost the most: time, memory, log, writes of the status.
const WORST: [&str; 20] = [
    "loop",
    "copy",
    "memory-fill",
    "table-fill",
    "table-grow",
    "log-flood",
    "log-slow",
    "log-lines",
    "alternate",
    "grow",
    "allocate",
    "verdicts-million",
    "verdicts-many",
    "notes-shared",
    "note-huge",
    "err-huge",
    "panic-long",
    "recurse",
    "note-changes",
    "until-moves",
];

/// The honest groups that are measured.
const HONEST: [&str; 2] = ["honest", "honest-own-policy"];

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path, runs: usize) -> Result<()> {
    let client = plane.admin();
    let (all, heavy) = tokio::task::spawn_blocking(|| {
        anyhow::Ok((hostile_policies::all()?, hostile_policies::heavy()?))
    })
    .await??;
    let worst: Vec<Hostile> = all
        .into_iter()
        .filter(|policy| WORST.contains(&policy.name))
        .collect();
    ensure!(worst.len() == WORST.len(), "{} are there", worst.len());
    let mut measured = Vec::new();
    let honest: Vec<_> = (0..WORST.len())
        .map(|number| Neighbour {
            name: format!("neighbour-{number}"),
            bytes: variant(1 + number),
        })
        .collect();
    let worst: Vec<_> = worst.into_iter().map(Neighbour::from).collect();
    let places = [
        ("alone", &[][..]),
        ("beside-honest", &honest[..]),
        ("beside-hostile", &worst[..]),
    ];
    for (namespace, enemies) in places {
        let _node = node(plane, namespace).await?;
        work(plane, namespace, "0.15").await?;
        for policy in enemies {
            put(&client, namespace, &policy.name, policy.bytes.clone()).await?;
            neighbour(&client, namespace, &policy.name).await?;
        }
        put(&client, namespace, "own", variant(0)).await?;
        let items: Vec<_> = (0..20).map(|i| format!("item-{i}")).collect();
        for name in HONEST {
            let mut spec = json!({ "oaatType": "work", "oaatItems": items, "frequency": "1ms", "podHistoryLimit": 10 });
            if name == "honest-own-policy" {
                spec["policy"] = json!({ "configMap": { "name": "own" } });
            }
            create(&client, namespace, name, spec).await?;
        }
        let operator = start(plane, kubeconfig, namespace).await?;
        let names = enemies.iter().map(|policy| policy.name.clone());
        let poke = tokio::spawn(poke(client.clone(), namespace.to_owned(), names.collect()));
        let bombs = match namespace {
            "beside-hostile" => {
                tokio::spawn(upload(client.clone(), namespace.to_owned(), heavy.clone()))
            }
            _ => tokio::spawn(async { Ok(()) }),
        };
        // At the same time, as they would run.
        let (default, own) = tokio::join!(
            collect(steps(&client, namespace, HONEST[0]), runs),
            collect(steps(&client, namespace, HONEST[1]), runs)
        );
        poke.abort();
        bombs.abort();
        measured.push([default?, own?]);
        drop(operator);
    }
    let [alone, honest, hostile] = &measured[..] else {
        return Ok(());
    };
    for (place, name) in ["the built-in policy", "a policy of its own"]
        .iter()
        .enumerate()
    {
        println!("hand-over of an honest group with {name}:");
        let figures = |words: &str, samples: &Samples| {
            let (half, most) = (samples.quantile(0.5), samples.quantile(0.99));
            println!(
                "  {words:<52} p50 {:>8}, p99 {:>8}: × {:.2} and {:.2}",
                ms(half),
                ms(most),
                half.as_secs_f64() / alone[place].quantile(0.5).as_secs_f64(),
                most.as_secs_f64() / alone[place].quantile(0.99).as_secs_f64(),
            );
        };
        let beside = WORST.len();
        figures("alone", &alone[place]);
        figures(&format!("beside {beside} honest ones"), &honest[place]);
        figures(
            &format!("beside {beside} hostile ones and bombs for the compiler"),
            &hostile[place],
        );
        println!("  (goal: p99 beside hostile ones × 2)");
    }
    Ok(())
}

/// A group beside the honest ones, and its policy.
struct Neighbour {
    name: String,
    bytes: Vec<u8>,
}

impl From<Hostile> for Neighbour {
    fn from(policy: Hostile) -> Self {
        Self {
            name: format!("hostile-{}", policy.name),
            bytes: policy.bytes,
        }
    }
}

/// A group with the policy in a ConfigMap of the same name.
async fn neighbour(client: &Client, namespace: &str, name: &str) -> Result<()> {
    // Of a type that is refused would not be asked: these are, and start nothing for long.
    let policy = json!({ "configMap": { "name": name } });
    let spec =
        json!({ "oaatType": "work", "oaatItems": ["a", "b"], "frequency": "1h", "policy": policy });
    create(client, namespace, name, spec).await
}

/// A change of the spec has the policy asked again: twenty times a second, in turn.
async fn poke(client: Client, namespace: String, names: Vec<String>) -> Result<()> {
    for round in 0_u64.. {
        for name in &names {
            let spec = json!({ "spec": { "failureCoolOff": format!("{}ms", 1 + round % 1000) } });
            groups(&client, &namespace)
                .patch(name, &PatchParams::default(), &Patch::Merge(&spec))
                .await
                .context("poke")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if names.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Uploads components that are as much work to compile as is accepted, a new one each second, so
/// that the compiler is never idle.
async fn upload(client: Client, namespace: String, heavy: Vec<Hostile>) -> Result<()> {
    let name = "hostile-bombs";
    let mut known = false;
    for number in 0_u64.. {
        let bomb = &heavy[number as usize % heavy.len()];
        let mut wasm = bomb.bytes.clone();
        // Another digest each time.
        wasm.extend([0, 10, 1, b'n']);
        wasm.extend(number.to_le_bytes());
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&wasm)?;
        put(&client, &namespace, name, gz.finish()?).await?;
        if !known {
            neighbour(&client, &namespace, name).await?;
            known = true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
