//! `policy run --profile`: shows which functions use the fuel of a decision.
//!
//! A policy is deterministic, so a profile needs no clock. The same request is evaluated with fuel
//! limits from one unit up to the fuel of the decision. The call stack is read where each limit stops
//! the policy.

mod checkpoints;

use anyhow::{Result, ensure};
use checkpoints::Instrumented;
use policy_host::{Decision, EvalError, Evaluation, FunctionNames, Host, Limits, Request};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The maximum number of samples.
const MAX_SAMPLES: u64 = 2_000;
/// The minimum number of samples of a decision with more fuel than that.
const MIN_SAMPLES: u64 = 100;
/// The maximum fuel of all samples together, unless there are only [`MIN_SAMPLES`].
const MAX_FUEL: u64 = 4_000_000_000;

/// The fuel of a decision by call stack.
pub(crate) struct Profile {
    /// The names of the functions.
    functions: Vec<String>,
    /// Call stacks, as indices of functions, outermost first, with the fuel of each. In the order of
    /// execution.
    samples: Vec<(Vec<usize>, u64)>,
    /// The fuel of one sample.
    pub step: u64,
}

impl Profile {
    /// Profiles the decision of a component about a request. `decided` is that decision.
    pub fn new(
        component: &[u8],
        names: FunctionNames,
        request: &Request,
        decided: &Evaluation<Decision>,
    ) -> Result<Self> {
        let fuel = decided.fuel;
        let instrumented = Instrumented::new(component)?;
        let host = Host::new(Limits::default())?;
        let policy = host.load(&instrumented.wasm, None)?.with_names(names);
        let again = policy.evaluate(request);
        for evaluation in [decided, &again] {
            ensure!(
                !matches!(evaluation.answer, Err(EvalError::Deadline(_))),
                "--profile: the decision exceeded its deadline, so its fuel depends on the machine; \
                 if the machine is busy, try again"
            );
        }
        ensure!(
            again.fuel == fuel,
            "--profile: the profiled policy used {} fuel instead of {fuel}; report this as a bug",
            again.fuel
        );
        let samples = (2 * MAX_FUEL / fuel.max(1)).clamp(MIN_SAMPLES, MAX_SAMPLES);
        let mut profile = Self {
            functions: Vec::new(),
            samples: Vec::new(),
            step: fuel.div_ceil(samples).max(1),
        };
        let mut indices = HashMap::new();
        let mut start = 0;
        while start < fuel {
            let weight = profile.step.min(fuel - start);
            let stack = policy.stack_at(request, start + weight.div_ceil(2));
            let stack = instrumented.functions(&stack.unwrap_or_default());
            let stack = stack.into_iter().map(|name| {
                *indices.entry(name).or_insert_with_key(|name| {
                    profile.functions.push(name.clone());
                    profile.functions.len() - 1
                })
            });
            let stack: Vec<_> = stack.collect();
            match profile.samples.last_mut() {
                Some((last, sum)) if *last == stack => *sum += weight,
                _ => profile.samples.push((stack, weight)),
            }
            start += weight;
        }
        Ok(profile)
    }

    /// Returns the profile in the file format of speedscope.
    pub fn speedscope(&self, name: &str) -> Value {
        let frames = self.functions.iter().map(|name| json!({ "name": name }));
        let (stacks, weights): (Vec<_>, Vec<_>) = self.samples.iter().cloned().unzip();
        json!({
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": format!("kubectl-oaat {}", env!("CARGO_PKG_VERSION")),
            "name": name,
            "shared": { "frames": frames.collect::<Vec<_>>() },
            "profiles": [{
                "type": "sampled",
                "name": "fuel",
                "unit": "none",
                "startValue": 0,
                "endValue": weights.iter().sum::<u64>(),
                "samples": stacks,
                "weights": weights,
            }],
        })
    }
}

#[cfg(test)]
mod tests;
