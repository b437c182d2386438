//! The functions of expressions, and the check of their arguments.

use crate::check::{self, Typed};
use crate::convert;
use crate::error::ErrorAt;
use crate::lexer::operator_hint;
use crate::nearest::nearest;
use crate::program::{
    CalendarPart, ItemName, Node, Operation, TextFunction, UnaryFunction, ZoneName,
};
use crate::time::Zone;
use crate::types::Type;
use crate::value::Value;
use crate::zones::{similar_zone, zone};

/// A function without a receiver.
#[derive(Clone, Copy)]
pub enum Function {
    Has,
    /// A conversion to a type.
    Convert(UnaryFunction, Type),
}

static FUNCTIONS: [(&str, Function); 7] = [
    ("has", Function::Has),
    (
        "double",
        Function::Convert(UnaryFunction::ToDouble, Type::Double),
    ),
    (
        "duration",
        Function::Convert(UnaryFunction::ToDuration, Type::Duration),
    ),
    ("int", Function::Convert(UnaryFunction::ToInt, Type::Int)),
    ("size", Function::Convert(UnaryFunction::Size, Type::Int)),
    (
        "string",
        Function::Convert(UnaryFunction::ToString, Type::String),
    ),
    (
        "timestamp",
        Function::Convert(UnaryFunction::ToTimestamp, Type::Timestamp),
    ),
];

impl Function {
    /// Returns the function with this name.
    pub fn find(name: &str, at: usize) -> Result<Self, ErrorAt> {
        let found = FUNCTIONS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, function)| *function)
            .ok_or_else(|| unknown_function(name, &names(&FUNCTIONS), at))
    }

    /// Checks a call.
    pub fn call(
        self,
        name: &str,
        at: usize,
        arguments: Vec<Typed>,
    ) -> Result<(Operation, Type), ErrorAt> {
        match self {
            Self::Has => {
                let [argument] = <[Typed; 1]>::try_from(arguments).map_err(|_| has_usage(at))?;
                check::has(argument).ok_or_else(|| has_usage(at))
            }
            Self::Convert(function, result) => {
                let [argument] = expect_arguments(arguments, name, at)?;
                convert(function, result, name, argument)
            }
        }
    }
}

fn has_usage(at: usize) -> ErrorAt {
    let message = "has(…) takes one field, for example has(item.lastSuccess)";
    ErrorAt::new(at, message)
}

/// Checks a conversion to the type `result`.
fn convert(
    function: UnaryFunction,
    result: Type,
    name: &str,
    argument: Typed,
) -> Result<(Operation, Type), ErrorAt> {
    use Type as T;
    use UnaryFunction as F;
    let Typed { node, ty, .. } = argument;
    let accepted = match function {
        F::ToInt => matches!(
            ty,
            T::Int | T::Double | T::String | T::Timestamp | T::Dynamic
        ),
        F::ToDouble => matches!(ty, T::Int | T::Double | T::String | T::Dynamic),
        F::ToString => !matches!(ty, T::Null | T::List(_) | T::Item | T::Group),
        F::ToDuration => matches!(ty, T::String | T::Duration | T::Dynamic),
        F::ToTimestamp => matches!(ty, T::String | T::Timestamp | T::Int | T::Dynamic),
        _ => matches!(ty, T::String | T::List(_) | T::Dynamic),
    };
    if !accepted {
        let message = format!("{name}(…) does not accept {}", ty.with_article());
        return Err(ErrorAt::new(node.start, message));
    }
    // Convert constants now, so that invalid ones are rejected and valid ones are parsed only once.
    if let Operation::Constant(value) = &node.operation
        && let F::ToDuration | F::ToTimestamp = function
    {
        let value = convert::convert(function, value.clone())
            .map_err(|reason| ErrorAt::new(node.start, reason.to_string()))?;
        return Ok((Operation::Constant(value), result));
    }
    Ok((Operation::Unary(function, node), result))
}

/// A function with a receiver.
#[derive(Clone, Copy)]
pub enum Method {
    Calendar(CalendarPart),
    /// A function without arguments.
    Unary(UnaryFunction),
    Text(TextFunction),
    FindItem,
    GroupRuns,
    ItemRuns,
}

