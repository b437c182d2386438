//! Metrics of policies: what they decided, and what that cost.

use crate::policy_source::PolicySource;
use policy_host::{Choice, Decision, EvalError, Evaluation};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The maximum number of policies with metrics. Tenants can create any number of ConfigMaps.
const MAX_POLICIES: usize = 1000;

/// The prefix of the label `policy` of a built-in policy. No ConfigMap can have such a name. With an
/// empty label `namespace`, Prometheus uses the namespace of the operator.
const BUILT_IN: &str = "builtin:";

/// A policy, as the labels identify it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PolicyLabels {
    namespace: String,
    /// The name of the ConfigMap, or `builtin:` and the name of a built-in policy.
    policy: String,
}

impl From<&PolicySource> for PolicyLabels {
    fn from(source: &PolicySource) -> Self {
        Self {
            namespace: source.namespace().to_owned(),
            policy: match source {
                PolicySource::BuiltIn(policy) => format!("{BUILT_IN}{policy}"),
                PolicySource::ConfigMap(key) => key.name.clone(),
                PolicySource::Kept(policy) => policy.digest.clone(),
            },
        }
    }
}

/// The outcome of a request to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecisionOutcome {
    /// The policy selected an item.
    Run,
    /// The policy selected no item.
    Wait,
    /// The policy made no decision, for this CamelCase reason.
    Error(&'static str),
}

impl DecisionOutcome {
    /// Returns the values of the labels `outcome` and `reason`.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Run => ("run", ""),
            Self::Wait => ("wait", ""),
            Self::Error(reason) => ("error", reason),
        }
    }
}

impl From<&Result<Decision, EvalError>> for DecisionOutcome {
    fn from(answer: &Result<Decision, EvalError>) -> Self {
        match answer.as_ref().map(|decision| &decision.choice) {
            Ok(Choice::Run(_)) => Self::Run,
            Ok(Choice::Wait(_)) => Self::Wait,
            Err(error) => Self::Error(error.reason()),
        }
    }
}

/// The outcome of a request to a shadow policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShadowOutcome {
    /// It agrees with the policy of the group.
    Agrees,
    /// It would start another item, or only one of the policies would wait or fail.
    Differs,
    /// It made no decision.
    Failed,
    /// It was not evaluated or was interrupted: the machine is busy, or the policy is not usable.
    Skipped,
}

