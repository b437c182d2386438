//! The JSON lines that are exchanged with `kubectl-oaat policy serve`. The functions that write them
//! list all fields, so that a new field is a compile error.

use crate::{EvalError, Evaluation, LogLine};
use policy_sdk::log::Level;
use policy_sdk::{Choice, Decision, Item, ItemSettings, Outcome, Request, Run, Standing, Verdict};
use serde_json::{Value, json};

pub(crate) fn select(request: &Request) -> Value {
    let Request {
        namespace,
        group,
        now,
        seed,
        settings,
        state,
        items,
        recent,
        extra,
    } = request;
    let items: Vec<_> = items.iter().map(item).collect();
    let recent: Vec<_> = recent.iter().map(run).collect();
    json!({ "select": {
        "namespace": namespace,
        "group": group,
        "now": now,
        "seed": seed,
        "settings": settings,
        "state": state,
        "items": items,
        "recent": recent,
        "extra": extra,
    } })
}

fn item(item: &Item) -> Value {
    let Item {
        name,
        frequency,
        cool_off,
        settings,
        startable,
        last_success,
        last_failure,
        failures,
        runs,
        last_duration,
    } = item;
    json!({
        "name": name,
        "frequency": frequency,
        "cool_off": cool_off,
        "settings": settings,
        "startable": startable,
        "last_success": last_success,
        "last_failure": last_failure,
        "failures": failures,
        "runs": runs,
        "last_duration": last_duration,
    })
}

fn run(run: &Run) -> Value {
    let Run {
        item,
        started,
        finished,
        outcome,
        exit_code,
    } = run;
    let outcome = match outcome {
        Outcome::Succeeded => "Succeeded",
        Outcome::Failed => "Failed",
        Outcome::Stopped => "Stopped",
    };
    json!({
        "item": item,
        "started": started,
        "finished": finished,
        "outcome": outcome,
        "exit_code": exit_code,
    })
}

pub(crate) fn validate(settings: &str, items: &[ItemSettings]) -> Value {
    let items = items.iter().map(|item| {
        let ItemSettings { name, settings } = item;
        json!({ "name": name, "settings": settings })
    });
    json!({ "validate": { "settings": settings, "items": items.collect::<Vec<_>>() } })
}

/// Parses an evaluation. Returns `None` if the line has another form.
pub(crate) fn evaluation<T>(
    line: &Value,
    parse: impl FnOnce(&Value) -> Option<T>,
) -> Option<Evaluation<T>> {
    let result = line.get("result")?;
    let answer = match result.get("answer") {
        Some(answer) => Ok(parse(answer)?),
        None => Err(error(result)?),
    };
    let log = line.get("log")?.as_array()?.iter().map(log_line);
    Some(Evaluation {
        answer,
        fuel: line.get("fuel")?.as_u64()?,
        log: log.collect::<Option<_>>()?,
        log_dropped: line.get("logDropped")?.as_u64()?,
    })
}

fn error(result: &Value) -> Option<EvalError> {
    let message = result.get("message")?.as_str()?.to_owned();
    Some(match result.get("reason")?.as_str()? {
        "PolicyError" => EvalError::PolicyError(message),
        "Trapped" => EvalError::Trapped(message),
        "OutOfFuel" => EvalError::OutOfFuel(message),
        "Deadline" => EvalError::Deadline(message),
        "OutOfMemory" => EvalError::OutOfMemory(message),
        "BadAnswer" => EvalError::BadAnswer(message),
        _ => return None,
    })
}

fn log_line(line: &Value) -> Option<LogLine> {
    let level = match line.get(0)?.as_str()? {
        "Debug" => Level::Debug,
        "Info" => Level::Info,
        "Warn" => Level::Warn,
        "Error" => Level::Error,
        _ => return None,
    };
    let text = line.get(1)?.as_str()?.to_owned();
    Some(LogLine { level, text })
}

pub(crate) fn decision(value: &Value) -> Option<Decision> {
    let choice = value.get("choice")?;
    let verdicts = value.get("verdicts")?.as_array()?.iter().map(verdict);
    Some(Decision {
        choice: match choice.get("Run") {
            Some(index) => Choice::Run(index.as_u64()?.try_into().ok()?),
            None => Choice::Wait(choice.get("Wait")?.as_i64()),
        },
        note: text(value.get("note")?),
        verdicts: verdicts.collect::<Option<_>>()?,
        state: text(value.get("state")?),
    })
}

fn verdict(value: &Value) -> Option<Verdict> {
    Some(Verdict {
        standing: match value.get("standing")?.as_str()? {
            "Ready" => Standing::Ready,
            "Fresh" => Standing::Fresh,
            "Cooling" => Standing::Cooling,
            "Deferred" => Standing::Deferred,
            _ => return None,
        },
        until: value.get("until")?.as_i64(),
        note: text(value.get("note")?),
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
