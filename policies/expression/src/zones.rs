//! Time zones by name.

use crate::nearest::nearest;
use crate::time::Zone;
use jiff_core::tz::Offset;

include!(concat!(env!("OUT_DIR"), "/zones.rs"));

/// Returns the time zone with a name of the tz database, such as `Europe/Berlin`, or with a fixed
/// offset, such as `+02:00`. A named zone has its current rule at all times.
pub fn zone(name: &str) -> Option<Zone> {
    if let Some(offset) = fixed_offset(name) {
        return Some(Zone::Offset(offset));
    }
    let index = ZONES
        .binary_search_by_key(&name, |zone| zone_name(*zone))
        .ok()?;
    let rule = RULES.get(usize::from(ZONES.get(index)?.1))?;
    Zone::from_rule(rule)
}

/// Returns the name of an entry of the table. Names end with a newline.
fn zone_name((start, _): (u16, u8)) -> &'static str {
    let name = NAMES.get(usize::from(start)..).unwrap_or_default();
    name.split_once('\n').map_or(name, |(name, _)| name)
}

/// Returns the name of the zone that a user probably meant.
pub fn similar_zone(name: &str) -> Option<&'static str> {
    nearest(name, NAMES.lines())
}

/// Parses `+HH:MM` or `-HH:MM`.
pub fn fixed_offset(text: &str) -> Option<Offset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str, most: i32| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i32>().ok()?;
        (digits && number <= most).then_some(number)
    };
    let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60;
    Offset::from_seconds(sign * seconds).ok()
}
