//! The expressions of the settings: conditions, texts, and ranks.

use crate::check::check;
use crate::error::{ErrorAt, ExpressionError};
use crate::evaluate::Scope;
use crate::failure::{Failure, Reason};
use crate::parser::parse;
use crate::program::{Node, Operation};
use crate::tree::Kind;
use crate::types::Type;
use crate::value::{Key, Value};
use std::cmp::Reverse;

/// The maximum length of an expression in bytes.
pub const MAX_LENGTH: usize = 2048;

/// The maximum length of an excerpt in a message, in characters.
const EXCERPT: usize = 80;

/// A checked expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    node: Node,
    /// Whether the value may change with time alone.
    uses_time: bool,
}

/// The result of a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Met,
    /// The text of the condition. If conditions are joined with `&&`, the first one that is not met.
    NotMet(String),
}

/// The rank of an item in one expression of `orderBy`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rank<'a> {
    /// A field or a setting that the expression reads is absent.
    Never,
    Ascending(Key<'a>),
    Descending(Reverse<Key<'a>>),
}

/// An expression of `orderBy`.
#[derive(Debug)]
pub struct Order {
    expression: Expression,
    descending: bool,
}

impl Expression {
    /// Parses and checks a condition.
    ///
    /// # Errors
    /// Returns the position and the fix.
    pub fn condition(source: &str) -> Result<Self, ExpressionError> {
        Self::new(source, |ty| ty.fits(&Type::Bool), "true or false")
    }

    /// Parses and checks an expression for text.
    ///
    /// # Errors
    /// Returns the position and the fix.
    pub fn text(source: &str) -> Result<Self, ExpressionError> {
        Self::new(
            source,
            |ty| ty.fits(&Type::String),
            "a string, such as string(item.runs)",
        )
    }

    fn new(
        source: &str,
        accepts: fn(&Type) -> bool,
        expected: &str,
    ) -> Result<Self, ExpressionError> {
        let checked = check_length(source)
            .and_then(|()| parse(source))
            .and_then(|tree| {
                let start = tree.start;
                let (node, ty) = check(tree)?;
                let error = || ErrorAt::new(start, wrong_type(expected, &ty));
                accepts(&ty).then_some(node).ok_or_else(error)
            });
        let node = checked.map_err(|error| error.in_source(source))?;
        Ok(Self::of(source, node))
    }

    fn of(source: &str, node: Node) -> Self {
        Self {
            source: source.to_owned(),
            uses_time: node.uses_time(),
            node,
        }
    }

    /// Returns whether the value may change with time alone.
    pub fn uses_time(&self) -> bool {
        self.uses_time
    }

    /// Returns the estimated fuel of an evaluation.
    pub fn cost(&self) -> u64 {
        self.node.cost()
    }

    /// Evaluates a condition for an item.
    ///
    /// # Errors
    /// Returns a message if the evaluation fails.
    pub fn holds(&self, scope: &Scope<'_>, item: usize) -> Result<Condition, String> {
        self.first_unmet(&self.node, scope, item)
            .map(|unmet| match unmet {
                None => Condition::Met,
                Some(node) => Condition::NotMet(self.excerpt(node.start, node.end)),
            })
            .map_err(|failure| self.describe(&failure))
    }

    /// Returns the first part of a condition that is not met; `None` if it is met.
    fn first_unmet<'n>(
        &self,
        node: &'n Node,
        scope: &Scope<'_>,
        item: usize,
    ) -> Result<Option<&'n Node>, Failure> {
        let Operation::And(operands) = &node.operation else {
            let met = node.evaluate_bool(scope, item)?;
            return Ok((!met).then_some(node));
        };
        let mut failure = None;
        for operand in operands {
            match self.first_unmet(operand, scope, item) {
                Ok(None) => {}
                Ok(unmet) => return Ok(unmet),
                Err(error) if error.reason == Reason::TooMuchWork => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Evaluates an expression for text.
    ///
    /// # Errors
    /// Returns a message if the evaluation fails.
    pub fn string(&self, scope: &Scope<'_>, item: usize) -> Result<String, String> {
        match self.node.evaluate(scope, item) {
            Ok(Value::String(text)) => Ok(text.into_owned()),
            Ok(other) => {
                let found = other.type_name();
                let expected = "string";
                Err(self.describe(&self.whole(Reason::Expected { expected, found })))
            }
            Err(failure) => Err(self.describe(&failure)),
        }
    }

    fn whole(&self, reason: Reason) -> Failure {
        Failure {
            start: self.node.start,
            end: self.node.end,
            reason,
        }
    }

    /// Formats the failed part and the reason.
    fn describe(&self, failure: &Failure) -> String {
        let excerpt = self.excerpt(failure.start, failure.end);
        format!("{excerpt}: {}", failure.reason)
    }

    /// Returns a part of the source, shortened.
    fn excerpt(&self, start: usize, end: usize) -> String {
        let part = self.source.get(start..end).unwrap_or(&self.source);
        // A text has at most as many characters as bytes.
        if part.len() <= EXCERPT {
            return part.to_owned();
        }
        match part.char_indices().nth(EXCERPT) {
            None => part.to_owned(),
            Some((cut, _)) => format!("{}…", &part[..cut]),
        }
    }
}

impl Order {
    /// Parses and checks an expression of `orderBy`. A `-` before the whole expression means
    /// descending.
    ///
    /// # Errors
    /// Returns the position and the fix.
    pub fn new(source: &str) -> Result<Self, ExpressionError> {
        let checked = check_length(source)
            .and_then(|()| parse(source))
            .and_then(|tree| {
                let start = tree.start;
                let (tree, descending) = match tree.kind {
                    Kind::Negate(operand) => (*operand, true),
                    kind => (crate::tree::Tree { kind, ..tree }, false),
                };
                let (node, ty) = check(tree)?;
                let expected = "a value with an order, such as a number, a timestamp, or a string";
                let error = || ErrorAt::new(start, wrong_type(expected, &ty));
                let node = ty.is_ordered().then_some(node).ok_or_else(error)?;
                Ok((node, descending))
            });
        let (node, descending) = checked.map_err(|error| error.in_source(source))?;
        Ok(Self {
            expression: Expression::of(source, node),
            descending,
        })
    }

    /// Returns whether the rank may change with time alone.
    pub fn uses_time(&self) -> bool {
        self.expression.uses_time
    }

    /// Returns the estimated fuel of an evaluation.
    pub fn cost(&self) -> u64 {
        self.expression.cost()
    }

    /// Returns the rank of an item.
    ///
    /// # Errors
    /// Returns a message if the evaluation fails.
    pub fn rank<'a>(&'a self, scope: &'a Scope<'_>, item: usize) -> Result<Rank<'a>, String> {
        let expression = &self.expression;
        let value = match expression.node.evaluate(scope, item) {
            Ok(value) => value,
            Err(Failure {
                reason: Reason::Absent | Reason::NoKey(_),
                ..
            }) => return Ok(Rank::Never),
            Err(failure) => return Err(expression.describe(&failure)),
        };
        let failed = |reason| expression.describe(&expression.whole(reason));
        if !scope.budget(item).spend_text(&value) {
            return Err(failed(Reason::TooMuchWork));
        }
        let key = Key::new(value).map_err(|value| {
            failed(if value.is_number() {
                Reason::NotOrdered
            } else {
                Reason::WrongTypes(value.type_name(), None)
            })
        })?;
        Ok(if self.descending {
            Rank::Descending(Reverse(key))
        } else {
            Rank::Ascending(key)
        })
    }

    /// Returns the source.
    pub fn source(&self) -> String {
        let source = &self.expression.source;
        self.expression.excerpt(0, source.len())
    }
}

fn check_length(source: &str) -> Result<(), ErrorAt> {
    if source.len() <= MAX_LENGTH {
        return Ok(());
    }
    let length = source.len();
    Err(ErrorAt::new(
        0,
        format!("the expression has {length} bytes; use at most {MAX_LENGTH}"),
    ))
}

fn wrong_type(expected: &str, found: &Type) -> String {
    format!("the expression must be {expected}, but its type is {found}")
}
