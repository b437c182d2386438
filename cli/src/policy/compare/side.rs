//! One of the two policies that are compared.

use crate::policy::check::json_object;
use crate::policy::component;
use crate::policy::failure::{self, PolicyFailure};
use anyhow::{Context, Result};
use policy_cases::item_settings;
use policy_host::{AnswerRef, Decision, Evaluation, Host, ItemSettings, Policy, Request};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;

/// The maximum number of cached validations of settings.
const MAX_SETTINGS: usize = 1_000;

/// A policy, and the settings that it is given.
pub(crate) struct Side {
    /// The name on the command line.
    pub name: String,
    pub policy: Policy,
    /// The settings of the group, a JSON object, instead of the recorded ones.
    pub settings: Option<String>,
}

/// An answer, and the fuel that it took.
pub(crate) struct Answer {
    pub decision: Result<Decision, PolicyFailure>,
    pub fuel: u64,
}

impl<'a> From<&'a Answer> for AnswerRef<'a> {
    fn from(answer: &'a Answer) -> Self {
        match &answer.decision {
            Ok(decision) => Self::Decision(decision),
            Err(error) => Self::Error(error.reason()),
        }
    }
}

impl Side {
    /// Loads a policy. `settings` is the value of the flag `flag`. The policy must accept it.
    pub fn load(
        host: &Host,
        file: &Path,
        settings: Option<&str>,
        flag: &str,
        built_in: &[u8],
    ) -> Result<Self> {
        let settings = settings.map(|json| json_object(flag, json)).transpose()?;
        // The pool of sandboxes rejects some components for a different reason than the operator
        // does.
        let loaded = component::load_with(host, file, built_in)
            .or_else(|error| component::load(file, built_in).and(Err(error)))?;
        let side = Self {
            name: file.display().to_string(),
            policy: loaded.policy,
            settings,
        };
        if let Some(settings) = &side.settings {
            side.validate(settings, &[])
                .with_context(|| flag.to_owned())?;
        }
        Ok(side)
    }

    /// Validates settings, as the operator does before it uses them.
    pub fn validate(&self, settings: &str, items: &[ItemSettings]) -> Result<(), PolicyFailure> {
        failure::validate(&self.policy, settings, items)
    }

    /// Returns the settings of the group for this policy.
    pub fn settings<'a>(&'a self, recorded: &'a str) -> &'a str {
        self.settings.as_deref().unwrap_or(recorded)
    }
}

/// Evaluates a policy, and caches which settings it accepts.
pub(crate) struct Evaluator<'a> {
    side: &'a Side,
    /// The results by the hash of the settings. They never include an interruption.
    validations: HashMap<u64, Result<(), PolicyFailure>>,
    hasher: RandomState,
}

impl<'a> Evaluator<'a> {
    pub fn new(side: &'a Side) -> Self {
        Self {
            side,
            validations: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Answers a recorded request. Restores its recorded settings afterward.
    pub fn answer(&mut self, request: &mut Request) -> Answer {
        let Some(settings) = self.side.settings.clone() else {
            return self.answer_unchanged(request);
        };
        let recorded = std::mem::replace(&mut request.settings, settings);
        let answer = self.answer_unchanged(request);
        request.settings = recorded;
        answer
    }

    fn answer_unchanged(&mut self, request: &Request) -> Answer {
        if let Err(error) = self.validate(request) {
            return Answer {
                decision: Err(error),
                fuel: 0,
            };
        }
        let Evaluation { answer, fuel, .. } = self.side.policy.evaluate(request);
        Answer {
            decision: answer.map_err(PolicyFailure::NoDecision),
            fuel,
        }
    }

    fn validate(&mut self, request: &Request) -> Result<(), PolicyFailure> {
        let items = request.items.iter();
        let with_settings = items.filter_map(|i| Some((&i.name, i.settings.as_ref()?)));
        let key = self
            .hasher
            .hash_one((&request.settings, with_settings.collect::<Vec<_>>()));
        if let Some(known) = self.validations.get(&key) {
            return known.clone();
        }
        let items = item_settings(&request.items);
        let result = self.side.validate(&request.settings, &items);
        if !result.as_ref().is_err_and(PolicyFailure::is_interruption) {
            if self.validations.len() >= MAX_SETTINGS {
                self.validations.clear();
            }
            self.validations.insert(key, result.clone());
        }
        result
    }
}
