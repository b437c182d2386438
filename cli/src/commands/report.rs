//! `kubectl oaat report`.

mod bundle;
mod kinds;
mod list;
mod redact;
mod without_output;

use super::{Scope, doctor};
use crate::cluster::{Access, ClusterError, Session};
use crate::terminal::print;
use bundle::Bundle;
use clap::Args;
use futures::AsyncReadExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::Api;
use kube::api::{ListParams, LogParams};
use list::{list, list_if, take};
use oaat_api::{OaatGroup, OaatType, Timestamp, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The maximum number of ConfigMaps with policies.
const MAX_POLICIES: usize = 50;
/// The maximum number of operator pods whose logs are read.
const MAX_LOGS: usize = 10;
/// The maximum length of a log in bytes. Its end is kept.
const MAX_LOG: usize = 1 << 20;
/// The maximum number of lines of a log that are read.
const MAX_LOG_LINES: i64 = 20_000;
/// The label of the pods of runs.
const RUN: &str = "oaat.kawaja.net/group";
/// The label of the pods that list items.
const LISTER: &str = "oaat.kawaja.net/lists-items-of";

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The file to write. The default is oaat-report-TIME.tar.gz in the current directory.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The namespace of the operator.
    #[arg(long, default_value = "oaat-operator")]
    operator_namespace: String,
    #[command(flatten)]
    scope: Scope,
}

pub(super) async fn run(args: &ReportArgs) -> Result<(), ClusterError> {
    let session = args.scope.session().await?;
    let now = Timestamp::now();
    let folder = format!("oaat-report-{}", now.seconds().to_string().replace(':', ""));
    let default = || PathBuf::from(format!("{folder}.tar.gz"));
    let file = args.output.clone().unwrap_or_else(default);
    let mut bundle = Bundle::new(now);
    add_groups(&mut bundle, &session, args.scope.namespace(&session)).await;
    add_operator(&mut bundle, &session, &args.operator_namespace).await;
    add_checks(&mut bundle, &session, args).await;
    let missing = bundle.missing().to_vec();
    let archive = bundle.archive(&folder)?;
    create(&file, &archive)?;
    let mut lines = vec![format!(
        "report written to {} ({} KiB); read it before you publish it",
        file.display(),
        archive.len().div_ceil(1024)
    )];
    lines.extend(missing.iter().map(|line| format!("not included: {line}")));
    Ok(print(&format!("{}\n", lines.join("\n")))?)
}

/// Creates the file of a report. Only its owner can read it.
fn create(file: &Path, archive: &[u8]) -> Result<(), ClusterError> {
    let mut options = std::fs::OpenOptions::new();
    // This fails if the file exists, even as a symbolic link.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Ok(mut created) => Ok(created.write_all(archive)?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(ClusterError::Usage(format!(
                "{}: the file already exists; remove it, or use another --output",
                file.display()
            )))
        }
        Err(error) => Err(error.into()),
    }
}

/// Adds the groups, their types, policies, pods, and events.
async fn add_groups(bundle: &mut Bundle, session: &Session, namespace: Option<&str>) {
    let all = ListParams::default();
    let runs = ListParams::default().labels(RUN);
    let listers = ListParams::default().labels(LISTER);
    let on = |kind: &str| ListParams::default().fields(&format!("involvedObject.kind={kind}"));
    let (on_groups, on_types, on_pods) = (on("OaatGroup"), on("OaatType"), on("Pod"));
    let (groups, types, runs, listers, group_events, type_events) = tokio::join!(
        list::<OaatGroup>(session, "oaatgroups", namespace, &all),
        list::<OaatType>(session, "oaattypes", namespace, &all),
        list::<Pod>(session, "pods", namespace, &runs),
        list::<Pod>(session, "pods", namespace, &listers),
        list::<Event>(session, "events", namespace, &on_groups),
        list::<Event>(session, "events", namespace, &on_types),
    );
    let groups = take(bundle, "groups", groups);
    bundle.add_groups("groups.json", &groups);
    let types = take(bundle, "types", types);
    bundle.add("types.json", &types, kinds::TYPE);
    let mut pods = take(bundle, "pods of runs", runs);
    pods.extend(take(bundle, "pods that list items", listers));
    bundle.add("pods.json", &pods, kinds::POD);
    let names: BTreeSet<_> = pods.iter().map(name_of).collect();
    // Other pods may have more events than are read.
    let is_listed = |event: &Value| {
        let object = &event["involvedObject"];
        names.contains(&(text_of(&object["namespace"]), text_of(&object["name"])))
    };
    let pod_events = list_if::<Event>(session, "events", namespace, &on_pods, is_listed).await;
    let mut events = take(bundle, "events on groups", group_events);
    events.extend(take(bundle, "events on types", type_events));
    events.extend(take(bundle, "events on pods", pod_events));
    bundle.add_events("events.json", events);
    add_policies(bundle, session, &groups).await;
}

