//! Finished runs, for `history`.

use super::duration::ago;
use super::{short, table};
use oaat_api::text;
use oaat_api::{OaatGroup, RunRecord, Timestamp};
use serde::Serialize;

/// The maximum length of a message in the table, in bytes.
const SHORT_MESSAGE: usize = 60;

/// A finished run of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct HistoryRow {
    pub namespace: String,
    pub group: String,
    #[serde(flatten)]
    pub run: RunRecord,
}

/// Returns the latest finished runs of groups, latest end first. `item` selects the runs of one item.
pub(crate) fn history_rows(
    groups: &[OaatGroup],
    item: Option<&str>,
    limit: usize,
) -> Vec<HistoryRow> {
    let runs = groups.iter().flat_map(|group| {
        let runs = group.status.iter().flat_map(|status| &status.history);
        let runs = runs.filter(|run| item.is_none_or(|item| run.item == item));
        runs.map(move |run| (group, run))
    });
    let mut runs: Vec<_> = runs.collect();
    runs.sort_by_key(|(_, run)| std::cmp::Reverse(run.finished));
    let rows = runs.into_iter().take(limit).map(|(group, run)| HistoryRow {
        namespace: group.metadata.namespace.clone().unwrap_or_default(),
        group: group.metadata.name.clone().unwrap_or_default(),
        run: run.clone(),
    });
    rows.collect()
}

/// Formats finished runs as a table. `namespaces` adds their namespaces.
pub(crate) fn history_table(
    rows: &[HistoryRow],
    namespaces: bool,
    wide: bool,
    now: Timestamp,
) -> String {
    let mut header = vec![
        "GROUP", "RUN", "ITEM", "RESULT", "REASON", "EXIT", "FINISHED", "TOOK",
    ];
    if namespaces {
        header.insert(0, "NAMESPACE");
    }
    if wide {
        header.push("POD");
    }
    header.push("MESSAGE");
    let limit = if wide { text::MESSAGE } else { SHORT_MESSAGE };
    let rows = rows.iter().map(|row| {
        let HistoryRow {
            namespace,
            group,
            run,
        } = row;
        let mut cells = Vec::new();
        if namespaces {
            cells.push(namespace.clone());
        }
        cells.extend([
            group.clone(),
            run.run.to_string(),
            text::name(&run.item),
            run.result.to_string(),
            text::name(&run.reason),
            run.exit_code
                .map_or_else(|| "-".to_owned(), |code| code.to_string()),
            ago(run.finished, now),
            short(run.finished.since(run.started)),
        ]);
        if wide {
            cells.push(text::name(run.pod.as_deref().unwrap_or("-")));
        }
        cells.push(text::clean(
            run.message.as_deref().unwrap_or_default(),
            limit,
        ));
        cells
    });
    table(&header, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::test_groups::{NOW, backup};

    #[test]
    fn runs_of_all_groups_are_sorted_by_their_end() {
        let mut other = backup();
        other.metadata.name = Some("other".into());
        for run in &mut other.status.as_mut().unwrap().history {
            run.finished = run.finished.plus(std::time::Duration::from_secs(60));
        }
        let rows = history_rows(&[backup(), other], None, 100);
        let expected = "\
GROUP    RUN   ITEM     RESULT      REASON      EXIT   FINISHED   TOOK   MESSAGE
other    6     broken   Failed      Error       2      9m ago     2m     no space [31m left
backup   6     broken   Failed      Error       2      10m ago    1m     no space [31m left
other    5     mail     Succeeded   Completed   0      29m ago    2m
backup   5     mail     Succeeded   Completed   0      30m ago    1m
";
        assert_eq!(history_table(&rows, false, false, NOW), expected);
        let rows = history_rows(&[backup()], Some("mail"), 1);
        let expected = "\
NAMESPACE   GROUP    RUN   ITEM   RESULT      REASON      EXIT   FINISHED   TOOK   POD             MESSAGE
media       backup   5     mail   Succeeded   Completed   0      30m ago    1m     backup-mail-z
";
        assert_eq!(history_table(&rows, true, true, NOW), expected);
        assert_eq!(history_rows(&[backup()], None, 1)[0].run.run, 6);
    }
}
