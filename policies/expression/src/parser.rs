//! Parses an expression into a syntax tree, by precedence climbing.

use crate::error::ErrorAt;
use crate::lexer::{Lexer, Symbol, Token};
use crate::tree::{Kind, Operator, Tree};

/// The maximum number of levels of a tree, and of nested calls of the parser. The sandbox has a stack
/// of 512 KiB.
pub const MAX_DEPTH: usize = 48;

/// Parses an expression.
pub fn parse(source: &str) -> Result<Tree<'_>, ErrorAt> {
    let mut parser = Parser {
        lexer: Lexer::new(source),
        token: Token::End,
        start: 0,
        previous_end: 0,
        depth: 0,
    };
    parser.advance()?;
    if parser.token == Token::End {
        return Err(ErrorAt::new(0, "the expression is empty"));
    }
    let tree = parser.expression()?;
    match parser.token {
        Token::End => Ok(tree),
        _ => Err(parser.unexpected("an operator or the end of the expression")),
    }
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

#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Binary(Operator),
}

impl<'s> Parser<'s> {
    /// Makes the next token the current one, and returns the current one.
    fn advance(&mut self) -> Result<Token<'s>, ErrorAt> {
        self.previous_end = self.lexer.position();
        self.start = self.lexer.skip_space();
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Skips a symbol, if it is the current token.
    fn skip(&mut self, symbol: Symbol) -> Result<bool, ErrorAt> {
        let found = self.token == Token::Symbol(symbol);
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
        let found = match &self.token {
            Token::End => "the end of the expression".to_owned(),
            Token::Symbol(symbol) => format!("\"{}\"", symbol.text()),
            Token::Name(name) => format!("\"{name}\""),
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
        parse: impl FnOnce(&mut Self) -> Result<Tree<'s>, ErrorAt>,
    ) -> Result<Tree<'s>, ErrorAt> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep(self.start));
        }
        self.depth += 1;
        let tree = parse(self);
        self.depth -= 1;
        tree
    }

    /// Creates a tree that ends before the current token.
    fn tree(&self, start: usize, children: usize, kind: Kind<'s>) -> Result<Tree<'s>, ErrorAt> {
        let depth = children + 1;
        if depth > MAX_DEPTH {
            return Err(too_deep(start));
        }
        let end = self.previous_end;
        Ok(Tree {
            kind,
            start,
            end,
            depth,
        })
    }

    fn expression(&mut self) -> Result<Tree<'s>, ErrorAt> {
        self.nested(|parser| {
            let condition = parser.binary(Precedence::Or)?;
            if !parser.skip(Symbol::Question)? {
                return Ok(condition);
            }
            let then = parser.binary(Precedence::Or)?;
            parser.expect(Symbol::Colon)?;
            let otherwise = parser.expression()?;
            let parts = Box::new([condition, then, otherwise]);
            parser.tree(
                parts[0].start,
                depth(parts.iter()),
                Kind::Conditional(parts),
            )
        })
    }

    /// Parses operators that bind at least as strongly as `least`.
    fn binary(&mut self, least: Precedence) -> Result<Tree<'s>, ErrorAt> {
        let mut left = self.unary()?;
        while let Some((infix, precedence, next)) = self.infix()
            && precedence >= least
        {
            self.advance()?;
            let right = self.binary(next)?;
            left = self.join(infix, left, right)?;
        }
        Ok(left)
    }

    /// Returns the binary operator that is the current token, its precedence, and the next higher
    /// precedence.
    fn infix(&self) -> Option<(Infix, Precedence, Precedence)> {
        use Operator as O;
        use Symbol as S;
        let relation = |operator| {
            let infix = Infix::Binary(operator);
            (infix, Precedence::Relation, Precedence::Sum)
        };
        let sum = |operator| {
            (
                Infix::Binary(operator),
                Precedence::Sum,
                Precedence::Product,
            )
        };
        let product = |operator| {
            (
                Infix::Binary(operator),
                Precedence::Product,
                Precedence::Unary,
            )
        };
        let symbol = match self.token {
            Token::Symbol(symbol) => symbol,
            Token::Name("in") => return Some(relation(O::In)),
            _ => return None,
        };
        Some(match symbol {
            S::Or => (Infix::Or, Precedence::Or, Precedence::And),
            S::And => (Infix::And, Precedence::And, Precedence::Relation),
            S::Equal => relation(O::Equal),
            S::NotEqual => relation(O::NotEqual),
            S::Less => relation(O::Less),
            S::LessOrEqual => relation(O::LessOrEqual),
            S::Greater => relation(O::Greater),
            S::GreaterOrEqual => relation(O::GreaterOrEqual),
            S::Plus => sum(O::Add),
            S::Minus => sum(O::Subtract),
            S::Star => product(O::Multiply),
            S::Slash => product(O::Divide),
            S::Percent => product(O::Remainder),
            _ => return None,
        })
    }

    /// Joins two operands. A chain of `&&` or `||` is one level, because chains may be long.
    fn join(&self, infix: Infix, left: Tree<'s>, right: Tree<'s>) -> Result<Tree<'s>, ErrorAt> {
        let start = left.start;
        match infix {
            Infix::And => {
                let operands = match left {
                    Tree {
                        kind: Kind::And(operands),
                        ..
                    } => appended(operands, right),
                    other => vec![other, right],
                };
                self.tree(start, depth(&operands), Kind::And(operands))
            }
            Infix::Or => {
                let operands = match left {
                    Tree {
                        kind: Kind::Or(operands),
                        ..
                    } => appended(operands, right),
                    other => vec![other, right],
                };
                self.tree(start, depth(&operands), Kind::Or(operands))
            }
            Infix::Binary(operator) => {
                let operands = Box::new([left, right]);
                let children = depth(operands.iter());
                self.tree(start, children, Kind::Binary(operator, operands))
            }
        }
    }

    fn unary(&mut self) -> Result<Tree<'s>, ErrorAt> {
        let start = self.start;
        if self.skip(Symbol::Not)? {
            let operand = self.nested(Self::unary)?;
            return self.tree(start, operand.depth, Kind::Not(Box::new(operand)));
        }
        if self.skip(Symbol::Minus)? {
            // The magnitude of the least integer is not an integer.
            if self.token == Token::Int(i64::MIN.unsigned_abs()) {
                self.advance()?;
                return self.tree(start, 0, Kind::Int(i64::MIN));
            }
            let operand = self.nested(Self::unary)?;
            return self.tree(start, operand.depth, Kind::Negate(Box::new(operand)));
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Result<Tree<'s>, ErrorAt> {
        let mut operand = self.primary()?;
        let start = operand.start;
        loop {
            if self.skip(Symbol::OpenList)? {
                let index = self.expression()?;
                self.expect(Symbol::CloseList)?;
                let parts = Box::new([operand, index]);
                operand = self.tree(start, depth(parts.iter()), Kind::Index(parts))?;
            } else if self.skip(Symbol::Dot)? {
                operand = self.member(operand)?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// Parses what follows a dot.
    fn member(&mut self, operand: Tree<'s>) -> Result<Tree<'s>, ErrorAt> {
        let name_at = self.start;
        if self.token == Token::Symbol(Symbol::Question) {
            let message = "\".?\" is not supported; use has(…) and a condition";
            return Err(ErrorAt::new(name_at, message));
        }
        let Token::Name(name) = self.token else {
            return Err(self.unexpected("the name of a field or function"));
        };
        self.advance()?;
        let (start, operand) = (operand.start, Box::new(operand));
        if self.skip(Symbol::Open)? {
            let arguments = self.list(Symbol::Close)?;
            let children = depth(&arguments).max(operand.depth);
            let call = Kind::Call {
                receiver: Some(operand),
                function: name,
                function_at: name_at,
                arguments,
            };
            return self.tree(start, children, call);
        }
        let children = operand.depth;
        let select = Kind::Select {
            operand,
            field: name,
            field_at: name_at,
        };
        self.tree(start, children, select)
    }

    fn primary(&mut self) -> Result<Tree<'s>, ErrorAt> {
        let start = self.start;
        match &self.token {
            Token::Symbol(Symbol::Open) => {
                self.advance()?;
                let mut tree = self.expression()?;
                self.expect(Symbol::Close)?;
                (tree.start, tree.end) = (start, self.previous_end);
                return Ok(tree);
            }
            Token::Symbol(Symbol::OpenList) => {
                self.advance()?;
                let elements = self.list(Symbol::CloseList)?;
                return self.tree(start, depth(&elements), Kind::List(elements));
            }
            Token::Symbol(_) | Token::End | Token::Name("in") => {
                return Err(self.unexpected("a value"));
            }
            _ => {}
        }
        let kind = match self.advance()? {
            Token::Int(number) => match i64::try_from(number) {
                Ok(number) => Kind::Int(number),
                Err(_) => {
                    let message = format!("the number {number} is out of range");
                    return Err(ErrorAt::new(start, message));
                }
            },
            Token::Double(number) => Kind::Double(number),
            Token::String(text) => Kind::String(text),
            Token::Name("true") => Kind::Bool(true),
            Token::Name("false") => Kind::Bool(false),
            Token::Name("null") => Kind::Null,
            Token::Name(name) if self.skip(Symbol::Open)? => {
                let arguments = self.list(Symbol::Close)?;
                let children = depth(&arguments);
                let call = Kind::Call {
                    receiver: None,
                    function: name,
                    function_at: start,
                    arguments,
                };
                return self.tree(start, children, call);
            }
            Token::Name(name) => Kind::Name(name),
            Token::Symbol(_) | Token::End => return Err(self.unexpected("a value")),
        };
        self.tree(start, 0, kind)
    }

    /// Parses expressions that are separated by commas, and the closing bracket.
    fn list(&mut self, close: Symbol) -> Result<Vec<Tree<'s>>, ErrorAt> {
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

fn appended<'s>(mut operands: Vec<Tree<'s>>, operand: Tree<'s>) -> Vec<Tree<'s>> {
    operands.push(operand);
    operands
}

fn depth<'t, 's: 't>(trees: impl IntoIterator<Item = &'t Tree<'s>>) -> usize {
    trees.into_iter().map(|tree| tree.depth).max().unwrap_or(0)
}

fn too_deep(at: usize) -> ErrorAt {
    ErrorAt::new(
        at,
        format!("the expression is nested more than {MAX_DEPTH} levels deep; simplify it"),
    )
}