type Methods = &'static [(&'static str, Method)];

static TIMESTAMP_METHODS: Methods = &[
    ("getDate", Method::Calendar(CalendarPart::Date)),
    ("getDayOfMonth", Method::Calendar(CalendarPart::DayOfMonth)),
    ("getDayOfWeek", Method::Calendar(CalendarPart::DayOfWeek)),
    ("getDayOfYear", Method::Calendar(CalendarPart::DayOfYear)),
    ("getFullYear", Method::Calendar(CalendarPart::FullYear)),
    ("getHours", Method::Calendar(CalendarPart::Hours)),
    (
        "getMilliseconds",
        Method::Calendar(CalendarPart::Milliseconds),
    ),
    ("getMinutes", Method::Calendar(CalendarPart::Minutes)),
    ("getMonth", Method::Calendar(CalendarPart::Month)),
    ("getSeconds", Method::Calendar(CalendarPart::Seconds)),
];

static DURATION_METHODS: Methods = &[
    ("getHours", Method::Unary(UnaryFunction::Hours)),
    ("getMinutes", Method::Unary(UnaryFunction::Minutes)),
    ("getSeconds", Method::Unary(UnaryFunction::Seconds)),
];

static TEXT_METHODS: Methods = &[
    ("contains", Method::Text(TextFunction::Contains)),
    ("endsWith", Method::Text(TextFunction::EndsWith)),
    ("startsWith", Method::Text(TextFunction::StartsWith)),
    ("size", Method::Unary(UnaryFunction::Size)),
];

static LIST_METHODS: Methods = &[("size", Method::Unary(UnaryFunction::Size))];

static GROUP_METHODS: Methods = &[
    ("item", Method::FindItem),
    ("runsWithin", Method::GroupRuns),
];

static ITEM_METHODS: Methods = &[("runsWithin", Method::ItemRuns)];

/// Returns the methods of a type.
fn methods(ty: Type) -> Methods {
    match ty {
        Type::Timestamp => TIMESTAMP_METHODS,
        Type::Duration => DURATION_METHODS,
        Type::String | Type::Dynamic => TEXT_METHODS,
        Type::List(_) => LIST_METHODS,
        Type::Group => GROUP_METHODS,
        Type::Item => ITEM_METHODS,
        Type::Null | Type::Bool | Type::Int | Type::Double => &[],
    }
}

