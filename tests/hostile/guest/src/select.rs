//! The misbehaviors.

use policy_sdk::{Choice, Decision, Instant, Request, Standing, Verdict, log};
use std::hint::black_box;

/// Characters that a terminal interprets, or that it shows in another place.
const CONTROL: &str =
    "one\ntwo\r\x1b[2J\x1b[31mthree\x07\0\u{9b}31m\u{2028}\u{202e}four\u{7f}\u{feff}";

/// Answers in the way that `name` specifies.
pub fn misbehave(name: &str, request: &Request) -> Result<Decision, String> {
    let items = request.items.len();
    Ok(match name {
        "loop" => forever(),
        "copy" => copies(),
        "allocate" => allocate(1 << 30),
        "grow" => grow(),
        "recurse" => Decision::run(recurse(1) as usize),
        "panic" => panic!("I give up\non {items} items {CONTROL}"),
        "panic-long" => panic!("{}", "aaargh ".repeat(100_000)),
        "unreachable" => unreachable(),
        "settings-panic" => settings(request),
        "verdicts-many" => Decision::run(0).with_verdicts(verdicts(100_000, None)),
        "verdicts-million" => Decision::run(0).with_verdicts(verdicts(2_000_000, None)),
        "verdicts-short" => Decision::run(0).with_verdicts(verdicts(items - 1, None)),
        "verdicts-long" => Decision::run(0).with_verdicts(verdicts(items + 1, None)),
        "verdicts-noted" => {
            let note = CONTROL.repeat(if items < 100 { 100 } else { 1 });
            Decision::run(0).with_verdicts(verdicts(items, Some(note)))
        }
        "index-next" => Decision::run(items),
        "index-max" => choose(Choice::Run(u32::MAX)),
        "held" => first(request, |startable| !startable),
        "failed" => latest_failure(request),
        "wait-past" => wait(0),
        "wait-1ms" => wait(request.now + 1),
        "wait-ever" => Decision::wait(None),
        "wait-9999" => wait(253_402_300_799_000),
        "wait-max" => wait(Instant::MAX),
        "wait-min" => wait(Instant::MIN),
        "until-moves" => wait(request.now + 1).with_verdicts(moving(request)),
        "note-changes" => wait(request.now + 1).with_note(format!("it is {} now", request.now)),
        "alternate" if request.now % 2 == 0 => Decision::run(0),
        // Uses time, and hardly any fuel.
        "alternate" => flood(40, &"x".repeat(4_000_000)),
        "until-extreme" => Decision::run(0).with_verdicts(extremes(items)),
        "note-control" => Decision::run(0).with_note(CONTROL),
        "note-long" => Decision::run(0).with_note("ü".repeat(1 << 19)),
        "note-huge" => Decision::run(0).with_note("x".repeat(8 << 20)),
        "state-full" => Decision::run(0).with_state("\0".repeat(4096)),
        "state-long" => Decision::run(0).with_state("x".repeat(1 << 20)),
        "state-ignored" => Decision::run(0).with_state("{\"not\": json\u{fffd}\0"),
        "state-refused" if request.state.is_empty() => Decision::run(0).with_state("once"),
        "state-refused" => return Err(format!("I cannot read {:?}", request.state)),
        "err" => return Err("no item pleases me".into()),
        "err-empty" => return Err(String::new()),
        "err-long" => return Err("no ".repeat(350_000)),
        "err-huge" => return Err("x".repeat(8 << 20)),
        "err-control" => return Err(CONTROL.into()),
        "log-flood" => flood(usize::MAX, "a line of log, and another"),
        "log-lines" => flood(10_000, CONTROL),
        "log-long" => flood(1, &"x".repeat(1 << 20)),
        "log-huge" => flood(1, &"x".repeat(8 << 20)),
        "log-slow" => flood(usize::MAX, &"x".repeat(4_000_000)),
        // Other names misbehave only in `validate`.
        _ => Decision::run(0),
    })
}

/// Never returns.
pub fn forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Never returns either, with the largest possible amount of work in one instruction.
fn copies() -> ! {
    let mut block = vec![1_u8; 16 << 20];
    loop {
        black_box(&mut block).copy_within(..8 << 20, 8 << 20);
    }
}

fn allocate(bytes: usize) -> Decision {
    Decision::run(black_box(vec![1_u8; bytes]).len())
}

fn grow() -> Decision {
    #[cfg(target_arch = "wasm32")]
    while std::arch::wasm32::memory_grow::<0>(1) != usize::MAX {}
    Decision::run(0)
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    // Used after the call, so that the recursion cannot become a loop.
    black_box(recurse(depth.wrapping_add(frame[3]))) ^ frame[7]
}

fn unreachable() -> ! {
    #[cfg(target_arch = "wasm32")]
    std::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

fn settings(request: &Request) -> Decision {
    assert_eq!(request.settings, "{}", "I never expected settings");
    Decision::run(0)
}

fn choose(choice: Choice) -> Decision {
    Decision {
        choice,
        ..Decision::run(0)
    }
}

fn wait(until: Instant) -> Decision {
    Decision::wait(Some(until))
}

fn first(request: &Request, wanted: impl Fn(bool) -> bool) -> Decision {
    let mut items = request.items.iter();
    Decision::run(items.position(|item| wanted(item.startable)).unwrap_or(0))
}

fn latest_failure(request: &Request) -> Decision {
    let items = request.items.iter().enumerate();
    let latest = items.max_by_key(|(_, item)| item.last_failure);
    Decision::run(latest.map_or(0, |(index, _)| index))
}

fn verdicts(count: usize, note: Option<String>) -> Vec<Verdict> {
    let mut verdict = Verdict::new(Standing::Deferred, None);
    verdict.note = note;
    vec![verdict; count]
}

fn moving(request: &Request) -> Vec<Verdict> {
    let until = |place: usize| request.now + 60_000 + place as Instant;
    (0..request.items.len())
        .map(|place| Verdict::new(Standing::Deferred, Some(until(place))))
        .collect()
}

fn extremes(items: usize) -> Vec<Verdict> {
    let ends = [Instant::MIN, -1, 0, Instant::MAX];
    (0..items)
        .map(|i| Verdict::new(Standing::Fresh, Some(ends[i % ends.len()])))
        .collect()
}

fn flood(lines: usize, line: &str) -> Decision {
    for _ in 0..lines {
        log::error(line);
    }
    Decision::run(0)
}
