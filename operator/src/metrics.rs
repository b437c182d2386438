//! Figures for Prometheus.

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
struct Result_ {
    result: &'static str,
}

/// All figures of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    runs: Family<Result_, Counter>,
    cycles: Family<Result_, Counter>,
    cycle_seconds: Histogram,
    decision_seconds: Histogram,
    /// 1 while this replica holds the lease, or needs none.
    pub leading: Gauge,
    /// Objects that could not be decoded.
    pub undecodable: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("oaat");
        // From 0.1 ms to about 3 s, and from 10 µs to about 0.3 s.
        let cycle_seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let decision_seconds = Histogram::new(exponential_buckets(0.000_01, 2.0, 16));
        let metrics = Self {
            requests: Family::default(),
            runs: Family::default(),
            cycles: Family::default(),
            cycle_seconds,
            decision_seconds,
            leading: Gauge::default(),
            undecodable: Counter::default(),
            registry: Registry::default(),
        };
        registry.register(
            "api_requests",
            "Requests to the API server, watches included",
            metrics.requests.clone(),
        );
        registry.register(
            "runs",
            "Runs started, and runs ended by how they ended",
            metrics.runs.clone(),
        );
        registry.register(
            "cycles",
            "Looks at a group, by how they went",
            metrics.cycles.clone(),
        );
        registry.register_with_unit(
            "cycle",
            "One look at a group",
            Unit::Seconds,
            metrics.cycle_seconds.clone(),
        );
        registry.register_with_unit(
            "decision",
            "One decision of a policy",
            Unit::Seconds,
            metrics.decision_seconds.clone(),
        );
        registry.register(
            "leading",
            "1 while this replica acts",
            metrics.leading.clone(),
        );
        registry.register(
            "undecodable_objects",
            "Objects seen that could not be decoded",
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
        let part = |resource: &&&str| path.split('/').any(|segment| segment == **resource);
        // Everything but a namespace itself lies below one.
        let resource = known.iter().find(part).copied().unwrap_or("other");
        self.requests
            .get_or_create(&Request { verb, resource })
            .inc();
    }

    /// Counts a run that was started, or one that ended as `result` says.
    pub fn run(&self, result: &'static str) {
        self.runs.get_or_create(&Result_ { result }).inc();
    }

    /// Counts a cycle.
    pub fn cycle(&self, result: &'static str, took: std::time::Duration) {
        self.cycles.get_or_create(&Result_ { result }).inc();
        self.cycle_seconds.observe(took.as_secs_f64());
    }

    /// Counts a decision.
    pub fn decision(&self, took: std::time::Duration) {
        self.decision_seconds.observe(took.as_secs_f64());
    }

    /// The figures in Prometheus' text format.
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
    fn requests_are_told_apart_by_verb_and_resource() {
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
}
