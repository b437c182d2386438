//! `kubectl oaat doctor`.

mod checks;

use super::Scope;
use super::output::{Format, print_as};
use crate::cluster::{Access, ClusterError, Session, read_groups};
use checks::{Check, Finding, PERMISSIONS, Permission};
use chrono::DateTime;
use clap::Args;
use futures::future::try_join_all;
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
pub(super) const LABELS: (&str, &str) = ("app.kubernetes.io/name", "oaat-operator");
/// The prefix of the names of the operator's Leases.
const LEASE: &str = "oaat-operator";

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
    let namespace = args.scope.namespace(&session);
    let checks = checks(&session, namespace, &args.operator_namespace).await?;
    let printed = print_as(args.output, &checks, |_| checks::text(&checks));
    if checks.iter().any(|check| check.finding == Finding::Failed) {
        return Ok(ExitCode::FAILURE);
    }
    printed?;
    Ok(ExitCode::SUCCESS)
}

/// Makes all checks, of the groups in a namespace or in all namespaces.
pub(super) async fn checks(
    session: &Session,
    namespace: Option<&str>,
    operator_namespace: &str,
) -> Result<Vec<Check>, ClusterError> {
    let leases_and_clock = async {
        let leases = leases(session, operator_namespace).await;
        // Right after the Leases, because a Lease that is renewed in between looks like a clock that
        // is ahead.
        (leases, server_clock(session).await)
    };
    let (kinds, permissions, guard, (leases, clock), groups) = tokio::join!(
        kinds(session),
        permissions(session, namespace),
        guard(session),
        leases_and_clock,
        read_groups(session, namespace),
    );
    let clock = clock?;
    let mut checks = vec![
        checks::kinds(&kinds),
        permissions,
        checks::guard(&guard),
        checks::leader(&leases, operator_namespace, clock.server),
        checks::clocks(&clock, &leases),
    ];
    if kinds.is_ok_and(|missing| missing.is_empty()) {
        checks.extend(checks::groups(&groups));
    }
    Ok(checks)
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

/// Checks the permissions of the user in a namespace, or in all namespaces.
async fn permissions(session: &Session, namespace: Option<&str>) -> Check {
    let reviews = PERMISSIONS.map(|needed| is_allowed(session, namespace, needed));
    match try_join_all(reviews).await {
        Ok(allowed) => {
            let missing = PERMISSIONS.into_iter().zip(allowed);
            let missing = missing.filter(|(_, is_allowed)| !is_allowed);
            let missing: Vec<_> = missing.map(|(needed, _)| needed).collect();
            checks::permissions(&missing)
        }
        Err(error) => Check::unknown("permissions", &error),
    }
}

/// Asks the API server whether the user has a permission.
async fn is_allowed(
    session: &Session,
    namespace: Option<&str>,
    needed: Permission,
) -> Result<bool, ClusterError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(session.client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: namespace.map(str::to_owned),
                verb: Some(needed.verb.to_owned()),
                group: Some(needed.group.to_owned()),
                resource: Some(needed.resource.to_owned()),
                subresource: needed.subresource.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let (group, resource) = ("authorization.k8s.io", "selfsubjectaccessreviews");
    let access = Access::new("create", group, resource, None);
    let params = PostParams::default();
    let review = session
        .request(access, api.create(&params, &review))
        .await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}

/// Returns whether a guard exists, and whether one of them has a binding.
async fn guard(session: &Session) -> Result<checks::Guard, ClusterError> {
    let group = "admissionregistration.k8s.io";
    let all = ListParams::default();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(session.client.clone());
    let of_policies = Access::new("list", group, "validatingadmissionpolicies", None);
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(session.client.clone());
    let of_bindings = Access::new("list", group, "validatingadmissionpolicybindings", None);
    let (policies, bindings) = tokio::try_join!(
        session.request(of_policies, policies.list(&all)),
        session.request(of_bindings, bindings.list(&all)),
    )?;
    let (label, value) = LABELS;
    let is_guard = |policy: &ValidatingAdmissionPolicy| {
        policy.name_any() == GUARD || policy.labels().get(label).is_some_and(|l| l == value)
    };
    let guards = policies.items.iter().filter(|policy| is_guard(policy));
    let guards: Vec<String> = guards.map(ResourceExt::name_any).collect();
    let bound = |guard: &String| {
        let mut specs = bindings
            .items
            .iter()
            .filter_map(|binding| binding.spec.as_ref());
        specs.any(|spec| spec.policy_name.as_ref() == Some(guard))
    };
    let is_bound = guards.iter().any(bound);
    Ok(checks::Guard {
        names: guards,
        is_bound,
    })
}

/// Returns the Leases of operators.
pub(super) async fn leases(session: &Session, namespace: &str) -> Result<Vec<Lease>, ClusterError> {
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
