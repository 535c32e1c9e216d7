//! Two overflows and one NMI: what is left of the second one's.
//!
//! Method: under icount every overflow falls on a known instruction, and counters that start and stop together count
//! the same. Two counters count instructions, the first with a period of `M * GAP`, the second of `N * GAP`: their
//! overflows are a multiple of the gap apart, which are all equally frequent. The gap is chosen so that an overflow one
//! gap after another comes while the handler of that one runs, after it has unmasked the LVT entry and before it has
//! stopped the counters. How often that is follows from the periods alone, and `merged`, which the engine counts, says
//! how often it was so. What is swallowed is counted by the dispatcher, from when sampling began.
//!
//! An AMD CPU sends an NMI for each overflow. An Intel CPU masks the entry with the first one: the second one sends an
//! NMI only if the handler has unmasked the entry before.

use nmiprof::images::Image;
use nmiprof::sweep::dispatch::CASES;
use nmiprof_tests::counts::{PmuRecord, counted};
use nmiprof_tests::samples::samples;
use nmiprof_tests::{Boot, Completed};
use nmiprof_wire::Dispatch;

/// Ticks between overflows that are to fall into one handler, but not before it has unmasked the LVT entry.
const GAP: u64 = 700;
/// Periods, in gaps: they have no common factor.
const PERIODS: [u64; 2] = [28, 29];
/// Pairs that make a result worth something.
const PAIRS_MIN: u64 = 100;

/// What the periods lead to, up to a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meetings {
    /// Overflows of both counters at the same instruction.
    at_once: u64,
    /// Overflows of one counter a gap after those of the other.
    in_turn: u64,
}

impl Meetings {
    fn until(count: u64) -> Self {
        let [first, second] = PERIODS.map(|gaps| gaps * GAP);
        let mut meetings = Self { at_once: 0, in_turn: 0 };
        for end in (1..=count / first).map(|number| number * first) {
            let nearest = (end + second / 2) / second * second;
            match (nearest, end.abs_diff(nearest)) {
                (0, _) => {}
                (_, 0) => meetings.at_once += 1,
                (_, GAP) => meetings.in_turn += 1,
                _ => {}
            }
        }
        meetings
    }
}

fn run(pmu: &str, periods: [u64; 2]) -> Option<(Completed, PmuRecord)> {
    let [first, second] = periods;
    counted(&format!(
        "pmu={pmu} workload=sort duration_ns=400000000 cpu_percent_max=0 \
         events=instructions/period={first}/,instructions/period={second}/"
    ))
}

fn swallowed(run: &Completed, record: &PmuRecord) -> u64 {
    record.since_start(run, |nmi| nmi.swallowed)
}

/// Returns the overflows of both that came at the same address one after the other: in one NMI, or in two.
fn neighbours(run: &Completed) -> u64 {
    let mut all = samples(&run.capture);
    // A block has the samples of one event.
    all.sort_by_key(|sample| sample.time);
    all.windows(2).filter(|pair| pair[0].ip == pair[1].ip && pair[0].event != pair[1].event).count() as u64
}

// cases 44, 54
#[test]
fn two_overflows_at_once_are_one_handled_nmi_and_one_swallowed_on_amd_and_one_handled_on_intel() {
    for (pmu, empty_nmis) in [
        ("model-amd profile=zen4", 1),
        ("model-amd profile=zen5 dispatch=stop-early", 1),
        ("model-intel", 0),
        ("model-intel lvtpc=early", 0),
        ("model-intel profile=nehalem", 0),
        // The second meets the entry that the first has masked, for the handler has not begun yet.
        ("model-intel profile=nehalem lvtpc=early", 0),
    ] {
        let Some((run, record)) = run(pmu, [20_011; 2]) else { return };
        let [first, second] = [0, 1].map(|event| record.counts[event].overflows);
        let (merged, swallowed) = (record.counters.merged, swallowed(&run, &record));
        println!("{pmu}: {first} and {second} overflows, {merged} NMIs with two, {swallowed} swallowed");
        assert!(merged > 10 * PAIRS_MIN && merged == first && merged == second, "{pmu}");
        assert!(neighbours(&run) >= merged, "{pmu}: each pair is two samples of one address");
        // The order to stop may share its NMI with an overflow.
        assert!(swallowed.abs_diff(merged * empty_nmis) <= 1, "{pmu}: {swallowed}");
    }
}

