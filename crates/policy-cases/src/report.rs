//! What came of a case, and how it reads.

use crate::explain::Explanation;
use std::fmt;

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The case's name.
    pub case: String,
    /// How many requests were tried.
    pub tried: usize,
    /// What is wrong; `None`: it passed.
    pub failure: Option<Failure>,
}

impl Report {
    /// Whether all was as expected.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// A CamelCase token: `Unexpected` for an answer that is not as expected,
    /// `NotDeterministic`, `SettingsRejected`, or the reason of an evaluation that gave no
    /// decision (`Trapped`, `OutOfFuel`, …).
    pub reason: &'static str,
    /// The first seed at which it failed; `None` where seeds do not matter.
    pub seed: Option<u64>,
    /// The other seeds at which it failed.
    pub others: Vec<u64>,
    /// What differs, at that seed.
    pub differences: Vec<Difference>,
    /// What the policy answered, at that seed.
    pub answer: Option<Explanation>,
}

/// Something that is not as expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What it is about, as the field of `expect` is called: `run`, `verdicts.a.until`.
    pub what: String,
    /// What should have come.
    pub expected: String,
    /// What came.
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

/// Seeds named in a report; more are counted.
const NAMED: usize = 10;

impl Failure {
    /// What differs, in one line.
    pub fn summary(&self) -> String {
        let words: Vec<_> = self.differences.iter().map(Difference::to_string).collect();
        words.join("; ")
    }

    /// At which seeds it failed, in words; empty where seeds do not matter.
    pub fn seeds(&self, tried: usize) -> String {
        let Some(seed) = self.seed else {
            return String::new();
        };
        if self.others.is_empty() {
            return format!("at seed {seed} of {tried} tried");
        }
        let named: Vec<_> = self.others.iter().take(NAMED).map(u64::to_string).collect();
        let more = match self.others.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = named.join(", ");
        format!("at seed {seed}, and at {named}{more}, of {tried} tried")
    }
}

/// The failure in several lines; nothing for a case that passed.
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
