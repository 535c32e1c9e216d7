//! A second NMI at every instruction: of the entry, the handler, the fault path inside it, and the exit.
//!
//! Method: the self-test image sends itself a first NMI and lets a timer raise a second one so many
//! instructions later, for every number of instructions up to well after the return. It checks each time
//! that the handler was not re-entered, that no event was lost or handled twice, that every register, flag
//! and word on the stack came back, and that NMIs are unmasked in the end. The instruction that the second NMI
//! interrupted is read from the frame that the CPU pushed, not from anything that the entry says.

use std::collections::BTreeSet;

use nmiprof::images::Image;
use nmiprof_tests::{Boot, Run};
use nmiprof_wire::{Failure, FaultReturn, NestedReturn, NmiEntry, Options, Placement, Unmask};

/// Placements: the last ones land hundreds of instructions after the return.
const LAST_TICKS: u32 = 1200;

fn sweep(options: &Options<'_>) -> Run {
    let options = Options { sweep_first: 1, sweep_last: LAST_TICKS, selftest: "sweep", ..*options };
    Boot::image(Image::Selftest).options(&options).run()
}

fn sound_combinations() -> Vec<Options<'static>> {
    let mut all = Vec::new();
    for nmi_entry in [NmiEntry::Rostedt, NmiEntry::Latched, NmiEntry::Softmask, NmiEntry::Tristate] {
        for unmask in Unmask::ALL {
            for nested_return in NestedReturn::ALL {
                let has_nested_return = matches!(nmi_entry, NmiEntry::Rostedt | NmiEntry::Latched);
                if *nested_return == NestedReturn::Iret || has_nested_return {
                    let (unmask, nested_return) = (*unmask, *nested_return);
                    all.push(Options { nmi_entry, unmask, nested_return, ..Options::default() });
                }
            }
        }
    }
    all
}

fn failure_names(placement: &Placement) -> Vec<&'static str> {
    let failed = Failure::ALL.iter().filter(|(failure, _)| placement.failures & failure.bit() != 0);
    failed.map(|(_, name)| *name).collect()
}

fn check(options: &Options<'_>, placements: &[Placement]) {
    assert_eq!(placements.len(), LAST_TICKS as usize, "{options}: one report for each placement");
    for placement in placements {
        assert_eq!(placement.failures, 0, "{options}: {placement:x?} breaks {:?}", failure_names(placement));
    }
    let nested = placements.iter().filter(|placement| placement.nested > 0).count();
    let places: BTreeSet<u64> = placements.iter().map(|placement| placement.last_rip).collect();
    println!("{options}: {nested} nested, {} places", places.len());
    assert!(nested > 200, "{options}: {nested} nested");
}

// cases 1 to 10, 13, 18, 19
#[test]
fn a_second_nmi_at_every_instruction_breaks_no_safe_entry() {
    for options in sound_combinations() {
        let Some(run) = sweep(&options).passed() else { return };
        check(&options, run.record.messages().placements());
    }
}

// case 24
#[test]
fn without_iret_no_nmi_nests_and_even_the_naive_entry_is_safe() {
    for nmi_entry in NmiEntry::ALL {
        let options = Options { nmi_entry: *nmi_entry, fault_return: FaultReturn::Ret, ..Options::default() };
        let Some(run) = sweep(&options).passed() else { return };
        let placements = run.record.messages().placements();
        assert_eq!(placements.len(), LAST_TICKS as usize);
        assert!(
            placements.iter().all(|placement| placement.failures == 0 && placement.nested == 0),
            "{options}"
        );
    }
}

#[test]
fn the_naive_entry_fails_wherever_a_second_nmi_can_reach_it() {
    let naive = Options { nmi_entry: NmiEntry::Naive, unsafe_nmi: true, ..Options::default() };
    let Some(run) = sweep(&naive).passed() else { return };
    let failed = run.record.messages().placements().iter().filter(|placement| placement.failures != 0);
    let once = failed.filter(|placement| placement.failures & Failure::Once.bit() != 0).count();
    println!("NMI-once broken in {once} placements");
    assert!(once > 200, "{once}");
}
