//! Rules of the protocol that can be switched off, to verify that the tests detect each violation.
//!
//! The released operator contains none of this: without `oaat_mutations`, `broken!` is the constant
//! `false`. Only the build script of `tests/simulation/breakable` sets it. That package compiles
//! these sources a second time for the simulation.

/// Returns whether a rule is switched off.
#[cfg(not(oaat_mutations))]
macro_rules! broken {
    ($rule:ident) => {
        false
    };
}
#[cfg(oaat_mutations)]
macro_rules! broken {
    ($rule:ident) => {
        $crate::mutation::off($crate::mutation::Mutation::$rule)
    };
}
pub(crate) use broken;

#[cfg(oaat_mutations)]
pub use switches::*;

#[cfg(oaat_mutations)]
mod switches {
    use crate::apply::Applier;
    use crate::cluster::{Cluster, ClusterError};
    use serde_json::Value;
    use std::cell::Cell;

    /// A rule that is switched off.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
    pub enum Mutation {
        /// Candidates are created without the gate.
        NoGate,
        /// The gate is opened before the claim is written.
        OpenBeforeClaim,
        /// Status writes do not carry the resource version.
        ClaimWithoutVersion,
        /// The pods are listed before the group is read.
        ListBeforeRead,
        /// A pod that is not in the list is assumed to be gone.
        AbsenceFromList,
        /// The patch of a claim omits `podUid`, and so keeps the previous one.
        KeepOldPodUid,
        /// A pod that is being deleted is assumed to have ended.
        TerminatingIsTerminal,
        /// Every gated pod is opened.
        OpenAnyGated,
        /// Pods are not listed at all.
        NoList,
        /// Pods are deleted without waiting for their containers. The request defines how a pod is
        /// deleted, not the reconcile, so the simulated API server implements this one.
        ForceDelete,
        /// Stale pods are deleted without reading the group again.
        NoSecondRead,
        /// Finished pods are deleted without reading the group again.
        NoSecondReadFinished,
        /// Candidates of other replicas are deleted without first making their claims fail.
        RemoveUnannounced,
        /// Gated stale pods are deleted even if they have been opened since.
        DeleteAnyVersion,
        /// A candidate whose claim failed is deleted even if it has been opened since.
        WithdrawAnyVersion,
        /// A claimed pod is opened only by its claimer, even if the claimer has crashed.
        OnlyClaimerOpens,
        /// A replica that opens a pod for its claimer does not announce it in the status first.
        OpenUnannounced,
        /// The end of a run and the change of `current` are separate writes.
        RecordApart,
        /// After the status was cleared, running pods are not adopted.
        NoAdoption,
        /// The next run's number is taken from the status alone.
        NumberFromStatus,
        /// A run whose pod was rejected uses up no number.
        RefusalWithoutNumber,
        /// The operator does not check whether the namespace is being deleted.
        NamespaceUnasked,
        /// Items are started again without the retry floor.
        NoFloor,
        /// Times reported by nodes are used unchanged.
        TimesBelieved,
        /// Each pod that prints a list of items has a different name.
        ManyListers,
        /// The history of an item that is missing from its source is deleted at once.
        MissingForgotten,
        /// A success does not reset the number of failures.
        FailuresStay,
        /// Items are started again after `maxFailures` failures.
        NoGiveUp,
        /// A run that ends because of a disruption counts as a failure.
        DisruptionsFail,
        /// `startTimeout` counts while other scheduling gates hold the pod.
        GatedPodTimesOut,
        /// Times in the future are not corrected.
        NoFutureTimeCorrection,
        /// A terminating candidate is not deleted again.
        NoSecondDelete,
        /// A pod counts as terminal when a completion container has ended, even if others still run.
        CompletedIsTerminal,
        /// The group that became due last is reconciled first.
        NewestDueFirst,
        /// A shard counts as live even if no replica holds its lease.
        LostShardsUnserved,
    }

    thread_local! {
        static OFF: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Returns whether a rule is switched off on this thread.
    pub fn off(rule: Mutation) -> bool {
        OFF.get() == Some(rule)
    }

    /// Calls a function with a rule switched off.
    pub fn without<T>(rule: Option<Mutation>, call: impl FnOnce() -> T) -> T {
        let before = OFF.replace(rule);
        let result = call();
        OFF.set(before);
        result
    }

    /// Returns the resource version and the patch to write with a rule about writes switched off.
    /// May write a part of the patch first.
    pub(crate) async fn write<C: Cluster>(
        applier: &Applier<'_, C>,
        version: String,
        mut patch: Value,
    ) -> Result<(String, Value), ClusterError> {
        let before = applier.snapshot.group.status.as_ref();
        let had_current = before.is_some_and(|status| status.current.is_some());
        let changes_current = had_current && patch.get("current").is_some();
        if off(Mutation::ClaimWithoutVersion) {
            return Ok((String::new(), patch));
        }
        if off(Mutation::KeepOldPodUid) && changes_current {
            let current = patch.get_mut("current").and_then(Value::as_object_mut);
            current.and_then(|current| current.remove("podUid"));
        }
        if off(Mutation::RecordApart) && changes_current && patch.get("history").is_some() {
            let mut record = patch.clone();
            if let Some(record) = record.as_object_mut() {
                record.remove("current");
            }
            let (cluster, namespace) = (applier.cluster, applier.namespace);
            let version = cluster
                .write_status(namespace, applier.name, &version, record)
                .await?;
            let current = patch["current"].take();
            return Ok((version, serde_json::json!({ "current": current })));
        }
        Ok((version, patch))
    }
}
