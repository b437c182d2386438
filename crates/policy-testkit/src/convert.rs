//! Converts between the contract's types in policy-sdk and those in policy-host. The conversions
//! list all fields, so that a new field is a compile error.

use policy_host as host;
use policy_sdk as sdk;

pub(crate) fn request(r: &sdk::Request) -> host::Request {
    host::Request {
        namespace: r.namespace.clone(),
        group: r.group.clone(),
        now: r.now,
        seed: r.seed,
        settings: r.settings.clone(),
        state: r.state.clone(),
        items: r.items.iter().map(item).collect(),
        recent: r.recent.iter().map(run).collect(),
        extra: r.extra.clone(),
    }
}

fn item(i: &sdk::Item) -> host::Item {
    host::Item {
        name: i.name.clone(),
        frequency: i.frequency,
        cool_off: i.cool_off,
        settings: i.settings.clone(),
        startable: i.startable,
        last_success: i.last_success,
        last_failure: i.last_failure,
        failures: i.failures,
        runs: i.runs,
        last_duration: i.last_duration,
    }
}

fn run(r: &sdk::Run) -> host::Run {
    host::Run {
        item: r.item,
        started: r.started,
        finished: r.finished,
        outcome: match r.outcome {
            sdk::Outcome::Succeeded => host::Outcome::Succeeded,
            sdk::Outcome::Failed => host::Outcome::Failed,
            sdk::Outcome::Stopped => host::Outcome::Stopped,
        },
        exit_code: r.exit_code,
    }
}

pub(crate) fn item_settings(s: &sdk::ItemSettings) -> host::ItemSettings {
    host::ItemSettings {
        name: s.name.clone(),
        settings: s.settings.clone(),
    }
}

pub(crate) fn decision(d: host::Decision) -> sdk::Decision {
    sdk::Decision {
        choice: match d.choice {
            host::Choice::Run(index) => sdk::Choice::Run(index),
            host::Choice::Wait(until) => sdk::Choice::Wait(until),
        },
        note: d.note,
        verdicts: d.verdicts.into_iter().map(verdict).collect(),
        state: d.state,
    }
}

fn verdict(v: host::Verdict) -> sdk::Verdict {
    sdk::Verdict {
        standing: match v.standing {
            host::Standing::Ready => sdk::Standing::Ready,
            host::Standing::Fresh => sdk::Standing::Fresh,
            host::Standing::Cooling => sdk::Standing::Cooling,
            host::Standing::Deferred => sdk::Standing::Deferred,
        },
        until: v.until,
        note: v.note,
    }
}
