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
    /// An operator or a bracket.
    Symbol(&'static str),
    End,
}

/// All operators and brackets. A prefix of another symbol follows it.
const SYMBOLS: [&str; 22] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]",
];

/// Reads tokens from an expression.
pub struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    pub fn new(source: &'s str) -> Self {
        Self { source, at: 0 }
    }

    /// Skips white space and comments, and returns the position of the next token.
    pub fn skip_space(&mut self) -> usize {
        loop {
            self.at += prefix(self.rest(), char::is_whitespace).len();
            if !self.rest().starts_with("//") {
                return self.at;
            }
            self.at += prefix(self.rest(), |c| c != '\n').len();
        }
    }

    /// Returns the position after the latest token.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads the next token.
    pub fn next(&mut self) -> Result<Token<'s>, ErrorAt> {
        let start = self.skip_space();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        if first.is_ascii_digit() {
            return self.number();
        }
        if let '\'' | '"' = first {
            return self.string(false);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let name = prefix(rest, is_name);
            self.at += name.len();
            let quoted = self.rest().starts_with(['\'', '"']);
            return match name {
                "r" | "R" if quoted => self.string(true),
                _ if quoted => Err(ErrorAt::new(
                    start,
                    format!("{name} in front of a string is not supported; remove it"),
                )),
                _ => Ok(Token::Name(name)),
            };
        }
        // Comparing the first character is cheaper than comparing strings.
        let starts = |symbol: &&&str| symbol.starts_with(first) && rest.starts_with(**symbol);
        match SYMBOLS.iter().find(starts) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            None => Err(ErrorAt::new(start, unexpected(first))),
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
                    "{text}{unit} is not a number; write a duration as for example \
                     duration('90m'), and a number without letters"
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
