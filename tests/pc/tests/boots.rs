//! Goal: the image that QEMU boots comes up here, on a PMU that it takes for hardware, and repeats itself.
//!
//! Method: boot, decode the serial line as the host command does, and compare two boots byte for byte.

use nmiprof_pc::cpu::decode::{Kind, decode};
use nmiprof_pc::harness::{config, run};
use nmiprof_pc::{Config, Machine, Stopped};
use nmiprof_pmu::profiles::SKYLAKE;
use nmiprof_wire::PmuKind;

const WORDS: &str = "duration_ns=20000000 period=10007 workload=sort";

#[test]
fn the_first_instructions_are_those_of_the_pvh_entry() {
    let mut machine = Machine::new(&Config::default());
    let entry = machine.registers().rip;
    assert_eq!(entry, u64::from(machine.kernel().entry));
    assert_eq!(machine.run(3), Stopped::Limit);
    let registers = machine.registers();
    assert_eq!(registers.control[0] & 1 << 31, 0, "paging is off");
    assert!(registers.rip > entry, "{:#x}", registers.rip);
    assert_eq!(machine.watch().totals[1].instructions, 3);
}

#[test]
fn the_kernel_reaches_its_higher_half_by_itself() {
    let mut machine = Machine::new(&Config::default());
    assert_eq!(machine.run_to_symbol("long_mode_high", 1000), Stopped::Label);
    let registers = machine.registers();
    assert_ne!(registers.control[0] & 1 << 31, 0, "paging is on");
    assert_eq!(registers.rip, machine.symbol("long_mode_high").start);
    assert_eq!(registers.privilege(), 0);
}

#[test]
fn the_kernel_boots_and_takes_the_pmu_for_hardware() {
    let run = run(&config(&SKYLAKE, WORDS));
    run.assert_sound("skylake");
    let info = run.record.run().expect("it introduced itself");
    assert_eq!(info.pmu_kind, PmuKind::Hardware);
    assert_eq!(info.cpu_name, SKYLAKE.name);
    assert_eq!(info.clock_hz, 100_000_000, "measured against the interval timer");
    assert!(run.samples.len() > 100, "{} samples", run.samples.len());
    println!("{}", run.log());
}

#[test]
fn two_boots_send_the_same_bytes() {
    let [first, second] = [0, 1].map(|_| run(&config(&SKYLAKE, WORDS)));
    assert!(first.capture == second.capture, "{} and {} bytes", first.capture.len(), second.capture.len());
    assert_eq!(first.machine.watch().totals, second.machine.watch().totals);
}

#[test]
fn a_halted_cpu_that_nothing_will_wake_is_no_success() {
    let mut config = config(&SKYLAKE, WORDS);
    config.command_line.push_str(" workload=no-such-workload");
    let run = run(&config);
    assert_eq!(run.stopped, Stopped::Exit(nmiprof_wire::ExitCode::Configuration as u32));
    assert!(
        run.log().contains("no-such-workload") || run.record.messages().fatal().is_some(),
        "{}",
        run.log()
    );
}

#[test]
fn instructions_are_decoded_with_what_they_touch() {
    let push_memory = decode(&[0xff, 0x70, 0x08], 0x1000, 64);
    assert_eq!((push_memory.len, push_memory.loads, push_memory.stores), (3, 1, 1));
    let mut general = [0; 16];
    general[0] = 0x5000;
    general[4] = 0x9000;
    let mut addresses: Vec<_> =
        push_memory.operands.iter().map(|operand| operand.address(&general)).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, [0x5008, 0x8ff8]);
    let relative = decode(&[0x8b, 0x05, 0x10, 0, 0, 0], 0x1000, 64);
    assert_eq!(relative.operands[0].address(&general), 0x1016, "relative to the next instruction");
    assert_eq!(decode(&[0xf3, 0xa4], 0x1000, 64).kind, Kind::Repeated);
    assert_eq!(decode(&[0x48, 0xcf], 0x1000, 64).kind, Kind::InterruptReturn);
    assert!(decode(&[0x75, 0xfe], 0x1000, 64).is_branch);
}
