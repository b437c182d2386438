//! Splits an expression into tokens.

use crate::convert::parse_double;
use crate::error::ErrorAt;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token<'s> {
    /// An integer without a sign.
    Int(u64),
    Double(f64),
    String(String),
    Name(&'s str),
    Symbol(Symbol),
    End,
}

/// An operator or a bracket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Symbol {
    And,
    Or,
    Not,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
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
        Some(match (first, second) {
            (b'&', b'&') => Self::And,
            (b'|', b'|') => Self::Or,
            (b'=', b'=') => Self::Equal,
            (b'!', b'=') => Self::NotEqual,
            (b'<', b'=') => Self::LessOrEqual,
            (b'>', b'=') => Self::GreaterOrEqual,
            (b'!', _) => Self::Not,
            (b'<', _) => Self::Less,
            (b'>', _) => Self::Greater,
            (b'+', _) => Self::Plus,
            (b'-', _) => Self::Minus,
            (b'*', _) => Self::Star,
            (b'/', _) => Self::Slash,
            (b'%', _) => Self::Percent,
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
            Self::And => "&&",
            Self::Or => "||",
            Self::Not => "!",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Star => "*",
            Self::Slash => "/",
            Self::Percent => "%",
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

    fn skip_while(&mut self, matches: fn(u8) -> bool) {
        while self.byte(0) != 0 && matches(self.byte(0)) {
            self.at += 1;
        }
    }

    /// Skips white space and comments, and returns the position of the next token.
    pub fn skip_space(&mut self) -> usize {
        loop {
            self.skip_while(|byte| byte.is_ascii_whitespace());
            if (self.byte(0), self.byte(1)) != (b'/', b'/') {
                return self.at;
            }
            self.skip_while(|byte| byte != b'\n');
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
        match self.rest().chars().next() {
            None => Ok(Token::End),
            Some(character) => Err(ErrorAt::new(start, unexpected(character))),
        }
    }

    /// Reads a name, or a string with the prefix `r`.
    fn name(&mut self) -> Result<Token<'s>, ErrorAt> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let name = self.source.get(start..self.at).unwrap_or_default();
        let quoted = matches!(self.byte(0), b'\'' | b'"');
        match name {
            "r" | "R" if quoted => self.string(true),
            _ if quoted => Err(ErrorAt::new(
                start,
                format!("the string prefix {name} is not supported; remove it"),
            )),
            _ => Ok(Token::Name(name)),
        }
    }

    fn rest(&self) -> &'s str {
        // The position is always at the start of a character.
        self.source.get(self.at..).unwrap_or_default()
    }

    fn number(&mut self) -> Result<Token<'s>, ErrorAt> {
        let start = self.at;
        let rest = self.rest();
        let hexadecimal = rest.strip_prefix("0x").or(rest.strip_prefix("0X"));
        let (text, token) = if let Some(digits) = hexadecimal {
            let digits = prefix(digits, |c| c.is_ascii_hexdigit());
            let token = u64::from_str_radix(digits, 16).ok().map(Token::Int);
            (&rest[..2 + digits.len()], token)
        } else {
            let text = decimal(rest);
            let token = if text.bytes().all(|byte| byte.is_ascii_digit()) {
                text.parse().ok().map(Token::Int)
            } else {
                parse_double(text).map(Token::Double)
            };
            (text, token)
        };
        self.at += text.len();
        let unit = prefix(self.rest(), is_name);
        if !unit.is_empty() {
            return Err(ErrorAt::new(
                start,
                format!(
                    "{text}{unit} is not a number; write a number without letters, or a \
                     duration such as duration('90m')"
                ),
            ));
        }
        token.ok_or_else(|| ErrorAt::new(start, format!("the number {text} is out of range")))
    }

    /// Reads a string. The position is at its first quote.
    fn string(&mut self, raw: bool) -> Result<Token<'s>, ErrorAt> {
        let start = self.at;
        let unclosed = || ErrorAt::new(start, "the string has no closing quote");
        let mut characters = self.rest().char_indices();
        let quote = characters.next().map_or('\'', |(_, quote)| quote);
        let mut text = String::new();
        loop {
            let (offset, character) = characters.next().ok_or_else(unclosed)?;
            match character {
                '\n' => return Err(unclosed()),
                '\\' if !raw => {
                    let escaped = escape(&mut characters).ok_or_else(|| {
                        let message = "unknown escape in the string; use \\\\ for a backslash";
                        ErrorAt::new(start + offset, message)
                    })?;
                    text.push(escaped);
                }
                _ if character == quote => {
                    self.at = start + offset + 1;
                    return Ok(Token::String(text));
                }
                _ => text.push(character),
            }
        }
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Returns the longest prefix of matching characters.
fn prefix(text: &str, matches: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !matches(c)).unwrap_or(text.len());
    &text[..end]
}

/// Returns the decimal number at the start of a text that starts with a digit.
fn decimal(text: &str) -> &str {
    let digits = |from: usize| prefix(&text[from..], |c| c.is_ascii_digit()).len();
    let mut end = digits(0);
    if text[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    &text[..end]
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
