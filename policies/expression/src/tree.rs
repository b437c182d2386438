//! The syntax tree of an expression.

/// A part of an expression, from byte `start` to byte `end`.
#[derive(Debug)]
pub struct Tree<'s> {
    pub kind: Kind<'s>,
    pub start: usize,
    pub end: usize,
    /// The number of levels of this tree.
    pub depth: usize,
}

#[derive(Debug)]
pub enum Kind<'s> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    String(String),
    Name(&'s str),
    List(Vec<Tree<'s>>),
    /// `operand.field`
    Select {
        operand: Box<Tree<'s>>,
        field: &'s str,
        field_at: usize,
    },
    /// `list[index]`
    Index(Box<[Tree<'s>; 2]>),
    /// `function(arguments)` or `receiver.function(arguments)`
    Call {
        receiver: Option<Box<Tree<'s>>>,
        function: &'s str,
        function_at: usize,
        arguments: Vec<Tree<'s>>,
    },
    Not(Box<Tree<'s>>),
    Negate(Box<Tree<'s>>),
    Binary(Operator, Box<[Tree<'s>; 2]>),
    /// `a && b && …`
    And(Vec<Tree<'s>>),
    /// `a || b || …`
    Or(Vec<Tree<'s>>),
    /// `condition ? then : otherwise`
    Conditional(Box<[Tree<'s>; 3]>),
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
    pub fn symbol(self) -> &'static str {
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
