//! The required behavior on a real node: real images, containers, evictions, deadlines, and
//! operators that are killed repeatedly. `cargo xtask real-node` runs it. It requires root on Linux
//! and programs that few machines have.

mod deletions;
mod evictions;
mod fixture;
mod lost;
mod quick_start;
mod refusals;
mod results;
mod storm;
mod unstarted;
mod user_actions;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use fixture::{Fixture, Shared};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use oaat_tests::real_node;

/// The number of cases that run at the same time. They mostly wait.
const AT_A_TIME: usize = 4;

/// A case: its name, and its function, which runs in a separate namespace.
struct Case {
    name: &'static str,
    run: fn(Fixture) -> BoxFuture<'static, Result<()>>,
}

/// The result of a case.
enum Ended {
    Passed,
    /// The case cannot run on this machine; the reason.
    Skipped(String),
    /// The case failed; the error.
    Failed(String),
}

/// The error of a case that cannot run on this machine.
#[derive(Debug)]
struct Skip(&'static str);

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Skip {}

/// Creates a case from its function, which has the name of the case.
macro_rules! case {
    ($module:ident :: $function:ident) => {
        Case {
            name: stringify!($function),
            run: |fixture| Box::pin($module::$function(fixture)),
        }
    };
}

/// Returns the cases that affect no other case.
fn side_by_side() -> Vec<Case> {
    vec![
        case!(quick_start::quick_start_runs_in_containers),
        case!(results::exit_codes_and_finish_times_are_recorded),
        case!(results::failed_container_is_named),
        case!(results::init_containers_run_first_and_may_fail),
        case!(results::sidecar_does_not_delay_the_end),
        case!(results::completion_containers_end_a_run_while_another_container_runs),
        case!(results::missing_program_fails_with_the_message_of_the_runtime),
        case!(results::memory_limit_is_named),
        case!(results::active_deadline_ends_a_run),
        case!(results::unobserved_end_is_recorded_once),
        case!(results::item_list_is_read_from_a_container_log),
        case!(unstarted::image_pull_error_is_reported_and_times_out),
        case!(unstarted::running_sidecar_does_not_count_as_started),
        case!(unstarted::image_that_is_never_pulled_is_reported_and_times_out),
        case!(unstarted::unschedulable_pod_is_reported_and_times_out),
        case!(unstarted::pod_with_excessive_requests_is_reported_and_times_out),
        case!(unstarted::missing_volume_times_out),
        case!(evictions::oversized_volume_causes_an_eviction),
        case!(evictions::excessive_ephemeral_storage_causes_an_eviction),
        case!(evictions::run_evicted_by_the_api_is_stopped),
        case!(evictions::preempted_run_is_stopped),
        case!(deletions::process_that_ignores_sigterm_prevents_the_next_start),
        case!(deletions::deleted_pod_that_exits_with_0_is_a_failure),
        case!(deletions::pod_deleted_while_the_operator_is_down_is_a_failure),
        case!(deletions::replaced_group_waits_for_the_end_of_the_old_pod),
        case!(user_actions::foreign_pod_during_a_run_blocks_the_next_start),
        case!(user_actions::running_pod_is_adopted_after_the_status_is_cleared),
        case!(user_actions::group_deleted_while_the_operator_is_down_is_removed_with_its_pod),
        case!(user_actions::group_deleted_in_the_foreground_starts_nothing),
        case!(user_actions::terminating_namespace_starts_nothing_and_counts_no_failure),
        case!(user_actions::gate_of_a_user_is_removed_only_by_the_user),
        case!(refusals::exceeded_quota_pauses_the_group_and_fails_no_item),
        case!(refusals::type_with_a_node_name_runs_on_that_node),
        case!(refusals::process_that_ignores_sigterm_past_its_deadline_prevents_the_next_start),
        case!(storm::storm_of_kills_loses_no_run),
        case!(storm::storm_of_kills_with_two_operators_loses_no_run),
    ]
}

/// Returns the cases that change the node.
fn alone() -> Vec<Case> {
    vec![
        case!(lost::paused_kubelet_prevents_the_next_start),
        case!(lost::killed_kubelet_prevents_the_next_start),
        case!(lost::killed_runtime_loses_no_run),
        case!(refusals::unreachable_api_server_counts_no_failure),
        case!(lost::deleted_node_prevents_the_next_start),
    ]
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match real_node::inside() {
        Some(folder) => all(&folder, arguments.first().map_or("", String::as_str)),
        None if std::env::var_os("OAAT_REAL_NODE").is_some() => {
            let keep = std::env::var_os("OAAT_REAL_NODE_KEEP").is_some();
            real_node::enter(&arguments, keep).map(|status| status.success())
        }
        None => {
            println!("the cases on a real node are not run here; cargo xtask real-node runs them");
            Ok(true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("real node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every case whose name contains the filter, and prints the results.
#[tokio::main]
async fn all(folder: &std::path::Path, filter: &str) -> Result<bool> {
    let start = Instant::now();
    let wanted = |case: &Case| case.name.contains(filter);
    let (together, alone): (Vec<_>, Vec<_>) = (
        side_by_side().into_iter().filter(wanted).collect(),
        alone().into_iter().filter(wanted).collect(),
    );
    if together.len() + alone.len() == 0 {
        return Err(anyhow!("no case name contains {filter:?}"));
    }
    println!("starting a control plane and a real node");
    let shared = Arc::new(Shared::start(folder).await?);
    println!("the node is ready after {} s", start.elapsed().as_secs());

    let mut ended: Vec<_> = stream::iter(together)
        .map(|case| run(&shared, case))
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    for case in alone {
        ended.push(run(&shared, case).await);
    }

    println!();
    for (name, seconds, how) in &ended {
        let word = match how {
            Ended::Passed => "passed".to_owned(),
            Ended::Skipped(why) => format!("skipped: {why}"),
            Ended::Failed(_) => "FAILED".to_owned(),
        };
        println!("{seconds:>5} s  {name}: {word}");
    }
    // Repeated at the end, where they are easy to find.
    let mut failed = 0;
    for (name, _, how) in &ended {
        if let Ended::Failed(words) = how {
            failed += 1;
            println!("{name}: {words}");
        }
    }
    let seconds = start.elapsed().as_secs();
    println!("{} cases, {failed} failed, {seconds} s in all", ended.len());
    Ok(failed == 0)
}

/// Runs one case.
async fn run(shared: &Arc<Shared>, case: Case) -> (&'static str, u64, Ended) {
    let start = Instant::now();
    println!("{}: starts", case.name);
    let outcome = async {
        let fixture = Fixture::new(Arc::clone(shared), case.name).await?;
        (case.run)(fixture).await
    };
    let outcome = AssertUnwindSafe(outcome)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(anyhow!("it panicked; its words are above")));
    let seconds = start.elapsed().as_secs();
    let how = match outcome {
        Ok(()) => Ended::Passed,
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(why) => Ended::Skipped(why.to_string()),
            None => Ended::Failed(format!("{error:#}")),
        },
    };
    match &how {
        Ended::Passed => println!("{}: passed after {seconds} s", case.name),
        Ended::Skipped(why) => println!("{}: skipped: {why}", case.name),
        Ended::Failed(words) => println!("{}: FAILED after {seconds} s: {words}", case.name),
    }
    (case.name, seconds, how)
}
