//! Exceptions inside the NMI are taken, return, and leave no trace.
//!
//! Method: the self-test image raises #BP, #DB, #MC and #GP in every run of the handler, provokes a nested NMI
//! in every other one, and watches a word by a debug register that both the handler and the thread write.
//! It counts in the exception path; the run accounts for everything else as always.

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Completed};
use nmiprof_wire::NmiEntry;

/// Returns the numbers in the line that says what was taken.
fn numbers(run: &Completed) -> Vec<u64> {
    let logs = run.record.messages().logs();
    let line =
        logs.iter().find(|line| line.text.starts_with("exceptions:")).expect("the kernel says what it took");
    println!("{}", line.text);
    assert!(line.text.ends_with("DR7 kept: true"), "{}", line.text);
    line.text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

fn check(words: &str) -> Option<()> {
    let boot = Boot::image(Image::Selftest).append("duration_ns=50000000 period=5003 selftest=exceptions");
    let run = boot.append(words).run().passed()?;
    let [breakpoints, debugs, machine_checks, protections, runs, watched, ..] = numbers(&run)[..] else {
        panic!("six numbers")
    };
    let accounts = run.record.accounts();
    let nmi = accounts.total().nmi;
    assert_eq!(accounts.identity(), Identity::Holds, "{words}");
    assert!(!accounts.is_nmi_inconsistent(), "{words}: {nmi:?}");
    assert!(run.record.messages().workloads().iter().all(|workload| workload.wrong_results == 0));
    assert_eq!(watched, 1, "{words}: the thread's own write raises #DB, so its DR7 is in force");
    // Runs before the test was switched on raise nothing; from then on every run raises everything once, and
    // #BP twice. The watched write of the thread is the one #DB more.
    assert!(machine_checks > 9_000 && machine_checks <= runs, "{words}: {machine_checks} of {runs}");
    assert_eq!(
        (breakpoints, debugs),
        (2 * machine_checks, machine_checks + 1),
        "{words}: DR7 is zero in the NMI"
    );
    assert_eq!(protections, machine_checks, "{words}");
    Some(())
}

/// Checks one entry, alone and with nested NMIs at first touches; `None` where the test is skipped.
fn check_entry(entry: NmiEntry) -> Option<()> {
    let words = format!("nmi={entry}");
    check(&words)?;
    check(&format!("{words} stress=nest"))
}

// cases 25, 26, 28, 30
#[test]
fn exceptions_in_the_nmi_return_and_leave_no_trace() {
    let sound = NmiEntry::ALL.iter().filter(|entry| **entry != NmiEntry::Naive);
    for entry in sound {
        if check_entry(*entry).is_none() {
            return;
        }
    }
}

// case 24
#[test]
fn exceptions_return_without_iret_as_well() {
    let _ = check("nmi=rostedt fault_return=ret")
        .and_then(|()| check("nmi=tristate fault_return=ret stress=nest"));
}
