//! Checks the names and types in an expression, also in branches that are never evaluated.

use crate::convert;
use crate::error::ErrorAt;
use crate::nearest::nearest;
use crate::program::{CalendarPart, Node, Operation, TextFunction, UnaryFunction, ZoneName};
use crate::time::Zone;
use crate::tree::{Kind, Operator, Tree};
use crate::types::{GROUP_FIELDS, GroupField, ITEM_FIELDS, ItemField, Type};
use crate::value::Value;
use crate::zones::{similar_zone, zone};
use std::borrow::Cow;

type Checked = (Node, Type);

/// Checks an expression. Returns it with its type.
pub fn check(tree: Tree<'_>) -> Result<Checked, ErrorAt> {
    let (start, end) = (tree.start, tree.end);
    let (operation, ty) = operation(tree)?;
    let node = Node {
        operation,
        start,
        end,
    };
    Ok((node, ty))
}

/// Checks an expression that must be a bool. `place` names where it is.
fn check_bool(tree: Tree<'_>, place: &str) -> Result<Node, ErrorAt> {
    let start = tree.start;
    let (node, ty) = check(tree)?;
    expect(&ty, &Type::Bool, start, place)?;
    Ok(node)
}

fn expect(ty: &Type, expected: &Type, at: usize, place: &str) -> Result<(), ErrorAt> {
    if ty.fits(expected) {
        return Ok(());
    }
    let (expected, found) = (with_article(expected), with_article(ty));
    let message = format!("{place} must be {expected}, but this is {found}");
    Err(ErrorAt::new(at, message))
}

/// Returns the name of the type with its article.
fn with_article(ty: &Type) -> String {
    match ty {
        Type::Int | Type::Item => format!("an {ty}"),
        Type::Null => "null".to_owned(),
        _ => format!("a {ty}"),
    }
}

fn operation(tree: Tree<'_>) -> Result<(Operation, Type), ErrorAt> {
    use Operation as O;
    let start = tree.start;
    let constant = |value, ty| Ok((O::Constant(value), ty));
    match tree.kind {
        Kind::Null => constant(Value::Null, Type::Null),
        Kind::Bool(value) => constant(Value::Bool(value), Type::Bool),
        Kind::Int(value) => constant(Value::Int(value), Type::Int),
        Kind::Double(value) => constant(Value::Double(value), Type::Double),
        Kind::String(text) => constant(Value::String(Cow::Owned(text)), Type::String),
        Kind::Name("item") => Ok((O::Item, Type::Item)),
        Kind::Name("group") => Ok((O::Group, Type::Group)),
        Kind::Name("now") => Ok((O::Now, Type::Timestamp)),
        Kind::Name(name) => Err(unknown_name(name, start)),
        Kind::List(elements) => list(elements),
        Kind::Select {
            operand,
            field,
            field_at,
        } => {
            let (operand, ty) = check(*operand)?;
            select(operand, &ty, field, field_at)
        }
        Kind::Index(parts) => index(*parts),
        Kind::Call {
            receiver: None,
            function: "has",
            arguments,
            ..
        } => has(arguments, start),
        Kind::Call {
            receiver,
            function,
            function_at,
            arguments,
        } => match receiver {
            Some(receiver) => method(*receiver, function, function_at, arguments),
            None => conversion(function, function_at, arguments),
        },
        Kind::Not(operand) => {
            let node = check_bool(*operand, "the operand of \"!\"")?;
            Ok((O::Not(Box::new(node)), Type::Bool))
        }
        Kind::Negate(operand) => negate(*operand),
        Kind::Binary(operator, operands) => binary(operator, *operands, start),
        Kind::And(operands) => Ok((O::And(bools(operands, "&&")?), Type::Bool)),
        Kind::Or(operands) => Ok((O::Or(bools(operands, "||")?), Type::Bool)),
        Kind::Conditional(parts) => conditional(*parts),
    }
}

