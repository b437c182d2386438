//! Evaluates checked expressions.

use crate::budget::{Budget, ParseBudget};
use crate::convert::convert;
use crate::failure::{Failure, Quote, Reason};
use crate::program::{
    CalendarPart, ItemName, Logic, Node, Operation, Operator, TextFunction, UnaryFunction, ZoneName,
};
use crate::time::Zone;
use crate::types::{GroupField, ItemField};
use crate::value::{Value, same_text};
use crate::zones::zone;
use policy_sdk::{Duration, Instant, Request, Run, Standing};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hasher};

/// What expressions can read.
pub struct Scope<'r> {
    request: &'r Request,
    standings: &'r [Standing],
    /// The parsed settings of each item.
    settings: Vec<OnceCell<Result<Json, Reason>>>,
    parse_budget: ParseBudget,
    /// The work that is left for each item.
    budgets: Vec<Budget>,
    /// The hashes of all names in ascending order, and the index of each item. Comparing two names
    /// takes several times as long.
    by_hash: OnceCell<Vec<(u64, usize)>>,
}

impl<'r> Scope<'r> {
    /// Creates the scope for a request. `standings` has the standing of each item by the documented
    /// rules, and `cost` is the cost of all expressions.
    pub fn new(request: &'r Request, standings: &'r [Standing], cost: u64) -> Self {
        Self {
            request,
            standings,
            settings: vec![OnceCell::new(); request.items.len()],
            parse_budget: ParseBudget::new(cost),
            budgets: request.items.iter().map(|_| Budget::new()).collect(),
            by_hash: OnceCell::new(),
        }
    }

    /// Returns the work that is left for an item.
    pub fn budget(&self, item: usize) -> &Budget {
        &self.budgets[item]
    }

    /// Returns the settings of an item, `{}` if it has none.
    fn settings(&self, item: usize) -> Result<&Json, Reason> {
        let settings = self.settings[item].get_or_init(|| {
            let Some(text) = &self.request.items[item].settings else {
                return Ok(Json::Object(Map::new()));
            };
            if !self.parse_budget.spend(text) {
                return Err(Reason::LongSettings);
            }
            match serde_json::from_str(text) {
                Ok(settings @ Json::Object(_)) => Ok(settings),
                _ => Err(Reason::Settings),
            }
        });
        settings.as_ref().map_err(Reason::clone)
    }

    /// Returns the index of the item with this name.
    fn find(&self, name: &str) -> Option<usize> {
        let items = &self.request.items;
        let by_hash = self.by_hash.get_or_init(|| {
            let hashes = items.iter().map(|item| hash(&item.name));
            let mut by_hash: Vec<_> = hashes.zip(0..).collect();
            by_hash.sort_unstable();
            by_hash
        });
        let hash = hash(name);
        let first = by_hash.partition_point(|(other, _)| *other < hash);
        by_hash
            .get(first..)?
            .iter()
            .take_while(|(other, _)| *other == hash)
            .map(|(_, index)| *index)
            .find(|index| same_text(&items[*index].name, name))
    }

