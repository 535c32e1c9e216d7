//! Case 14: an exception with a stack of its own between an NMI entry's release and its `iretq`, with an NMI
//! inside it.
//!
//! The answer: #DB does not come there, because no breakpoint can be set on what the entries use; #MC ends the
//! run with a whole report, whatever the NMI inside it destroys. Method: the self-test image tries the
//! breakpoints, then raises a stand-in for #MC at the `iretq`, sends an NMI from inside it, and counts arrivals
//! and runs before the report. The address of the `iretq` is taken from the image's symbols.

use nmiprof::images::Image;
use nmiprof::sweep::Code;
use nmiprof_tests::{Boot, Failure, Run, Verdict};
use nmiprof_wire::{FatalCause, NmiEntry};

fn machine_check_at_the_exit_of(entry: NmiEntry) -> Run {
    // The naive entry can't bear the page fault before the exit, in general; here no NMI comes before.
    let words = format!("nmi={entry} unsafe_nmi=on selftest=exit-window");
    Boot::image(Image::Selftest).append(&words).run()
}

/// Returns the lines that the kernel logged about the exit window.
fn notes(run: &Run) -> Vec<String> {
    let logs = run.record().map(|record| record.messages().logs()).unwrap_or_default();
    let texts = logs.iter().map(|line| line.text.clone());
    texts.filter(|text| text.starts_with("exit window:")).collect()
}

// case 14, and 28
#[test]
fn a_machine_check_in_the_exit_window_is_reported_although_an_nmi_arrives_inside_it() {
    let code = Code::parse(Image::Selftest.elf()).expect("the embedded image is an ELF file");
    for entry in NmiEntry::ALL {
        let run = machine_check_at_the_exit_of(*entry);
        let Some(verdict) = run.verdict() else { return };
        let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{entry}: {verdict}") };
        let iretq = code.address(&format!("nmi_{entry}_iretq")).expect("a label");
        assert_eq!(report.cause, FatalCause::Exception, "{entry}: {}", report.message);
        assert!(report.message.contains("#MC"), "{entry}: {}", report.message);
        assert!(report.message.contains(&format!("RIP {iretq:#x},")), "{entry}: {}", report.message);
        let notes = notes(&run);
        println!("{entry}: {notes:?}");
        assert!(notes.iter().any(|note| note.ends_with("1 and 1 inside it")), "{entry}: {notes:?}");
    }
}

// case 14
#[test]
fn breakpoints_on_what_an_nmi_entry_uses_are_refused() {
    for entry in NmiEntry::ALL {
        let run = machine_check_at_the_exit_of(*entry);
        if run.verdict().is_none() {
            return;
        }
        // Three addresses of code, four of the NMI stack, two of the second stack where there is one.
        let refused = if *entry == NmiEntry::Latched { 9 } else { 7 };
        let expected = format!("exit window: {refused} breakpoints refused, 3 set");
        assert_eq!(notes(&run).first(), Some(&expected), "{entry}");
    }
}