fn unknown_name(name: &str, at: usize) -> ErrorAt {
    let message = if let Some(variable) = nearest(name, ["item", "group", "now"]) {
        format!("unknown name \"{name}\"; did you mean \"{variable}\"?")
    } else if let Some(field) = nearest(name, ITEM_FIELDS.iter().map(|(field, ..)| *field)) {
        format!("unknown name \"{name}\"; did you mean \"item.{field}\"?")
    } else {
        format!("unknown name \"{name}\"; the variables are item, group, and now")
    };
    ErrorAt::new(at, message)
}

fn list(elements: Vec<Tree<'_>>) -> Result<(Operation, Type), ErrorAt> {
    let mut nodes = Vec::with_capacity(elements.len());
    let mut common: Option<Type> = None;
    for element in elements {
        let at = element.start;
        let (node, ty) = check(element)?;
        if let Type::Item | Type::Group = ty {
            let message = format!(
                "a list cannot contain {}; use one of its fields",
                with_article(&ty)
            );
            return Err(ErrorAt::new(at, message));
        }
        common = Some(match common {
            None => ty,
            Some(common) => join(common, ty).map_err(|(common, ty)| {
                let message = format!(
                    "all elements of a list must have the same type, but they are {common} and {ty}"
                );
                ErrorAt::new(at, message)
            })?,
        });
        nodes.push(node);
    }
    let element = common.unwrap_or(Type::Dynamic);
    Ok((Operation::List(nodes), element.list()))
}

/// Returns the common type of two types, or both types if there is none.
fn join(one: Type, other: Type) -> Result<Type, (Type, Type)> {
    let is_object = |ty: &Type| matches!(ty, Type::Item | Type::Group);
    match (one, other) {
        (one, other) if one == other => Ok(one),
        (Type::Dynamic, other) | (other, Type::Dynamic) if !is_object(&other) => Ok(Type::Dynamic),
        (Type::List(_), Type::List(_)) => Ok(Type::Dynamic.list()),
        types => Err(types),
    }
}

fn item_field(name: &str, at: usize) -> Result<(ItemField, Type), ErrorAt> {
    match ITEM_FIELDS.iter().find(|(field, ..)| *field == name) {
        Some((_, field, ty)) => Ok((*field, *ty)),
        None => Err(unknown_field(
            "item",
            name,
            ITEM_FIELDS.map(|(field, ..)| field),
            at,
        )),
    }
}

fn group_field(name: &str, at: usize) -> Result<(GroupField, Type), ErrorAt> {
    match GROUP_FIELDS.iter().find(|(field, ..)| *field == name) {
        Some((_, field, ty)) => Ok((*field, *ty)),
        None => Err(unknown_field(
            "group",
            name,
            GROUP_FIELDS.map(|(field, ..)| field),
            at,
        )),
    }
}

fn unknown_field<const N: usize>(
    variable: &str,
    name: &str,
    fields: [&str; N],
    at: usize,
) -> ErrorAt {
    let message = match nearest(name, fields) {
        Some(field) => {
            format!("{variable} has no field \"{name}\"; did you mean \"{field}\"?")
        }
        None => format!(
            "{variable} has no field \"{name}\"; its fields are {}",
            fields.join(", ")
        ),
    };
    ErrorAt::new(at, message)
}

fn select(operand: Node, ty: &Type, field: &str, at: usize) -> Result<(Operation, Type), ErrorAt> {
    match ty {
        Type::Item => {
            let (field, ty) = item_field(field, at)?;
            Ok((Operation::ItemField(Box::new(operand), field), ty))
        }
        Type::Group => {
            let (field, ty) = group_field(field, at)?;
            Ok((Operation::GroupField(field), ty))
        }
        Type::Dynamic => {
            let key = Operation::Key(Box::new(operand), field.to_owned());
            Ok((key, Type::Dynamic))
        }
        _ => Err(no_fields(ty, field, at)),
    }
}