impl ShadowOutcome {
    /// Returns the value of the label `outcome`.
    fn label(self) -> &'static str {
        match self {
            Self::Agrees => "agree",
            Self::Differs => "differ",
            Self::Failed => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// The metrics of one decision.
#[derive(Clone, Debug)]
pub struct DecisionSample {
    labels: PolicyLabels,
    outcome: DecisionOutcome,
    fuel: u64,
    /// How long the evaluation took.
    pub took: Duration,
}

impl DecisionSample {
    /// Returns the metrics of an evaluation of the policy from `source`.
    pub fn new(source: &PolicySource, evaluation: &Evaluation<Decision>, took: Duration) -> Self {
        Self {
            labels: source.into(),
            outcome: (&evaluation.answer).into(),
            fuel: evaluation.fuel,
            took,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Totals {
    decisions: BTreeMap<DecisionOutcome, u64>,
    shadow_decisions: BTreeMap<ShadowOutcome, u64>,
    fuel: u64,
    seconds: f64,
    /// The number of the latest decision, counted over all policies.
    latest: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    policies: HashMap<PolicyLabels, Totals>,
    /// The number of decisions of all policies.
    last_number: u64,
}

/// The metrics of all policies that this process evaluated recently. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics(Arc<Mutex<State>>);

impl PolicyMetrics {
    /// Counts a decision.
    pub fn record(&self, sample: &DecisionSample) {
        self.update(&sample.labels, |totals| {
            *totals.decisions.entry(sample.outcome).or_default() += 1;
            totals.fuel = totals.fuel.saturating_add(sample.fuel);
            totals.seconds += sample.took.as_secs_f64();
        });
    }

    /// Counts a request to a shadow policy.
    pub fn record_shadow(&self, source: &PolicySource, outcome: ShadowOutcome) {
        self.update(&source.into(), |totals| {
            *totals.shadow_decisions.entry(outcome).or_default() += 1;
        });
    }

    /// Updates the totals of a policy. If too many policies have metrics, the namespace with the most
    /// policies loses those of the policy whose latest decision is the oldest.
    fn update(&self, labels: &PolicyLabels, update: impl FnOnce(&mut Totals)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last_number += 1;
        let latest = state.last_number;
        let policies = &mut state.policies;
        if policies.len() >= MAX_POLICIES && !policies.contains_key(labels) {
            let mut counts = HashMap::<&str, usize>::new();
            for labels in policies.keys() {
                *counts.entry(&labels.namespace).or_default() += 1;
            }
            let largest = counts.into_iter().max_by_key(|(_, count)| *count);
            let oldest = policies
                .iter()
                .filter(|(labels, _)| largest.is_some_and(|(name, _)| name == labels.namespace))
                .min_by_key(|(_, totals)| totals.latest);
            if let Some(oldest) = oldest.map(|(labels, _)| labels.clone()) {
                policies.remove(&oldest);
            }
        }
        let totals = policies.entry(labels.clone()).or_default();
        update(totals);
        totals.latest = latest;
    }
}

impl Collector for PolicyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let policies = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .policies
            .clone();
        let counter = MetricType::Counter;
        let help = "The number of policy evaluations, by outcome";
        let mut series = encoder.encode_descriptor("policy_decisions", help, None, counter)?;
        for (labels, totals) in &policies {
            for (outcome, count) in &totals.decisions {
                let [namespace, policy] = names(labels);
                let (outcome, reason) = outcome.labels();
                let all = [namespace, policy, ("outcome", outcome), ("reason", reason)];
                ConstCounter::new(*count).encode(series.encode_family(&all)?)?;
            }
        }
        let help = "The number of requests to shadow policies, by outcome";
        let mut series = encoder.encode_descriptor("shadow_decisions", help, None, counter)?;
        for (labels, totals) in &policies {
            for (outcome, count) in &totals.shadow_decisions {
                let [namespace, policy] = names(labels);
                let all = [namespace, policy, ("outcome", outcome.label())];
                ConstCounter::new(*count).encode(series.encode_family(&all)?)?;
            }
        }
        // The fuel and time of shadow evaluations are not counted.
        let has_decided = |(_, totals): &(_, &Totals)| !totals.decisions.is_empty();
        let help = "The total fuel that a policy used";
        let mut series = encoder.encode_descriptor("policy_fuel", help, None, counter)?;
        for (labels, totals) in policies.iter().filter(has_decided) {
            ConstCounter::new(totals.fuel).encode(series.encode_family(&names(labels))?)?;
        }
        let help = "The total time that a policy took to decide";
        let unit = Some(&Unit::Seconds);
        let mut series = encoder.encode_descriptor("policy_decision", help, unit, counter)?;
        for (labels, totals) in policies.iter().filter(has_decided) {
            ConstCounter::new(totals.seconds).encode(series.encode_family(&names(labels))?)?;
        }
        Ok(())
    }
}

fn names(labels: &PolicyLabels) -> [(&'static str, &str); 2] {
    [("namespace", &labels.namespace), ("policy", &labels.policy)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::policy_source::PolicyConfigMap;
    use oaat_api::BuiltInPolicy;

    fn sample(policy: &str, outcome: DecisionOutcome, fuel: u64) -> DecisionSample {
        let own = PolicySource::ConfigMap(PolicyConfigMap {
            namespace: "n".into(),
            name: policy.into(),
            key: "policy.wasm".into(),
        });
        let source = BuiltInPolicy::from_name(policy).map_or(own, PolicySource::BuiltIn);
        let answer = Evaluation {
            answer: Err(EvalError::OutOfFuel(fuel)),
            fuel,
            log: Vec::new(),
            log_dropped: 0,
        };
        let took = Duration::from_millis(500);
        DecisionSample {
            outcome,
            ..DecisionSample::new(&source, &answer, took)
        }
    }

    #[test]
    fn decisions_are_counted_by_policy_outcome_and_reason() {
        let metrics = Metrics::default();
        metrics.decision(&sample("default", DecisionOutcome::Run, 10));
        metrics.decision(&sample("fair", DecisionOutcome::Wait, 1));
        metrics.decision(&sample("own", DecisionOutcome::Wait, 3));
        metrics.decision(&sample("own", DecisionOutcome::Wait, 4));
        let failed = DecisionSample {
            outcome: (&Err(EvalError::OutOfFuel(5))).into(),
            ..sample("own", DecisionOutcome::Run, 5)
        };
        metrics.decision(&failed);
        let text = metrics.text();
        for line in [
            r#"oaat_policy_decisions_total{namespace="",policy="builtin:default",outcome="run",reason=""} 1"#,
            r#"oaat_policy_decisions_total{namespace="n",policy="own",outcome="wait",reason=""} 2"#,
            r#"oaat_policy_decisions_total{namespace="n",policy="own",outcome="error",reason="OutOfFuel"} 1"#,
            r#"oaat_policy_fuel_total{namespace="n",policy="own"} 12"#,
            r#"oaat_policy_decision_seconds_total{namespace="n",policy="own"} 1.5"#,
            r#"oaat_policy_fuel_total{namespace="",policy="builtin:fair"} 1"#,
            "oaat_decision_seconds_count 5",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn shadow_decisions_are_counted_apart_from_decisions() {
        let metrics = Metrics::default();
        let source = PolicySource::BuiltIn(BuiltInPolicy::Fair);
        for outcome in [
            ShadowOutcome::Agrees,
            ShadowOutcome::Agrees,
            ShadowOutcome::Differs,
            ShadowOutcome::Failed,
            ShadowOutcome::Skipped,
        ] {
            metrics.shadow(&source, outcome);
        }
        let text = metrics.text();
        for (outcome, count) in [("agree", 2), ("differ", 1), ("error", 1), ("skipped", 1)] {
            let labels = format!("namespace=\"\",policy=\"builtin:fair\",outcome=\"{outcome}\"");
            let line = format!("oaat_shadow_decisions_total{{{labels}}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
        let other = ["oaat_policy_decisions_total{", "oaat_policy_fuel_total{"];
        assert!(!other.iter().any(|name| text.contains(name)), "{text}");
    }

    #[test]
    fn policy_without_recent_decisions_loses_its_metrics_first() {
        let metrics = PolicyMetrics::default();
        // Another namespace has fewer policies, and keeps its metrics.
        metrics.record(&sample("default", DecisionOutcome::Run, 1));
        let name = |number: usize| format!("p{number}");
        let record = |number| metrics.record(&sample(&name(number), DecisionOutcome::Run, 1));
        for number in 0..MAX_POLICIES - 1 {
            record(number);
        }
        record(0);
        record(MAX_POLICIES);
        let policies = &metrics.0.lock().unwrap().policies;
        let has = |number| policies.keys().any(|labels| labels.policy == name(number));
        assert!(has(0) && !has(1) && has(2) && has(MAX_POLICIES));
        assert!(
            policies
                .keys()
                .any(|labels| labels.policy == "builtin:default")
        );
        assert_eq!(policies.len(), MAX_POLICIES);
    }
}
