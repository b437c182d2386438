//! The options of the programs that `cargo xtask` builds and starts. xtask parses them, too, so that
//! `--help` and invalid options need no build.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// The options of the demo.
#[derive(Parser)]
pub struct DemoOptions {
    /// Exit with 0 once every item has succeeded.
    #[arg(long)]
    pub once: bool,
    /// Use the cluster of this kubeconfig context instead of a local control plane.
    #[arg(long)]
    pub context: Option<String>,
    /// Use this policy, a component that `kubectl-oaat policy build` wrote. The demo puts it in
    /// a ConfigMap, and replaces it while the group runs.
    #[arg(long)]
    pub policy: Option<PathBuf>,
}

/// The options of the benchmarks.
#[derive(Parser)]
pub struct BenchOptions {
    /// The number of runs in each measurement of handovers.
    #[arg(long, default_value_t = 300)]
    pub runs: usize,
    /// The number of idle groups.
    #[arg(long, default_value_t = 10_000)]
    pub groups: usize,
    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare the results with those that --save wrote to this file.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Draw the results of the benchmark `curves` in this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Measure nothing, and draw the results that --save wrote to this file.
    #[arg(long, value_name = "FILE", requires = "svg")]
    pub draw: Option<PathBuf>,
    /// Run only this benchmark.
    #[arg(long)]
    pub only: Option<Benchmark>,
}

/// A benchmark.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Benchmark {
    /// One decision, and the compilation of the policies.
    Decision,
    /// `policy compare` with 100,000 recorded decisions.
    Comparison,
    /// Components that attack the compiler: time and memory.
    Attacks,
    /// The time from the end of a pod to the next pod.
    Handover,
    /// Handovers and status writes with a shadow policy on every group.
    Shadow,
    /// Policies in ConfigMaps.
    Policies,
    /// The effect of hostile namespaces on others.
    Hostile,
    /// The time from the end of a leader to the next run.
    Election,
    /// The time from the start of an operator to its next action, with many groups.
    Recovery,
    /// Blackout windows and lists of items.
    WindowsAndLists,
    /// Many idle groups: their first status, the operator's memory, and its next start.
    Scale,
    /// A scrape of the metrics of 20 groups of 2,000 items.
    Scrape,
    /// Groups that are always due: runs per second, their cost, and fair turns.
    Saturation,
    /// Handovers with 2 to 2,000 items, and memory and restarts with 1 to 10,000 groups.
    Curves,
}

/// Kills and freezes operators, breaks their connections, and kills the API server and etcd, while
/// groups run. Exits with 1 if two pods of a group could run at the same time, or if a run is lost,
/// repeated, or recorded with the wrong result.
#[derive(Parser)]
pub struct ChaosOptions {
    /// The duration in minutes. Kinds of storms alternate.
    #[arg(long, default_value_t = 5)]
    pub minutes: u64,
    /// The number of groups.
    #[arg(long, default_value_t = 5)]
    pub groups: usize,
    /// The seed of the first storm; each further storm uses the next number. The same seed injects
    /// the same faults, but the timing depends on the machine.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// The options of the screenshots.
#[derive(Parser)]
pub struct ScreenshotsOptions {
    /// Measure the page instead, with this number of groups, one of which has 2,000 items.
    #[arg(long, value_name = "GROUPS")]
    pub load: Option<usize>,
}
