//! Checked expressions, ready to be evaluated.

use crate::time::Zone;
use crate::tree::Operator;
use crate::types::{GroupField, ItemField};
use crate::value::Value;

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
    And(Vec<Node>),
    Or(Vec<Node>),
    Conditional(Box<[Node; 3]>),
    /// A function with one operand.
    Unary(UnaryFunction, Box<Node>),
    /// A function with two operands.
    Text(TextFunction, Box<[Node; 2]>),
    /// A part of a timestamp in a time zone.
    Calendar(CalendarPart, Box<Node>, ZoneName),
    /// `group.item(name)`
    FindItem(Box<Node>),
    /// `item.runsWithin(duration)`
    ItemRuns(Box<[Node; 2]>),
    /// `group.runsWithin(duration)`
    GroupRuns(Box<Node>),
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

impl Node {
    /// Returns whether the value may change with time alone.
    pub fn uses_time(&self) -> bool {
        use Operation as O;
        match &self.operation {
            O::Now | O::ItemRuns(_) | O::GroupRuns(_) => true,
            O::Constant(_) | O::Item | O::Group | O::GroupField(_) | O::HasGroupField(_) => false,
            O::ItemField(node, _)
            | O::Key(node, _)
            | O::HasItemField(node, _)
            | O::HasKey(node, _)
            | O::Not(node)
            | O::Negate(node)
            | O::Unary(_, node)
            | O::FindItem(node) => node.uses_time(),
            O::Calendar(_, node, ZoneName::Known(_)) => node.uses_time(),
            O::Calendar(_, node, ZoneName::Evaluated(zone)) => node.uses_time() || zone.uses_time(),
            O::Index(nodes) | O::Binary(_, nodes) | O::Text(_, nodes) => {
                nodes.iter().any(Self::uses_time)
            }
            O::Conditional(nodes) => nodes.iter().any(Self::uses_time),
            O::List(nodes) | O::And(nodes) | O::Or(nodes) => nodes.iter().any(Self::uses_time),
        }
    }
}
