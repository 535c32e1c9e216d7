//! What every command says of the PMU and of its counts.
//!
//! A virtual count is never shown as if hardware had counted it: the name of its event says so, and its formula
//! follows.

use std::io::{self, Write};

use nmiprof_pmu::{Counter, CounterSet};
use nmiprof_wire::PmuKind;
use serde::Serialize;

use crate::capture::{EventTotal, Record, RunInfo, SampledEvent};

/// Returns whether hardware counts, in one word.
pub(super) const fn pmu_kind(run: &RunInfo) -> &'static str {
    match run.pmu_kind {
        PmuKind::Hardware => "hardware",
        PmuKind::Virtual => "virtual",
    }
}

/// Returns what the PMU is, in words.
pub(super) fn pmu_text(run: &RunInfo) -> String {
    let has_formulas = run.events.iter().any(|event| !event.formula.is_empty());
    let stands_in = match (run.pmu_kind, has_formulas) {
        (PmuKind::Hardware, _) => "",
        (PmuKind::Virtual, false) => ": a timer stands in for the counter",
        (PmuKind::Virtual, true) => ": counts are formulas of the clock, no hardware counts",
    };
    format!("{} ({}){stands_in}", pmu_kind(run), run.pmu_name)
}

/// Writes what counts, and why nothing better does, one `# ` line each.
pub(super) fn write_pmu(run: &RunInfo, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# PMU: {}", pmu_text(run))?;
    if run.pmu_fallback.is_empty() {
        return Ok(());
    }
    writeln!(out, "# not a better PMU, because: {}", run.pmu_fallback)
}

/// Writes what an event came to and what stands in for it, in one `# ` line; nothing where neither is known.
pub(super) fn write_count(run: &RunInfo, record: &Record, event: u8, out: &mut dyn Write) -> io::Result<()> {
    let formula = run.events.get(usize::from(event)).map_or("", |about| &about.formula);
    match (record.pmu().total(event), virtual_text(run, formula)) {
        (None, _) if formula.is_empty() => Ok(()),
        (None, text) => writeln!(out, "# what counts: {text}"),
        (Some(total), text) if text.is_empty() => writeln!(out, "# count: {}", count_text(&total)),
        (Some(total), text) => writeln!(out, "# count: {} ({text})", count_text(&total)),
    }
}

/// Returns what a count is, if it is not one of hardware. A clock ticks for user code and the kernel alike, so the
/// modifiers `u` and `k` choose among samples there, and the count is of all.
fn virtual_text(run: &RunInfo, formula: &str) -> String {
    match (run.pmu_kind, formula) {
        (PmuKind::Hardware, _) => String::new(),
        (PmuKind::Virtual, "") => "virtual".to_owned(),
        (PmuKind::Virtual, formula) => format!("virtual: {formula}, whoever runs"),
    }
}

/// Returns a count in words, and how much of it was counted.
pub(super) fn count_text(total: &EventTotal) -> String {
    let Some(scaled) = total.scaled else { return NOT_COUNTED.to_owned() };
    match total.running_pct() {
        Some(percent) if total.is_estimate() => {
            format!("{scaled}, estimated from {} in {percent:.2}% of the time", total.count)
        }
        _ => scaled.to_string(),
    }
}

/// What stands for the count of an event that no counter ever had, as in perf.
pub(super) const NOT_COUNTED: &str = "<not counted>";

/// Returns the name of an event, marked where no hardware counts it.
pub(super) fn event_title(run: &RunInfo, event: &SampledEvent) -> String {
    match run.pmu_kind {
        PmuKind::Hardware => event.name.clone(),
        PmuKind::Virtual => format!("{} (virtual)", event.name),
    }
}

/// Returns the name of a counter.
pub(super) fn counter_text(number: u8) -> String {
    let counter = CounterSet(1_u64.checked_shl(u32::from(number)).unwrap_or(0)).iter().next();
    counter.map_or_else(|| format!("counter {number}"), |counter| counter.to_string())
}

/// Returns a set of counters: `general 0-3, fixed 1`.
pub(super) fn counters_text(set: CounterSet) -> String {
    let kinds = [("general", false), ("fixed", true)].map(|(kind, is_fixed)| {
        let indices: Vec<u8> =
            set.iter().filter(|counter| counter.is_fixed() == is_fixed).map(Counter::index).collect();
        (!indices.is_empty()).then(|| format!("{kind} {}", ranges_text(&indices)))
    });
    let kinds: Vec<String> = kinds.into_iter().flatten().collect();
    if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
}

/// Returns numbers that rise as ranges: `0-3,7`.
fn ranges_text(numbers: &[u8]) -> String {
    let runs = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let runs = runs.filter_map(|run| match run {
        [] => None,
        [one] => Some(one.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// The PMU of a run, in JSON.
#[derive(Debug, Serialize)]
pub(super) struct JsonPmu {
    kind: &'static str,
    name: String,
    /// Why nothing better counted.
    #[serde(skip_serializing_if = "String::is_empty")]
    fallback: String,
}

impl JsonPmu {
    /// Copies what a run says of its PMU.
    pub(super) fn new(run: &RunInfo) -> Self {
        Self { kind: pmu_kind(run), name: run.pmu_name.clone(), fallback: run.pmu_fallback.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::writer::hello;

    #[test]
    fn counters_are_named_by_kind_and_range() {
        assert_eq!(counters_text(CounterSet(0b1000_1111 | 0b101 << 32)), "general 0-3,7, fixed 0,2");
        assert_eq!(counters_text(CounterSet::EMPTY), "none");
        assert_eq!(counters_text(CounterSet(u64::MAX)), "general 0-31, fixed 0-31");
        assert_eq!(
            (counter_text(5).as_str(), counter_text(33).as_str()),
            ("general counter 5", "fixed counter 1")
        );
        assert_eq!(counter_text(64), "counter 64");
    }

    #[test]
    fn a_virtual_pmu_says_what_stands_in() {
        let mut hello = hello();
        let text = |hello: &_| pmu_text(&RunInfo::from_hello(hello).expect("a sound Hello"));
        assert_eq!(text(&hello), "virtual (lapic-timer): a timer stands in for the counter");
        hello.events[0].formula = "1 per tick";
        assert!(text(&hello).contains("virtual") && text(&hello).contains("no hardware counts"));
        hello.pmu.kind = PmuKind::Hardware;
        assert_eq!(text(&hello), "hardware (lapic-timer)");
    }

    #[test]
    fn an_estimate_says_what_it_was_made_of() {
        let total = EventTotal {
            count: 100,
            scaled: Some(150),
            enabled_ticks: 300,
            running_ticks: 200,
            ..EventTotal::default()
        };
        assert_eq!(count_text(&total), "150, estimated from 100 in 66.67% of the time");
        assert_eq!(count_text(&EventTotal { running_ticks: 300, ..total }), "150");
        assert_eq!(count_text(&EventTotal { scaled: None, ..total }), "<not counted>");
    }
}
