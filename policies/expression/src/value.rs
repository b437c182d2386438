//! The values of expressions.

use crate::budget::{Budget, ELEMENT};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A value. Timestamps and durations are in milliseconds.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    String(Cow<'a, str>),
    Timestamp(i64),
    Duration(i64),
    List(Vec<Value<'a>>),
    /// An array or an object in the settings.
    Json(&'a Json),
    /// The index of an item in the request.
    Item(usize),
    Group,
}

impl<'a> Value<'a> {
    pub fn from_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                // Without the feature arbitrary_precision, each number is an f64 at least.
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Cow::Borrowed(text)),
            Json::Array(_) | Json::Object(_) => Self::Json(json),
        }
    }

    /// Returns the name of the type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Timestamp(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::List(_) | Self::Json(Json::Array(_)) => "list",
            Self::Json(_) => "object",
            Self::Item(_) => "item",
            Self::Group => "group",
        }
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Double(_))
    }

    /// Returns the number of elements of a list; `None` if this is not a list.
    pub fn list_len(&self) -> Option<usize> {
        match self {
            Self::List(list) => Some(list.len()),
            Self::Json(Json::Array(list)) => Some(list.len()),
            _ => None,
        }
    }

    /// Returns an element of a list.
    pub fn element(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::List(list) => list.get(index).cloned(),
            Self::Json(Json::Array(list)) => list.get(index).map(Self::from_json),
            _ => None,
        }
    }

    /// Returns whether two values are equal. Values of different types are not, except numbers.
    /// The result is not valid if the budget is used up.
    pub fn equals(&self, other: &Self, budget: &Budget) -> bool {
        if let (Some(length), Some(other_length)) = (self.list_len(), other.list_len()) {
            return length == other_length
                && (0..length).all(|i| match (self.element(i), other.element(i)) {
                    (Some(element), Some(other)) => element.equals_element(&other, budget),
                    _ => false,
                });
        }
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::String(a), Self::String(b)) => same_text(a, b),
            (Self::Json(Json::Object(object)), Self::Json(Json::Object(other))) => {
                object.len() == other.len()
                    && object.iter().all(|(key, value)| {
                        other.get(key).is_some_and(|other| {
                            Self::from_json(value).equals_element(&Self::from_json(other), budget)
                        })
                    })
            }
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }

    /// Uses fuel for each byte of a text that the cost of the operation does not include.
    pub fn spend(&self, budget: &Budget) -> bool {
        match self {
            Self::String(text) => budget.spend_text(text),
            _ => !budget.is_used_up(),
        }
    }

    /// Compares elements of two lists, or of a list and a value.
    pub fn equals_element(&self, other: &Self, budget: &Budget) -> bool {
        budget.spend(ELEMENT) && self.spend(budget) && self.equals(other, budget)
    }

    /// Compares two values; `None` if they have no order.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Double(b)) => compare_int_with_double(*a, *b),
            (Self::Double(a), Self::Int(b)) => {
                compare_int_with_double(*b, *a).map(Ordering::reverse)
            }
            (Self::String(a), Self::String(b)) => Some(compare_text(a, b)),
            (Self::Timestamp(a), Self::Timestamp(b)) | (Self::Duration(a), Self::Duration(b)) => {
                Some(a.cmp(b))
            }
            _ => None,
        }
    }
}

/// Compares text like [`str::cmp`], which compares single bytes in a sandbox and takes several times
/// the fuel.
fn compare_text(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let words = a_words.iter().zip(b_words);
    let same = 8 * words.take_while(|(a, b)| a == b).count();
    a.get(same..).cmp(&b.get(same..))
}

/// Returns whether two texts are equal.
pub fn same_text(a: &str, b: &str) -> bool {
    a.len() == b.len() && compare_text(a, b).is_eq()
}

/// Compares without rounding the integer to a double.
fn compare_int_with_double(int: i64, double: f64) -> Option<Ordering> {
    // 2^63 is exact as a double.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        None
    } else if double >= LIMIT {
        Some(Ordering::Less)
    } else if double < -LIMIT {
        Some(Ordering::Greater)
    } else {
        let whole = double.trunc();
        match int.cmp(&(whole as i64)) {
            Ordering::Equal => whole.partial_cmp(&double),
            unequal => Some(unequal),
        }
    }
}

/// A value of an `orderBy` expression. Keys have a total order.
#[derive(Clone, Debug)]
pub struct Key<'a>(Value<'a>);

impl<'a> Key<'a> {
    /// Creates a key. Returns the value if it has no order.
    pub fn new(value: Value<'a>) -> Result<Self, Value<'a>> {
        // NaN does not equal itself.
        if value.compare(&value) == Some(Ordering::Equal) {
            Ok(Self(value))
        } else {
            Err(value)
        }
    }

    /// Returns the position of the type among all types: settings of items may differ in type.
    fn type_rank(&self) -> u8 {
        match self.0 {
            Value::Bool(_) => 0,
            Value::Int(_) | Value::Double(_) => 1,
            Value::String(_) => 2,
            _ => 3,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0
            .compare(&other.0)
            .unwrap_or_else(|| self.type_rank().cmp(&other.type_rank()))
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}
