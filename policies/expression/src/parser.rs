//! Parses and checks an expression, by precedence climbing.

use crate::budget::MAX_COST;
use crate::check::{self, Size, Typed};
use crate::error::ErrorAt;
use crate::functions::{Function, Method};
use crate::lexer::{Lexer, Symbol, Token, operator_hint};
use crate::program::{Logic, Node, Operation, Operator};
use crate::types::Type;
use crate::value::Value;
use std::borrow::Cow;

/// The maximum length of an expression in bytes.
pub const MAX_LENGTH: usize = 2048;

/// The maximum number of levels of an expression, and of nested calls of the parser. The sandbox has a
/// stack of 512 KiB.
pub const MAX_DEPTH: usize = 48;

/// The minus sign, which has one or two operands.
const MINUS: Symbol = Symbol::Operator(Operator::Subtract);

/// Parses and checks an expression.
pub fn parse(source: &str) -> Result<Typed, ErrorAt> {
    let mut parser = Parser::new(source)?;
    if parser.token == Token::End {
        return Err(ErrorAt::new(0, "the expression is empty"));
    }
    let parsed = parser.expression()?;
    match parser.token {
        Token::End => Ok(parsed),
        _ => Err(parser.unexpected("an operator or the end of the expression")),
    }
}

/// Parses and checks an expression of `orderBy`. A `-` before the whole expression is not part of it;
/// the second result is whether there is one.
pub fn parse_order(source: &str) -> Result<(Typed, bool), ErrorAt> {
    match parse_descending(source) {
        Some(operand) => Ok((operand, true)),
        None => Ok((parse(source)?, false)),
    }
}

/// Parses and checks what follows a `-` before a whole expression. Returns `None` if the source is
/// anything else.
fn parse_descending(source: &str) -> Option<Typed> {
    let mut parser = Parser::new(source).ok()?;
    if !parser.skip(MINUS).ok()? {
        return None;
    }
    let operand = parser.unary().ok()?;
    (parser.token == Token::End).then_some(operand)
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    /// The current token.
    token: Token<'s>,
    /// The start of the current token.
    start: usize,
    /// The end of the token before the current one.
    previous_end: usize,
    /// The number of nested calls of [`Parser::nested`].
    depth: usize,
}

