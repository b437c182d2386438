//! Metrics for Prometheus.

use oaat_api::RunResult;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
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
    Create,
    Update,
    Patch,
    Delete,
    Other,
}

impl EncodeLabelValue for Verb {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder,
    ) -> Result<(), std::fmt::Error> {
        let word = match self {
            Self::Get => "get",
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
    /// 1 while this replica holds the lease, or while leader election is off.
    pub leading: Gauge,
    /// The number of live shards, including the replica's own, as it observes them; 0 without `--shard`.
    pub live_shards: Gauge,
    /// The number of reads of an object that could not be decoded.
    pub undecodable: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("oaat");
        // From 0.1 ms to about 3 s, and from 10 µs to about 0.3 s.
        let reconcile_seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let decision_seconds = Histogram::new(exponential_buckets(0.000_01, 2.0, 16));
        let metrics = Self {
            requests: Family::default(),
            runs: Family::default(),
            reconciles: Family::default(),
            reconcile_seconds,
            decision_seconds,
            leading: Gauge::default(),
            live_shards: Gauge::default(),
            undecodable: Counter::default(),
            registry: Registry::default(),
        };
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
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// Counts a request to the API server.
    pub fn request(&self, method: &http::Method, path: &str) {
        let verb = match method.as_str() {
            "GET" => Verb::Get,
            "POST" => Verb::Create,
            "PUT" => Verb::Update,
            "PATCH" => Verb::Patch,
            "DELETE" => Verb::Delete,
            _ => Verb::Other,
        };
        let known = [
            "oaatgroups",
            "oaattypes",
            "pods",
            "configmaps",
            "events",
            "leases",
            "namespaces",
        ];
        let in_path = |resource: &&&str| path.split('/').any(|segment| segment == **resource);
        // `namespaces` comes last, because the paths of namespaced objects contain it as well.
        let resource = known.iter().find(in_path).copied().unwrap_or("other");
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

    /// Records the duration of a decision.
    pub fn decision(&self, took: std::time::Duration) {
        self.decision_seconds.observe(took.as_secs_f64());
    }

    /// Returns the metrics in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut out = String::new();
        match text::encode(&mut out, &self.registry) {
            Ok(()) => out,
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_and_resource() {
        let metrics = Metrics::default();
        metrics.request(&http::Method::GET, "/api/v1/namespaces/n/pods");
        metrics.request(&http::Method::GET, "/api/v1/namespaces/n");
        metrics.request(
            &http::Method::PATCH,
            "/apis/kawaja.net/v1/namespaces/n/oaatgroups/g/status",
        );
        let text = metrics.text();
        for line in [
            r#"oaat_api_requests_total{verb="get",resource="pods"} 1"#,
            r#"oaat_api_requests_total{verb="get",resource="namespaces"} 1"#,
            r#"oaat_api_requests_total{verb="patch",resource="oaatgroups"} 1"#,
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
