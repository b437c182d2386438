//! What must hold on a real node: real images, containers, evictions, deadlines, and an
//! operator that is killed again and again meanwhile. `cargo xtask e2e` runs this; it needs
//! root on Linux and programs that few machines have.

mod deletions;
mod evictions;
mod hands;
mod lost;
mod place;
mod quick_start;
mod refusals;
mod results;
mod storm;
mod unstarted;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use oaat_tests::real_node;
use place::{Place, Shared};

/// How many cases run at a time. They wait, most of the time.
const AT_A_TIME: usize = 4;

/// A case: its name, and what it does in a namespace of its own.
struct Case {
    name: &'static str,
    run: fn(Place) -> BoxFuture<'static, Result<()>>,
}

/// How a case ended.
enum Ended {
    Passed,
    /// It makes no sense on this machine, for this reason.
    Skipped(String),
    /// With these words.
    Failed(String),
}

/// The error of a case that makes no sense on this machine.
#[derive(Debug)]
struct Skip(&'static str);

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Skip {}

/// A case by its function, whose name is the case's name as well.
macro_rules! case {
    ($module:ident :: $function:ident) => {
        Case {
            name: stringify!($function),
            run: |place| Box::pin($module::$function(place)),
        }
    };
}

/// Those that mind nobody else.
fn side_by_side() -> Vec<Case> {
    vec![
        case!(quick_start::the_quick_start_runs_in_containers),
        case!(results::exit_codes_and_finish_times_are_recorded),
        case!(results::the_container_that_fails_is_named),
        case!(results::init_containers_run_first_and_may_fail),
        case!(results::a_sidecar_does_not_hold_up_the_end),
        case!(results::a_program_that_is_missing_fails_with_the_runtimes_words),
        case!(results::the_memory_limit_is_named),
        case!(results::the_active_deadline_ends_a_run),
        case!(results::an_end_that_nobody_saw_is_recorded_once),
        case!(results::a_list_of_items_is_read_from_a_containers_log),
        case!(unstarted::an_image_that_cannot_be_pulled_shows_and_times_out),
        case!(unstarted::an_image_that_is_never_pulled_shows_and_times_out),
        case!(unstarted::a_pod_that_fits_no_node_shows_and_times_out),
        case!(unstarted::a_pod_that_wants_too_much_shows_and_times_out),
        case!(unstarted::a_missing_volume_times_out),
        case!(evictions::a_volume_that_grows_too_large_evicts),
        case!(evictions::too_much_ephemeral_storage_evicts),
        case!(evictions::the_eviction_api_is_one_failure),
        case!(evictions::a_preempted_run_is_one_failure),
        case!(deletions::a_process_deaf_to_sigterm_keeps_the_next_one_out),
        case!(deletions::a_deleted_pod_that_exits_with_0_is_a_failure),
        case!(deletions::a_pod_deleted_while_the_operator_is_down_is_a_failure),
        case!(deletions::a_replaced_group_waits_for_the_old_pods_end),
        case!(hands::a_foreign_pod_beside_a_run_blocks_the_next_one),
        case!(hands::a_wiped_status_adopts_the_running_pod),
        case!(hands::a_group_deleted_while_the_operator_is_down_takes_its_pod_along),
        case!(hands::a_group_deleted_in_the_foreground_starts_nothing),
        case!(hands::a_namespace_that_ends_starts_nothing_and_fails_nothing),
        case!(hands::a_users_own_gate_is_left_to_the_user),
        case!(refusals::a_quota_is_one_failure_with_the_servers_words),
        case!(refusals::a_type_that_names_its_node_runs_there),
        case!(refusals::a_deaf_process_past_its_deadline_keeps_the_next_one_out),
        case!(storm::a_storm_of_kills_loses_nothing),
        case!(storm::a_storm_of_kills_with_two_operators_loses_nothing),
    ]
}

/// Those that do something to the node.
fn alone() -> Vec<Case> {
    vec![
        case!(lost::a_frozen_kubelet_keeps_the_next_one_out),
        case!(lost::a_killed_kubelet_keeps_the_next_one_out),
        case!(lost::a_killed_runtime_loses_no_run),
        case!(refusals::an_api_server_that_is_away_counts_nothing),
        case!(lost::a_node_that_is_given_up_keeps_the_next_one_out),
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
            println!("the cases on a real node are not run here; cargo xtask e2e runs them");
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

/// Runs every case whose name contains the filter, and says how each ended.
#[tokio::main]
async fn all(folder: &std::path::Path, filter: &str) -> Result<bool> {
    let start = Instant::now();
    let wanted = |case: &Case| case.name.contains(filter);
    let (together, alone): (Vec<_>, Vec<_>) = (
        side_by_side().into_iter().filter(wanted).collect(),
        alone().into_iter().filter(wanted).collect(),
    );
    if together.len() + alone.len() == 0 {
        return Err(anyhow!("no case has a name with {filter:?} in it"));
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
    // Once more at the end, where they are found.
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

/// Runs one case to its end, whatever that is.
async fn run(shared: &Arc<Shared>, case: Case) -> (&'static str, u64, Ended) {
    let start = Instant::now();
    println!("{}: starts", case.name);
    let outcome = async {
        let place = Place::new(Arc::clone(shared), case.name).await?;
        (case.run)(place).await
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
