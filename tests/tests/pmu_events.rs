//! Two events sampled at once on a model of a PMU: each shows where the instructions are, and the counts are those of
//! the formulas that the run names.
//!
//! Method: under icount the length of a step of each workload is known in instructions, from a measurement with
//! sampling off. All formulas of these events are proportional to instructions, so the shares of each event's samples
//! must be those of the instructions. A run that only counts has hardly any handler to stop the counters: there, the
//! count must be the formula of the clock, to a ten-thousandth.

use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_tests::counts::{PmuRecord, checked, counted};
use nmiprof_tests::samples::{ChainedSample, samples};
use nmiprof_tests::shares::{instructions, percent, sample_counts_where};
use nmiprof_wire::PmuKind;

const TOLERANCE_POINTS: f64 = 1.0;
const SAMPLES_MIN: usize = 8_000;
const KERNEL_HALF: u64 = 1 << 63;
/// What the kernel says of each event, and what that is: events in so many ticks.
const FORMULAS: [(&str, &str, f64); 2] =
    [("instructions", "1 per tick", 1.0), ("cycles", "5 per 4 ticks", 1.25)];

fn check_formulas(record: &PmuRecord) {
    let named: Vec<_> = record.events.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(named, FORMULAS.map(|(name, text, _)| (name, text)));
    assert_eq!(record.kind, PmuKind::Virtual, "a virtual count is never passed off as one of hardware");
}

#[test]
fn instructions_and_cycles_sampled_together_have_the_shares_of_the_workloads() {
    for pmu in ["model-intel", "model-amd"] {
        let words = format!(
            "pmu={pmu} workload=matrix,sort events=instructions,cycles period=50021 chains=on duration_ns=700000000"
        );
        let Some((run, record)) = counted(&words) else { return };
        check_formulas(&record);
        let truth = percent(instructions(&run, ["matrix", "sort"]));
        for (event, (name, ..)) in (0_u8..).zip(FORMULAS) {
            let is_meant = |sample: &ChainedSample| sample.event == event;
            let counts = sample_counts_where(&run, is_meant, ["workloads::matrix", "workloads::sort"]);
            assert!(counts.iter().sum::<usize>() >= SAMPLES_MIN, "{pmu} {name}: {counts:?}");
            let sampled = percent(counts.map(|count| count as u64));
            println!("{pmu} {name}: {truth:.3?} % in truth, {sampled:.3?} % of {counts:?}");
            for (sampled, truth) in sampled.iter().zip(truth) {
                assert!((sampled - truth).abs() <= TOLERANCE_POINTS, "{pmu} {name}: {sampled} of {truth} %");
            }
        }
    }
}

#[test]
fn a_count_is_the_formula_of_the_clock() {
    for pmu in ["model-intel", "model-amd", "model-amd profile=zen4", "model-intel profile=core-duo"] {
        let words =
            format!("pmu={pmu} job=stat workload=sort events=instructions,cycles duration_ns=300000000");
        let Some((_, record)) = counted(&words) else { return };
        check_formulas(&record);
        for (counts, (name, _, per_tick)) in record.counts.iter().zip(FORMULAS) {
            assert_eq!((counts.overflows, counts.running_ticks), (0, counts.enabled_ticks), "{pmu} {name}");
            let expected = counts.running_ticks as f64 * per_tick;
            let off = (counts.count as f64 - expected) / expected;
            println!("{pmu} {name}: {} counted, off by {off:.1e}", counts.count);
            assert!(off.abs() <= 1e-4, "{pmu} {name}: {} of {expected}", counts.count);
        }
    }
}

#[test]
fn counters_that_stop_together_count_the_same_ticks() {
    // Each counts while the others do: however often the handler stops them, the ratio is that of the formulas.
    for pmu in ["model-intel", "model-intel profile=nehalem", "model-amd profile=zen4"] {
        let words = format!(
            "pmu={pmu} workload=sort events=instructions,cycles,branches period=10007 duration_ns=100000000 \
             cpu_percent_max=0"
        );
        let Some((_, record)) = counted(&words) else { return };
        let [instructions, cycles, branches] = [0, 1, 2].map(|event| record.counts[event].count as f64);
        println!(
            "{pmu}: {} cycles and {} branches an instruction",
            cycles / instructions,
            branches / instructions
        );
        assert!((cycles / instructions - 1.25).abs() < 1e-4, "{pmu}: {cycles} {instructions}");
        assert!((branches / instructions - 0.125).abs() < 1e-4, "{pmu}: {branches} {instructions}");
    }
}

#[test]
fn modifiers_choose_among_samples_of_a_virtual_pmu() {
    for pmu in ["model-intel", "model-amd"] {
        let words =
            format!("pmu={pmu} period=20011 events=instructions:u,cycles:k,branches duration_ns=20000000000");
        let boot = Boot::image(Image::Main).append(&words).user_program("sieve 5 5");
        let run = boot.user_program("tree 1000 10").run();
        let Some(run) = run.passed() else { return };
        let all = samples(&run.capture);
        let of = |event: u8| all.iter().filter(move |sample| sample.event == event);
        assert!(of(0).count() > 500 && of(0).all(|sample| sample.ip < KERNEL_HALF), "{pmu}: user code only");
        assert!(of(1).count() > 10 && of(1).all(|sample| sample.ip >= KERNEL_HALF), "{pmu}: the kernel only");
        let user = of(2).filter(|sample| sample.ip < KERNEL_HALF).count();
        println!(
            "{pmu}: {} in user code, {} in the kernel, {user} of {} of both",
            of(0).count(),
            of(1).count(),
            of(2).count()
        );
        assert!(user > 0 && user < of(2).count(), "{pmu}: both");
        assert_eq!(PmuRecord::of(&run.capture).names(), ["instructions:u", "cycles:k", "branches"]);
    }
}

#[test]
fn a_modifier_on_a_virtual_count_is_refused_with_a_way_out() {
    let run = Boot::image(Image::Main).append("pmu=model-intel job=stat events=cycles:u").run();
    let Some(verdict) = run.verdict() else { return };
    let text = verdict.to_string();
    assert!(text.contains("leave the modifier out, or record samples"), "{text}");
}

#[test]
fn an_event_that_the_model_has_no_formula_for_never_happens_and_says_so() {
    let words = "pmu=model-amd job=stat workload=sort events=r01cb duration_ns=10000000";
    let Some((_, record)) = checked(Boot::image(Image::Main).append(words), words) else { return };
    assert_eq!((record.events[0].1.as_str(), record.counts[0].count), ("never", 0));
}
