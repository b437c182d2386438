//! `kubectl oaat why`.

use super::output::{Format, print_as};
use crate::cluster::{ClusterArgs, ClusterError, Session, find_item, items_in_effect};
use crate::views::why;
use clap::Args;
use oaat_api::Timestamp;

/// Arguments of `why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The item.
    item: String,
    /// The group of the item. Required if several groups of the namespace have the item.
    #[arg(short, long)]
    group: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The format of the output. The default is text.
    #[arg(short, long)]
    output: Option<Format>,
}

pub(super) async fn run(args: &WhyArgs) -> Result<(), ClusterError> {
    let session = Session::new(&args.cluster).await?;
    let group = find_item(&session, &args.item, args.group.as_deref()).await?;
    let now = Timestamp::now();
    let why = why(&group, &items_in_effect(&group), &args.item, now);
    print_as(args.output, &why, |_| why.text(now))
}
