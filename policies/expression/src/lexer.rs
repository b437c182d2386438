//! Splits an expression into tokens.

use crate::convert::parse_double;
use crate::error::ErrorAt;
use crate::program::{Logic, Operator};
use std::borrow::Cow;

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'s> {
    /// An integer without a sign.
    Int(u64),
    Double(f64),
    String(Quoted<'s>),
    Name(&'s str),
    Symbol(Symbol),
    End,
}

/// The text between quotes, as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quoted<'s> {
    text: &'s str,
    /// The position of the text.
    at: usize,
    /// Whether a backslash has no special meaning.
    raw: bool,
}

/// An operator or a bracket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Symbol {
    Not,
    Logic(Logic),
    Operator(Operator),
    Question,
    Colon,
    Dot,
    Comma,
    Open,
    Close,
    OpenList,
    CloseList,
}

impl Symbol {
    /// Returns the symbol that starts with these bytes.
    fn new(first: u8, second: u8) -> Option<Self> {
        use Operator as O;
        Some(match (first, second) {
            (b'&', b'&') => Self::Logic(Logic::And),
            (b'|', b'|') => Self::Logic(Logic::Or),
            (b'=', b'=') => Self::Operator(O::Equal),
            (b'!', b'=') => Self::Operator(O::NotEqual),
            (b'<', b'=') => Self::Operator(O::LessOrEqual),
            (b'>', b'=') => Self::Operator(O::GreaterOrEqual),
            (b'!', _) => Self::Not,
            (b'<', _) => Self::Operator(O::Less),
            (b'>', _) => Self::Operator(O::Greater),
            (b'+', _) => Self::Operator(O::Add),
            (b'-', _) => Self::Operator(O::Subtract),
            (b'*', _) => Self::Operator(O::Multiply),
            (b'/', _) => Self::Operator(O::Divide),
            (b'%', _) => Self::Operator(O::Remainder),
            (b'?', _) => Self::Question,
            (b':', _) => Self::Colon,
            (b'.', _) => Self::Dot,
            (b',', _) => Self::Comma,
            (b'(', _) => Self::Open,
            (b')', _) => Self::Close,
            (b'[', _) => Self::OpenList,
            (b']', _) => Self::CloseList,
            _ => return None,
        })
    }

    /// Returns the symbol as it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Not => "!",
            Self::Logic(logic) => logic.text(),
            Self::Operator(operator) => operator.text(),
            Self::Question => "?",
            Self::Colon => ":",
            Self::Dot => ".",
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::OpenList => "[",
            Self::CloseList => "]",
        }
    }
}

