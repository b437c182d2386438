//! Parses and validates settings.

use crate::budget::MAX_COST;
use crate::convert::format_double;
use crate::error::ExpressionError;
use crate::expression::{Expression, Order};
use crate::nearest::nearest;
use crate::time::parse_duration;
use policy_sdk::Duration;
use serde_json::Value as Json;
use std::fmt;

const RECHECK: Duration = 5 * 60 * 1000;
const MIN_RECHECK: Duration = 1000;
const MAX_RECHECK: Duration = 24 * 60 * 60 * 1000;

/// The maximum number of expressions in `orderBy`.
const MAX_ORDERS: usize = 8;

const SETTINGS: [&str; 4] = ["eligible", "orderBy", "note", "recheck"];

/// The settings of a group.
#[derive(Debug)]
pub struct Settings {
    /// The condition that an item must meet to run.
    pub eligible: Option<Expression>,
    /// The ranks by which items are ordered.
    pub order_by: Vec<Order>,
    /// The text that is shown for an item.
    pub note: Option<Expression>,
    /// How soon expressions that use the time are evaluated again.
    pub recheck: Duration,
    /// The estimated fuel of all expressions for each item.
    pub cost: u64,
}

impl Settings {
    /// Parses the settings of a group, a JSON object.
    ///
    /// # Errors
    /// Returns a message that names the setting, the position, and the fix.
    pub fn parse(json: &str) -> Result<Self, String> {
        let Ok(Json::Object(given)) = serde_json::from_str(json) else {
            return Err(format!(
                "the settings are {json}; they must be a JSON object, such as {{\"orderBy\": [\"item.lastSuccess\"]}}"
            ));
        };
        let mut settings = Self {
            eligible: None,
            order_by: Vec::new(),
            note: None,
            recheck: RECHECK,
            cost: 0,
        };
        for (key, value) in &given {
            match key.as_str() {
                "eligible" => {
                    let parsed = Setting::Eligible.parse(value, Expression::condition)?;
                    settings.eligible = Some(parsed);
                }
                "note" => settings.note = Some(Setting::Note.parse(value, Expression::text)?),
                "orderBy" => settings.order_by = order_by(value)?,
                "recheck" => settings.recheck = recheck(value)?,
                _ => return Err(unknown(key, value)),
            }
        }
        settings.cost = settings.checked_cost()?;
        Ok(settings)
    }

    /// Returns the cost of all expressions. Rejects those that could use up the fuel of a decision.
    fn checked_cost(&self) -> Result<u64, String> {
        let total = self.expressions().map(|(_, it)| it.cost).sum();
        let largest = self.expressions().max_by_key(|(_, it)| it.cost);
        match largest {
            Some((setting, Expression { cost, .. })) if total > MAX_COST => Err(format!(
                "{setting}: all expressions together use about {total} fuel for each item, and this \
                 one uses {cost}; use at most {MAX_COST}: shorten it, or write a policy as a component"
            )),
            _ => Ok(total),
        }
    }

    fn expressions(&self) -> impl Iterator<Item = (Setting, &Expression)> {
        let eligible = self.eligible.iter().map(|it| (Setting::Eligible, it));
        let note = self.note.iter().map(|it| (Setting::Note, it));
        let orders = self.order_by.iter().enumerate();
        let orders = orders.map(|(i, order)| (Setting::OrderBy(i), &order.expression));
        eligible.chain(note).chain(orders)
    }

    /// Returns whether time alone may make an item eligible, or its rank valid.
    pub fn uses_time(&self) -> bool {
        let orders = self.order_by.iter().map(|order| &order.expression);
        self.eligible
            .iter()
            .chain(orders)
            .any(Expression::uses_time)
    }
}

fn unknown(key: &str, value: &Json) -> String {
    let hint = match nearest(key, SETTINGS) {
        Some(similar) => format!("did you mean {similar:?}?"),
        None => "the settings are eligible, orderBy, note, and recheck".to_owned(),
    };
    format!(
        "unknown setting {key:?} with the value {}; {hint}",
        describe(value)
    )
}

/// A setting that contains expressions.
#[derive(Clone, Copy)]
enum Setting {
    Eligible,
    Note,
    OrderBy(usize),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eligible => f.write_str("eligible"),
            Self::Note => f.write_str("note"),
            Self::OrderBy(index) => write!(f, "orderBy[{index}]"),
        }
    }
}

impl Setting {
    /// Parses the expression in this setting.
    fn parse<T>(
        self,
        value: &Json,
        parse: fn(&str) -> Result<T, ExpressionError>,
    ) -> Result<T, String> {
        let Some(source) = value.as_str() else {
            let example = match self {
                Self::Eligible => "item.failures < 5",
                Self::Note => "'tier ' + string(item.settings.tier)",
                Self::OrderBy(_) => "item.lastSuccess",
            };
            let value = describe(value);
            return Err(format!(
                "{self} is {value}; it must be an expression in quotes, such as \"{example}\""
            ));
        };
        parse(source).map_err(|error| format!("{self}, {error}"))
    }
}

fn order_by(value: &Json) -> Result<Vec<Order>, String> {
    let given = value
        .as_array()
        .filter(|list| list.len() <= MAX_ORDERS)
        .ok_or_else(|| {
            format!(
                "orderBy is {}; it must be a list of at most {MAX_ORDERS} expressions, such as [\"item.lastSuccess\"]",
                describe(value)
            )
        })?;
    let orders = given.iter().enumerate();
    orders
        .map(|(i, value)| Setting::OrderBy(i).parse(value, Order::new))
        .collect()
}

fn recheck(value: &Json) -> Result<Duration, String> {
    let text = value.as_str().ok_or_else(|| {
        format!(
            "recheck is {}; it must be a duration in quotes, such as \"5m\"",
            describe(value)
        )
    })?;
    parse_duration(&text.replace(' ', ""))
        .and_then(|millis| Duration::try_from(millis).ok())
        .filter(|millis| (MIN_RECHECK..=MAX_RECHECK).contains(millis))
        .ok_or_else(|| format!("recheck is {text:?}; it must be a duration from 1s to 24h"))
}

/// Describes a value for a message. The serializer of serde_json would add 20 KB to the component, and
/// the formatter of doubles in the standard library 1.7 KB of tables.
fn describe(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => int.to_string(),
            (None, double) => double
                .and_then(|double| format_double(double).ok())
                .unwrap_or_else(|| "a number".to_owned()),
        },
        Json::String(text) => format!("{text:?}"),
        Json::Array(list) => format!("a list of {} values", list.len()),
        Json::Object(_) => "an object".to_owned(),
    }
}
