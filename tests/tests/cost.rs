//! What an NMI costs: two independent ways agree, and the budgets hold.
//!
//! Method: the costs by phase come from outside, from the main image stepped through by QEMU's debug stub. The
//! kernel's own way is to look at its samples: it takes one every so many instructions, so what is left of the
//! time between two of them is one whole NMI. Both count exactly, so they have to agree exactly. No wall time
//! is looked at.

use nmiprof::cost::crowd::{self, Crowd};
use nmiprof::cost::{CHAIN_CALLERS, Cost, Phase, Scenario, measure};
use nmiprof::images::Image;
use nmiprof::machine::Program;
use nmiprof_tests::samples::samples;
use nmiprof_tests::{Boot, qemu};
use nmiprof_wire::{NmiEntry, Options, Sampling};

/// Most instructions that any entry takes over `naive`.
const OVER_NAIVE_MAX: u32 = 70;
/// Most that `rostedt` takes over `naive`.
const ROSTEDT_OVER_NAIVE_MAX: u32 = 40;
/// Most of a whole flat sample with any entry: what was reached.
const FLAT_MAX: u32 = 152;
/// Most of a whole sample with a call chain of 12 frames: what was reached.
const CHAIN_MAX: u32 = 298;
/// Instructions between samples, where the kernel's own way is followed.
const PERIOD: u64 = 10_007;

fn program() -> Option<Program> {
    qemu().map_err(|skip| skip.register()).ok()
}

fn cost(program: &Program, entry: NmiEntry, scenario: Scenario) -> Cost {
    let cost = measure(program, entry, scenario).expect("the machine can be followed");
    cost.unwrap_or_else(|| panic!("{entry} survives {scenario}"))
}

/// Options of a run with an entry that is sound as long as nothing nests.
fn options(entry: NmiEntry) -> Options<'static> {
    Options { nmi_entry: entry, unsafe_nmi: entry == NmiEntry::Naive, ..Options::default() }
}

#[test]
fn every_instruction_is_in_a_phase_and_every_phase_is_where_it_belongs() {
    let Some(program) = program() else { return };
    for &entry in NmiEntry::ALL {
        for scenario in Scenario::ALL {
            if !scenario.is_survived_by(entry) {
                continue;
            }
            let cost = cost(&program, entry, scenario);
            assert_eq!(cost.unattributed, [""; 0], "{entry} {scenario}");
            assert_eq!(cost.phases.values().sum::<u32>(), cost.total);
            let always =
                [Phase::Entry, Phase::Dispatch, Phase::Pmu, Phase::VirtualPmu, Phase::Record, Phase::Exit];
            assert!(always.iter().all(|phase| cost.of(*phase) > 0), "{cost:?}");
        }
    }
}

#[test]
fn the_trace_of_a_flat_sample_is_as_long_as_the_kernel_measures() {
    let Some(program) = program() else { return };
    for &entry in NmiEntry::ALL {
        let options = Options { duration_ns: 1_000_000, ..options(entry) };
        let Some(run) = Boot::image(Image::Main).options(&options).run().passed() else { return };
        let measured = run.record.run().and_then(|run| run.sample_instructions);
        let traced = cost(&program, entry, Scenario::Flat).total;
        assert_eq!(measured, Some(u64::from(traced)), "{entry}");
    }
}

#[test]
fn the_trace_of_a_sample_with_its_chain_is_as_long_as_the_time_between_samples_says() {
    let Some(program) = program() else { return };
    for &entry in NmiEntry::ALL {
        let options = Options {
            workloads: "sort",
            duration_ns: 20_000_000,
            sampling: Sampling::Period(PERIOD),
            chains: true,
            ..options(entry)
        };
        let Some(run) = Boot::image(Image::Main).options(&options).run().passed() else { return };
        let all = samples(&run.capture);
        // From one time stamp to the next: the rest of this NMI, the period, and the same part of the next one.
        let pairs = all.windows(2).filter(|pair| pair[0].callers.len() == CHAIN_CALLERS);
        let measured: Vec<u64> = pairs.map(|pair| pair[1].time - pair[0].time - PERIOD).collect();
        assert!(measured.len() > 20, "{entry}: {} samples with {CHAIN_CALLERS} callers", measured.len());
        let traced = u64::from(cost(&program, entry, Scenario::Chain).total);
        let same = measured.iter().filter(|instructions| **instructions == traced).count();
        // First touches of a page take longer, and so do rows of NMIs at the same instruction.
        assert!(
            same * 10 >= measured.len() * 8,
            "{entry}: {same} of {} take {traced}: {measured:?}",
            measured.len()
        );
    }
}

#[test]
fn no_entry_is_over_its_budget() {
    let Some(program) = program() else { return };
    for (scenario, most) in [(Scenario::Flat, FLAT_MAX), (Scenario::Chain, CHAIN_MAX)] {
        let naive = cost(&program, NmiEntry::Naive, scenario).total;
        for &entry in NmiEntry::ALL {
            let total = cost(&program, entry, scenario).total;
            println!("{entry} {scenario}: {total} instructions");
            assert!(total <= most, "{entry} {scenario}: {total}, at most {most}");
            let over_max = if entry == NmiEntry::Rostedt { ROSTEDT_OVER_NAIVE_MAX } else { OVER_NAIVE_MAX };
            assert!(total <= naive + over_max, "{entry} {scenario}: {total}, naive {naive}");
        }
    }
}

#[test]
fn a_sample_costs_the_same_however_many_cpus_sample() {
    let Some(program) = program() else { return };
    let mut all = Vec::new();
    for cpus in crowd::CPUS {
        let crowd = Crowd::measure(&program, NmiEntry::Rostedt, cpus).expect("the machine can be followed");
        println!("{cpus} CPUs: {} instructions, {:?}", crowd.trace.len(), crowd.times);
        assert_eq!(crowd.times.len(), usize::from(cpus));
        assert!(crowd.samples_min() >= crowd::TIMES_MIN, "{:?}", crowd.times);
        all.push(crowd);
    }
    for crowd in &all {
        assert_eq!(crowd.trace, all[0].trace, "{} CPUs: instruction for instruction", crowd.cpus);
        assert_eq!(crowd.ticks_min(), all[0].ticks_min(), "{} CPUs", crowd.cpus);
    }
}

// case 3: an NMI that arrives in the handler makes it run once more, afterwards
#[test]
fn a_nested_nmi_is_traced_through_and_costs_one_more_run() {
    let Some(program) = program() else { return };
    for &entry in NmiEntry::ALL {
        if entry == NmiEntry::Naive {
            let nothing = measure(&program, entry, Scenario::Nested).expect("nothing to follow");
            assert_eq!(nothing, None, "naive does not survive it");
            continue;
        }
        let [faulting, nested] = [Scenario::Fault, Scenario::Nested].map(|one| cost(&program, entry, one));
        assert!(nested.of(Phase::Nested) > 0 && faulting.of(Phase::Nested) == 0);
        // One record, but for a jump more or less; and the handler's own work twice.
        let [with, without] = [&nested, &faulting].map(|cost| cost.of(Phase::Record));
        assert!(with.abs_diff(without) <= 2, "{entry}: {with}, {without}");
        assert!(nested.of(Phase::Dispatch) > faulting.of(Phase::Dispatch), "{entry}");
        assert!(nested.of(Phase::Entry) > faulting.of(Phase::Entry), "{entry}");
    }
}