    /// Returns the value of a field of an item; `None` if it is absent.
    fn item_field(&self, item: usize, field: ItemField) -> Result<Option<Value<'_>>, Reason> {
        let index = item;
        let item = &self.request.items[item];
        Ok(match field {
            ItemField::CoolOff => Some(duration(item.cool_off)),
            ItemField::Failures => Some(Value::Int(item.failures.into())),
            ItemField::Frequency => item.frequency.map(duration),
            ItemField::LastDuration => item.last_duration.map(duration),
            ItemField::LastFailure => item.last_failure.map(Value::Timestamp),
            ItemField::LastSuccess => item.last_success.map(Value::Timestamp),
            ItemField::Name => Some(Value::String(Cow::Borrowed(&item.name))),
            ItemField::Runs => Some(Value::Int(item.runs.into())),
            ItemField::Settings => Some(Value::Json(self.settings(index)?)),
            ItemField::Standing => {
                Some(Value::String(Cow::Borrowed(match self.standings[index] {
                    Standing::Ready => "Ready",
                    Standing::Fresh => "Fresh",
                    Standing::Cooling => "Cooling",
                    Standing::Deferred => "Deferred",
                })))
            }
            ItemField::Startable => Some(Value::Bool(item.startable)),
        })
    }

    /// Returns the value of a field of the group; `None` if it is absent.
    fn group_field(&self, field: GroupField) -> Option<Value<'_>> {
        let latest = self.request.recent.first();
        match field {
            GroupField::LastFinished => latest.map(|run| Value::Timestamp(run.finished)),
            GroupField::LastStarted => latest.map(|run| Value::Timestamp(run.started)),
            GroupField::Name => Some(Value::String(Cow::Borrowed(&self.request.group))),
            GroupField::Namespace => Some(Value::String(Cow::Borrowed(&self.request.namespace))),
            // A list has at most 2,000 items.
            GroupField::Size => Some(Value::Int(self.request.items.len() as i64)),
        }
    }

    /// Counts the recent runs that started within a duration before now.
    fn runs_within(&self, window: Value<'_>, counts: impl Fn(&Run) -> bool) -> Result<i64, Reason> {
        let Value::Duration(window) = window else {
            return Err(expected("duration", &window));
        };
        let start: Instant = self.request.now.saturating_sub(window);
        let runs = self.request.recent.iter();
        // At most 20 recent runs are known.
        Ok(runs
            .filter(|run| run.started > start && counts(run))
            .count() as i64)
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// Converts a duration of the contract. Durations above 292 million years are truncated.
fn duration(millis: Duration) -> Value<'static> {
    Value::Duration(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn expected(expected: &'static str, found: &Value<'_>) -> Reason {
    let found = found.type_name();
    Reason::Expected { expected, found }
}

impl Node {
    /// Evaluates the expression for an item.
    pub fn evaluate<'a>(&'a self, scope: &'a Scope<'_>, item: usize) -> Result<Value<'a>, Failure> {
        let at = |reason| Failure {
            start: self.start,
            end: self.end,
            reason,
        };
        match &self.operation {
            Operation::Constant(value) => Ok(borrowed(value)),
            Operation::Item => Ok(Value::Item(item)),
            Operation::Group => Ok(Value::Group),
            Operation::Now => Ok(Value::Timestamp(scope.request.now)),
            Operation::Chain(logic, operands) => {
                short_circuit(operands, scope, item, *logic == Logic::Or)
            }
            Operation::Conditional(parts) => {
                let [condition, then, otherwise] = &**parts;
                if condition.evaluate_bool(scope, item)? {
                    then.evaluate(scope, item)
                } else {
                    otherwise.evaluate(scope, item)
                }
            }
            Operation::Not(operand) => Ok(Value::Bool(!operand.evaluate_bool(scope, item)?)),
            Operation::List(nodes) => {
                let elements = nodes.iter().map(|node| node.evaluate(scope, item));
                Ok(Value::List(elements.collect::<Result<_, _>>()?))
            }
            Operation::Binary(operator, operands) => {
                let left = operands[0].evaluate(scope, item)?;
                let right = operands[1].evaluate(scope, item)?;
                binary(*operator, left, right, scope.budget(item)).map_err(at)
            }
            Operation::Negate(operand) => match operand.evaluate(scope, item)? {
                Value::Int(int) => {
                    let negated = int.checked_neg().ok_or(Reason::OutOfRange);
                    negated.map(Value::Int).map_err(at)
                }
                Value::Double(double) => Ok(Value::Double(-double)),
                other => Err(at(expected("number", &other))),
            },
            Operation::Unary(function, operand) => {
                let value = operand.evaluate(scope, item)?;
                let budget = scope.budget(item);
                let is_affordable = match (function, &value) {
                    (UnaryFunction::ToDuration, Value::String(text)) => budget.spend_duration(text),
                    _ => value.spend(budget),
                };
                if !is_affordable {
                    return Err(at(Reason::TooMuchWork));
                }
                convert(*function, value).map_err(at)
            }
            Operation::Text(function, operands) => {
                let text = operands[0].evaluate(scope, item)?;
                let part = operands[1].evaluate(scope, item)?;
                let budget = scope.budget(item);
                if !text.spend(budget) || !part.spend(budget) {
                    return Err(at(Reason::TooMuchWork));
                }
                search(*function, &text, &part).map_err(at)
            }
            _ => self.evaluate_access(scope, item),
        }
    }

    /// Evaluates operations that read the request.
    fn evaluate_access<'a>(
        &'a self,
        scope: &'a Scope<'_>,
        item: usize,
    ) -> Result<Value<'a>, Failure> {
        let at = |reason| Failure {
            start: self.start,
            end: self.end,
            reason,
        };
        match &self.operation {
            Operation::ItemField(operand, field) => {
                let owner = operand.evaluate_item(scope, item)?;
                let value = scope.item_field(owner, *field).map_err(at)?;
                value.ok_or_else(|| at(Reason::Absent))
            }
            Operation::HasItemField(operand, field) => {
                let owner = operand.evaluate_item(scope, item)?;
                let value = scope.item_field(owner, *field).map_err(at)?;
                Ok(Value::Bool(value.is_some()))
            }
            Operation::GroupField(field) => {
                scope.group_field(*field).ok_or_else(|| at(Reason::Absent))
            }
            Operation::HasGroupField(field) => Ok(Value::Bool(scope.group_field(*field).is_some())),
            Operation::Key(operand, key) => {
                let value = get(&operand.evaluate(scope, item)?, key).map_err(at)?;
                value.ok_or_else(|| at(Reason::NoKey(Quote::new(key))))
            }
            Operation::HasKey(operand, key) => {
                let value = get(&operand.evaluate(scope, item)?, key).map_err(at)?;
                Ok(Value::Bool(value.is_some()))
            }
            Operation::Index(operands) => {
                let list = operands[0].evaluate(scope, item)?;
                let index = operands[1].evaluate(scope, item)?;
                element(&list, index).map_err(at)
            }
            Operation::Calendar(part, operand, zone) => {
                let time = operand.evaluate(scope, item)?;
                let value = match zone {
                    ZoneName::Known(zone) => calendar(*part, &time, zone),
                    ZoneName::Evaluated(name) => {
                        let name = name.evaluate(scope, item)?;
                        named_zone(&name).and_then(|zone| calendar(*part, &time, &zone))
                    }
                };
                value.map(Value::Int).map_err(at)
            }
            Operation::FindItem(ItemName::Known(name, index)) => {
                let index = *index.get_or_init(|| scope.find(name));
                let unknown = || at(Reason::UnknownItem(Quote::new(name)));
                index.map(Value::Item).ok_or_else(unknown)
            }
            Operation::FindItem(ItemName::Evaluated(name)) => match name.evaluate(scope, item)? {
                Value::String(name) => scope
                    .find(&name)
                    .map(Value::Item)
                    .ok_or_else(|| at(Reason::UnknownItem(Quote::new(&name)))),
                other => Err(at(expected("string", &other))),
            },
            Operation::ItemRuns(operands) => {
                let owner = operands[0].evaluate_item(scope, item)?;
                let window = operands[1].evaluate(scope, item)?;
                let runs = scope.runs_within(window, |run| run.item as usize == owner);
                runs.map(Value::Int).map_err(at)
            }
            Operation::GroupRuns(window) => {
                let window = window.evaluate(scope, item)?;
                let runs = scope.runs_within(window, |_| true);
                runs.map(Value::Int).map_err(at)
            }
            // `evaluate` handles all other operations.
            _ => Err(at(Reason::OutOfRange)),
        }
    }

    /// Evaluates a condition.
    pub fn evaluate_bool(&self, scope: &Scope<'_>, item: usize) -> Result<bool, Failure> {
        match self.evaluate(scope, item)? {
            Value::Bool(value) => Ok(value),
            other => Err(Failure {
                start: self.start,
                end: self.end,
                reason: expected("bool", &other),
            }),
        }
    }

    /// Evaluates an expression of the type [`crate::types::Type::Item`].
    fn evaluate_item(&self, scope: &Scope<'_>, item: usize) -> Result<usize, Failure> {
        match self.evaluate(scope, item)? {
            Value::Item(index) => Ok(index),
            other => Err(Failure {
                start: self.start,
                end: self.end,
                reason: expected("item", &other),
            }),
        }
    }
}

