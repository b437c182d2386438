//! Metrics for Prometheus.

use crate::group_metrics::GroupMetrics;
use crate::policy_metrics::{DecisionSample, PolicyMetrics, ShadowOutcome};
use crate::policy_source::PolicySource;
use oaat_api::RunResult;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    verb: Verb,
    resource: &'static str,
}

/// The verbs of the API, as RBAC names them.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    Other,
}

impl Verb {
    /// Returns the verb of a request. Reads of an individual object have a `name`.
    fn new(method: &http::Method, name: Option<&str>, query: &str) -> Self {
        match method.as_str() {
            "GET" if name.is_some() => Self::Get,
            "GET"
                if query
                    .split('&')
                    .any(|p| ["watch=true", "watch=1"].contains(&p)) =>
            {
                Self::Watch
            }
            "GET" => Self::List,
            "POST" => Self::Create,
            "PUT" => Self::Update,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// The resources that are counted separately.
const RESOURCES: [&str; 7] = [
    "oaatgroups",
    "oaattypes",
    "pods",
    "configmaps",
    "events",
    "leases",
    "namespaces",
];

/// Returns the resource in the path of a request, and the name of the object, if there is one.
fn resource_and_name(path: &str) -> (&'static str, Option<&str>) {
    // The API server may be behind a proxy, under another path.
    let mut segments = path
        .split('/')
        .skip_while(|part| !["api", "apis"].contains(part));
    let version = match segments.next() {
        Some("api") => segments.next(),
        Some("apis") => segments.nth(1),
        _ => None,
    };
    let rest: Vec<&str> = version.map_or(Vec::new(), |_| segments.collect());
    let (resource, name) = match rest[..] {
        ["namespaces", _, resource, ..] => (resource, rest.get(3)),
        [resource, ..] => (resource, rest.get(1)),
        [] => ("", None),
    };
    let counted = RESOURCES.into_iter().find(|counted| *counted == resource);
    (counted.unwrap_or("other"), name.copied())
}

impl EncodeLabelValue for Verb {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder,
    ) -> Result<(), std::fmt::Error> {
        let word = match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Other => "other",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabel {
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The values of the label `result` of `oaat_runs_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunResultMetric {
    /// A run has started.
    Started,
    /// A run has succeeded.
    Succeeded,
    /// A run has failed.
    Failed,
    /// A blackout window has ended a run.
    Stopped,
}

impl From<RunResult> for RunResultMetric {
    fn from(result: RunResult) -> Self {
        match result {
            RunResult::Succeeded => Self::Succeeded,
            RunResult::Failed => Self::Failed,
            RunResult::Stopped => Self::Stopped,
        }
    }
}

impl RunResultMetric {
    fn label(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Stopped => "Stopped",
        }
    }
}

/// The values of the label `result` of `oaat_reconciles_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResultMetric {
    /// The reconcile succeeded.
    Ok,
    /// The reconcile failed, and is retried.
    Error,
}

impl ReconcileResultMetric {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    runs: Family<ResultLabel, Counter>,
    reconciles: Family<ResultLabel, Counter>,
    reconcile_seconds: Histogram,
    decision_seconds: Histogram,
    handover_seconds: Histogram,
    watch_restarts: Family<ResourceLabel, Counter>,
    /// The number of groups that wait for a reconcile.
    pub queue_depth: Gauge,
    /// 1 while this replica holds the lease, or while leader election is off.
    pub leading: Gauge,
    /// The number of live shards, including the replica's own, as it observes them; 0 without `--shard`.
    pub live_shards: Gauge,
    /// The number of reads of an object that could not be decoded.
    pub undecodable: Counter,
    /// The metrics of groups and items.
    pub groups: GroupMetrics,
    policies: PolicyMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(true)
    }
}

impl Metrics {
    /// Creates the metrics of a process, with or without those of items.
    pub fn new(with_items: bool) -> Self {
        let mut registry = Registry::with_prefix("oaat");
        // From 0.1 ms to about 3 s, from 10 µs to about 0.3 s, and from 1 ms to about 33 s.
        let reconcile_seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let decision_seconds = Histogram::new(exponential_buckets(0.000_01, 2.0, 16));
        let handover_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let metrics = Self {
            requests: Family::default(),
            runs: Family::default(),
            reconciles: Family::default(),
            reconcile_seconds,
            decision_seconds,
            handover_seconds,
            watch_restarts: Family::default(),
            queue_depth: Gauge::default(),
            leading: Gauge::default(),
            live_shards: Gauge::default(),
            undecodable: Counter::default(),
            groups: GroupMetrics::new(with_items),
            policies: PolicyMetrics::default(),
            registry: Registry::default(),
        };
        registry.register(
            "build",
            "The version of the operator, in the label version; always 1",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "api_requests",
            "The number of requests to the API server, including watches",
            metrics.requests.clone(),
        );
        registry.register(
            "runs",
            "The number of runs that started or ended, by result",
            metrics.runs.clone(),
        );
        registry.register(
            "reconciles",
            "The number of group reconciles, by result",
            metrics.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile",
            "The duration of group reconciles",
            Unit::Seconds,
            metrics.reconcile_seconds.clone(),
        );
        registry.register_with_unit(
            "decision",
            "The duration of policy decisions",
            Unit::Seconds,
            metrics.decision_seconds.clone(),
        );
        registry.register_with_unit(
            "handover",
            "The time from when the operator observes the end of a run to its claim of the next run",
            Unit::Seconds,
            metrics.handover_seconds.clone(),
        );
        registry.register(
            "queue_depth",
            "The number of groups that wait for a reconcile",
            metrics.queue_depth.clone(),
        );
        registry.register(
            "watch_restarts",
            "The number of watches that were interrupted and restarted",
            metrics.watch_restarts.clone(),
        );
        registry.register(
            "leading",
            "1 if this replica is the leader or leader election is disabled, otherwise 0",
            metrics.leading.clone(),
        );
        registry.register(
            "live_shards",
            "The number of live shards, including the replica's own, or 0 without --shard",
            metrics.live_shards.clone(),
        );
        registry.register(
            "undecodable_objects",
            "The number of reads of objects that could not be decoded",
            metrics.undecodable.clone(),
        );
        registry.register_collector(Box::new(metrics.groups.clone()));
        registry.register_collector(Box::new(metrics.policies.clone()));
        Self {
            registry,
            ..metrics
        }
    }

    /// Counts a request to the API server.
    pub fn request(&self, method: &http::Method, uri: &http::Uri) {
        let (resource, name) = resource_and_name(uri.path());
        let verb = Verb::new(method, name, uri.query().unwrap_or_default());
        self.requests
            .get_or_create(&Request { verb, resource })
            .inc();
    }

    /// Counts a run that started or ended.
    pub fn run(&self, result: RunResultMetric) {
        let result = result.label();
        self.runs.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a reconcile and records its duration.
    pub fn reconcile(&self, result: ReconcileResultMetric, took: std::time::Duration) {
        let result = result.label();
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Counts a decision of a policy and records its duration.
    pub fn decision(&self, sample: &DecisionSample) {
        self.decision_seconds.observe(sample.took.as_secs_f64());
        self.policies.record(sample);
    }

    /// Counts a request to a shadow policy.
    pub fn shadow(&self, source: &PolicySource, outcome: ShadowOutcome) {
        self.policies.record_shadow(source, outcome);
    }

    /// Records the time from the observed end of a run to the claim of the next run.
    pub fn handover(&self, took: std::time::Duration) {
        self.handover_seconds.observe(took.as_secs_f64());
    }

    /// Returns the counter of interrupted watches of a resource.
    pub fn watch_restarts(&self, resource: &str) -> Counter {
        let resource = resource.to_owned();
        self.watch_restarts
            .get_or_create_owned(&ResourceLabel { resource })
    }

    /// Writes the metrics in the text format of OpenMetrics.
    ///
    /// # Errors
    /// Returns an error if the writer does.
    pub fn encode(&self, writer: &mut impl std::fmt::Write) -> std::fmt::Result {
        text::encode(writer, &self.registry)
    }

    /// Returns the metrics in the text format of OpenMetrics.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.encode(&mut out).unwrap();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_and_resource() {
        let metrics = Metrics::default();
        let get = http::Method::GET;
        for (method, uri) in [
            (&get, "/api/v1/namespaces/n/pods?limit=500"),
            (&get, "/api/v1/pods?allowWatchBookmarks=true&watch=true"),
            (&get, "/api/v1/namespaces/n/pods/leases"),
            (&get, "/api/v1/namespaces/n"),
            (&get, "/apis/kawaja.net/v1/namespaces/pods/oaatgroups/pods"),
            (
                &http::Method::PATCH,
                "/apis/kawaja.net/v1/namespaces/n/oaatgroups/g/status",
            ),
            (&get, "/version"),
            (&get, "/k8s/clusters/one/api/v1/namespaces/n/configmaps/c"),
        ] {
            metrics.request(method, &http::Uri::from_static(uri));
        }
        let text = metrics.text();
        for line in [
            r#"oaat_api_requests_total{verb="list",resource="pods"} 1"#,
            r#"oaat_api_requests_total{verb="watch",resource="pods"} 1"#,
            r#"oaat_api_requests_total{verb="get",resource="pods"} 1"#,
            r#"oaat_api_requests_total{verb="get",resource="namespaces"} 1"#,
            r#"oaat_api_requests_total{verb="get",resource="oaatgroups"} 1"#,
            r#"oaat_api_requests_total{verb="patch",resource="oaatgroups"} 1"#,
            r#"oaat_api_requests_total{verb="list",resource="other"} 1"#,
            r#"oaat_api_requests_total{verb="get",resource="configmaps"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn runs_and_reconciles_are_counted_by_result() {
        let metrics = Metrics::default();
        metrics.run(RunResultMetric::Started);
        metrics.run(RunResult::Failed.into());
        metrics.reconcile(ReconcileResultMetric::Error, std::time::Duration::ZERO);
        let text = metrics.text();
        for line in [
            r#"oaat_runs_total{result="Started"} 1"#,
            r#"oaat_runs_total{result="Failed"} 1"#,
            r#"oaat_reconciles_total{result="error"} 1"#,
            "oaat_reconcile_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
