//! The effect of ten hostile namespaces on two honest groups in another namespace: one with the
//! built-in policy, and one with its own policy.
//!
//! Twenty decisions a second cost time even with honest policies, because the API server runs on
//! the same machine. For comparison, the same is measured with ten honest namespaces, and with
//! hostile namespaces that the operator does not watch, which shows the cost of their writes alone.

use crate::handover::{collect, groups, node, steps};
use crate::policies::{create, put, start_in, variant, work};
use crate::samples::{Samples, ms};
use anyhow::{Context, Result, ensure};
use kube::Client;
use kube::api::{Patch, PatchParams};
use oaat_tests::ControlPlane;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// The number of hostile namespaces.
const NAMESPACES: usize = 10;

/// The most expensive hostile policies, by time, memory, log, or writes of the status.
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
/// The goal for the ratio of the p99 of handovers with and without hostile namespaces.
const GOAL: f64 = 1.5;

/// A group in another namespace, and its policy.
struct Neighbor {
    namespace: String,
    name: String,
    bytes: Vec<u8>,
}

/// Returns groups with these policies, distributed over [`NAMESPACES`] namespaces.
fn neighbors(prefix: &str, policies: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<Neighbor> {
    let numbered = policies.enumerate();
    numbered
        .map(|(number, (name, bytes))| Neighbor {
            namespace: format!("{prefix}-{}", number % NAMESPACES),
            name,
            bytes,
        })
        .collect()
}

pub async fn measure(plane: &ControlPlane, kubeconfig: &Path, runs: usize) -> Result<()> {
    let all = tokio::task::spawn_blocking(hostile_policies::all).await??;
    let worst = all
        .into_iter()
        .filter(|policy| WORST.contains(&policy.name));
    let worst: Vec<_> = worst.map(|p| (p.name.to_owned(), p.bytes)).collect();
    ensure!(
        worst.len() == WORST.len(),
        "found {} of the policies",
        worst.len()
    );
    let honest = (0..WORST.len()).map(|n| (format!("neighbor-{n}"), variant(1 + n)));
    let setups = [
        ("alone", Vec::new()),
        ("honest", neighbors("honest", honest)),
        (
            "unwatched",
            neighbors("unwatched", worst.clone().into_iter()),
        ),
        ("hostile", neighbors("hostile", worst.into_iter())),
    ];
    let mut measured = Vec::new();
    for (setup, neighbors) in setups {
        measured.push(measure_with(plane, kubeconfig, setup, neighbors, runs).await?);
    }
    let [alone, honest, unwatched, hostile] = &measured[..] else {
        return Ok(());
    };
    for (group, name) in ["the built-in policy", "its own policy"].iter().enumerate() {
        println!("handover of an honest group with {name}:");
        let alone = &alone[group];
        for (words, samples) in [
            ("alone", alone),
            ("with ten honest namespaces", &honest[group]),
            ("with only the hostile writes", &unwatched[group]),
            ("with ten hostile namespaces", &hostile[group]),
        ] {
            let (half, most) = (samples.quantile(0.5), samples.quantile(0.99));
            println!(
                "  {words:<31} p50 {:>8}, p99 {:>8}: × {:.2} and {:.2}",
                ms(half),
                ms(most),
                half.as_secs_f64() / alone.quantile(0.5).as_secs_f64(),
                most.as_secs_f64() / alone.quantile(0.99).as_secs_f64(),
            );
        }
        println!("  (goal: p99 with hostile namespaces × {GOAL})");
    }
    Ok(())
}

/// Returns the CPU time of the involved processes and of their children, in seconds.
fn cpu_seconds() -> BTreeMap<String, f64> {
    const TICKS: f64 = 100.0;
    let mut seconds = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((head, fields)) = stat.rsplit_once(") ") else {
            continue;
        };
        let Some((_, name)) = head.split_once('(') else {
            continue;
        };
        if !["bench", "etcd", "kube-apiserver", "oaat-operator"].contains(&name) {
            continue;
        }
        // utime, stime, cutime, and cstime: fields 14 to 17 of proc_pid_stat(5).
        let times: Vec<f64> = fields
            .split(' ')
            .skip(11)
            .take(4)
            .flat_map(str::parse)
            .collect();
        if let [user, system, child_user, child_system] = times[..] {
            *seconds.entry(name.to_owned()).or_default() += (user + system) / TICKS;
            let children = seconds.entry(format!("{name} children")).or_default();
            *children += (child_user + child_system) / TICKS;
        }
    }
    seconds
}