// cases 44, 54, 56
#[test]
fn an_overflow_during_the_handler_is_one_swallowed_nmi_where_the_entry_is_unmasked_early() {
    let Some((run, record)) = run("model-intel profile=nehalem lvtpc=early", PERIODS.map(|gaps| gaps * GAP))
    else {
        return;
    };
    let meetings = Meetings::until(record.counts[0].count);
    let (merged, swallowed) = (record.counters.merged, swallowed(&run, &record));
    println!("{meetings:?}: {merged} NMIs with two, {swallowed} swallowed");
    assert!(meetings.in_turn >= PAIRS_MIN, "{meetings:?}");
    assert!(
        merged.abs_diff(meetings.at_once + meetings.in_turn) <= 1,
        "a gap of {GAP} ticks is not within the handler any more, or two are: {merged} of {meetings:?}"
    );
    assert!(
        swallowed.abs_diff(meetings.in_turn) <= 1,
        "each overflow in the handler leaves one empty NMI: {swallowed} of {meetings:?}"
    );
}

// cases 44, 56
#[test]
fn an_overflow_during_the_handler_leaves_no_nmi_where_the_entry_is_unmasked_late() {
    // The counters of this one are stopped one after the other: the second overflows while the first is stopped.
    for pmu in ["model-intel profile=core-duo", "model-intel profile=nehalem", "model-intel profile=penryn"] {
        let Some((run, record)) = run(pmu, [20_011, 20_021]) else { return };
        let (merged, swallowed) = (record.counters.merged, swallowed(&run, &record));
        println!("{pmu}: {merged} NMIs with two, {swallowed} swallowed");
        assert!(merged >= PAIRS_MIN, "{pmu}: {merged}");
        assert_eq!(swallowed, 0, "{pmu}");
    }
}

// cases 44, 54
#[test]
fn every_pair_of_overflows_on_amd_is_followed_by_one_swallowed_nmi() {
    for pmu in ["model-amd", "model-amd profile=k8", "model-amd profile=zen4", "model-amd lvtpc=early"] {
        let Some((run, record)) = run(pmu, [20_011, 20_021]) else { return };
        let (merged, swallowed) = (record.counters.merged, swallowed(&run, &record));
        println!("{pmu}: {merged} NMIs with two, {swallowed} swallowed");
        assert!(merged >= PAIRS_MIN, "{pmu}: {merged}");
        // The order to stop may share its NMI with an overflow.
        assert!(swallowed.abs_diff(merged) <= 1, "{pmu}");
    }
}

// case 54
#[test]
fn six_overflows_at_once_are_one_handled_nmi_and_at_most_one_swallowed() {
    let events = ["instructions/period=30011/"; 6].join(",");
    for (pmu, empty_nmis) in [("model-amd profile=zen4", 1), ("model-intel profile=sandy-bridge", 0)] {
        let words =
            format!("pmu={pmu} workload=sort duration_ns=200000000 cpu_percent_max=0 events={events}");
        let Some((run, record)) = counted(&words) else { return };
        let merged = record.counters.merged;
        println!("{pmu}: {merged} NMIs with six, {} swallowed", swallowed(&run, &record));
        assert!(
            merged >= PAIRS_MIN && record.counts.iter().all(|counts| counts.overflows == merged),
            "{pmu}"
        );
        assert_eq!(swallowed(&run, &record), merged * empty_nmis, "{pmu}");
        assert_eq!(record.counters.recoveries, 0, "{pmu}: one look finds all of them");
    }
}

// cases 44, 45, 46, 47, 48, 49
#[test]
fn every_staged_situation_has_the_same_outcome_with_the_counters_of_a_model() {
    for pmu in ["model-intel", "model-intel lvtpc=early", "model-amd", "model-amd profile=zen4"] {
        for dispatch in Dispatch::ALL {
            let words = format!("pmu={pmu} selftest=dispatch dispatch={dispatch}");
            let Some(run) = Boot::image(Image::Selftest).append(&words).run().passed() else { return };
            let cases = run.record.messages().cases();
            let wrong: Vec<_> = cases.iter().filter(|case| case.failures != 0 || case.hits == 0).collect();
            assert!(wrong.is_empty(), "{words}: {wrong:?}");
            assert!(CASES.iter().all(|number| cases.iter().any(|case| case.case == *number)), "{words}");
        }
    }
}

#[test]
fn meetings_of_periods_are_found_by_arithmetic() {
    let cycle = PERIODS[0] * PERIODS[1] * GAP;
    assert_eq!(Meetings::until(cycle + GAP), Meetings { at_once: 1, in_turn: 2 });
    assert_eq!(Meetings::until(3 * cycle).at_once, 3);
}
