//! `kubectl oaat history`.

use super::Scope;
use super::output::{Format, print_as};
use crate::cluster::{ClusterError, decoded, read_group, read_groups};
use crate::terminal::{escape_control, report};
use crate::views::{history_rows, history_table};
use clap::Args;
use oaat_api::Timestamp;
use oaat_api::text;

/// Arguments of `history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// The group. The default is all groups of the namespace.
    #[arg(conflicts_with = "all_namespaces")]
    group: Option<String>,
    /// Show only the runs of this item.
    #[arg(long)]
    item: Option<String>,
    /// The maximum number of runs.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    scope: Scope,
    /// The format of the output. The default is a table.
    #[arg(short, long)]
    output: Option<Format>,
}

pub(super) async fn run(args: &HistoryArgs) -> Result<(), ClusterError> {
    let session = args.scope.session().await?;
    let groups = match &args.group {
        Some(name) => vec![read_group(&session, name).await?],
        None => {
            let read = read_groups(&session, args.scope.namespace(&session)).await?;
            let (groups, undecodable) = decoded(read);
            for group in undecodable {
                report(&escape_control(&format!(
                    "warning: the group {} cannot be decoded: {}",
                    text::name(&group.name),
                    group.problem
                )));
            }
            groups
        }
    };
    let rows = history_rows(&groups, args.item.as_deref(), args.limit);
    print_as(args.output, &rows, |wide| {
        if rows.is_empty() {
            "No runs found.\n".to_owned()
        } else {
            history_table(&rows, args.scope.all_namespaces, wide, Timestamp::now())
        }
    })
}