/// Returns a constant without copying its text.
fn borrowed<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::String(text) => Value::String(Cow::Borrowed(text)),
        other => other.clone(),
    }
}

/// Evaluates `||` (`decisive` is true) or `&&` (`decisive` is false). As in CEL, an operand that
/// decides the result also does so if another one fails.
fn short_circuit<'a>(
    operands: &[Node],
    scope: &Scope<'_>,
    item: usize,
    decisive: bool,
) -> Result<Value<'a>, Failure> {
    let mut failure = None;
    for operand in operands {
        match operand.evaluate_bool(scope, item) {
            Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
            Ok(_) => {}
            Err(error) if error.reason == Reason::TooMuchWork => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(Value::Bool(!decisive)), Err)
}

fn binary<'a>(
    operator: Operator,
    left: Value<'a>,
    right: Value<'a>,
    budget: &Budget,
) -> Result<Value<'a>, Reason> {
    use Operator as O;
    if !left.spend(budget) || !right.spend(budget) {
        return Err(Reason::TooMuchWork);
    }
    let within = |result| {
        if budget.is_used_up() {
            return Err(Reason::TooMuchWork);
        }
        Ok(Value::Bool(result))
    };
    let ordered = |holds: fn(Ordering) -> bool| match left.compare(&right) {
        Some(ordering) => Ok(Value::Bool(holds(ordering))),
        // A double that is not a number has no order, and each comparison with it is false.
        None if left.is_number() && right.is_number() => Ok(Value::Bool(false)),
        None => Err(Reason::WrongTypes(
            left.type_name(),
            Some(right.type_name()),
        )),
    };
    match operator {
        O::Equal => within(left.equals(&right, budget)),
        O::NotEqual => within(!left.equals(&right, budget)),
        O::Less => ordered(Ordering::is_lt),
        O::LessOrEqual => ordered(Ordering::is_le),
        O::Greater => ordered(Ordering::is_gt),
        O::GreaterOrEqual => ordered(Ordering::is_ge),
        O::In => contains(&left, &right, budget).and_then(within),
        O::Add | O::Subtract | O::Multiply | O::Divide | O::Remainder => {
            calculate(operator, left, right)
        }
    }
}