/// Reads tokens from an expression.
pub struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    pub fn new(source: &'s str) -> Self {
        Self { source, at: 0 }
    }

    /// Returns a byte after the position, 0 after the end.
    fn byte(&self, offset: usize) -> u8 {
        let byte = self.source.as_bytes().get(self.at + offset);
        byte.copied().unwrap_or_default()
    }

    /// Returns the number of bytes that match, from a byte after the position.
    fn count(&self, offset: usize, matches: impl Fn(u8) -> bool) -> usize {
        let rest = self.source.as_bytes().get(self.at + offset..);
        let matching = rest.unwrap_or_default().iter();
        matching.take_while(|byte| matches(**byte)).count()
    }

    /// Skips white space and comments, and returns the position of the next token.
    pub fn skip_space(&mut self) -> usize {
        loop {
            match self.byte(0) {
                b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' => self.at += 1,
                b'/' if self.byte(1) == b'/' => self.at += self.count(0, |byte| byte != b'\n'),
                _ => return self.at,
            }
        }
    }

    /// Returns the position after the latest token.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads the next token. The position is at its start.
    pub fn next(&mut self) -> Result<Token<'s>, ErrorAt> {
        let start = self.at;
        match self.byte(0) {
            b'0'..=b'9' => return self.number(),
            b'\'' | b'"' => return self.string(false),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => return self.name(),
            _ => {}
        }
        if let Some(symbol) = Symbol::new(self.byte(0), self.byte(1)) {
            self.at += symbol.text().len();
            return Ok(Token::Symbol(symbol));
        }
        let rest = self.source.get(start..).unwrap_or_default();
        match rest.chars().next() {
            None => Ok(Token::End),
            Some(character) => Err(ErrorAt::new(start, unexpected(character))),
        }
    }

    /// Reads a name, or a string with the prefix `r`.
    fn name(&mut self) -> Result<Token<'s>, ErrorAt> {
        let start = self.at;
        self.at += self.count(0, is_name);
        let name = self.source.get(start..self.at).unwrap_or_default();
        let quoted = matches!(self.byte(0), b'\'' | b'"');
        match name {
            "in" => Ok(Token::Symbol(Symbol::Operator(Operator::In))),
            "r" | "R" if quoted => self.string(true),
            _ if quoted => Err(ErrorAt::new(
                start,
                format!("the string prefix {name} is not supported; remove it"),
            )),
            _ => Ok(Token::Name(name)),
        }
    }

    fn number(&mut self) -> Result<Token<'s>, ErrorAt> {
        let start = self.at;
        let hexadecimal = self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X');
        let length = if hexadecimal {
            2 + self.count(2, |byte| byte.is_ascii_hexdigit())
        } else {
            self.decimal()
        };
        let text = self.source.get(start..start + length).unwrap_or_default();
        let unit = self.count(length, is_name);
        if unit > 0 {
            let word = self.source.get(start..start + length + unit);
            return Err(ErrorAt::new(
                start,
                format!(
                    "{} is not a number; write a number without letters, or a duration such as \
                     duration('90m')",
                    word.unwrap_or_default()
                ),
            ));
        }
        self.at += length;
        let token = if hexadecimal {
            u64::from_str_radix(&text[2..], 16).ok().map(Token::Int)
        } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().ok().map(Token::Int)
        } else {
            parse_double(text).map(Token::Double)
        };
        token.ok_or_else(|| ErrorAt::new(start, format!("the number {text} is out of range")))
    }

    /// Returns the length of the decimal number at the position.
    fn decimal(&self) -> usize {
        let digits = |offset| self.count(offset, |byte| byte.is_ascii_digit());
        let mut length = digits(0);
        if self.byte(length) == b'.' && digits(length + 1) > 0 {
            length += 1 + digits(length + 1);
        }
        if matches!(self.byte(length), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(length + 1), b'+' | b'-'));
            let exponent = digits(length + 1 + sign);
            if exponent > 0 {
                length += 1 + sign + exponent;
            }
        }
        length
    }

    /// Reads a string. The position is at its first quote.
    fn string(&mut self, raw: bool) -> Result<Token<'s>, ErrorAt> {
        let start = self.at;
        let quote = self.byte(0);
        let mut length = 0;
        loop {
            match self.byte(1 + length) {
                0 | b'\n' => return Err(ErrorAt::new(start, "the string has no closing quote")),
                b'\\' if !raw => length += 2,
                byte if byte == quote => break,
                _ => length += 1,
            }
        }
        let at = start + 1;
        let text = self.source.get(at..at + length).unwrap_or_default();
        self.at = at + length + 1;
        Ok(Token::String(Quoted { text, at, raw }))
    }
}

impl<'s> Quoted<'s> {
    /// Returns the string, with its escape sequences replaced.
    pub fn unescape(self) -> Result<Cow<'s, str>, ErrorAt> {
        if self.raw || !self.text.contains('\\') {
            return Ok(Cow::Borrowed(self.text));
        }
        let mut text = String::with_capacity(self.text.len());
        let mut characters = self.text.char_indices();
        while let Some((offset, character)) = characters.next() {
            let unescaped = if character == '\\' {
                escape(&mut characters).ok_or_else(|| {
                    let message = "unknown escape in the string; use \\\\ for a backslash";
                    ErrorAt::new(self.at + offset, message)
                })?
            } else {
                character
            };
            text.push(unescaped);
        }
        Ok(Cow::Owned(text))
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Reads the rest of an escape sequence.
fn escape(characters: &mut std::str::CharIndices<'_>) -> Option<char> {
    let (_, character) = characters.next()?;
    let digits = match character {
        'a' => return Some('\u{7}'),
        'b' => return Some('\u{8}'),
        'f' => return Some('\u{c}'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\u{b}'),
        '\\' | '?' | '"' | '\'' | '`' => return Some(character),
        'x' | 'X' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut code = 0;
    for _ in 0..digits {
        let (_, digit) = characters.next()?;
        code = code * 16 + digit.to_digit(16)?;
    }
    char::from_u32(code)
}

/// Returns what to use instead of a word that is an operator in other languages, such as `and`.
pub fn operator_hint(word: &str) -> Option<&'static str> {
    Some(match word {
        "not" | "NOT" => "; use ! for a logical not",
        "and" | "AND" => "; use && for a logical and",
        "or" | "OR" => "; use || for a logical or",
        "desc" | "DESC" => "; use - before the expression for descending order",
        _ => return None,
    })
}

fn unexpected(character: char) -> String {
    let instead = match character {
        '=' => "; use == to compare",
        '&' => "; use && for a logical and",
        '|' => "; use || for a logical or",
        '{' | '}' => "; maps are not supported",
        '“' | '”' | '‘' | '’' => "; use straight quotes",
        _ => "",
    };
    format!("unexpected character {character:?}{instead}")
}
