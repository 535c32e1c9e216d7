//! An NMI at every instruction between user mode and the kernel: SYSCALL entry and exit, the tick's entry and exit, the
//! switch between two processes.
//!
//! Method: with a period of 1 the virtual PMU raises an NMI at every instruction that is not an NMI's own. The self-test
//! image notes which addresses were hit; they are compared with all instructions of the image's code there. Programs check
//! every register across system calls and switches, one of them with stack pointers inside the NMI stack and the
//! direction flag set, as the exit of an NMI has it. A second run provokes further NMIs at these instructions, and makes
//! the handler fault there.

use std::collections::BTreeSet;

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof::sweep::Code;
use nmiprof_tests::samples::samples;
use nmiprof_tests::{Boot, Completed};
use nmiprof_wire::ProcessOutcome;

const ENTRIES: [&str; 4] = ["rostedt", "latched", "softmask", "tristate"];
/// Top of the stack area's first stack, which is that of the NMI, and how far down its picture reaches.
const NMI_STACK_TOP: u64 = 0xffff_9000_0000_7000;
const NMI_STACK_BYTES: u64 = 512;

/// Addresses of all instructions between two labels of the self-test image.
fn instructions(start: &str, end: &str) -> BTreeSet<u64> {
    let code = Code::parse(Image::Selftest.elf()).expect("an ELF");
    let [start, end] = [start, end].map(|label| code.address(label).expect("the label exists"));
    code.instructions(start..end).expect("code throughout").into_iter().collect()
}

/// Addresses that the kernel says were hit.
fn hits(run: &Completed, window: &str) -> BTreeSet<u64> {
    let prefix = format!("window {window} 0x");
    let logs = run.record.messages().logs().iter();
    let mut hits = BTreeSet::new();
    for line in logs.filter_map(|line| line.text.strip_prefix(&prefix)) {
        let (start, offsets) = line.split_once(": ").expect("a start and offsets");
        let start = u64::from_str_radix(start, 16).expect("an address");
        let offsets = offsets.trim_matches(['[', ']']).split(", ");
        hits.extend(offsets.map(|offset| start + offset.parse::<u64>().expect("a number")));
    }
    hits
}

fn run(words: &str, programs: &[&str]) -> Option<Completed> {
    let boot = Boot::image(Image::Selftest).append("duration_ns=20000000000").append(words);
    let run = programs.iter().fold(boot, |boot, program| boot.user_program(program)).run().passed()?;
    let accounts = run.record.accounts();
    assert_eq!(accounts.identity(), Identity::Holds, "{words}");
    assert!(!accounts.is_nmi_inconsistent(), "{words}: {:?}", accounts.total().nmi);
    for process in run.record.processes().all() {
        assert_eq!(process.outcome, Some(ProcessOutcome::Exited(0)), "{words}: {}", process.name);
    }
    Some(run)
}

/// Checks that every instruction was hit, but for those in `unreachable`.
fn check_window(run: &Completed, window: &str, labels: (&str, &str), unreachable: &[&str]) {
    let all = instructions(labels.0, labels.1);
    let hits = hits(run, window);
    let excused: BTreeSet<u64> =
        unreachable.iter().filter_map(|label| instructions(label, labels.1).first().copied()).collect();
    let missed: Vec<_> = all.difference(&hits).filter(|address| !excused.contains(address)).collect();
    assert!(missed.is_empty(), "{window}: no NMI at {missed:x?}");
    assert!(hits.is_subset(&all), "{window}: every hit is an instruction");
    println!("{window}: an NMI at each of {} instructions", hits.len());
}

