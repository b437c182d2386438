//! The types of expressions, and the fields of variables.

use std::fmt;

/// The type of an expression. It is [`Type::Dynamic`] if it is unknown before the evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Type {
    Null,
    Bool,
    Int,
    Double,
    String,
    Timestamp,
    Duration,
    /// A list with elements of one type.
    List(&'static Type),
    Item,
    Group,
    /// A value of the settings of an item, whose type is only known when it is evaluated.
    Dynamic,
}

impl Type {
    /// Returns the type of a list with elements of this type. Elements of a list in a list have no
    /// known type.
    pub fn list(self) -> Self {
        Self::List(match self {
            Self::Null => &Self::Null,
            Self::Bool => &Self::Bool,
            Self::Int => &Self::Int,
            Self::Double => &Self::Double,
            Self::String => &Self::String,
            Self::Timestamp => &Self::Timestamp,
            Self::Duration => &Self::Duration,
            Self::List(_) => &Self::List(&Self::Dynamic),
            Self::Item | Self::Group | Self::Dynamic => &Self::Dynamic,
        })
    }

    /// Returns whether a value of this type may be used where `expected` is.
    pub fn fits(&self, expected: &Self) -> bool {
        *self == Self::Dynamic || self == expected
    }

    /// Returns whether values of this type have an order.
    pub fn is_ordered(&self) -> bool {
        matches!(
            self,
            Self::Bool
                | Self::Int
                | Self::Double
                | Self::String
                | Self::Timestamp
                | Self::Duration
                | Self::Dynamic
        )
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// Returns whether a value of this type can be used only to access its fields.
    pub fn is_object(&self) -> bool {
        matches!(self, Self::Item | Self::Group)
    }

    /// Returns the name of the type with its article.
    pub fn with_article(&self) -> String {
        match self {
            Self::Int | Self::Item => format!("an {self}"),
            Self::Null => "null".to_owned(),
            _ => format!("a {self}"),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::List(_) => "list",
            Self::Item => "item",
            Self::Group => "group",
            Self::Dynamic => "dynamic",
        })
    }
}

/// A field of `item`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ItemField {
    CoolOff,
    Failures,
    Frequency,
    LastDuration,
    LastFailure,
    LastSuccess,
    Name,
    Runs,
    Settings,
    Standing,
    Startable,
}

/// All fields of `item`, with their types.
pub static ITEM_FIELDS: [(&str, ItemField, Type); 11] = [
    ("coolOff", ItemField::CoolOff, Type::Duration),
    ("failures", ItemField::Failures, Type::Int),
    ("frequency", ItemField::Frequency, Type::Duration),
    ("lastDuration", ItemField::LastDuration, Type::Duration),
    ("lastFailure", ItemField::LastFailure, Type::Timestamp),
    ("lastSuccess", ItemField::LastSuccess, Type::Timestamp),
    ("name", ItemField::Name, Type::String),
    ("runs", ItemField::Runs, Type::Int),
    ("settings", ItemField::Settings, Type::Dynamic),
    ("standing", ItemField::Standing, Type::String),
    ("startable", ItemField::Startable, Type::Bool),
];

/// A field of `group`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GroupField {
    LastFinished,
    LastStarted,
    Name,
    Namespace,
    Size,
}

/// All fields of `group`, with their types.
pub static GROUP_FIELDS: [(&str, GroupField, Type); 5] = [
    ("lastFinished", GroupField::LastFinished, Type::Timestamp),
    ("lastStarted", GroupField::LastStarted, Type::Timestamp),
    ("name", GroupField::Name, Type::String),
    ("namespace", GroupField::Namespace, Type::String),
    ("size", GroupField::Size, Type::Int),
];
