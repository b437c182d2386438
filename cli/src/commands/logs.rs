//! `kubectl oaat logs`.

use super::pods::{item_pods, print_log};
use crate::cluster::{ClusterArgs, ClusterError, Session, find_item};
use clap::Args;
use oaat_api::text;

/// Arguments of `logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// The item.
    item: String,
    /// The group of the item. Required if several groups of the namespace have the item.
    #[arg(short, long)]
    group: Option<String>,
    /// The log of the run before the current or latest one.
    #[arg(short, long)]
    previous: bool,
    /// Stream the log until the container terminates.
    #[arg(short, long)]
    follow: bool,
    /// The container. The default is one that failed, or else the first one.
    #[arg(short, long)]
    container: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: &LogsArgs) -> Result<(), ClusterError> {
    let session = Session::new(&args.cluster).await?;
    let group = find_item(&session, &args.item, args.group.as_deref()).await?;
    let group = group.metadata.name.unwrap_or_default();
    let pods = item_pods(&session, &group, &args.item).await?;
    let Some(pod) = pods.get(usize::from(args.previous)) else {
        let which = if args.previous {
            "an earlier run"
        } else {
            "a run"
        };
        return Err(ClusterError::Usage(format!(
            "no pod of {which} of {} exists; finished pods are deleted after podRetention",
            text::name(&args.item)
        )));
    };
    let container = args.container.as_deref().unwrap_or(&pod.container);
    let follow = args.follow && !pod.is_finished;
    print_log(&session, &pod.name, Some(container), follow).await
}
