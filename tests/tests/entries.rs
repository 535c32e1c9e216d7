//! Every sound combination of NMI entry, fault return, nested return and unmasking survives provoked nesting.
//!
//! Method: one short run for each combination, with a nested NMI at every first touch of a ring page. The
//! kernel refuses combinations that do not exist or are unsound, and says why; all others have to account
//! for every sample and every NMI, and the workloads have to compute what they always compute.

use nmiprof::capture::{Balance, Identity};
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Failure, Run, Verdict};
use nmiprof_wire::{FatalCause, FaultReturn, NestedReturn, NmiEntry, Options, Sampling, Stress, Unmask};

/// Every combination, sound or not.
fn combinations() -> Vec<Options<'static>> {
    let mut all = Vec::new();
    for nmi_entry in NmiEntry::ALL {
        for fault_return in FaultReturn::ALL {
            for nested_return in NestedReturn::ALL {
                for unmask in Unmask::ALL {
                    all.push(Options {
                        nmi_entry: *nmi_entry,
                        fault_return: *fault_return,
                        nested_return: *nested_return,
                        unmask: *unmask,
                        duration_ns: 30_000_000,
                        sampling: Sampling::Period(1_009),
                        chains: true,
                        stress: Stress::Nest,
                        ..Options::default()
                    });
                }
            }
        }
    }
    all
}

/// Returns the kernel's refusal, if it refused.
fn refusal(run: &Run) -> Option<&str> {
    match &run.verdict {
        Verdict::Fail(Failure::GaveUp(report)) if report.cause == FatalCause::Configuration => {
            Some(&report.message)
        }
        _ => None,
    }
}

fn check_nesting(options: &Options<'_>, total: &Balance) {
    assert!(total.nmi.page_faults > 0 && total.nmi.page_faults == total.ring_pages, "{total:?}");
    let unmasks = options.fault_return == FaultReturn::Iret || options.unmask == Unmask::Early;
    assert_eq!(total.nmi.nested > 0, unmasks, "nesting needs an `iret` inside the NMI: {:?}", total.nmi);
}

/// Runs one combination; returns whether it exists and is sound, or `None` where the test is skipped.
fn survives(options: &Options<'_>) -> Option<bool> {
    let run = Boot::image(Image::Main).options(options).run();
    run.verdict()?;
    if let Some(message) = refusal(&run) {
        assert!(message.starts_with("nmi="), "a refusal names the reason: {message}");
        return Some(false);
    }
    let run = run.passed()?;
    let accounts = run.record.accounts();
    assert_eq!(accounts.identity(), Identity::Holds, "{options}");
    assert!(!accounts.is_nmi_inconsistent(), "{options}: {:?}", accounts.total().nmi);
    assert!(
        run.record.messages().workloads().iter().all(|workload| workload.wrong_results == 0),
        "{options}"
    );
    check_nesting(options, &accounts.total());
    Some(true)
}

// cases 1, 3, 5, 13, 24
#[test]
fn every_sound_combination_survives_provoked_nesting() {
    let mut sound = 0;
    for options in combinations() {
        match survives(&options) {
            Some(true) => sound += 1,
            Some(false) => {}
            None => return,
        }
    }
    println!("{sound} sound combinations");
    // rostedt and latched in eight forms, softmask and tristate in four, naive where nothing unmasks NMIs.
    assert_eq!(sound, 8 + 8 + 4 + 4 + 1);
}
