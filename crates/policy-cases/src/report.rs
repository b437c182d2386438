//! Reports the results of cases.

use crate::explain::Explanation;
use std::fmt;

/// The result of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The name of the case.
    pub case: String,
    /// The number of seeds that were tried.
    pub tried: usize,
    /// The failure; `None` if the case passed.
    pub failure: Option<Failure>,
}

impl Report {
    /// Reports whether the case passed.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The reason in CamelCase: `Unexpected` for an unexpected answer, `NotDeterministic`,
    /// `SettingsRejected`, or the reason of a failed evaluation (`Trapped`, `OutOfFuel`, …).
    pub reason: &'static str,
    /// The first seed that failed; `None` if the failure does not depend on a seed.
    pub seed: Option<u64>,
    /// The other seeds that failed.
    pub others: Vec<u64>,
    /// The differences for the first seed that failed.
    pub differences: Vec<Difference>,
    /// The answer for the first seed that failed.
    pub answer: Option<Explanation>,
}

/// A difference between an answer and the expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The field of `expect`, such as `run` or `verdicts.a.until`.
    pub what: String,
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}",
            self.what, self.expected, self.found
        )
    }
}

/// The maximum number of further seeds that a report lists.
const MAX_LISTED_SEEDS: usize = 10;

impl Failure {
    /// Formats the differences in one line.
    pub fn summary(&self) -> String {
        let texts: Vec<_> = self.differences.iter().map(Difference::to_string).collect();
        texts.join("; ")
    }

    /// Describes the seeds that failed. Empty if the failure does not depend on a seed.
    pub fn seeds(&self, tried: usize) -> String {
        let Some(seed) = self.seed else {
            return String::new();
        };
        if self.others.is_empty() {
            return format!("at seed {seed} ({tried} seeds tried)");
        }
        let listed = self.others.iter().take(MAX_LISTED_SEEDS);
        let listed = listed.map(u64::to_string).collect::<Vec<_>>().join(", ");
        let more = match self.others.len().saturating_sub(MAX_LISTED_SEEDS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("at seed {seed}, also at {listed}{more} ({tried} seeds tried)")
    }
}

/// Formats the failure in several lines. Empty for a case that passed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(failure) = &self.failure else {
            return Ok(());
        };
        match failure.seeds(self.tried).as_str() {
            "" => writeln!(f, "{}", failure.reason)?,
            seeds => writeln!(f, "{} {seeds}", failure.reason)?,
        }
        for difference in &failure.differences {
            writeln!(f, "  {difference}")?;
        }
        if let Some(answer) = &failure.answer {
            writeln!(f, "  the policy answered:")?;
            for line in answer.to_string().lines() {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}
