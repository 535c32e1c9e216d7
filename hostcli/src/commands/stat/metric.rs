//! What two counts mean together: the metrics that perf shows beside a count.
//!
//! Only events of the same modifiers are set in relation: instructions of user code have nothing to do with the
//! kernel's cycles.

use nmiprof_pmu::event::GenericEvent;

/// Most a share can be before it is shown as it is.
const PERCENT: f64 = 100.0;

/// A number and what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Metric {
    /// The number.
    pub(super) value: f64,
    /// What it is.
    pub(super) unit: &'static str,
    /// Whether it is a share, in percent.
    pub(super) is_percent: bool,
}

/// Which event is divided by which, and what that is.
struct Rule {
    of: GenericEvent,
    by: GenericEvent,
    unit: &'static str,
    factor: f64,
}

/// Those of perf (Linux 6.1, `tools/perf/util/stat-shadow.c`) for events that are here.
const RULES: [Rule; 5] = [
    rule(GenericEvent::Instructions, GenericEvent::Cycles, "insn per cycle", 1.0),
    rule(GenericEvent::BranchMisses, GenericEvent::Branches, "of all branches", PERCENT),
    rule(GenericEvent::CacheMisses, GenericEvent::CacheReferences, "of all cache refs", PERCENT),
    rule(GenericEvent::StalledCyclesFrontend, GenericEvent::Cycles, "frontend cycles idle", PERCENT),
    rule(GenericEvent::StalledCyclesBackend, GenericEvent::Cycles, "backend cycles idle", PERCENT),
];

const fn rule(of: GenericEvent, by: GenericEvent, unit: &'static str, factor: f64) -> Rule {
    Rule { of, by, unit, factor }
}

/// Returns what an event means beside the others; `counts` are the means of all, by name.
pub(super) fn metric(name: &str, counts: &[(String, Option<f64>)]) -> Option<Metric> {
    let (event, modifiers) = parts(name)?;
    let rule = RULES.iter().find(|rule| rule.of == event)?;
    let count = |wanted: (GenericEvent, &str)| {
        counts.iter().find(|(name, _)| parts(name) == Some(wanted)).and_then(|(_, count)| *count)
    };
    let (of, by) = (count((rule.of, modifiers))?, count((rule.by, modifiers))?);
    let is_percent = rule.factor == PERCENT;
    (by > 0.0).then(|| Metric { value: rule.factor * of / by, unit: rule.unit, is_percent })
}

/// Splits a name into the event and its modifiers: `cycles:u`, `cycles/period=9/u`.
fn parts(name: &str) -> Option<(GenericEvent, &str)> {
    let end = name.find(['/', ':']).unwrap_or(name.len());
    let (event, rest) = name.split_at(end);
    let modifiers = rest.rsplit(['/', ':']).next().unwrap_or_default();
    Some((GenericEvent::from_name(event)?, modifiers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, counts: &[(&str, f64)]) -> Option<Metric> {
        let counts: Vec<_> = counts.iter().map(|(name, count)| ((*name).to_owned(), Some(*count))).collect();
        metric(name, &counts)
    }

    #[test]
    fn instructions_are_shown_per_cycle() {
        let ipc = of("instructions", &[("cycles", 800.0), ("instructions", 1000.0)]).expect("both are there");
        assert_eq!((ipc.value, ipc.unit, ipc.is_percent), (1.25, "insn per cycle", false));
        assert_eq!(of("instructions", &[("instructions", 1000.0)]), None, "no cycles");
        assert_eq!(of("instructions", &[("cycles", 0.0), ("instructions", 1.0)]), None, "none per none");
        assert_eq!(of("cycles", &[("cycles", 800.0), ("instructions", 1000.0)]), None);
    }

    #[test]
    fn misses_are_shares_whatever_the_events_are_called() {
        let share = of("branch-misses", &[("branch-instructions", 200.0), ("branch-misses", 5.0)]);
        assert_eq!(share.map(|share| (share.value, share.is_percent)), Some((2.5, true)));
        let share = of("cache-misses", &[("cache-references", 4.0), ("cache-misses", 1.0)]);
        assert_eq!(share.map(|share| share.unit), Some("of all cache refs"));
    }

    #[test]
    fn events_of_other_modifiers_are_not_set_in_relation() {
        let counts = [("cycles:k", 10.0), ("cycles/period=9/u", 5.0), ("instructions:u", 20.0)];
        assert_eq!(of("instructions:u", &counts).map(|metric| metric.value), Some(4.0));
        assert_eq!(of("instructions:u", &[("cycles", 1.0), ("instructions:u", 1.0)]), None);
    }
}