fn names<T>(functions: &[(&'static str, T)]) -> Vec<&'static str> {
    functions.iter().map(|(name, _)| *name).collect()
}

impl Method {
    /// Returns the method of a type with this name.
    pub fn find(ty: Type, name: &str, at: usize) -> Result<Self, ErrorAt> {
        let found = methods(ty).iter().find(|(known, _)| *known == name);
        found
            .map(|(_, method)| *method)
            .ok_or_else(|| unknown_method(ty, name, at))
    }

    /// Checks a call.
    pub fn call(
        self,
        receiver: Typed,
        name: &str,
        at: usize,
        arguments: Vec<Typed>,
    ) -> Result<(Operation, Type), ErrorAt> {
        let receiver = receiver.node;
        Ok(match self {
            Self::Calendar(part) => {
                let zone = if arguments.is_empty() {
                    ZoneName::Known(Zone::UTC)
                } else {
                    zone_name(argument(arguments, name, at, &Type::String)?)?
                };
                let calendar = Operation::Calendar(part, receiver, zone);
                (calendar, Type::Int)
            }
            Self::Unary(function) => {
                let [] = expect_arguments(arguments, name, at)?;
                let unary = Operation::Unary(function, receiver);
                (unary, Type::Int)
            }
            Self::Text(function) => {
                let part = argument(arguments, name, at, &Type::String)?;
                let search = Operation::Text(function, Box::new([*receiver, *part]));
                (search, Type::Bool)
            }
            Self::FindItem => {
                let name = argument(arguments, name, at, &Type::String)?;
                (Operation::FindItem(ItemName::new(*name)), Type::Item)
            }
            Self::GroupRuns => {
                let window = argument(arguments, name, at, &Type::Duration)?;
                (Operation::GroupRuns(window), Type::Int)
            }
            Self::ItemRuns => {
                let window = argument(arguments, name, at, &Type::Duration)?;
                let runs = Operation::ItemRuns(Box::new([*receiver, *window]));
                (runs, Type::Int)
            }
        })
    }
}

fn unknown_method(ty: Type, name: &str, at: usize) -> ErrorAt {
    let all = [
        Type::Timestamp,
        Type::Duration,
        Type::String,
        Type::Dynamic.list(),
        Type::Group,
        Type::Item,
    ];
    let owners: Vec<_> = all
        .iter()
        .filter(|owner| names(methods(**owner)).contains(&name))
        .map(Type::with_article)
        .collect();
    if owners.is_empty() {
        let known = match methods(ty) {
            [] => all.iter().flat_map(|ty| names(methods(*ty))).collect(),
            methods => names(methods),
        };
        return unknown_function(name, &known, at);
    }
    let message = format!(
        "{name}(…) requires {}, but this is {}",
        owners.join(" or "),
        ty.with_article()
    );
    ErrorAt::new(at, message)
}

/// Functions of CEL that are not supported, and what to use instead.
static UNSUPPORTED_FUNCTIONS: [(&str, &str); 11] = [
    ("all", "conditions on elements, such as tags[0] == 'a'"),
    ("bool", "a comparison"),
    ("bytes", "a string"),
    ("dyn", "the value itself"),
    ("exists", "conditions on elements, such as tags[0] == 'a'"),
    (
        "exists_one",
        "conditions on elements, such as tags[0] == 'a'",
    ),
    ("filter", "conditions on elements, such as tags[0] == 'a'"),
    ("map", "conditions on elements, such as tags[0] == 'a'"),
    ("matches", "startsWith, endsWith, or contains"),
    ("type", "has(…) and comparisons"),
    ("uint", "int(…)"),
];

fn unknown_function(name: &str, known: &[&'static str], at: usize) -> ErrorAt {
    let unsupported = UNSUPPORTED_FUNCTIONS
        .iter()
        .find(|(unsupported, _)| *unsupported == name);
    let message = if let Some((_, instead)) = unsupported {
        format!("the CEL function {name} is not supported; use {instead}")
    } else if let Some(hint) = operator_hint(name) {
        format!("unknown function \"{name}\"{hint}")
    } else if let Some(similar) = nearest(name, known.iter().copied()) {
        format!("unknown function \"{name}\"; did you mean \"{similar}\"?")
    } else {
        format!(
            "unknown function \"{name}\"; the functions are {}",
            known.join(", ")
        )
    };
    ErrorAt::new(at, message)
}

/// Returns the arguments of a function that takes `N` of them.
fn expect_arguments<const N: usize>(
    arguments: Vec<Typed>,
    name: &str,
    at: usize,
) -> Result<[Typed; N], ErrorAt> {
    let given = arguments.len();
    arguments.try_into().map_err(|_| {
        let expected = match N {
            0 => "no arguments".to_owned(),
            1 => "one argument".to_owned(),
            _ => format!("{N} arguments"),
        };
        ErrorAt::new(at, format!("{name}(…) takes {expected}, but got {given}"))
    })
}

/// Checks the only argument of a function.
fn argument(
    arguments: Vec<Typed>,
    name: &str,
    at: usize,
    expected: &Type,
) -> Result<Box<Node>, ErrorAt> {
    let [argument] = expect_arguments(arguments, name, at)?;
    argument.expect(expected, || format!("the argument of {name}(…)"))
}

/// Finds the time zone if its name is a constant.
fn zone_name(name: Box<Node>) -> Result<ZoneName, ErrorAt> {
    match &name.operation {
        Operation::Constant(Value::String(text)) => match zone(text) {
            Some(zone) => Ok(ZoneName::Known(zone)),
            None => Err(unknown_zone(text, name.start)),
        },
        _ => Ok(ZoneName::Evaluated(name)),
    }
}

fn unknown_zone(name: &str, at: usize) -> ErrorAt {
    let hint = match similar_zone(name) {
        Some(similar) => format!("did you mean \"{similar}\"?"),
        None => "use a name such as Europe/Berlin, or an offset such as +02:00".to_owned(),
    };
    ErrorAt::new(at, format!("unknown time zone \"{name}\"; {hint}"))
}