// cases 35, 36, 37, 38
#[test]
fn an_nmi_at_every_instruction_of_entry_exit_and_switch_breaks_nothing() {
    let stacks = format!("hostile stack-pointers {} {NMI_STACK_TOP} 1", NMI_STACK_TOP - NMI_STACK_BYTES);
    for nmi in ENTRIES {
        for unmask in ["fault", "early"] {
            let words = format!(
                "selftest=windows nmi={nmi} unmask={unmask} period=1 events=instructions:u ring_bytes=4096"
            );
            let Some(run) = run(&words, &["hostile registers 10", "hostile registers 10", &stacks]) else {
                return;
            };
            let nmis = run.record.accounts().total().nmi;
            // A user who chooses stack pointer and direction flag must not be taken for the exit of an NMI.
            assert!(unmask == "early" || nmis.nested == 0, "nothing unmasks NMIs in the handler: {nmis:?}");
            check_window(&run, "syscall", ("syscall_entry", "syscall_end"), &[]);
            check_window(&run, "switch", ("switch_to", "switch_to_end"), &[]);
            // Where an interrupt and an NMI come together, the NMI is first: it interrupts what the other would have.
            check_window(&run, "interrupt", ("interrupt_tick", "interrupt_iretq_end"), &["interrupt_tick"]);
        }
    }
}

// cases 16, 17, 35, 36, 37, 38
#[test]
fn nested_nmis_and_faults_in_these_windows_break_nothing() {
    let stacks = format!("hostile stack-pointers {} {NMI_STACK_TOP} 40", NMI_STACK_TOP - NMI_STACK_BYTES);
    for nmi in ENTRIES {
        for unmask in ["fault", "early"] {
            let words = format!(
                "selftest=windows-nested nmi={nmi} unmask={unmask} period=1009 chains=on stress=nest decommit=4 \
                 tick_hz=20000"
            );
            let Some(run) = run(&words, &["hostile registers 3000", "hostile registers 3000", &stacks])
            else {
                return;
            };
            let nmis = run.record.accounts().total().nmi;
            let windows = ["syscall", "switch", "interrupt"].map(|window| hits(&run, window).len());
            println!("{nmi} {unmask}: {} nested, {} faults, hits {windows:?}", nmis.nested, nmis.page_faults);
            assert!(windows[0] > 10 && windows[1] > 5, "{windows:?}");
            assert!(nmis.nested > 0 && nmis.page_faults > 0, "{nmis:?}");
        }
    }
}

/// The labels in an entry's code at which it takes an NMI for a nested one, wherever the entry has such.
fn nested_labels(code: &Code, nmi: &str) -> Vec<u64> {
    let ends = ["_repeat", "_window", "_restart", "_again", "_iretq"];
    let labels = ends.iter().filter_map(|end| code.address(&format!("nmi_{nmi}{end}")));
    labels.collect()
}

#[test]
fn a_user_who_jumps_into_an_entry_ends_only_itself() {
    let code = Code::parse(Image::Selftest.elf()).expect("an ELF");
    for nmi in ENTRIES {
        let labels = nested_labels(&code, nmi);
        assert!(!labels.is_empty(), "{nmi}");
        let attacks: Vec<String> =
            labels.iter().map(|label| format!("hostile jump-on {label} {}", NMI_STACK_TOP - 8)).collect();
        let words =
            format!("selftest=windows nmi={nmi} period=1 events=instructions:u duration_ns=20000000000");
        let boot = Boot::image(Image::Selftest).append(&words);
        let boot = attacks.iter().fold(boot, |boot, attack| boot.user_program(attack));
        let Some(run) = boot.run().passed() else { return };
        let nmis = run.record.accounts().total().nmi;
        assert!(nmis.nested == 0 && !run.record.accounts().is_nmi_inconsistent(), "{nmi}: {nmis:?}");
        for process in run.record.processes().all() {
            assert!(
                matches!(process.outcome, Some(ProcessOutcome::Killed { vector: 14, .. })),
                "{process:?}"
            );
        }
        // An NMI between the jump and the fault of the fetch would be the interesting one. QEMU 7.2 raises the fault as a
        // part of the jump, so none comes there.
        let ips: BTreeSet<u64> = samples(&run.capture).iter().map(|sample| sample.ip).collect();
        let hit = labels.iter().filter(|label| ips.contains(label)).count();
        println!("{nmi}: an NMI at {hit} of {} such addresses, in user mode", labels.len());
    }
}