fn calculate<'a>(
    operator: Operator,
    left: Value<'a>,
    right: Value<'a>,
) -> Result<Value<'a>, Reason> {
    use Operator as O;
    use Value as V;
    let wrong_types = Reason::WrongTypes(left.type_name(), Some(right.type_name()));
    let checked = |result: Option<i64>| result.ok_or(Reason::OutOfRange);
    Ok(match (operator, left, right) {
        (O::Divide | O::Remainder, V::Int(_), V::Int(0)) => return Err(Reason::DivisionByZero),
        (O::Add, V::Int(a), V::Int(b)) => V::Int(checked(a.checked_add(b))?),
        (O::Subtract, V::Int(a), V::Int(b)) => V::Int(checked(a.checked_sub(b))?),
        (O::Multiply, V::Int(a), V::Int(b)) => V::Int(checked(a.checked_mul(b))?),
        (O::Divide, V::Int(a), V::Int(b)) => V::Int(checked(a.checked_div(b))?),
        (O::Remainder, V::Int(a), V::Int(b)) => V::Int(checked(a.checked_rem(b))?),
        (O::Add, V::Double(a), V::Double(b)) => V::Double(a + b),
        (O::Subtract, V::Double(a), V::Double(b)) => V::Double(a - b),
        (O::Multiply, V::Double(a), V::Double(b)) => V::Double(a * b),
        (O::Divide, V::Double(a), V::Double(b)) => V::Double(a / b),
        (O::Add, V::String(a), V::String(b)) => V::String(Cow::Owned(a.into_owned() + &b)),
        (O::Add, V::Timestamp(a), V::Duration(b)) | (O::Add, V::Duration(a), V::Timestamp(b)) => {
            V::Timestamp(checked(a.checked_add(b))?)
        }
        (O::Add, V::Duration(a), V::Duration(b)) => V::Duration(checked(a.checked_add(b))?),
        (O::Subtract, V::Timestamp(a), V::Timestamp(b))
        | (O::Subtract, V::Duration(a), V::Duration(b)) => V::Duration(checked(a.checked_sub(b))?),
        (O::Subtract, V::Timestamp(a), V::Duration(b)) => V::Timestamp(checked(a.checked_sub(b))?),
        _ => return Err(wrong_types),
    })
}

