//! Fills the queue, and reconciles the groups in it.

use super::{Next, Place, Requeue, WorkQueue};
use crate::group_ref::GroupRef;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prometheus_client::metrics::gauge::Gauge;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

/// The channels that add groups to the queue.
pub struct Sources {
    /// The groups that a trigger adds last.
    pub triggered: UnboundedReceiver<GroupRef>,
    /// The groups that continue an earlier turn. They are added first.
    pub resumed: UnboundedReceiver<GroupRef>,
    /// The groups that need no reconcile now, with the delay after which they do.
    pub delayed: UnboundedReceiver<(GroupRef, Duration)>,
}

/// Reconciles queued groups until `stop` turns true and the reconciles in progress have finished.
/// Groups are queued from the start, but no reconcile begins before `ready` completes. Adds the
/// number of waiting groups to `depth`, which several queues share.
pub async fn run<R: Future<Output = Requeue>>(
    mut sources: Sources,
    ready: impl Future<Output = ()>,
    mut stop: watch::Receiver<bool>,
    depth: Gauge,
    reconcile: impl Fn(GroupRef) -> R,
) {
    let mut queue = WorkQueue::default();
    let mut published_depth = 0;
    let mut in_progress = FuturesUnordered::new();
    let mut is_ready = false;
    let stops = stop.clone();
    tokio::pin!(ready);
    let stopped = async move {
        // If the sender is dropped, the process stops as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    loop {
        let mut wake_at = None;
        while is_ready && !*stops.borrow() {
            match queue.next(Instant::now()) {
                Next::Reconcile(group) => {
                    let reconcile = reconcile(group.clone());
                    in_progress.push(async move { (group, reconcile.await) });
                }
                Next::Wait(until) => {
                    wake_at = until;
                    break;
                }
            }
        }
        let waiting = i64::try_from(queue.depth()).unwrap_or(i64::MAX);
        depth.inc_by(waiting - std::mem::replace(&mut published_depth, waiting));
        let timer = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => futures::future::pending().await,
            }
        };
        tokio::select! {
            // Triggers are handled before the ends of reconciles. A group whose reconcile ends is
            // then queued behind them.
            biased;
            () = &mut stopped => break,
            Some(group) = sources.resumed.recv() => queue.add(group, Place::First, Instant::now()),
            Some(group) = sources.triggered.recv() => queue.add(group, Place::Last, Instant::now()),
            Some((group, delay)) = sources.delayed.recv() => {
                queue.add_delayed(group, delay, Instant::now());
            }
            Some((group, requeue)) = in_progress.next() => {
                queue.done(group, requeue, Instant::now());
            }
            () = &mut ready, if !is_ready => is_ready = true,
            () = timer => {}
        }
    }
    depth.dec_by(published_depth);
    while in_progress.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::super::CONCURRENCY;
    use super::*;
    use kube::runtime::reflector::ObjectRef;
    use std::cell::RefCell;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    fn named(name: &str) -> GroupRef {
        ObjectRef::new(name).within("n")
    }

    fn channels() -> ([UnboundedSender<GroupRef>; 2], Sources) {
        let (trigger, triggered) = unbounded_channel();
        let (resume, resumed) = unbounded_channel();
        let (_delay, delayed) = unbounded_channel();
        let sources = Sources {
            triggered,
            resumed,
            delayed,
        };
        ([trigger, resume], sources)
    }

    #[tokio::test]
    async fn reconciles_begin_when_ready_and_finish_after_stop() {
        let ([trigger, _resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        let (ready, is_ready) = tokio::sync::oneshot::channel::<()>();
        let (finish, may_finish) = watch::channel(false);
        let (begun, mut has_begun) = unbounded_channel();
        let (ended, mut has_ended) = unbounded_channel();
        let queue = tokio::spawn(run(
            sources,
            async move {
                let _ = is_ready.await;
            },
            stopping,
            Gauge::default(),
            move |group| {
                let (begun, ended) = (begun.clone(), ended.clone());
                let mut may_finish = may_finish.clone();
                async move {
                    let _ = begun.send(group.name.clone());
                    let _ = may_finish.wait_for(|finish| *finish).await;
                    let _ = ended.send(group.name);
                    Requeue::After(Duration::ZERO)
                }
            },
        ));
        trigger.send(named("a")).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(has_begun.try_recv().is_err());
        ready.send(()).unwrap();
        assert_eq!(has_begun.recv().await.as_deref(), Some("a"));
        stop.send(true).unwrap();
        trigger.send(named("b")).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!queue.is_finished());
        finish.send(true).unwrap();
        queue.await.unwrap();
        assert_eq!(has_ended.recv().await.as_deref(), Some("a"));
        assert!(has_begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn stop_before_ready_returns_at_once() {
        let ([trigger, _resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        trigger.send(named("a")).unwrap();
        stop.send(true).unwrap();
        let reconcile = |_| async { unreachable!("nothing may start") };
        let never = futures::future::pending();
        run(sources, never, stopping, Gauge::default(), reconcile).await;
    }

    #[tokio::test]
    async fn groups_are_reconciled_after_their_delay_and_when_triggered() {
        let ([trigger, resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        let begun = RefCell::new(Vec::new());
        let depth = Gauge::default();
        let run = run(sources, async {}, stopping, depth, |group| {
            begun.borrow_mut().push(group.name.clone());
            let count = begun.borrow().len();
            let (stop, trigger) = (&stop, &trigger);
            async move {
                match count {
                    1 => return Requeue::After(Duration::from_millis(20)),
                    2 => trigger.send(named("triggered")).unwrap(),
                    _ => stop.send(true).unwrap(),
                }
                Requeue::OnTrigger
            }
        });
        resume.send(named("delayed")).unwrap();
        run.await;
        assert_eq!(*begun.borrow(), ["delayed", "delayed", "triggered"]);
    }

    #[tokio::test]
    async fn reconciles_run_concurrently_up_to_the_limit() {
        let ([trigger, _resume], sources) = channels();
        let (stop, stopping) = watch::channel(false);
        let count = CONCURRENCY * 2;
        for number in 0..count {
            trigger
                .send(ObjectRef::new("g").within(&number.to_string()))
                .unwrap();
        }
        let (running, most, finished) = (RefCell::new(0), RefCell::new(0), RefCell::new(0));
        let depth = Gauge::default();
        let deepest = RefCell::new(0);
        run(sources, async {}, stopping, depth.clone(), |_| async {
            deepest.replace_with(|deepest| (*deepest).max(depth.get()));
            *running.borrow_mut() += 1;
            most.replace_with(|most| (*most).max(*running.borrow()));
            tokio::time::sleep(Duration::from_millis(20)).await;
            *running.borrow_mut() -= 1;
            *finished.borrow_mut() += 1;
            if *finished.borrow() == count {
                stop.send(true).unwrap();
            }
            Requeue::OnTrigger
        })
        .await;
        assert_eq!((*most.borrow(), *finished.borrow()), (CONCURRENCY, count));
        let (deepest, after) = (*deepest.borrow(), depth.get());
        assert_eq!((deepest, after), ((count - CONCURRENCY) as i64, 0));
    }
}