/// Measures handovers of the two honest groups with these neighbors.
async fn measure_with(
    plane: &ControlPlane,
    kubeconfig: &Path,
    setup: &str,
    neighbors: Vec<Neighbor>,
    runs: usize,
) -> Result<[Samples; 2]> {
    let client = plane.admin();
    let namespace = format!("beside-{setup}");
    let _node = node(plane, &namespace).await?;
    work(plane, &namespace, "0.15").await?;
    let mut namespaces: Vec<_> = neighbors.iter().map(|n| n.namespace.clone()).collect();
    namespaces.sort();
    namespaces.dedup();
    for namespace in &namespaces {
        plane.namespace(namespace).await?;
        work(plane, namespace, "0.15").await?;
    }
    for neighbor in &neighbors {
        put(
            &client,
            &neighbor.namespace,
            &neighbor.name,
            neighbor.bytes.clone(),
        )
        .await?;
        with_policy(&client, &neighbor.namespace, &neighbor.name).await?;
    }
    put(&client, &namespace, "own", variant(0)).await?;
    let items: Vec<_> = (0..20).map(|i| format!("item-{i}")).collect();
    for name in HONEST {
        let mut spec = json!({ "oaatType": "work", "oaatItems": items, "frequency": "1ms", "podHistoryLimit": 10 });
        if name == "honest-own-policy" {
            spec["policy"] = json!({ "configMap": { "name": "own" } });
        }
        create(&client, &namespace, name, spec).await?;
    }
    let attacked = match setup {
        "hostile" | "unwatched" => namespaces.clone(),
        _ => Vec::new(),
    };
    if setup == "unwatched" {
        namespaces.clear();
    }
    namespaces.push(namespace.clone());
    let operator = start_in(plane, kubeconfig, namespaces).await?;
    let poke = tokio::spawn(poke(client.clone(), neighbors));
    let attack = tokio::spawn(attack(client.clone(), attacked));
    let (before, started) = (cpu_seconds(), Instant::now());
    // Concurrently, as in production.
    let (default, own) = tokio::join!(
        collect(steps(&client, &namespace, HONEST[0]), runs),
        collect(steps(&client, &namespace, HONEST[1]), runs)
    );
    // The results are invalid if a task of the neighbors has ended.
    ensure!(
        !poke.is_finished() && !attack.is_finished(),
        "the writes of the neighbors ended early"
    );
    let elapsed = started.elapsed().as_secs_f64();
    println!("cores in use ({setup}):");
    for (name, seconds) in cpu_seconds() {
        let before = before.get(&name).copied().unwrap_or_default();
        println!("  {name:<31} {:.2}", (seconds - before) / elapsed);
    }
    poke.abort();
    attack.abort();
    drop(operator);
    Ok([default?, own?])
}

/// Creates a group with the policy in the ConfigMap of the same name.
async fn with_policy(client: &Client, namespace: &str, name: &str) -> Result<()> {
    // The type must be valid, because the policy is not asked otherwise. The frequency is long, so
    // the groups start few runs.
    let policy = json!({ "configMap": { "name": name } });
    let spec =
        json!({ "oaatType": "work", "oaatItems": ["a", "b"], "frequency": "1h", "policy": policy });
    create(client, namespace, name, spec).await
}

/// Changes the spec of the neighbors in turn, twenty times a second, so that their policies are
/// asked.
async fn poke(client: Client, neighbors: Vec<Neighbor>) -> Result<()> {
    for round in 0_u64.. {
        for neighbor in &neighbors {
            let spec = json!({ "spec": { "failureCoolOff": format!("{}ms", 1 + round % 1000) } });
            groups(&client, &neighbor.namespace)
                .patch(
                    &neighbor.name,
                    &PatchParams::default(),
                    &Patch::Merge(&spec),
                )
                .await
                .context("poke")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if neighbors.is_empty() {
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

/// Writes a component that attacks the compiler each second, to each namespace in turn, so that the
/// compiler is never idle. Also writes lists and annotations, which are parsed after each change.
async fn attack(client: Client, namespaces: Vec<String>) -> Result<()> {
    if namespaces.is_empty() {
        std::future::pending::<()>().await;
    }
    let attacks = tokio::task::spawn_blocking(hostile_policies::attacks).await??;
    // Uncompressed, so that appended bytes change the digest, and small enough for a ConfigMap.
    let attacks = attacks
        .iter()
        .filter(|a| a.bytes.starts_with(b"\0asm") && a.bytes.len() < 500_000);
    let attacks: Vec<_> = attacks.collect();
    let lists = hostile_policies::lists();
    let lists: Vec<_> = lists
        .iter()
        .filter(|list| list.text.len() < 200_000)
        .collect();
    let annotations = hostile_policies::run_now();
    let name = "attack";
    for number in 0_usize.. {
        let namespace = &namespaces[number % namespaces.len()];
        let mut wasm = attacks[number * 7 % attacks.len()].bytes.clone();
        wasm.extend([0, 10, 1, b'n']);
        wasm.extend(number.to_le_bytes());
        put(&client, namespace, name, wasm).await?;
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "lists" },
            "data": { "items": lists[number % lists.len()].text },
        });
        let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
            kube::Api::namespaced(client.clone(), namespace);
        let params = PatchParams::apply("bench").force();
        maps.patch("lists", &params, &Patch::Apply(&map)).await?;
        if number < namespaces.len() {
            with_policy(&client, namespace, name).await?;
        }
        let annotation = &annotations[number % annotations.len()].text;
        let change = json!({
            "metadata": { "annotations": { "oaat.kawaja.net/run-now": annotation } },
            "spec": { "itemsFrom": [{ "name": "s", "configMap": { "name": "lists" } }] },
        });
        groups(&client, namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