/// Binary operators, from the one that binds least.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Precedence {
    Or,
    And,
    Relation,
    Sum,
    Product,
    Unary,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Result<Self, ErrorAt> {
        let length = source.len();
        if length > MAX_LENGTH {
            let message = format!("the expression has {length} bytes; use at most {MAX_LENGTH}");
            return Err(ErrorAt::new(0, message));
        }
        let mut parser = Self {
            lexer: Lexer::new(source),
            token: Token::End,
            start: 0,
            previous_end: 0,
            depth: 0,
        };
        parser.advance()?;
        Ok(parser)
    }

    /// Makes the next token the current one.
    fn advance(&mut self) -> Result<(), ErrorAt> {
        self.previous_end = self.lexer.position();
        self.start = self.lexer.skip_space();
        self.token = self.lexer.next()?;
        Ok(())
    }

    /// Skips a symbol, if it is the current token.
    fn skip(&mut self, symbol: Symbol) -> Result<bool, ErrorAt> {
        let found = matches!(self.token, Token::Symbol(current) if current == symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, symbol: Symbol) -> Result<(), ErrorAt> {
        if self.skip(symbol)? {
            Ok(())
        } else {
            Err(self.unexpected(&format!("\"{}\"", symbol.text())))
        }
    }

    fn unexpected(&self, expected: &str) -> ErrorAt {
        let found = match self.token {
            Token::End => "the end of the expression".to_owned(),
            Token::Symbol(symbol) => format!("\"{}\"", symbol.text()),
            Token::Name(name) => format!("\"{name}\"{}", operator_hint(name).unwrap_or_default()),
            Token::String(_) => "a string".to_owned(),
            Token::Int(_) | Token::Double(_) => "a number".to_owned(),
        };
        ErrorAt::new(
            self.start,
            format!("expected {expected}, but found {found}"),
        )
    }

    /// Parses one level deeper.
    fn nested(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<Typed, ErrorAt>,
    ) -> Result<Typed, ErrorAt> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep(self.start));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Creates a part that ends before the current token. `operands` is the size of its operands.
    fn part(
        &self,
        start: usize,
        operands: Size,
        (operation, ty): (Operation, Type),
    ) -> Result<Typed, ErrorAt> {
        let size = Size {
            levels: operands.levels + 1,
            cost: operands.cost + operation.cost(),
        };
        if size.levels > MAX_DEPTH {
            return Err(too_deep(start));
        }
        if size.cost > MAX_COST {
            return Err(too_expensive(start, size.cost));
        }
        let node = Box::new(Node {
            operation,
            start,
            end: self.previous_end,
        });
        Ok(Typed { node, ty, size })
    }

    fn expression(&mut self) -> Result<Typed, ErrorAt> {
        self.nested(|parser| {
            let condition = parser.binary(Precedence::Or)?;
            if !parser.skip(Symbol::Question)? {
                return Ok(condition);
            }
            let then = parser.binary(Precedence::Or)?;
            parser.expect(Symbol::Colon)?;
            let otherwise = parser.expression()?;
            let parts = [condition, then, otherwise];
            let (start, size) = (parts[0].node.start, Size::of(&parts));
            parser.part(start, size, check::conditional(parts)?)
        })
    }

    /// Parses operators that bind at least as strongly as `least`.
    fn binary(&mut self, least: Precedence) -> Result<Typed, ErrorAt> {
        let mut left = self.unary()?;
        while let Token::Symbol(symbol) = self.token
            && let Some((precedence, next)) = precedence(symbol)
            && precedence >= least
        {
            self.advance()?;
            let right = self.binary(next)?;
            left = self.join(symbol, left, right)?;
        }
        Ok(left)
    }

    fn join(&self, symbol: Symbol, left: Typed, right: Typed) -> Result<Typed, ErrorAt> {
        let start = left.node.start;
        let mut size = Size::of([&left, &right]);
        let joined = match symbol {
            Symbol::Logic(logic) => {
                // A chain is one level, because chains may be long.
                if left.node.is_chain(logic) {
                    size.levels = right.size.levels.max(left.size.levels - 1);
                    size.cost -= left.node.operation.cost();
                }
                check::chain(logic, left, right)?
            }
            Symbol::Operator(operator) => check::binary(operator, left, right)?,
            _ => return Err(self.unexpected("an operator")),
        };
        self.part(start, size, joined)
    }

    fn unary(&mut self) -> Result<Typed, ErrorAt> {
        let start = self.start;
        if self.skip(Symbol::Not)? {
            let operand = self.nested(Self::unary)?;
            return self.part(start, operand.size, check::not(operand)?);
        }
        if self.skip(MINUS)? {
            // The magnitude of the least integer is not an integer.
            if self.token == Token::Int(i64::MIN.unsigned_abs()) {
                self.advance()?;
                let least = constant(Value::Int(i64::MIN), Type::Int);
                return self.part(start, Size::default(), least);
            }
            let operand = self.nested(Self::unary)?;
            return self.part(start, operand.size, check::negate(operand)?);
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Result<Typed, ErrorAt> {
        let mut operand = self.primary()?;
        let start = operand.node.start;
        loop {
            if self.skip(Symbol::OpenList)? {
                let index = self.expression()?;
                self.expect(Symbol::CloseList)?;
                let size = Size::of([&operand, &index]);
                operand = self.part(start, size, check::index(operand, index)?)?;
            } else if self.skip(Symbol::Dot)? {
                operand = self.member(operand)?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// Parses what follows a dot.
    fn member(&mut self, operand: Typed) -> Result<Typed, ErrorAt> {
        let (start, name_at) = (operand.node.start, self.start);
        if self.token == Token::Symbol(Symbol::Question) {
            let message = "\".?\" is not supported; use has(…) and a condition";
            return Err(ErrorAt::new(name_at, message));
        }
        let Token::Name(name) = self.token else {
            return Err(self.unexpected("the name of a field or function"));
        };
        self.advance()?;
        if self.skip(Symbol::Open)? {
            let method = Method::find(operand.ty, name, name_at)?;
            let arguments = self.list(Symbol::Close)?;
            let size = Size::of(arguments.iter().chain([&operand]));
            let call = method.call(operand, name, name_at, arguments)?;
            return self.part(start, size, call);
        }
        let size = operand.size;
        self.part(start, size, check::select(operand, name, name_at)?)
    }

    fn primary(&mut self) -> Result<Typed, ErrorAt> {
        let start = self.start;
        let token = self.token;
        match token {
            Token::Symbol(Symbol::Open) => {
                self.advance()?;
                let mut inner = self.expression()?;
                self.expect(Symbol::Close)?;
                (inner.node.start, inner.node.end) = (start, self.previous_end);
                return Ok(inner);
            }
            Token::Symbol(Symbol::OpenList) => {
                self.advance()?;
                let elements = self.list(Symbol::CloseList)?;
                return self.part(start, Size::of(&elements), check::list(elements)?);
            }
            Token::Symbol(_) | Token::End => return Err(self.unexpected("a value")),
            _ => self.advance()?,
        }
        let value = match token {
            Token::Int(number) => match i64::try_from(number) {
                Ok(number) => constant(Value::Int(number), Type::Int),
                Err(_) => {
                    let message = format!("the number {number} is out of range");
                    return Err(ErrorAt::new(start, message));
                }
            },
            Token::Double(number) => constant(Value::Double(number), Type::Double),
            Token::String(quoted) => {
                let text = Cow::Owned(quoted.unescape()?.into_owned());
                constant(Value::String(text), Type::String)
            }
            Token::Name(name) if self.skip(Symbol::Open)? => {
                let function = Function::find(name, start)?;
                let arguments = self.list(Symbol::Close)?;
                let size = Size::of(&arguments);
                return self.part(start, size, function.call(name, start, arguments)?);
            }
            Token::Name(name) => check::name(name, start)?,
            Token::Symbol(_) | Token::End => return Err(self.unexpected("a value")),
        };
        self.part(start, Size::default(), value)
    }

    /// Parses expressions that are separated by commas, and the closing bracket.
    fn list(&mut self, close: Symbol) -> Result<Vec<Typed>, ErrorAt> {
        let mut elements = Vec::new();
        if self.skip(close)? {
            return Ok(elements);
        }
        loop {
            elements.push(self.expression()?);
            if self.skip(close)? {
                return Ok(elements);
            }
            self.expect(Symbol::Comma)?;
        }
    }
}

/// Returns the precedence of a binary operator, and the next higher one; `None` for other symbols.
fn precedence(symbol: Symbol) -> Option<(Precedence, Precedence)> {
    use Operator as O;
    use Precedence as P;
    Some(match symbol {
        Symbol::Logic(Logic::Or) => (P::Or, P::And),
        Symbol::Logic(Logic::And) => (P::And, P::Relation),
        Symbol::Operator(O::Add | O::Subtract) => (P::Sum, P::Product),
        Symbol::Operator(O::Multiply | O::Divide | O::Remainder) => (P::Product, P::Unary),
        Symbol::Operator(_) => (P::Relation, P::Sum),
        _ => return None,
    })
}

fn constant(value: Value<'static>, ty: Type) -> (Operation, Type) {
    (Operation::Constant(value), ty)
}

fn too_deep(at: usize) -> ErrorAt {
    ErrorAt::new(
        at,
        format!("the expression is nested more than {MAX_DEPTH} levels deep; simplify it"),
    )
}

fn too_expensive(at: usize, cost: u64) -> ErrorAt {
    ErrorAt::new(
        at,
        format!(
            "this part uses about {cost} fuel for each item; use at most {MAX_COST} in all \
             expressions together: shorten it, or write a policy as a component"
        ),
    )
}