fn no_fields(ty: &Type, field: &str, at: usize) -> ErrorAt {
    ErrorAt::new(
        at,
        format!(
            "{} has no field \"{field}\"; only item, group, and settings have fields",
            with_article(ty)
        ),
    )
}

fn has(arguments: Vec<Tree<'_>>, at: usize) -> Result<(Operation, Type), ErrorAt> {
    let usage = || {
        let message = "has(…) takes one field, for example has(item.lastSuccess)";
        ErrorAt::new(at, message)
    };
    let [argument] = <[Tree<'_>; 1]>::try_from(arguments).map_err(|_| usage())?;
    let Kind::Select {
        operand,
        field,
        field_at,
    } = argument.kind
    else {
        return Err(usage());
    };
    let (operand, ty) = check(*operand)?;
    let operation = match ty {
        Type::Item => Operation::HasItemField(Box::new(operand), item_field(field, field_at)?.0),
        Type::Group => Operation::HasGroupField(group_field(field, field_at)?.0),
        Type::Dynamic => Operation::HasKey(Box::new(operand), field.to_owned()),
        _ => return Err(no_fields(&ty, field, field_at)),
    };
    Ok((operation, Type::Bool))
}

fn index([list, index]: [Tree<'_>; 2]) -> Result<(Operation, Type), ErrorAt> {
    let (list_at, index_at) = (list.start, index.start);
    let (list, list_type) = check(list)?;
    let (index, index_type) = check(index)?;
    let element = match list_type {
        Type::List(element) => {
            expect(&index_type, &Type::Int, index_at, "the index of a list")?;
            *element
        }
        Type::Dynamic if index_type.fits(&Type::Int) || index_type == Type::String => Type::Dynamic,
        Type::Dynamic => {
            let message = format!(
                "an index must be an int or a string, but this is {}",
                with_article(&index_type)
            );
            return Err(ErrorAt::new(index_at, message));
        }
        _ => {
            let message = format!(
                "{} has no elements; use [] only with lists and settings",
                with_article(&list_type)
            );
            return Err(ErrorAt::new(list_at, message));
        }
    };
    Ok((Operation::Index(Box::new([list, index])), element))
}

fn negate(operand: Tree<'_>) -> Result<(Operation, Type), ErrorAt> {
    let at = operand.start;
    let (node, ty) = check(operand)?;
    if !ty.is_number() && ty != Type::Dynamic {
        let hint = match ty {
            Type::Timestamp | Type::Duration => {
                "; in orderBy, \"-\" before a whole expression means descending"
            }
            _ => "",
        };
        let message = format!(
            "the operand of \"-\" must be a number, but this is {}{hint}",
            with_article(&ty)
        );
        return Err(ErrorAt::new(at, message));
    }
    Ok((Operation::Negate(Box::new(node)), ty))
}

fn bools(operands: Vec<Tree<'_>>, symbol: &str) -> Result<Vec<Node>, ErrorAt> {
    let place = format!("an operand of \"{symbol}\"");
    operands
        .into_iter()
        .map(|operand| check_bool(operand, &place))
        .collect()
}

fn conditional([condition, then, otherwise]: [Tree<'_>; 3]) -> Result<(Operation, Type), ErrorAt> {
    let at = otherwise.start;
    let condition = check_bool(condition, "the condition before \"?\"")?;
    let (then, then_type) = check(then)?;
    let (otherwise, otherwise_type) = check(otherwise)?;
    let ty = join(then_type, otherwise_type).map_err(|(then, otherwise)| {
        let message = format!(
            "both sides of \":\" must have the same type, but they are {then} and {otherwise}"
        );
        ErrorAt::new(at, message)
    })?;
    let parts = Box::new([condition, then, otherwise]);
    Ok((Operation::Conditional(parts), ty))
}

fn binary(
    operator: Operator,
    [left, right]: [Tree<'_>; 2],
    at: usize,
) -> Result<(Operation, Type), ErrorAt> {
    let (left, left_type) = check(left)?;
    let (right, right_type) = check(right)?;
    let ty = binary_type(operator, &left_type, &right_type).ok_or_else(|| {
        let symbol = operator.symbol();
        let hint = match (&left_type, &right_type) {
            (Type::Int, Type::Double) | (Type::Double, Type::Int) => {
                "; convert one of them with double(…) or int(…)"
            }
            (Type::String, _) | (_, Type::String) if operator == Operator::Add => {
                "; convert a value to text with string(…)"
            }
            (Type::Duration, Type::Int | Type::Double) => {
                "; compare it with a duration, such as duration('90m'), or use getSeconds()"
            }
            (Type::Null, _) | (_, Type::Null) => "; use has(…) to check for an absent field",
            (Type::Timestamp, Type::Int | Type::String) => {
                "; convert the value with timestamp(…) or duration(…)"
            }
            _ => "",
        };
        let message = format!(
            "\"{symbol}\" cannot be applied to {} and {}{hint}",
            with_article(&left_type),
            with_article(&right_type)
        );
        ErrorAt::new(at, message)
    })?;
    let operands = Box::new([left, right]);
    Ok((Operation::Binary(operator, operands), ty))
}

/// Returns the type of the result; `None` if the operator does not accept these types.
fn binary_type(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Operator as O;
    use Type as T;
    let is_object = |ty: &Type| matches!(ty, T::Item | T::Group);
    if is_object(left) || is_object(right) {
        return None;
    }
    match operator {
        O::Equal | O::NotEqual => {
            let comparable = left.is_number() && right.is_number()
                || join(*left, *right).is_ok()
                // An element of a list may be an int where the other has a double.
                || matches!((left, right), (T::Dynamic, _) | (_, T::Dynamic));
            comparable.then_some(T::Bool)
        }
        O::Less | O::LessOrEqual | O::Greater | O::GreaterOrEqual => {
            let comparable = left.is_number() && right.is_number()
                || left.is_ordered()
                    && right.is_ordered()
                    && (left.fits(right) || right.fits(left));
            comparable.then_some(T::Bool)
        }
        O::In => match right {
            T::Dynamic => Some(T::Bool),
            T::List(element) => binary_type(O::Equal, left, element),
            _ => None,
        },
        O::Add => match (left, right) {
            (T::Timestamp, T::Duration) | (T::Duration, T::Timestamp) => Some(T::Timestamp),
            (T::String | T::Duration, _) if left == right => Some(*left),
            _ => arithmetic(left, right, &[T::String, T::Timestamp, T::Duration]),
        },
        O::Subtract => match (left, right) {
            (T::Timestamp, T::Timestamp) | (T::Duration, T::Duration) => Some(T::Duration),
            (T::Timestamp, T::Duration) => Some(T::Timestamp),
            _ => arithmetic(left, right, &[T::Timestamp, T::Duration]),
        },
        O::Multiply | O::Divide => arithmetic(left, right, &[]),
        O::Remainder => match (left, right) {
            (T::Double, _) | (_, T::Double) => None,
            _ => arithmetic(left, right, &[]),
        },
    }
}

/// Returns the type of a calculation with two numbers, or with a value whose type is not known.
/// `others` are the other types that the operator accepts.
fn arithmetic(left: &Type, right: &Type, others: &[Type]) -> Option<Type> {
    let accepts = |ty: &Type| ty.is_number() || *ty == Type::Dynamic || others.contains(ty);
    if !accepts(left) || !accepts(right) {
        None
    } else if *left == Type::Dynamic || *right == Type::Dynamic {
        Some(Type::Dynamic)
    } else {
        (left == right && left.is_number()).then_some(*left)
    }
}

static CONVERSIONS: [(&str, UnaryFunction, Type); 6] = [
    ("double", UnaryFunction::ToDouble, Type::Double),
    ("duration", UnaryFunction::ToDuration, Type::Duration),
    ("int", UnaryFunction::ToInt, Type::Int),
    ("size", UnaryFunction::Size, Type::Int),
    ("string", UnaryFunction::ToString, Type::String),
    ("timestamp", UnaryFunction::ToTimestamp, Type::Timestamp),
];

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

/// Checks a function without a receiver, except `has`.
fn conversion(
    name: &str,
    at: usize,
    arguments: Vec<Tree<'_>>,
) -> Result<(Operation, Type), ErrorAt> {
    let found = CONVERSIONS.iter().find(|(known, ..)| *known == name);
    let Some(&(_, function, result)) = found else {
        let known: Vec<_> = ["has"]
            .into_iter()
            .chain(CONVERSIONS.map(|(known, ..)| known))
            .collect();
        return Err(unknown_function(name, &known, at));
    };
    let [argument] = expect_arguments(arguments, name, at)?;
    let argument_at = argument.start;
    let (node, ty) = check(argument)?;
    use Type as T;
    use UnaryFunction as F;
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
        let message = format!("{name}(…) does not accept {}", with_article(&ty));
        return Err(ErrorAt::new(argument_at, message));
    }
    // Convert constants now, so that invalid ones are rejected and valid ones are parsed only once.
    if let Operation::Constant(value) = &node.operation
        && let F::ToDuration | F::ToTimestamp = function
    {
        let value = convert::convert(function, value.clone())
            .map_err(|reason| ErrorAt::new(argument_at, reason.to_string()))?;
        return Ok((Operation::Constant(value), result));
    }
    Ok((Operation::Unary(function, Box::new(node)), result))
}

/// Returns the arguments of a function that takes `N` of them.
fn expect_arguments<'s, const N: usize>(
    arguments: Vec<Tree<'s>>,
    name: &str,
    at: usize,
) -> Result<[Tree<'s>; N], ErrorAt> {
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

static CALENDAR_FUNCTIONS: [(&str, CalendarPart); 10] = [
    ("getDate", CalendarPart::Date),
    ("getDayOfMonth", CalendarPart::DayOfMonth),
    ("getDayOfWeek", CalendarPart::DayOfWeek),
    ("getDayOfYear", CalendarPart::DayOfYear),
    ("getFullYear", CalendarPart::FullYear),
    ("getHours", CalendarPart::Hours),
    ("getMilliseconds", CalendarPart::Milliseconds),
    ("getMinutes", CalendarPart::Minutes),
    ("getMonth", CalendarPart::Month),
    ("getSeconds", CalendarPart::Seconds),
];

static CALENDAR_NAMES: [&str; 10] = [
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
];

static TEXT_FUNCTIONS: [(&str, TextFunction); 3] = [
    ("contains", TextFunction::Contains),
    ("endsWith", TextFunction::EndsWith),
    ("startsWith", TextFunction::StartsWith),
];

/// Returns the functions of a type.
fn methods(ty: Type) -> &'static [&'static str] {
    match ty {
        Type::Timestamp => &CALENDAR_NAMES,
        Type::Duration => &["getHours", "getMinutes", "getSeconds"],
        Type::String | Type::Dynamic => &["contains", "endsWith", "startsWith", "size"],
        Type::List(_) => &["size"],
        Type::Group => &["item", "runsWithin"],
        Type::Item => &["runsWithin"],
        Type::Null | Type::Bool | Type::Int | Type::Double => &[],
    }
}

/// Checks a function with a receiver.
fn method(
    receiver: Tree<'_>,
    name: &str,
    at: usize,
    arguments: Vec<Tree<'_>>,
) -> Result<(Operation, Type), ErrorAt> {
    let (receiver, ty) = check(receiver)?;
    let methods = methods(ty);
    if !methods.contains(&name) {
        return Err(unknown_method(ty, name, methods, at));
    }
    if ty == Type::Timestamp {
        return calendar(receiver, name, at, arguments);
    }
    match name {
        "size" => {
            let [] = expect_arguments(arguments, name, at)?;
            let size = Operation::Unary(UnaryFunction::Size, Box::new(receiver));
            Ok((size, Type::Int))
        }
        "item" => {
            let name = argument(arguments, name, at, &Type::String)?;
            Ok((Operation::FindItem(Box::new(name)), Type::Item))
        }
        "runsWithin" => {
            let window = argument(arguments, name, at, &Type::Duration)?;
            let runs = match ty {
                Type::Group => Operation::GroupRuns(Box::new(window)),
                _ => Operation::ItemRuns(Box::new([receiver, window])),
            };
            Ok((runs, Type::Int))
        }
        "getHours" | "getMinutes" | "getSeconds" => {
            let [] = expect_arguments(arguments, name, at)?;
            let function = match name {
                "getHours" => UnaryFunction::Hours,
                "getMinutes" => UnaryFunction::Minutes,
                _ => UnaryFunction::Seconds,
            };
            Ok((Operation::Unary(function, Box::new(receiver)), Type::Int))
        }
        _ => {
            let function = TEXT_FUNCTIONS.iter().find(|(known, _)| *known == name);
            let (_, function) = function.ok_or_else(|| unknown_function(name, methods, at))?;
            let text = argument(arguments, name, at, &Type::String)?;
            let operands = Box::new([receiver, text]);
            Ok((Operation::Text(*function, operands), Type::Bool))
        }
    }
}

fn unknown_method(ty: Type, name: &str, methods: &[&'static str], at: usize) -> ErrorAt {
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
        .filter(|owner| self::methods(**owner).contains(&name))
        .map(with_article)
        .collect();
    if owners.is_empty() {
        let known: Vec<_> = match methods {
            [] => all
                .iter()
                .flat_map(|ty| self::methods(*ty))
                .copied()
                .collect(),
            _ => methods.to_vec(),
        };
        return unknown_function(name, &known, at);
    }
    let message = format!(
        "{name}(…) requires {}, but this is {}",
        owners.join(" or "),
        with_article(&ty)
    );
    ErrorAt::new(at, message)
}

/// Checks the only argument of a function.
fn argument(
    arguments: Vec<Tree<'_>>,
    name: &str,
    at: usize,
    expected: &Type,
) -> Result<Node, ErrorAt> {
    let [argument] = expect_arguments(arguments, name, at)?;
    let start = argument.start;
    let (node, ty) = check(argument)?;
    expect(&ty, expected, start, &format!("the argument of {name}(…)"))?;
    Ok(node)
}

fn calendar(
    receiver: Node,
    name: &str,
    at: usize,
    arguments: Vec<Tree<'_>>,
) -> Result<(Operation, Type), ErrorAt> {
    let part = CALENDAR_FUNCTIONS.iter().find(|(known, _)| *known == name);
    let (_, part) = part.ok_or_else(|| unknown_function(name, &[], at))?;
    let zone = if arguments.is_empty() {
        ZoneName::Known(Zone::UTC)
    } else {
        let zone_at = arguments[0].start;
        let node = argument(arguments, name, at, &Type::String)?;
        match &node.operation {
            Operation::Constant(Value::String(text)) => {
                ZoneName::Known(zone(text).ok_or_else(|| unknown_zone(text, zone_at))?)
            }
            _ => ZoneName::Evaluated(Box::new(node)),
        }
    };
    let calendar = Operation::Calendar(*part, Box::new(receiver), zone);
    Ok((calendar, Type::Int))
}

fn unknown_zone(name: &str, at: usize) -> ErrorAt {
    let hint = match similar_zone(name) {
        Some(similar) => format!("did you mean \"{similar}\"?"),
        None => "use a name such as Europe/Berlin, or an offset such as +02:00".to_owned(),
    };
    ErrorAt::new(at, format!("unknown time zone \"{name}\"; {hint}"))
}