/// Evaluates `value in collection`.
fn contains(value: &Value<'_>, collection: &Value<'_>, budget: &Budget) -> Result<bool, Reason> {
    if let Some(length) = collection.list_len() {
        let mut elements = (0..length).filter_map(|i| collection.element(i));
        return Ok(elements.any(|element| match collection {
            // The cost of the expression includes its lists.
            Value::List(_) => element.equals(value, budget),
            _ => element.equals_element(value, budget),
        }));
    }
    match (value, collection) {
        (Value::String(key), Value::Json(Json::Object(object))) => Ok(object.contains_key(&**key)),
        (_, Value::Json(Json::Object(_))) => Ok(false),
        _ => Err(expected("list", collection)),
    }
}

/// Returns the value of a key; `None` if the object does not have it.
fn get<'a>(object: &Value<'a>, key: &str) -> Result<Option<Value<'a>>, Reason> {
    match object {
        Value::Json(Json::Object(object)) => Ok(object.get(key).map(Value::from_json)),
        other => Err(expected("object", other)),
    }
}

fn element<'a>(list: &Value<'a>, index: Value<'a>) -> Result<Value<'a>, Reason> {
    match index {
        Value::String(key) => get(list, &key)?.ok_or_else(|| Reason::NoKey(Quote::new(&key))),
        Value::Int(int) if list.list_len().is_some() => {
            let element = usize::try_from(int).ok().and_then(|i| list.element(i));
            element.ok_or(Reason::NoElement(int))
        }
        Value::Int(_) => Err(expected("list", list)),
        other => Err(expected("int", &other)),
    }
}

fn search<'a>(
    function: TextFunction,
    text: &Value<'_>,
    part: &Value<'_>,
) -> Result<Value<'a>, Reason> {
    let (Value::String(text), Value::String(part)) = (text, part) else {
        let other = if let Value::String(_) = text {
            part
        } else {
            text
        };
        return Err(expected("string", other));
    };
    Ok(Value::Bool(match function {
        TextFunction::Contains => text.contains(&**part),
        TextFunction::EndsWith => text.ends_with(&**part),
        TextFunction::StartsWith => text.starts_with(&**part),
    }))
}

fn named_zone(name: &Value<'_>) -> Result<Zone, Reason> {
    match name {
        Value::String(name) => zone(name).ok_or_else(|| Reason::UnknownZone(Quote::new(name))),
        other => Err(expected("string", other)),
    }
}

fn calendar(part: CalendarPart, time: &Value<'_>, zone: &Zone) -> Result<i64, Reason> {
    let Value::Timestamp(millis) = time else {
        return Err(expected("timestamp", time));
    };
    let local = zone.local(*millis).ok_or(Reason::OutOfRange)?;
    let (date, time) = (local.date(), local.time());
    Ok(match part {
        CalendarPart::FullYear => date.year().into(),
        // As in CEL, months and days of a week, a month, and a year count from 0, and dates from 1.
        CalendarPart::Month => i64::from(date.month()) - 1,
        CalendarPart::Date => date.day().into(),
        CalendarPart::DayOfMonth => i64::from(date.day()) - 1,
        CalendarPart::DayOfWeek => date.weekday().to_sunday_zero_offset().into(),
        CalendarPart::DayOfYear => i64::from(date.day_of_year()) - 1,
        CalendarPart::Hours => time.hour().into(),
        CalendarPart::Minutes => time.minute().into(),
        CalendarPart::Seconds => time.second().into(),
        CalendarPart::Milliseconds => millis.rem_euclid(1000),
    })
}
