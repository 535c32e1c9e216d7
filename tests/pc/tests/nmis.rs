//! Goal: whole runs survive nested NMIs, on a CPU whose faulting `iret` unmasks NMIs, and on one whose does not; and what
//! tests do to a machine (going back, forking, writing its state) does what it says.
//!
//! Method: nested NMIs are provoked by the kernel itself, at each first touch of a page in an NMI. The windows are swept
//! one by one in `windows.rs`.

use nmiprof_pc::harness::{LIMIT, config, finish, run};
use nmiprof_pc::{Config, IretFault, Machine, Stopped};
use nmiprof_pmu::profiles::{SKYLAKE, ZEN4};

const WORDS: &str = "duration_ns=3000000 period=5003 workload=sort events=instructions unsafe_nmi=on";
const RSP: usize = 4;

const SOUND: [&str; 4] = ["rostedt", "latched", "softmask", "tristate"];

#[test]
fn nested_nmis_at_every_first_touch_are_survived_whatever_a_faulting_iret_does() {
    let mut faults = 0;
    for entry in SOUND {
        for iret_fault in [IretFault::Unmasks, IretFault::Keeps] {
            let words = format!(
                "duration_ns=40000000 period=1009 workload=sort,chase nmi={entry} stress=nest decommit=1 ring_bytes=65536"
            );
            let run = run(&Config { iret_fault, ..config(&ZEN4, &words) });
            let what = format!("{entry} {iret_fault:?}");
            run.assert_sound(&what);
            assert!(run.nmi().nested > 0, "{what}: {:?}", run.nmi());
            println!("{what}: {} samples, {:?}", run.samples.len(), run.nmi());
            faults += run.machine.watch().iret_faults;
        }
    }
    println!("{faults} faulting irets");
    assert!(faults > 0, "softmask poisons returns");
}

#[test]
fn the_naive_entry_does_not_survive_nested_nmis() {
    let words = "duration_ns=40000000 period=1009 workload=sort nmi=naive unsafe_nmi=on stress=nest";
    let run = run(&config(&ZEN4, words));
    let broken = Stopped::Exit(nmiprof_wire::ExitCode::Invariant as u32);
    assert_eq!(run.stopped, broken, "{}", run.log());
}

#[test]
fn a_machine_that_went_back_or_was_forked_goes_on_as_the_first_one_did() {
    let mut machine = Machine::new(&config(&SKYLAKE, WORDS));
    assert_eq!(
        machine.run_to_symbol("nmiprof_kernel::workloads::sort::insertion_sort", LIMIT),
        Stopped::Label
    );
    let snapshot = machine.snapshot();
    let first = finish(machine.fork());
    let second = finish(machine.fork());
    assert!(first.capture == second.capture, "forks are alike");
    assert_eq!(machine.run(500_000), Stopped::Limit);
    machine.go_back(&snapshot);
    let third = finish(machine);
    assert!(first.capture == third.capture, "and so is what went back");
    first.assert_sound("a fork");
}

#[test]
fn state_can_be_written_and_the_guest_acts_by_it() {
    let mut machine = Machine::new(&config(&SKYLAKE, WORDS));
    assert_eq!(
        machine.run_to_symbol("nmiprof_kernel::workloads::sort::insertion_sort", LIMIT),
        Stopped::Label
    );
    let mut state = machine.registers();
    let sp = state.general[RSP];
    let old = machine.read_word(sp).expect("a stack");
    machine.write_word(sp, old + 1).expect("it can be written");
    assert_eq!(machine.read_word(sp), Some(old + 1));
    state.general[0] = 0x1234;
    machine.set_registers(&state);
    assert_eq!(machine.registers().general[0], 0x1234);
    assert_eq!(machine.read_word(1 << 63), None, "no page there");
    state.rip = 0xdead_0000_0000;
    machine.set_registers(&state);
    let ended = machine.run(LIMIT);
    assert_eq!(ended, Stopped::Exit(nmiprof_wire::ExitCode::Exception as u32), "the kernel reports the jump");
}
