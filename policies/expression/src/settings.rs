//! Parses and validates settings.

use crate::cost::MAX_COST;
use crate::expression::{Expression, Order};
use crate::nearest::nearest;
use crate::time::parse_duration;
use policy_sdk::Duration;
use serde_json::Value as Json;

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
                    let source = source(key, value, "item.failures < 5")?;
                    let condition = Expression::condition(source);
                    settings.eligible = Some(condition.map_err(|e| format!("{key}, {e}"))?);
                }
                "note" => {
                    let source = source(key, value, "'tier ' + string(item.settings.tier)")?;
                    let text = Expression::text(source);
                    settings.note = Some(text.map_err(|e| format!("{key}, {e}"))?);
                }
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
        let parts = self.eligible.iter().chain(&self.note);
        let total = parts.map(Expression::cost).sum::<u64>()
            + self.order_by.iter().map(Order::cost).sum::<u64>();
        if total <= MAX_COST {
            return Ok(total);
        }
        let named = |name: &str, expression: &Option<Expression>| {
            expression.as_ref().map(|it| (name.to_owned(), it.cost()))
        };
        let orders = self.order_by.iter().enumerate();
        let (largest, cost) = named("eligible", &self.eligible)
            .into_iter()
            .chain(named("note", &self.note))
            .chain(orders.map(|(i, order)| (format!("orderBy[{i}]"), order.cost())))
            .max_by_key(|(_, cost)| *cost)
            .unwrap_or_default();
        Err(format!(
            "the expressions use about {total} fuel for each item, of which {largest} uses {cost}; \
             use at most {MAX_COST}: shorten {largest}, or write a policy as a component"
        ))
    }

    /// Returns whether time alone may make an item eligible, or its rank valid.
    pub fn uses_time(&self) -> bool {
        self.eligible.as_ref().is_some_and(Expression::uses_time)
            || self.order_by.iter().any(Order::uses_time)
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

fn source<'v>(setting: &str, value: &'v Json, example: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| {
        let value = describe(value);
        format!("{setting} is {value}; it must be an expression in quotes, such as \"{example}\"")
    })
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
    let order = |(i, value)| {
        let setting = format!("orderBy[{i}]");
        let source = source(&setting, value, "item.lastSuccess")?;
        Order::new(source).map_err(|error| format!("{setting}, {error}"))
    };
    given.iter().enumerate().map(order).collect()
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

/// Describes a value for a message. The serializer of serde_json would add 20 KB to the component.
fn describe(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => int.to_string(),
            (None, double) => double.map_or("a number".to_owned(), |double| double.to_string()),
        },
        Json::String(text) => format!("{text:?}"),
        Json::Array(list) => format!("a list of {} values", list.len()),
        Json::Object(_) => "an object".to_owned(),
    }
}
