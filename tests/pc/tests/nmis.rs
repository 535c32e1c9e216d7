//! Goal: an NMI at any instruction of an NMI leaves the interrupted code as it was, on a CPU whose faulting `iret`
//! unmasks NMIs, and on one whose does not.
//!
//! Method: the machine is stopped at the first instruction of an NMI in the middle of a run. From there a reference is
//! stepped to the return. Then, for each boundary on that way, the machine goes back, steps there, takes another NMI, and
//! runs until the interrupted code goes on: its registers have to be those of the reference, and the NMI has to have been
//! taken. With `unmask=early` nearly every boundary can really be hit.

use nmiprof_pc::harness::{LIMIT, config, finish, run};
use nmiprof_pc::{Config, IretFault, Machine, Stopped};
use nmiprof_pmu::profiles::{SKYLAKE, ZEN4};

const WORDS: &str = "duration_ns=3000000 period=5003 workload=sort events=instructions unsafe_nmi=on";
/// More boundaries than a nest of three NMIs has.
const NMI_BOUNDARIES_MAX: u64 = 30_000;
const RSP: usize = 4;

/// What the interrupted code has to find again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interrupted {
    general: [u64; 16],
    rip: u64,
    rflags: u64,
    cr2: u64,
}

impl Interrupted {
    fn read(machine: &mut Machine) -> Self {
        /// RF can't be given back by `popfq`, and nothing here can see it.
        const RESUME_FLAG: u64 = 1 << 16;
        let state = machine.registers();
        let rflags = machine.rflags() & !RESUME_FLAG;
        Self { general: state.general, rip: state.rip, rflags, cr2: state.control[2] }
    }
}

/// A machine at the first instruction of an NMI.
struct Stage {
    machine: Machine,
    expected: Interrupted,
    /// Boundaries from there to the interrupted code.
    boundaries: u64,
}

impl Stage {
    fn set(entry: &str, words: &str, iret_fault: IretFault) -> Self {
        let config = config(&SKYLAKE, &format!("{WORDS} nmi={entry} {words}"));
        // Going back copies all of RAM: as little of it as will do.
        let mut machine = Machine::new(&Config { iret_fault, memory_mib: 24, ..config });
        let suffix = if words.contains("unmask=early") { "_early" } else { "" };
        assert_eq!(
            machine.run_to_symbol("nmiprof_kernel::workloads::sort::insertion_sort", LIMIT),
            Stopped::Label
        );
        assert_eq!(machine.run_to_symbol(&format!("nmi_{entry}{suffix}"), LIMIT), Stopped::Label);
        let mut reference = machine.fork();
        let expected = frame(&mut reference);
        let start = reference.watch().boundaries;
        assert!(run_to_return(&mut reference, &expected), "{entry}: the reference returns");
        assert_eq!(Interrupted::read(&mut reference), expected, "{entry}: the reference");
        // The boundary at which it stopped is counted again when it goes on.
        let boundaries = reference.watch().boundaries - start - 1;
        Self { machine, expected, boundaries }
    }

    /// Raises a second NMI at each `stride`th boundary; returns the boundaries at which that broke something.
    fn sweep(&mut self, stride: usize) -> Vec<u64> {
        let snapshot = self.machine.snapshot();
        let mut broken = Vec::new();
        for boundary in (1..self.boundaries).step_by(stride) {
            self.machine.go_back(&snapshot);
            assert_eq!(self.machine.run(boundary), Stopped::Limit);
            let taken = self.machine.watch().nmi.taken;
            self.machine.inject_nmi();
            let returned = run_to_return(&mut self.machine, &self.expected);
            let is_taken = self.machine.watch().nmi.taken > taken;
            if !returned || !is_taken || Interrupted::read(&mut self.machine) != self.expected {
                broken.push(boundary);
            }
        }
        self.machine.go_back(&snapshot);
        broken
    }
}

/// Reads what the NMI at whose first instruction the CPU is has interrupted.
fn frame(machine: &mut Machine) -> Interrupted {
    let state = machine.registers();
    let sp = state.general[RSP];
    let [rip, _, rflags, rsp, _] =
        [0, 8, 16, 24, 32].map(|offset| machine.read_word(sp + offset).expect("mapped"));
    let mut general = state.general;
    general[RSP] = rsp;
    Interrupted { general, rip, rflags, cr2: state.control[2] }
}

/// Runs until the interrupted code goes on; tells whether it does.
fn run_to_return(machine: &mut Machine, expected: &Interrupted) -> bool {
    let end = machine.watch().boundaries + NMI_BOUNDARIES_MAX;
    while machine.watch().boundaries < end {
        let left = end - machine.watch().boundaries;
        if machine.run_to(expected.rip, left) != Stopped::Label {
            return false;
        }
        if machine.registers().general[RSP] == expected.general[RSP] {
            return true;
        }
    }
    false
}

const SOUND: [&str; 4] = ["rostedt", "latched", "softmask", "tristate"];

#[test]
fn a_second_nmi_at_any_instruction_of_the_first_one_does_no_harm_whatever_a_faulting_iret_does() {
    for entry in SOUND {
        for iret_fault in [IretFault::Unmasks, IretFault::Keeps] {
            let mut stage = Stage::set(entry, "unmask=early", iret_fault);
            let broken = stage.sweep(1);
            println!("{entry} {iret_fault:?}: {} boundaries, broken at {broken:?}", stage.boundaries);
            assert!(broken.is_empty(), "{entry} {iret_fault:?}: broken at {broken:?}");
        }
    }
}

#[test]
fn the_sweep_finds_what_the_naive_entry_does_wrong() {
    let mut stage = Stage::set("naive", "unmask=early", IretFault::Unmasks);
    let broken = stage.sweep(7);
    println!("naive: broken at {} of {} boundaries", broken.len(), stage.boundaries);
    assert!(!broken.is_empty(), "nested NMIs destroy its stack");
}

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
