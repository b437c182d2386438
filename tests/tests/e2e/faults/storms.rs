use crate::fixture::{say, shared};
use anyhow::{Result, ensure};
use oaat_tests::storm::{StormOptions, seed, storm};
use oaat_tests::{Options, operator};
use std::path::Path;
use std::time::Duration;

/// Returns a storm with three operators, all of which act.
fn options(kubeconfig: &Path, binary: &Path, namespace: &str) -> Result<StormOptions> {
    Ok(StormOptions {
        binary: binary.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
        namespace: namespace.into(),
        groups: 3,
        replicas: 3,
        leader_elect: false,
        kills: 100,
        lasts: Duration::ZERO,
        pause: Duration::from_millis(700),
        restarts: None,
        seed: seed()?,
    })
}

#[tokio::test]
async fn operators_survive_storms_with_and_without_leader_election() -> Result<()> {
    let (plane, kubeconfig, binary) = shared().await?;
    let of_two = StormOptions {
        replicas: 2,
        leader_elect: true,
        kills: 15,
        pause: Duration::from_secs(4),
        ..options(kubeconfig, binary, "storm-two")?
    };
    let of_three = StormOptions {
        replicas: 3,
        namespace: "storm-three".into(),
        seed: of_two.seed.wrapping_add(1),
        ..of_two.clone()
    };
    // With leader election, operators mostly wait for their lease.
    let (all_act, two, three) = tokio::join!(
        storm(plane, options(kubeconfig, binary, "storm")?),
        storm(plane, of_two),
        storm(plane, of_three),
    );
    say(&format!(
        "storm with three operators without leader election: {all_act}"
    ));
    say(&format!(
        "storm with two operators and leader election: {two}"
    ));
    say(&format!(
        "storm with three operators and leader election: {three}"
    ));
    for report in [all_act, two, three] {
        report.judge()?;
    }
    Ok(())
}

#[tokio::test]
async fn operators_and_servers_survive_a_storm() -> Result<()> {
    let (_, _, binary) = shared().await?;
    let (plane, kubeconfig) = operator::installed(Options::default()).await?;
    let options = StormOptions {
        replicas: 2,
        kills: 80,
        restarts: Some(Duration::from_secs(10)),
        ..options(&kubeconfig, binary, "storm")?
    };
    let report = storm(&plane, options).await;
    say(&format!("storm with restarts of the servers: {report}"));
    report.judge()?;
    ensure!(report.restarts > 0);
    Ok(())
}
