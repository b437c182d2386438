//! Checked expressions, ready to be evaluated.

use crate::time::Zone;
use crate::types::{GroupField, ItemField};
use crate::value::Value;
use std::cell::OnceCell;
use std::slice;

/// A checked expression, from byte `start` to byte `end`.
#[derive(Debug)]
pub struct Node {
    pub operation: Operation,
    pub start: usize,
    pub end: usize,
}

#[derive(Debug)]
pub enum Operation {
    Constant(Value<'static>),
    /// The item that the expression is evaluated for.
    Item,
    Group,
    Now,
    ItemField(Box<Node>, ItemField),
    GroupField(GroupField),
    /// A key of an object in the settings.
    Key(Box<Node>, String),
    HasItemField(Box<Node>, ItemField),
    HasGroupField(GroupField),
    HasKey(Box<Node>, String),
    Index(Box<[Node; 2]>),
    List(Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<[Node; 2]>),
    /// `a && b && …` or `a || b || …`
    Chain(Logic, Vec<Node>),
    /// `condition ? then : otherwise`
    Conditional(Box<[Node; 3]>),
    /// A function with one operand.
    Unary(UnaryFunction, Box<Node>),
    /// A function with two operands.
    Text(TextFunction, Box<[Node; 2]>),
    /// A part of a timestamp in a time zone.
    Calendar(CalendarPart, Box<Node>, ZoneName),
    /// `group.item(name)`
    FindItem(ItemName),
    /// `item.runsWithin(duration)`
    ItemRuns(Box<[Node; 2]>),
    /// `group.runsWithin(duration)`
    GroupRuns(Box<Node>),
}

/// An operator that joins any number of conditions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Logic {
    And,
    Or,
}

impl Logic {
    /// Returns the operator as it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::And => "&&",
            Self::Or => "||",
        }
    }
}

/// An operator with two operands, except `&&` and `||`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    /// Returns the operator as it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryFunction {
    Size,
    ToInt,
    ToDouble,
    ToString,
    ToDuration,
    ToTimestamp,
    /// The length of a duration in hours, rounded toward zero.
    Hours,
    Minutes,
    Seconds,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TextFunction {
    Contains,
    EndsWith,
    StartsWith,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CalendarPart {
    FullYear,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// The time zone of a calendar function.
#[derive(Debug)]
pub enum ZoneName {
    Known(Zone),
    /// A name that is only known when the expression is evaluated.
    Evaluated(Box<Node>),
}

/// The name in `group.item(name)`.
#[derive(Debug)]
pub enum ItemName {
    /// A constant, and the index of the item in the request after the first evaluation.
    Known(String, OnceCell<Option<usize>>),
    Evaluated(Box<Node>),
}

impl ItemName {
    pub fn new(name: Node) -> Self {
        match name.operation {
            Operation::Constant(Value::String(text)) => {
                Self::Known(text.into_owned(), OnceCell::new())
            }
            _ => Self::Evaluated(Box::new(name)),
        }
    }
}

impl Node {
    /// Returns whether this is a chain of this operator.
    pub fn is_chain(&self, logic: Logic) -> bool {
        matches!(self.operation, Operation::Chain(own, _) if own == logic)
    }

    /// Returns whether the value may change with time alone.
    pub fn uses_time(&self) -> bool {
        use Operation as O;
        matches!(self.operation, O::Now | O::ItemRuns(_) | O::GroupRuns(_))
            || self.operands().any(Self::uses_time)
    }

    fn operands(&self) -> impl Iterator<Item = &Self> {
        use Operation as O;
        let (operands, zone): (&[Self], Option<&Self>) = match &self.operation {
            O::Constant(_)
            | O::Item
            | O::Group
            | O::Now
            | O::GroupField(_)
            | O::HasGroupField(_)
            | O::FindItem(ItemName::Known(..)) => (&[], None),
            O::ItemField(node, _)
            | O::Key(node, _)
            | O::HasItemField(node, _)
            | O::HasKey(node, _)
            | O::Not(node)
            | O::Negate(node)
            | O::Unary(_, node)
            | O::Calendar(_, node, ZoneName::Known(_))
            | O::FindItem(ItemName::Evaluated(node))
            | O::GroupRuns(node) => (slice::from_ref(node), None),
            O::Calendar(_, node, ZoneName::Evaluated(zone)) => (slice::from_ref(node), Some(zone)),
            O::Index(nodes) | O::Binary(_, nodes) | O::Text(_, nodes) | O::ItemRuns(nodes) => {
                (&**nodes, None)
            }
            O::Conditional(nodes) => (&**nodes, None),
            O::List(nodes) | O::Chain(_, nodes) => (nodes, None),
        };
        operands.iter().chain(zone)
    }
}
