//! `kubectl oaat doctor`.

mod checks;

use super::Scope;
use super::output::{Format, print_as};
use crate::cluster::{Access, ClusterError, Session, read_groups};
use checks::{Check, Finding};
use chrono::DateTime;
use clap::Args;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::{Api, ResourceExt};
use oaat_api::Timestamp;
use std::process::ExitCode;

/// The API group and version of the kinds.
const API_VERSION: &str = "kawaja.net/v1";
/// The kinds that the CustomResourceDefinitions define, by their plural names.
const KINDS: [&str; 2] = ["oaatgroups", "oaattypes"];
/// The name of the guard and of its binding in the manifests. The chart prefixes it with the name of
/// the release.
const GUARD: &str = "oaat-operator-guard";
/// The labels of the objects of an installation.
const LABELS: (&str, &str) = ("app.kubernetes.io/name", "oaat-operator");
/// The prefix of the names of the operator's Leases.
const LEASE: &str = "oaat-operator";

/// What the commands need: verb, API group, resource, and subresource.
const RIGHTS: [(&str, &str, &str, &str, &str); 7] = [
    (
        "list",
        "kawaja.net",
        "oaatgroups",
        "",
        "status, why, history, run, and logs",
    ),
    (
        "watch",
        "kawaja.net",
        "oaatgroups",
        "",
        "status --watch and run --wait",
    ),
    (
        "patch",
        "kawaja.net",
        "oaatgroups",
        "",
        "run, suspend, and resume",
    ),
    ("list", "", "pods", "", "logs"),
    ("get", "", "pods", "", "run --wait"),
    ("get", "", "pods", "log", "logs and run --wait"),
    (
        "get",
        "",
        "configmaps",
        "",
        "next and forecast of groups with their own policy",
    ),
];

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// The namespace of the operator.
    #[arg(long, default_value = "oaat-operator")]
    operator_namespace: String,
    #[command(flatten)]
    scope: Scope,
    /// The format of the output. The default is a list of checks.
    #[arg(short, long)]
    output: Option<Format>,
}

/// Runs all checks. The exit status is 1 if at least one of them failed.
pub(super) async fn run(args: &DoctorArgs) -> Result<ExitCode, ClusterError> {
    let session = args.scope.session().await?;
    let mut checks = Vec::new();
    let kinds = kinds(&session).await;
    let has_kinds = kinds.as_ref().is_ok_and(|missing| missing.is_empty());
    checks.push(checks::kinds(&kinds));
    checks.push(rights(&session, args.scope.namespace(&session)).await);
    checks.push(checks::guard(&guard(&session).await));
    let leases = leases(&session, &args.operator_namespace).await;
    // Right after the Leases, because a Lease that is renewed in between looks like a clock that is ahead.
    let clock = server_clock(&session).await?;
    checks.push(checks::leader(
        &leases,
        &args.operator_namespace,
        clock.server,
    ));
    checks.push(checks::clocks(&clock, &leases));
    if has_kinds {
        let groups = read_groups(&session, args.scope.namespace(&session)).await;
        checks.extend(checks::groups(&groups));
    }
    let printed = print_as(args.output, &checks, |_| checks::text(&checks));
    if checks.iter().any(|check| check.finding == Finding::Failed) {
        return Ok(ExitCode::FAILURE);
    }
    printed?;
    Ok(ExitCode::SUCCESS)
}

/// Compares the clock of this machine with that of the API server.
async fn server_clock(session: &Session) -> Result<checks::Clock, ClusterError> {
    let access = Access::new("get", "", "/version", None);
    let before = Timestamp::now();
    let request = async {
        let request = http::Request::get("/version").body(Body::empty());
        let request = request.map_err(kube::Error::HttpError)?;
        session.client.send(request).await
    };
    let response = session.request(access, request).await?;
    let after = Timestamp::now();
    let date = response.headers().get(http::header::DATE);
    let date = date.and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
    Ok(checks::Clock {
        before,
        after,
        server: date.map(|date| Timestamp(date.timestamp_millis())),
    })
}

/// Returns the kinds that are missing.
async fn kinds(session: &Session) -> Result<Vec<&'static str>, ClusterError> {
    let access = Access::new("get", "", "/apis", None);
    let list = async {
        match session.client.list_api_group_resources(API_VERSION).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            list => list.map(|list| list.resources),
        }
    };
    let found = session.request(access, list).await?;
    let is_missing = |kind: &&str| !found.iter().any(|resource| resource.name == **kind);
    Ok(KINDS.into_iter().filter(is_missing).collect())
}

/// Checks the rights of the user in a namespace, or in all namespaces.
async fn rights(session: &Session, namespace: Option<&str>) -> Check {
    let api: Api<SelfSubjectAccessReview> = Api::all(session.client.clone());
    let mut missing = Vec::new();
    for (verb, group, resource, subresource, used_by) in RIGHTS {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: namespace.map(str::to_owned),
                    verb: Some(verb.to_owned()),
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: Some(subresource.to_owned()).filter(|s| !s.is_empty()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        let access = Access::new(
            "create",
            "authorization.k8s.io",
            "selfsubjectaccessreviews",
            None,
        );
        let params = PostParams::default();
        match session.request(access, api.create(&params, &review)).await {
            Ok(review) if review.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(_) => missing.push(checks::MissingRight {
                verb,
                resource: match subresource {
                    "" => resource.to_owned(),
                    sub => format!("{resource}/{sub}"),
                },
                used_by,
            }),
            Err(error) => return Check::unknown("permissions", &error),
        }
    }
    checks::rights(&missing)
}

/// Returns whether a guard exists, and whether one of them has a binding.
async fn guard(session: &Session) -> Result<checks::Guard, ClusterError> {
    let group = "admissionregistration.k8s.io";
    let all = ListParams::default();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(session.client.clone());
    let access = Access::new("list", group, "validatingadmissionpolicies", None);
    let policies = session.request(access, policies.list(&all)).await?.items;
    let (label, value) = LABELS;
    let is_guard = |policy: &ValidatingAdmissionPolicy| {
        policy.name_any() == GUARD || policy.labels().get(label).is_some_and(|l| l == value)
    };
    let guards = policies.iter().filter(|policy| is_guard(policy));
    let guards: Vec<String> = guards.map(ResourceExt::name_any).collect();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(session.client.clone());
    let access = Access::new("list", group, "validatingadmissionpolicybindings", None);
    let bindings = session.request(access, bindings.list(&all)).await?.items;
    let bound = |guard: &String| {
        let specs = bindings.iter().filter_map(|binding| binding.spec.as_ref());
        specs
            .into_iter()
            .any(|spec| spec.policy_name.as_ref() == Some(guard))
    };
    let is_bound = guards.iter().any(bound);
    Ok(checks::Guard {
        names: guards,
        is_bound,
    })
}

/// Returns the Leases of operators.
async fn leases(session: &Session, namespace: &str) -> Result<Vec<Lease>, ClusterError> {
    let api: Api<Lease> = Api::namespaced(session.client.clone(), namespace);
    let access = Access::new("list", "coordination.k8s.io", "leases", Some(namespace));
    let params = ListParams::default().limit(500);
    let list = session.request(access, api.list(&params)).await?;
    let mut leases = list.items;
    leases.retain(|lease| {
        let name = lease.metadata.name.as_deref();
        name.is_some_and(|name| name.starts_with(LEASE))
    });
    Ok(leases)
}
