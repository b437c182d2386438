//! Rules of the protocol that can be switched off, so that whoever watches over them is known
//! to notice.
//!
//! The operator that is shipped has none of it: without `oaat_mutations`, `broken!` is the
//! constant `false`. Only the build script of `simulation/breakable` sets it, a package that
//! compiles these sources a second time for the simulation.

/// Whether a rule is switched off.
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

    /// A rule switched off.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
    pub enum Mutation {
        /// Candidates are created without our gate.
        NoGate,
        /// The gate is opened before the claim is written.
        OpenBeforeClaim,
        /// Status writes do not carry the resource version.
        ClaimWithoutVersion,
        /// The pods are listed before the group is read.
        ListBeforeRead,
        /// A pod that the list does not show is taken to be gone.
        AbsenceFromList,
        /// A claim's patch leaves out `podUid` and so keeps the one before it.
        KeepOldPodUid,
        /// A pod that is being deleted is taken to have ended.
        TerminatingIsTerminal,
        /// Every gated pod that is seen is opened.
        OpenAnyGated,
        /// Pods are not listed at all.
        NoList,
        /// Pods are deleted without waiting for their containers. How a pod is deleted is the
        /// business of the verb and not of the cycle, so this one is switched off there.
        ForceDelete,
        /// Strays are deleted without another look at the group.
        NoSecondRead,
        /// Finished pods are deleted without another look at the group.
        NoSecondReadFinished,
        /// Candidates of others are removed without making their claims fail before.
        RemoveUnannounced,
        /// Gated strays are deleted also if they have been opened since.
        DeleteAnyVersion,
        /// A candidate that could not be claimed is deleted also if it has been opened since.
        WithdrawAnyVersion,
        /// Nobody opens a claimed pod whose claimer has crashed.
        OnlyClaimerOpens,
        /// Who opens a gate that another has claimed does not say so in the status before.
        OpenUnannounced,
        /// The end of a run is written without moving `current` on, which a second write does.
        RecordApart,
        /// A status that was wiped stays so: running pods are not taken for current again.
        NoAdoption,
        /// The next run's number is taken from the status alone.
        NumberFromStatus,
        /// A run whose pod was refused takes no number.
        RefusalWithoutNumber,
        /// Nobody asks whether the namespace is being deleted.
        NamespaceUnasked,
        /// Items are started again at once.
        NoFloor,
        /// The times that nodes tell are believed.
        TimesBelieved,
        /// Each pod that prints a list of items has a name of its own.
        ManyListers,
        /// An item that is missing from its source is forgotten at once.
        MissingForgotten,
        /// A success does not clear the failures before it.
        FailuresStay,
    }

    thread_local! {
        static OFF: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Whether a rule is switched off on this thread.
    pub fn off(rule: Mutation) -> bool {
        OFF.get() == Some(rule)
    }

    /// Does something with a rule switched off.
    pub fn without<T>(rule: Option<Mutation>, what: impl FnOnce() -> T) -> T {
        let before = OFF.replace(rule);
        let done = what();
        OFF.set(before);
        done
    }

    /// What is written of the status, and under which resource version, with a rule of
    /// writing switched off.
    pub(crate) async fn write<C: Cluster>(
        applier: &Applier<'_, C>,
        version: String,
        mut patch: Value,
    ) -> Result<(String, Value), ClusterError> {
        let before = applier.snapshot.group.status.as_ref();
        let runs = before.is_some_and(|status| status.current.is_some());
        let moves = runs && patch.get("current").is_some();
        if off(Mutation::ClaimWithoutVersion) {
            return Ok((String::new(), patch));
        }
        if off(Mutation::KeepOldPodUid) && moves {
            let current = patch.get_mut("current").and_then(Value::as_object_mut);
            current.and_then(|current| current.remove("podUid"));
        }
        if off(Mutation::RecordApart) && moves && patch.get("history").is_some() {
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
