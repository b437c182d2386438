//! Checks the names and types in an expression, also in branches that are never evaluated.

use crate::error::ErrorAt;
use crate::lexer::operator_hint;
use crate::nearest::nearest;
use crate::program::{Logic, Node, Operation, Operator};
use crate::types::{GROUP_FIELDS, ITEM_FIELDS, Type};
use crate::value::Value;

/// A checked part of an expression.
#[derive(Debug)]
pub struct Typed {
    /// Moving a box uses less fuel than moving a node.
    pub node: Box<Node>,
    pub ty: Type,
    pub size: Size,
}

impl Typed {
    /// Returns the node if it has this type. `role` describes it in the error.
    pub fn expect(
        self,
        expected: &Type,
        role: impl FnOnce() -> String,
    ) -> Result<Box<Node>, ErrorAt> {
        if self.ty.fits(expected) {
            return Ok(self.node);
        }
        let message = format!(
            "{} must be {}, but this is {}",
            role(),
            expected.with_article(),
            self.ty.with_article()
        );
        Err(ErrorAt::new(self.node.start, message))
    }
}

/// The size of a part of an expression, or of several parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// The number of levels.
    pub levels: usize,
    /// The estimated fuel of one evaluation.
    pub cost: u64,
}

impl Size {
    /// Returns the size of all parts together.
    pub fn of<'t>(parts: impl IntoIterator<Item = &'t Typed>) -> Self {
        parts.into_iter().fold(Self::default(), |all, part| Self {
            levels: all.levels.max(part.size.levels),
            cost: all.cost + part.size.cost,
        })
    }
}

/// Checks a variable or the name of a constant.
pub fn name(name: &str, at: usize) -> Result<(Operation, Type), ErrorAt> {
    Ok(match name {
        "item" => (Operation::Item, Type::Item),
        "now" => (Operation::Now, Type::Timestamp),
        "group" => (Operation::Group, Type::Group),
        "true" => (Operation::Constant(Value::Bool(true)), Type::Bool),
        "false" => (Operation::Constant(Value::Bool(false)), Type::Bool),
        "null" => (Operation::Constant(Value::Null), Type::Null),
        _ => return Err(unknown_name(name, at)),
    })
}

fn unknown_name(name: &str, at: usize) -> ErrorAt {
    let message = if let Some(hint) = operator_hint(name) {
        format!("unknown name \"{name}\"{hint}")
    } else if let Some(variable) = nearest(name, ["item", "group", "now"]) {
        format!("unknown name \"{name}\"; did you mean \"{variable}\"?")
    } else if let Some(field) = nearest(name, ITEM_FIELDS.iter().map(|(field, ..)| *field)) {
        format!("unknown name \"{name}\"; did you mean \"item.{field}\"?")
    } else {
        format!("unknown name \"{name}\"; the variables are item, group, and now")
    };
    ErrorAt::new(at, message)
}

/// Checks a list.
pub fn list(elements: Vec<Typed>) -> Result<(Operation, Type), ErrorAt> {
    let mut nodes = Vec::with_capacity(elements.len());
    let mut common: Option<Type> = None;
    for Typed { node, ty, .. } in elements {
        if let Type::Item | Type::Group = ty {
            let message = format!(
                "a list cannot contain {}; use one of its fields",
                ty.with_article()
            );
            return Err(ErrorAt::new(node.start, message));
        }
        common = Some(match common {
            None => ty,
            Some(common) => join(common, ty).ok_or_else(|| {
                let message = format!(
                    "all elements of a list must have the same type, but they are {common} and {ty}"
                );
                ErrorAt::new(node.start, message)
            })?,
        });
        nodes.push(*node);
    }
    let element = common.unwrap_or(Type::Dynamic);
    Ok((Operation::List(nodes), element.list()))
}

/// Returns the common type of two types; `None` if there is none.
fn join(one: Type, other: Type) -> Option<Type> {
    match (one, other) {
        (one, other) if one == other => Some(one),
        (Type::Dynamic, other) | (other, Type::Dynamic) if !other.is_object() => {
            Some(Type::Dynamic)
        }
        (Type::List(_), Type::List(_)) => Some(Type::Dynamic.list()),
        _ => None,
    }
}

