//! Words that perf knows and this profiler does not: each with what to do instead.
//!
//! They are kept apart from typing errors, so that nobody is told to mend the spelling of a right word. Names are
//! those of Linux 6.1, `tools/perf/util/parse-events.l`.

/// What takes the place of the events that an operating system counts.
const SOFTWARE: &str = "it is counted by an operating system: take a hardware event, as `cycles`";
/// What takes the place of the events of a cache.
const CACHE: &str = "take `cache-misses`, or the CPU's own code: cpu/event=..,umask=../";

const SOFTWARE_EVENTS: [&str; 18] = [
    "cpu-clock",
    "task-clock",
    "page-faults",
    "faults",
    "minor-faults",
    "major-faults",
    "context-switches",
    "cs",
    "cpu-migrations",
    "migrations",
    "alignment-faults",
    "emulation-faults",
    "cgroup-switches",
    "duration_time",
    "user_time",
    "system_time",
    "bpf-output",
    "dummy",
];

const CACHE_PREFIXES: [&str; 8] =
    ["L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch-load", "node-", "L2"];

/// Terms of perf, and what to do instead of each.
const TERMS: [(&str, &str); 19] = [
    ("call-graph", "call chains are asked for by -g, for all events"),
    ("stack-size", "call chains are asked for by -g, for all events"),
    ("max-stack", "call chains are asked for by -g, for all events"),
    ("branch_type", "branch records are not used: leave it out"),
    ("time", "every sample has its time: leave it out"),
    ("inherit", "all that runs is counted: leave it out"),
    ("no-inherit", "all that runs is counted: leave it out"),
    ("overwrite", "the newest samples are dropped when the ring is full: leave it out"),
    ("no-overwrite", "the newest samples are dropped when the ring is full: leave it out"),
    ("percore", "counts are per CPU: leave it out"),
    ("pc", "pin control is not for sampling: leave it out"),
    ("in_tx", "transactions are not told apart: leave it out"),
    ("in_tx_cp", "transactions are not told apart: leave it out"),
    ("ldlat", "precise samples are not used: leave it out"),
    ("offcore_rsp", "only the event-select register is written: take another event"),
    ("frontend", "only the event-select register is written: take another event"),
    ("config1", "only the event-select register is written: take another event"),
    ("config2", "only the event-select register is written: take another event"),
    ("config3", "only the event-select register is written: take another event"),
];

/// Returns what to do instead of an event that perf has.
pub(super) fn instead_of_event(name: &str) -> Option<&'static str> {
    if SOFTWARE_EVENTS.contains(&name) {
        Some(SOFTWARE)
    } else if CACHE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        Some(CACHE)
    } else {
        None
    }
}

/// Returns what to do instead of a term that perf has.
pub(super) fn instead_of_term(name: &str) -> Option<&'static str> {
    TERMS.iter().find(|(term, _)| *term == name).map(|(_, instead)| *instead)
}
