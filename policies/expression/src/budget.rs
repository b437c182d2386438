//! The limits of the fuel of expressions, for each item.
//!
//! A decision may use 10,000,000 fuel, and 50,000 more for each item. The costs that are known in
//! advance are limited by [`MAX_COST`]. The costs of texts, lists, and settings are known only when
//! an expression is evaluated, and limited by [`Budget`]. The tests check that the most expensive
//! expressions leave at least a tenth of the fuel, even for the largest groups.

use std::cell::Cell;

/// The maximum estimate for all expressions of a group together, in fuel for each item.
pub const MAX_COST: u64 = 25_000;

/// The maximum length of the settings of an item in bytes, if an expression reads them.
pub const MAX_ITEM_SETTINGS: usize = 4096;

/// The fuel that the settings of each item may use, besides the fuel that expressions do not use.
const PARSE_PER_ITEM: u64 = 8_000;

/// The additional fuel that the settings of all items may use.
const PARSE_ALL_ITEMS: u64 = 4_000_000;

/// The fuel that long texts and lists of an item may use.
const VALUES_PER_ITEM: u32 = 6_000;

/// The fuel for a byte of a text.
const BYTE: usize = 12;

/// The fuel to compare an element of a list in the settings.
pub const ELEMENT: usize = 450;

/// The fuel to parse a byte of the settings of an item, besides values and keys.
const BYTE_OF_JSON: u64 = 30;

/// The fuel to parse a value.
const VALUE_OF_JSON: u64 = 500;

/// The fuel to parse a key, and to insert it into an object.
const KEY_OF_JSON: u64 = 2500;

/// The bytes of a text that the cost of an operation includes.
const INCLUDED: usize = 64;

/// The fuel for a byte of a duration that is parsed. The most expensive ones have many units, or
/// fractions of them.
const BYTE_OF_DURATION: usize = 250;

/// The bytes of a duration that the cost of its parsing includes.
const INCLUDED_OF_DURATION: usize = 12;

/// The work that depends on the values of an item.
#[derive(Debug)]
pub struct Budget(Cell<u32>);

impl Budget {
    pub fn new() -> Self {
        Self(Cell::new(VALUES_PER_ITEM))
    }

    /// Returns whether nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.0.get() == 0
    }

    /// Uses fuel. Returns whether any is left.
    pub fn spend(&self, fuel: usize) -> bool {
        let fuel = u32::try_from(fuel).unwrap_or(u32::MAX);
        self.0.set(self.0.get().saturating_sub(fuel));
        !self.is_used_up()
    }

    /// Uses fuel for each byte of a text that the cost of the operation does not include.
    pub fn spend_text(&self, text: &str) -> bool {
        self.spend(BYTE * text.len().saturating_sub(INCLUDED))
    }

    /// Uses fuel for each byte of a duration that the cost of its parsing does not include.
    pub fn spend_duration(&self, text: &str) -> bool {
        self.spend(BYTE_OF_DURATION * text.len().saturating_sub(INCLUDED_OF_DURATION))
    }
}

/// The fuel to parse the settings of items.
#[derive(Debug)]
pub struct ParseBudget {
    /// The fuel that each item may use.
    per_item: u64,
    /// The additional fuel that is left for all items.
    shared: Cell<u64>,
}

impl ParseBudget {
    /// Creates the budget for expressions with this cost. The fuel that they do not use is available.
    pub fn new(cost: u64) -> Self {
        Self {
            per_item: PARSE_PER_ITEM + MAX_COST.saturating_sub(cost),
            shared: Cell::new(PARSE_ALL_ITEMS),
        }
    }

    /// Uses fuel for the settings of an item. Returns whether they may be parsed.
    pub fn spend(&self, settings: &str) -> bool {
        if settings.len() > MAX_ITEM_SETTINGS {
            return false;
        }
        let left = self.left_after(settings);
        // After a refusal, long settings are refused by their length: a count would also use fuel.
        self.shared.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Returns the shared fuel that is left after parsing the settings; `None` if too little is left.
    fn left_after(&self, settings: &str) -> Option<u64> {
        let available = self.per_item + self.shared.get();
        let mut fuel = BYTE_OF_JSON * settings.len() as u64;
        if fuel > available {
            return None;
        }
        // The most expensive settings are keys such as `"":1,`.
        let most = (BYTE_OF_JSON + (KEY_OF_JSON + VALUE_OF_JSON) / 5) * settings.len() as u64;
        if most <= self.per_item {
            return Some(self.shared.get());
        }
        // Each value is after one of these, and each key is before a colon.
        for byte in settings.bytes() {
            fuel += match byte {
                b':' => KEY_OF_JSON,
                b'[' | b'{' | b',' => VALUE_OF_JSON,
                _ => 0,
            };
        }
        let extra = fuel.saturating_sub(self.per_item);
        self.shared.get().checked_sub(extra)
    }
}