/// Returns a field of `item` or `group` with its type. `fields` has all fields of the variable.
fn field<F: Copy, const N: usize>(
    variable: &str,
    fields: &[(&str, F, Type); N],
    name: &str,
    at: usize,
) -> Result<(F, Type), ErrorAt> {
    match fields.iter().find(|(field, ..)| *field == name) {
        Some((_, field, ty)) => Ok((*field, *ty)),
        None => Err(unknown_field(
            variable,
            name,
            fields.each_ref().map(|(field, ..)| *field),
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

/// Checks `operand.field`.
pub fn select(operand: Typed, field: &str, at: usize) -> Result<(Operation, Type), ErrorAt> {
    match operand.ty {
        Type::Item => {
            let (field, ty) = self::field("item", &ITEM_FIELDS, field, at)?;
            Ok((Operation::ItemField(operand.node, field), ty))
        }
        Type::Group => {
            let (field, ty) = self::field("group", &GROUP_FIELDS, field, at)?;
            Ok((Operation::GroupField(field), ty))
        }
        Type::Dynamic => {
            let key = Operation::Key(operand.node, field.to_owned());
            Ok((key, Type::Dynamic))
        }
        ty => Err(no_fields(ty, field, at)),
    }
}

fn no_fields(ty: Type, field: &str, at: usize) -> ErrorAt {
    ErrorAt::new(
        at,
        format!(
            "{} has no field \"{field}\"; only item, group, and settings have fields",
            ty.with_article()
        ),
    )
}

/// Checks `has(operand.field)`. Returns `None` if the argument is not a field.
pub fn has(argument: Typed) -> Option<(Operation, Type)> {
    use Operation as O;
    let has = match argument.node.operation {
        O::ItemField(operand, field) => O::HasItemField(operand, field),
        O::GroupField(field) => O::HasGroupField(field),
        O::Key(operand, key) => O::HasKey(operand, key),
        _ => return None,
    };
    Some((has, Type::Bool))
}

/// Checks `list[index]`.
pub fn index(list: Typed, index: Typed) -> Result<(Operation, Type), ErrorAt> {
    let element = match list.ty {
        Type::List(element) => *element,
        Type::Dynamic if index.ty.fits(&Type::Int) || index.ty == Type::String => Type::Dynamic,
        Type::Dynamic => {
            let message = format!(
                "an index must be an int or a string, but this is {}",
                index.ty.with_article()
            );
            return Err(ErrorAt::new(index.node.start, message));
        }
        ty => {
            let message = format!(
                "{} has no elements; use [] only with lists and settings",
                ty.with_article()
            );
            return Err(ErrorAt::new(list.node.start, message));
        }
    };
    let index = match list.ty {
        Type::List(_) => index.expect(&Type::Int, || "the index of a list".to_owned())?,
        _ => index.node,
    };
    Ok((Operation::Index(Box::new([*list.node, *index])), element))
}

/// Checks `!operand`.
pub fn not(operand: Typed) -> Result<(Operation, Type), ErrorAt> {
    let node = operand.expect(&Type::Bool, || "the operand of \"!\"".to_owned())?;
    Ok((Operation::Not(node), Type::Bool))
}

/// Checks `-operand`.
pub fn negate(operand: Typed) -> Result<(Operation, Type), ErrorAt> {
    let Typed { node, ty, .. } = operand;
    if !ty.is_number() && ty != Type::Dynamic {
        let hint = match ty {
            Type::Timestamp | Type::Duration => {
                "; in orderBy, \"-\" before a whole expression means descending"
            }
            _ => "",
        };
        let message = format!(
            "the operand of \"-\" must be a number, but this is {}{hint}",
            ty.with_article()
        );
        return Err(ErrorAt::new(node.start, message));
    }
    Ok((Operation::Negate(node), ty))
}

/// Checks two operands of `&&` or `||`. A chain on the left side becomes longer.
pub fn chain(logic: Logic, left: Typed, right: Typed) -> Result<(Operation, Type), ErrorAt> {
    let role = || format!("an operand of \"{}\"", logic.text());
    let left = left.expect(&Type::Bool, role)?;
    let right = right.expect(&Type::Bool, role)?;
    let operands = match *left {
        Node {
            operation: Operation::Chain(own, mut operands),
            ..
        } if own == logic => {
            operands.push(*right);
            operands
        }
        left => vec![left, *right],
    };
    Ok((Operation::Chain(logic, operands), Type::Bool))
}

/// Checks `condition ? then : otherwise`.
pub fn conditional([condition, then, otherwise]: [Typed; 3]) -> Result<(Operation, Type), ErrorAt> {
    let condition = condition.expect(&Type::Bool, || "the condition before \"?\"".to_owned())?;
    let ty = join(then.ty, otherwise.ty).ok_or_else(|| {
        let message = format!(
            "both sides of \":\" must have the same type, but they are {} and {}",
            then.ty, otherwise.ty
        );
        ErrorAt::new(otherwise.node.start, message)
    })?;
    let parts = Box::new([*condition, *then.node, *otherwise.node]);
    Ok((Operation::Conditional(parts), ty))
}

/// Checks an operator with two operands.
pub fn binary(operator: Operator, left: Typed, right: Typed) -> Result<(Operation, Type), ErrorAt> {
    let ty = binary_type(operator, &left.ty, &right.ty).ok_or_else(|| {
        let hint = match (left.ty, right.ty) {
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
            "\"{}\" cannot be applied to {} and {}{hint}",
            operator.text(),
            left.ty.with_article(),
            right.ty.with_article()
        );
        ErrorAt::new(left.node.start, message)
    })?;
    let operands = Box::new([*left.node, *right.node]);
    Ok((Operation::Binary(operator, operands), ty))
}

/// Returns the type of the result; `None` if the operator does not accept these types.
fn binary_type(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Operator as O;
    use Type as T;
    if left.is_object() || right.is_object() {
        return None;
    }
    match operator {
        O::Equal | O::NotEqual => {
            let comparable = left.is_number() && right.is_number()
                || join(*left, *right).is_some()
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
