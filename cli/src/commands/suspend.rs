//! `kubectl oaat suspend` and `kubectl oaat resume`.

use crate::cluster::{Access, ClusterArgs, ClusterError, Session, patch_params, read_group};
use crate::terminal::print;
use crate::views::{SUSPENDED_BY, SUSPENSION_REASON, Suspension};
use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{Patch, PostParams};
use oaat_api::text::{self, clean};
use oaat_api::validate::{PAUSED, suspended};
use serde_json::{Value, json};

/// Arguments of `suspend`.
#[derive(Args, Debug)]
pub struct SuspendArgs {
    /// The groups.
    #[arg(required = true)]
    groups: Vec<String>,
    /// Why the group is suspended, for status and why.
    #[arg(short, long)]
    reason: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Arguments of `resume`.
#[derive(Args, Debug)]
pub struct ResumeArgs {
    /// The groups.
    #[arg(required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn suspend(args: &SuspendArgs) -> Result<(), ClusterError> {
    let reason = clean(&args.reason, text::PROBLEM);
    if reason.is_empty() {
        return Err(ClusterError::Usage("--reason must not be empty".to_owned()));
    }
    let session = Session::new(&args.cluster).await?;
    let user = user(&session).await?;
    let mut printed = Ok(());
    for name in &args.groups {
        let earlier = suspend_group(&session, name, &reason, &user).await?;
        let earlier = earlier.map(|earlier| format!(" (it was already {})", earlier.describe()));
        // The other groups are suspended even if nothing reads the output.
        printed = print(&format!(
            "oaatgroup.kawaja.net/{name} suspended{}\n",
            earlier.unwrap_or_default()
        ));
    }
    Ok(printed?)
}

/// Suspends a group, and returns its earlier suspension.
pub(super) async fn suspend_group(
    session: &Session,
    name: &str,
    reason: &str,
    user: &str,
) -> Result<Option<Suspension>, ClusterError> {
    // Also reports a missing group with similar names.
    let earlier = Suspension::of(&read_group(session, name).await?);
    let change = json!({
        "metadata": { "annotations": { SUSPENSION_REASON: reason, SUSPENDED_BY: user } },
        "spec": { "suspend": true },
    });
    patch(session, name, &change).await?;
    Ok(earlier)
}

pub(super) async fn resume(args: &ResumeArgs) -> Result<(), ClusterError> {
    let session = Session::new(&args.cluster).await?;
    let mut printed = Ok(());
    for name in &args.groups {
        let result = if resume_group(&session, name).await? {
            "resumed"
        } else {
            "was not suspended"
        };
        printed = print(&format!("oaatgroup.kawaja.net/{name} {result}\n"));
    }
    Ok(printed?)
}

/// Resumes a group, and returns whether it was suspended.
pub(super) async fn resume_group(session: &Session, name: &str) -> Result<bool, ClusterError> {
    let group = read_group(session, name).await?;
    // The field is removed, so that a manifest without it describes the same group.
    let change = json!({
        "metadata": { "annotations": {
            SUSPENSION_REASON: null, SUSPENDED_BY: null, PAUSED: null,
        } },
        "spec": { "suspend": null },
    });
    patch(session, name, &change).await?;
    Ok(suspended(&group).is_some())
}

async fn patch(session: &Session, name: &str, change: &Value) -> Result<(), ClusterError> {
    let namespace = Some(session.namespace.as_str());
    let api = session.groups(namespace);
    let (params, change) = (patch_params(), Patch::Merge(change));
    let access = Access::groups("patch", namespace);
    session
        .request(access, api.patch(name, &params, &change))
        .await?;
    Ok(())
}

/// Returns the name of the user as the API server knows it. The name in a kubeconfig is only a
/// label.
pub(super) async fn user(session: &Session) -> Result<String, ClusterError> {
    let api: Api<SelfSubjectReview> = Api::all(session.client.clone());
    let access = Access::new(
        "create",
        "authentication.k8s.io",
        "selfsubjectreviews",
        None,
    );
    let (params, review) = (PostParams::default(), SelfSubjectReview::default());
    let review = session
        .request(access, api.create(&params, &review))
        .await?;
    let user = review.status.and_then(|status| status.user_info);
    let name = user.and_then(|user| user.username).unwrap_or_default();
    Ok(clean(&name, text::PROBLEM))
}
