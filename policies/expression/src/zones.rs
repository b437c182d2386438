//! Time zones by name.

use crate::nearest::nearest;
use crate::time::{Zone, fixed_offset};
use std::cmp::Ordering;

include!(concat!(env!("OUT_DIR"), "/zones.rs"));

/// Returns the time zone with a name of the tz database, such as `Europe/Berlin`, or with a fixed
/// offset, such as `+02:00`. A named zone has its current rule at all times.
pub fn zone(name: &str) -> Option<Zone> {
    if let Some(offset) = fixed_offset(name) {
        return Some(Zone::Offset(offset));
    }
    let (folder, name) = name.rsplit_once('/').unwrap_or(("", name));
    let (_, lines) = FOLDERS.iter().find(|(known, _)| *known == folder)?;
    let rule = find(lines, name.as_bytes())?.checked_sub(FIRST_RULE)?;
    Zone::from_rule(RULES.get(usize::from(rule))?)
}

/// Finds the line with this name by bisection, and returns its last byte.
fn find(mut lines: &[u8], name: &[u8]) -> Option<u8> {
    while !lines.is_empty() {
        let (before, _) = lines.split_at_checked(lines.len() / 2)?;
        let start = before.iter().rposition(|byte| *byte == b'\n');
        let (before, rest) = lines.split_at_checked(start.map_or(0, |newline| newline + 1))?;
        let (line, after) = split_line(rest)?;
        let (last, known) = line.split_last()?;
        lines = match name.cmp(known) {
            Ordering::Less => before,
            Ordering::Equal => return Some(*last),
            Ordering::Greater => after,
        };
    }
    None
}

/// Splits lines after the first one, and removes its newline.
fn split_line(lines: &[u8]) -> Option<(&[u8], &[u8])> {
    let newline = lines.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = lines.split_at_checked(newline)?;
    Some((line, rest.get(1..)?))
}

/// Returns the name of the zone that a user probably meant.
pub fn similar_zone(name: &str) -> Option<String> {
    let lines = |text: &'static [u8]| text.split(|byte| *byte == b'\n');
    let names = FOLDERS.iter().flat_map(|(folder, text)| {
        lines(text).filter_map(|line| {
            let (_, name) = line.split_last()?;
            let name = str::from_utf8(name).ok()?;
            Some(match *folder {
                "" => name.to_owned(),
                folder => format!("{folder}/{name}"),
            })
        })
    });
    let names: Vec<String> = names.collect();
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}
