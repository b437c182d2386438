//! The expressions of the settings: conditions, texts, and ranks.

use crate::check::Typed;
use crate::error::{ErrorAt, ExpressionError};
use crate::evaluate::Scope;
use crate::failure::{Failure, Reason, excerpt};
use crate::parser::{parse, parse_order};
use crate::program::{Logic, Node, Operation};
use crate::types::Type;
use crate::value::{Key, Value};
use std::borrow::Cow;
use std::cmp::Reverse;

/// A checked expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    node: Box<Node>,
    /// The estimated fuel of one evaluation.
    pub cost: u64,
}

/// The result of a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition<'e> {
    Met,
    /// The text of the condition. If conditions are joined with `&&`, the first one that is not met.
    NotMet(Cow<'e, str>),
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
    pub expression: Expression,
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
        let checked = parse(source).and_then(|parsed| Self::of(source, parsed, accepts, expected));
        checked.map_err(|error| error.in_source(source))
    }

    /// Creates an expression if its type is accepted. `expected` describes the accepted types.
    fn of(
        source: &str,
        parsed: Typed,
        accepts: fn(&Type) -> bool,
        expected: &str,
    ) -> Result<Self, ErrorAt> {
        let Typed { node, ty, size } = parsed;
        if !accepts(&ty) {
            let message = format!("the expression must be {expected}, but its type is {ty}");
            return Err(ErrorAt::new(node.start, message));
        }
        Ok(Self {
            source: source.to_owned(),
            node,
            cost: size.cost,
        })
    }

    /// Returns whether the value may change with time alone.
    pub fn uses_time(&self) -> bool {
        self.node.uses_time()
    }

    /// Evaluates a condition for an item.
    ///
    /// # Errors
    /// Returns a message if the evaluation fails.
    pub fn holds(&self, scope: &Scope<'_>, item: usize) -> Result<Condition<'_>, String> {
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
        let Operation::Chain(Logic::And, operands) = &node.operation else {
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
    fn excerpt(&self, start: usize, end: usize) -> Cow<'_, str> {
        excerpt(self.source.get(start..end).unwrap_or(&self.source))
    }
}

impl Order {
    /// Parses and checks an expression of `orderBy`. A `-` before the whole expression means
    /// descending.
    ///
    /// # Errors
    /// Returns the position and the fix.
    pub fn new(source: &str) -> Result<Self, ExpressionError> {
        let expected = "a value with an order, such as a number, a timestamp, or a string";
        let checked = parse_order(source).and_then(|(parsed, descending)| {
            Ok(Self {
                expression: Expression::of(source, parsed, Type::is_ordered, expected)?,
                descending,
            })
        });
        checked.map_err(|error| error.in_source(source))
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
        if !value.spend(scope.budget(item)) {
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

    /// Returns the source, shortened.
    pub fn source(&self) -> Cow<'_, str> {
        excerpt(&self.expression.source)
    }
}
