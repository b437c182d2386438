//! Operators in one namespace that watch different namespaces: each has its own Lease.

use crate::fixture::{Fixture, item};
use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn operators_for_different_namespaces_are_both_active() -> Result<()> {
    let mut one = Fixture::without_operator("leases-one").await?;
    let leases = one.elect().await?;
    let mut other = Fixture::without_operator("leases-other").await?;
    // It elects a leader in the same namespace.
    other.options.leader_elect = true;
    other.environment = one.environment.clone();
    for fixture in [&mut one, &mut other] {
        fixture.start_operator().await?;
        fixture.work("true", json!({})).await?;
        fixture.group(&["a", "b"], json!({})).await?;
    }
    for fixture in [&one, &other] {
        fixture
            .until("both items have run", |g| {
                ["a", "b"].map(|name| item(g, name)["lastSuccess"].is_string()) == [true, true]
            })
            .await?;
        let leading = fixture.operator().metric("oaat_leading", &[]).await?;
        ensure!(leading == 1.0, "{}", fixture.operator().log());
    }
    let leases = leases.list(&Default::default()).await?.items;
    let prefixed = |name: &String| name.starts_with("oaat-operator-");
    let names: BTreeSet<String> = leases.iter().map(ResourceExt::name_any).collect();
    ensure!(names.len() == 2 && names.iter().all(prefixed), "{names:?}");
    let holders: BTreeSet<_> = leases
        .iter()
        .filter_map(|lease| lease.spec.as_ref()?.holder_identity.as_ref())
        .collect();
    ensure!(holders.len() == 2, "{holders:?}");
    Ok(())
}
