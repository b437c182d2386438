//! The settings of `oaat-operator run`.

use crate::decision_log::LogDecisions;
use crate::policies::KeptLimits;
use crate::shard::Shard;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The format of log lines.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The settings of `oaat-operator run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The address for /healthz, /readyz, and /metrics. Port 0 selects a free port. `[::]` also
    /// accepts IPv4; if the kernel does not support IPv6, 0.0.0.0 is used instead.
    #[arg(long, env = "OAAT_LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,

    /// Use a Lease in the operator's namespace to elect a leader. Other replicas stand by. Items of
    /// a group run one at a time even without leader election.
    #[arg(long, env = "OAAT_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,

    /// The minimum time between two starts of the same item, except after a success if its frequency
    /// is shorter. Also the first pause after a rejected pod; the pause doubles up to 15 minutes.
    #[arg(long, env = "OAAT_RETRY_FLOOR", default_value = "10s", value_parser = humantime::parse_duration)]
    pub retry_floor: Duration,

    /// The namespaces to watch, separated by commas. The default is all namespaces. Each set of
    /// namespaces has its own Lease.
    #[arg(long, env = "OAAT_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,

    /// Reconcile only the groups whose labels match this label selector, for example `team=a`. The
    /// default is all groups. Each selector has its own Lease.
    #[arg(long, env = "OAAT_GROUP_SELECTOR", value_name = "SELECTOR")]
    pub group_selector: Option<String>,

    /// Reconcile only the groups of shard I of N (I: 0 to N-1; N: at most 64). The UID of a group
    /// determines its shard. Each shard has its own Lease. If no replica holds it, the other shards
    /// serve its groups. Requires leader election.
    #[arg(long, env = "OAAT_SHARD", value_name = "I/N")]
    pub shard: Option<Shard>,

    /// The operator's own image, which the pods for itemsFrom.http run. If it is not set, those
    /// lists are not read.
    #[arg(long, env = "OAAT_IMAGE")]
    pub image: Option<String>,

    /// What to log for each decision: only digests, or also the full request, which
    /// `kubectl-oaat policy replay` can repeat.
    #[arg(long, env = "OAAT_LOG_DECISIONS", default_value = "digest")]
    pub log_decisions: LogDecisions,

    /// The directory to record decisions in. Each decision, with its full request, is written to a
    /// separate file that `kubectl-oaat policy replay` can repeat. Keeps the newest 1,000 files and
    /// at most 256 MiB.
    #[arg(long, env = "OAAT_RECORD_DECISIONS", value_name = "DIR")]
    pub record_decisions: Option<PathBuf>,

    /// Publish metrics of each item, in addition to those of each group.
    #[arg(long, env = "OAAT_ITEM_METRICS", default_value_t = true, action = clap::ArgAction::Set)]
    pub item_metrics: bool,

    /// The maximum number of copies of policies to keep. With a copy, a policy still decides after a
    /// restart if its ConfigMap is gone. The copies are ConfigMaps in the operator's own namespace. 0
    /// keeps none.
    #[arg(
        long,
        env = "OAAT_KEPT_POLICIES",
        value_name = "NUMBER",
        default_value = "200",
        value_parser = clap::value_parser!(u16).range(..=10_000)
    )]
    pub kept_policies: u16,

    /// The maximum size of all these copies, in MiB.
    #[arg(long, env = "OAAT_KEPT_POLICIES_MIB", value_name = "MIB", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub kept_policies_mib: u16,

    /// The format of log lines. RUST_LOG sets the log level, `info` by default.
    #[arg(long, env = "OAAT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl Settings {
    /// Returns an error if two settings contradict each other.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.shard.is_some() && !self.leader_elect {
            anyhow::bail!(
                "--shard: requires leader election; set --leader-elect (OAAT_LEADER_ELECT) to true"
            );
        }
        Ok(())
    }

    /// Returns the label selector of groups; `None` if all are selected.
    pub(super) fn selector(&self) -> Option<&str> {
        non_empty(self.group_selector.as_deref())
    }

    /// Returns the limits on copies of policies, or `None` if the operator keeps none.
    pub(super) fn kept_limits(&self) -> Option<KeptLimits> {
        let limits = KeptLimits {
            count: self.kept_policies.into(),
            bytes: usize::from(self.kept_policies_mib) << 20,
        };
        (limits.count > 0).then_some(limits)
    }

    /// Returns whether other replicas may serve other groups.
    pub(super) fn serves_subset(&self) -> bool {
        let selects = self.selector().is_some() || !scopes(&self.namespaces).contains(&None);
        self.shard.is_some() || selects
    }

    /// Returns the operator's own image.
    pub(super) fn image(&self) -> Option<&str> {
        non_empty(self.image.as_deref())
    }
}

/// Returns a setting without surrounding spaces, unless it is empty.
fn non_empty(setting: Option<&str>) -> Option<&str> {
    setting.map(str::trim).filter(|setting| !setting.is_empty())
}

/// Returns the namespaces to watch, where `None` is all. Empty names are ignored, so an empty
/// environment variable has no effect.
pub(super) fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    let names = namespaces.iter().map(|name| name.trim());
    let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return vec![None];
    }
    let scopes = names.into_iter().map(|name| Some(name.to_owned()));
    scopes.collect()
}