/// Adds the digests of the policies in ConfigMaps.
async fn add_policies(bundle: &mut Bundle, session: &Session, groups: &[Value]) {
    let keys = groups.iter().filter_map(|group| {
        let key = &group["spec"]["policy"]["configMap"];
        let (namespace, _) = name_of(group);
        let key_name = key["key"].as_str().unwrap_or("policy.wasm").to_owned();
        Some((namespace, key["name"].as_str()?.to_owned(), key_name))
    });
    let keys: BTreeSet<_> = keys.collect();
    if keys.len() > MAX_POLICIES {
        bundle.miss(
            "policies",
            &format!("only the first {MAX_POLICIES} are included"),
        );
    }
    let mut policies = Vec::new();
    for (namespace, name, key) in keys.into_iter().take(MAX_POLICIES) {
        let api: Api<ConfigMap> = Api::namespaced(session.client.clone(), &namespace);
        let access = Access::new("get", "", "configmaps", Some(&namespace));
        match session.request(access, api.get(&name)).await {
            Ok(map) => {
                let data = map.binary_data.and_then(|mut data| data.remove(&key));
                policies.push(json!({
                    "namespace": namespace, "configMap": name, "key": key,
                    "bytes": data.as_ref().map(|data| data.0.len()),
                    "sha256": data.map(|data| policy_host::sha256(&data.0)),
                }));
            }
            Err(error) => {
                let what = format!("ConfigMap {}/{}", text::name(&namespace), text::name(&name));
                bundle.miss(&what, &error.to_string());
            }
        }
    }
    bundle.add("policies.json", &policies, kinds::POLICY);
}

/// Adds the operator: its workloads, pods, logs, and Leases.
async fn add_operator(bundle: &mut Bundle, session: &Session, namespace: &str) {
    let (label, value) = doctor::LABELS;
    let selector = ListParams::default().labels(&format!("{label}={value}"));
    let scope = Some(namespace);
    let (deployments, stateful_sets, pods, leases) = tokio::join!(
        list::<Deployment>(session, "deployments", scope, &selector),
        list::<StatefulSet>(session, "statefulsets", scope, &selector),
        list::<Pod>(session, "pods", scope, &selector),
        doctor::leases(session, namespace),
    );
    let mut workloads = take(bundle, "Deployment of the operator", deployments);
    workloads.extend(take(bundle, "StatefulSet of the operator", stateful_sets));
    bundle.add_workloads("operator/workloads.json", workloads);
    let pods = take(bundle, "pods of the operator", pods);
    bundle.add("operator/pods.json", &pods, kinds::POD);
    match leases {
        Ok(leases) => {
            let leases: Vec<_> = leases.iter().map(|lease| json!(lease)).collect();
            bundle.add("operator/leases.json", &leases, kinds::LEASE);
        }
        Err(error) => bundle.miss("Leases of the operator", &error.to_string()),
    }
    if pods.is_empty() {
        let place = format!("no pod in namespace {}", text::name(namespace));
        bundle.miss("log of the operator", &place);
    }
    for pod in pods.iter().take(MAX_LOGS) {
        let (_, name) = name_of(pod);
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
        for previous in [false, true] {
            if previous && restarts.unwrap_or(0) == 0 {
                continue;
            }
            let suffix = if previous { ".previous" } else { "" };
            match log(session, namespace, &name, previous).await {
                Ok(log) => bundle.add_log(&format!("operator/{name}{suffix}.log"), &log),
                Err(error) => bundle.miss(&format!("log of pod {name}"), &error.to_string()),
            }
        }
    }
}

/// Adds the versions, and the checks of `doctor`.
async fn add_checks(bundle: &mut Bundle, session: &Session, args: &ReportArgs) {
    let namespace = args.scope.namespace(session);
    let version = async {
        let request = http::Request::get("/version").body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        session.client.request::<Value>(request).await
    };
    let version = session.request(Access::new("get", "", "/version", None), version);
    let checks = doctor::checks(session, namespace, &args.operator_namespace);
    let (version, checks) = tokio::join!(version, checks);
    let own = json!({ "name": "kubectl-oaat", "gitVersion": env!("CARGO_PKG_VERSION") });
    let mut versions = vec![own];
    match version {
        Ok(mut version) => {
            version["name"] = json!("Kubernetes");
            versions.push(version);
        }
        Err(error) => bundle.miss("version of Kubernetes", &error.to_string()),
    }
    bundle.add("versions.json", &versions, kinds::VERSION);
    match checks {
        Ok(checks) => {
            let checks: Vec<_> = checks.iter().map(|check| json!(check)).collect();
            bundle.add("doctor.json", &checks, kinds::CHECK);
        }
        Err(error) => bundle.miss("checks of doctor", &error.to_string()),
    }
}

/// Returns the end of a log of an operator.
async fn log(
    session: &Session,
    namespace: &str,
    pod: &str,
    previous: bool,
) -> Result<String, ClusterError> {
    let api: Api<Pod> = Api::namespaced(session.client.clone(), namespace);
    let params = LogParams {
        previous,
        tail_lines: Some(MAX_LOG_LINES),
        ..LogParams::default()
    };
    let read = async {
        let mut stream = std::pin::pin!(api.log_stream(pod, &params).await?);
        let mut part = vec![0; 64 << 10];
        let mut log = Vec::new();
        loop {
            let length = stream
                .read(&mut part)
                .await
                .map_err(|e| kube::Error::Service(e.into()))?;
            if length == 0 {
                break;
            }
            log.extend_from_slice(&part[..length]);
            if log.len() > 2 * MAX_LOG {
                log.drain(..log.len() - MAX_LOG);
            }
        }
        log.drain(..log.len().saturating_sub(MAX_LOG));
        Ok(log)
    };
    let access = Access::new("get", "", "pods/log", Some(namespace));
    let log = session.request(access, read).await?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}

/// Returns the namespace and the name of an object.
fn name_of(object: &Value) -> (String, String) {
    let metadata = &object["metadata"];
    (text_of(&metadata["namespace"]), text_of(&metadata["name"]))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_replaces_no_file_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("r.tar.gz"), folder.path().join("link"));
        create(&file, b"first").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
            create(&link, b"second").unwrap_err();
            assert!(!folder.path().join("target").exists());
        }
        let error = create(&file, b"second").unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{}: the file already exists; remove it, or use another --output",
                file.display()
            )
        );
        assert_eq!(std::fs::read(&file).unwrap(), b"first");
    }
}
