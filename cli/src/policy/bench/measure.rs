//! Measures the compilation and the decisions of a policy.

use crate::policy::failure::PolicyFailure;
use anyhow::{Context, Result, anyhow};
use policy_host::{Host, Limits, Policy, Request};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The number of evaluations before measuring.
const WARM_UP: usize = 50;
/// The number of measured evaluations. The minimum is enough for a 99th percentile; more are
/// measured until [`TIME`] has elapsed.
pub(super) const ROUNDS: std::ops::RangeInclusive<usize> = 100..=1_000;
const TIME: Duration = Duration::from_secs(3);
/// The number of measured compilations.
pub(super) const LOADS: usize = 11;

/// The results for one number of items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DecisionResults {
    pub items: u32,
    pub evaluations: usize,
    pub p50_us: u64,
    pub p99_us: u64,
    pub fuel: u64,
    pub fuel_limit: u64,
}

/// Measures loading, which includes compilation and a trial request of two items.
pub(super) fn measure_load(wasm: &[u8]) -> Result<Duration> {
    let host = Host::new(Limits::default())?;
    let mut samples = vec![];
    for _ in 0..LOADS {
        let start = Instant::now();
        host.load(wasm, None)
            .map_err(|error| anyhow!("{}: {error}", error.reason()))?;
        samples.push(start.elapsed());
    }
    Ok(quantile(&mut samples, 0.5))
}

/// Measures decisions on a request. The policy must accept its settings.
pub(super) fn measure_decisions(policy: &Policy, request: &Request) -> Result<DecisionResults> {
    let items = request.items.len();
    let mut samples = vec![];
    let mut fuel = 0;
    let begin = Instant::now();
    for round in 0..WARM_UP + ROUNDS.end() {
        let start = Instant::now();
        let evaluation = policy.evaluate(request);
        let took = start.elapsed();
        // The fuel is the same in each round.
        fuel = evaluation.fuel;
        evaluation
            .answer
            .map_err(PolicyFailure::NoDecision)
            .with_context(|| format!("with {items} items"))?;
        if round >= WARM_UP {
            samples.push(took);
        }
        if samples.len() >= *ROUNDS.start() && begin.elapsed() > TIME {
            break;
        }
    }
    Ok(DecisionResults {
        items: u32::try_from(items)?,
        evaluations: samples.len(),
        p50_us: micros(quantile(&mut samples, 0.5)),
        p99_us: micros(quantile(&mut samples, 0.99)),
        fuel,
        fuel_limit: policy.fuel_limit(items),
    })
}

/// Returns a duration in microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Returns a quantile of the samples; `q` is from 0 to 1.
fn quantile(samples: &mut [Duration], q: f64) -> Duration {
    samples.sort();
    let index = (q * samples.len().saturating_sub(1) as f64).round() as usize;
    samples.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_rounded() {
        let mut samples: Vec<_> = (0..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(micros(quantile(&mut samples, 0.5)), 50);
        assert_eq!(micros(quantile(&mut samples, 0.99)), 99);
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
    }
}
