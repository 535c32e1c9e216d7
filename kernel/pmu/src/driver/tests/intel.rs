//! Goal: Intel's versions, each with its own registers.
//!
//! Method: see the parent. Register numbers and sequences are from SDM volume 3, "Performance Monitoring".

use super::{CYCLES, EARLY, EN, LATE, Lvt, NMI, NMI_MASKED, Read, Script, Write};
use super::{capabilities, cycles, driver, fixed, general, minus};
use crate::capabilities::Interface;
use crate::counter::CounterSet;
use crate::driver::{Driver, Handling, Sound, Unmask};
use crate::unit::{CounterUnit, Encoding, select};

fn version(version: u8) -> Interface {
    Interface::Intel { version }
}

fn with_status() -> Script {
    Script::acknowledging(0x390, 0x38e)
}

/// A driver with `counters` programmed for cycles, loaded with 1000 and enabled.
fn counting(interface: Interface, handling: Handling, counters: CounterSet) -> Driver<Script> {
    let mut unit = driver(with_status(), capabilities(interface), handling);
    for counter in counters.iter() {
        unit.program(counter, Some(cycles()));
        unit.load(counter, 1000);
    }
    unit.enable(counters);
    unit.bus().take_log();
    unit
}

#[test]
fn a_reset_stops_clears_acknowledges_and_then_lets_nmis_in() {
    let mut unit = Driver::<_, Sound>::new(with_status(), capabilities(version(2)), EARLY);
    unit.bus().set(0x1d9, 0x1001);
    unit.reset();
    let expected = [
        Write(0x38f, 0),
        Write(0x186, 0),
        Write(0x187, 0),
        Write(0x38d, 0),
        Write(0xc1, 0),
        Write(0xc2, 0),
        Write(0x309, 0),
        Write(0x30a, 0),
        Write(0x390, 0x3_0000_0003),
        Read(0x1d9),
        Write(0x1d9, 1),
        Lvt(NMI),
    ];
    assert_eq!(unit.bus().take_log(), expected);
    unit.shut_down();
    let log = unit.bus().take_log();
    assert_eq!(log[..10], expected[..10]);
    assert_eq!(log[10..], [Lvt(NMI_MASKED)], "bit 12 is clear already");
}

#[test]
fn version_1_has_neither_global_nor_fixed_registers() {
    let mut unit = Driver::<_, Sound>::new(Script::default(), capabilities(version(1)), EARLY);
    unit.reset();
    let expected = [Write(0x186, 0), Write(0x187, 0), Write(0xc1, 0), Write(0xc2, 0), Lvt(NMI)];
    assert_eq!(unit.bus().take_log(), expected);
}

#[test]
fn version_1_counts_by_the_enable_bit_and_overflows_by_the_top_bit() {
    let mut unit = driver(Script::default(), capabilities(version(1)), EARLY);
    for index in 0..2 {
        unit.program(general(index), Some(cycles()));
        unit.load(general(index), 1000);
    }
    unit.enable(CounterSet(0b11));
    let expected = [
        Write(0x186, CYCLES),
        Write(0xc1, 0xffff_fc18),
        Write(0x187, CYCLES),
        Write(0xc2, 0xffff_fc18),
        Write(0x186, CYCLES | EN),
        Write(0x187, CYCLES | EN),
    ];
    assert_eq!(unit.bus().take_log(), expected);
    // The hardware copies bit 31 upwards, and counter 1 overflows.
    unit.bus().set(0xc1, 0xffff_ffff_fd00);
    unit.bus().set(0xc2, 7);
    unit.begin_pmi();
    assert_eq!(unit.take_overflows(), CounterSet(0b10));
    unit.load(general(1), 1000);
    unit.bus().set(0xc2, 0xffff_ffff_fc18);
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    unit.end_pmi();
    let expected = [
        Lvt(NMI),
        Write(0x186, CYCLES),
        Write(0x187, CYCLES),
        Read(0xc1),
        Read(0xc2),
        Write(0xc2, 0xffff_fc18),
        Read(0xc1),
        Read(0xc2),
        Write(0x186, CYCLES | EN),
        Write(0x187, CYCLES | EN),
    ];
    assert_eq!(unit.bus().take_log(), expected);
}

#[test]
fn without_a_status_an_overflow_is_reported_once_until_the_next_load() {
    let mut unit = driver(Script::default(), capabilities(version(1)), EARLY);
    unit.program(general(0), Some(cycles()));
    unit.enable(CounterSet(1));
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY, "never loaded");
    unit.load(general(0), 5);
    unit.bus().set(0xc1, 0);
    assert_eq!(unit.take_overflows(), CounterSet(1));
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    unit.load(general(0), 5);
    unit.bus().set(0xc1, 3);
    assert_eq!(unit.take_overflows(), CounterSet(1));
    unit.load(general(0), 5);
    unit.bus().set(0xc1, 3);
    unit.program(general(0), Some(cycles()));
    unit.enable(CounterSet(1));
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY, "programmed since");
    unit.load(general(0), 5);
    unit.bus().set(0xc1, 3);
    unit.recover();
    unit.enable(CounterSet(1));
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY, "recovered since");
}

#[test]
fn a_reset_in_the_handler_ends_the_handler() {
    let mut unit = counting(version(2), EARLY, CounterSet(0b01));
    unit.begin_pmi();
    unit.reset();
    unit.program(general(0), Some(cycles()));
    unit.load(general(0), 1000);
    unit.enable(CounterSet(0b01));
    assert_eq!(unit.bus().log.last(), Some(&Write(0x38f, 0b01)));
}

#[test]
fn one_overflow_costs_six_accesses_and_starts_last() {
    let mut unit = counting(version(4), EARLY, CounterSet(0x3_0000_0003));
    unit.bus().set(0x38e, 1 << 33);
    unit.begin_pmi();
    assert_eq!(unit.take_overflows(), fixed(1).set());
    unit.load(fixed(1), 2000);
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    unit.end_pmi();
    let expected = [
        Lvt(NMI),
        Write(0x38f, 0),
        Read(0x38e),
        Write(0x390, 1 << 33),
        Write(0x30a, minus(2000)),
        Read(0x38e),
        Write(0x38f, 0x3_0000_0003),
    ];
    assert_eq!(unit.bus().take_log(), expected);
}

#[test]
fn a_late_unmask_comes_after_the_status_and_before_the_start() {
    let mut unit = counting(version(2), LATE, CounterSet(0b1));
    unit.bus().set(0x38e, 1);
    unit.begin_pmi();
    assert_eq!(unit.take_overflows(), CounterSet(1));
    unit.load(general(0), 1000);
    unit.end_pmi();
    let expected =
        [Write(0x38f, 0), Read(0x38e), Write(0x390, 1), Write(0xc1, 0xffff_fc18), Lvt(NMI), Write(0x38f, 1)];
    assert_eq!(unit.bus().take_log(), expected);
}

#[test]
fn an_nmi_of_somebody_else_costs_three_accesses() {
    let mut unit = counting(version(4), EARLY, CounterSet(0b11));
    unit.begin_pmi();
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    unit.end_pmi();
    assert_eq!(unit.bus().take_log(), [Lvt(NMI), Write(0x38f, 0), Read(0x38e), Write(0x38f, 0b11)]);
}

#[test]
fn two_overflows_are_returned_and_acknowledged_together() {
    let mut unit = counting(version(3), EARLY, CounterSet(0x1_0000_0003));
    unit.begin_pmi();
    unit.bus().set(0x38e, 0x1_0000_0002);
    assert_eq!(unit.take_overflows(), CounterSet(0x1_0000_0002));
    assert_eq!(unit.bus().registers[&0x38e], 0);
}

#[test]
fn an_overflow_of_a_counter_that_is_not_enabled_is_acknowledged_and_not_returned() {
    let mut unit = counting(version(2), EARLY, CounterSet(0b11));
    unit.disable(CounterSet(0b01));
    unit.begin_pmi();
    unit.bus().set(0x38e, 0b11);
    unit.bus().take_log();
    assert_eq!(unit.take_overflows(), CounterSet(0b10));
    assert_eq!(unit.bus().take_log(), [Read(0x38e), Write(0x390, 0b11)]);
}

#[test]
fn status_bits_that_are_no_counters_are_left_alone() {
    let mut unit = counting(version(3), EARLY, CounterSet(0b11));
    let foreign = 0xe080_000c_0000_fffc;
    unit.bus().set(0x38e, foreign);
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    assert_eq!(unit.bus().take_log(), [Read(0x38e)]);
    unit.bus().set(0x38e, foreign | 1);
    assert_eq!(unit.take_overflows(), CounterSet(1));
    assert_eq!(unit.bus().take_log(), [Read(0x38e), Write(0x390, 1)]);
}

#[test]
fn a_freeze_is_asked_for_from_version_4_on_and_thawed_by_the_acknowledgment() {
    let freeze = Handling { unmask: Unmask::Late, freeze: true };
    let mut old = Driver::<_, Sound>::new(with_status(), capabilities(version(3)), freeze);
    old.reset();
    assert!(!old.bus().log.contains(&Write(0x1d9, 0x1000)), "version 3");
    let mut unit = Driver::<_, Sound>::new(with_status(), capabilities(version(4)), freeze);
    unit.reset();
    let log = unit.bus().take_log();
    let end = [Write(0x390, 0x0800_0003_0000_0003), Read(0x1d9), Write(0x1d9, 0x1000), Lvt(NMI)];
    assert_eq!(log[log.len() - 4..], end);
    unit.program(general(0), Some(cycles()));
    unit.load(general(0), 1000);
    unit.enable(CounterSet(1));
    unit.begin_pmi();
    unit.bus().set(0x38e, 1 << 59 | 1);
    unit.bus().take_log();
    assert_eq!(unit.take_overflows(), CounterSet(1));
    assert_eq!(unit.bus().take_log(), [Read(0x38e), Write(0x390, 1 << 59 | 1)]);
    unit.shut_down();
    assert_eq!(unit.bus().registers[&0x1d9], 0);
}

#[test]
fn a_program_touches_its_own_counter_only() {
    let mut unit = driver(with_status(), capabilities(version(2)), EARLY);
    let user = Encoding { kernel: false, ..cycles() };
    let kernel = Encoding { user: false, ..cycles() };
    unit.program(fixed(0), Some(user));
    unit.program(fixed(1), Some(kernel));
    unit.program(fixed(0), None);
    unit.program(general(1), Some(kernel));
    unit.program(general(1), None);
    let expected = [
        Write(0x38d, 0x0a),
        Write(0x38d, 0x9a),
        Write(0x38d, 0x90),
        Write(0x187, 0x12_003c | EN),
        Write(0x187, 0),
    ];
    assert_eq!(unit.bus().take_log(), expected);
}

#[test]
fn a_counter_is_stopped_before_it_is_programmed_again() {
    let mut unit = counting(version(2), EARLY, CounterSet(0b11));
    unit.program(general(0), Some(cycles()));
    assert_eq!(unit.bus().take_log(), [Write(0x38f, 0b10), Write(0x186, CYCLES | EN)]);
    let mut unit = counting(version(1), EARLY, CounterSet(0b11));
    unit.program(general(0), None);
    assert_eq!(unit.bus().take_log(), [Write(0x186, CYCLES), Write(0x186, 0)]);
}

#[test]
fn a_counter_that_the_event_can_not_use_is_left_as_it_is() {
    let mut unit = counting(version(2), EARLY, CounterSet(0b11));
    let elsewhere = Encoding { counters: CounterSet(0b10), ..cycles() };
    unit.program(general(0), Some(elsewhere));
    unit.program(general(5), Some(cycles()));
    unit.load(general(5), 1);
    assert_eq!(unit.read(general(5)), 0);
    unit.enable(general(5).set());
    assert_eq!(unit.bus().take_log(), []);
}

#[test]
fn select_bits_that_a_version_does_not_have_are_not_written() {
    let everything = Encoding { select: u64::MAX, ..cycles() };
    let valid = select::EVENT | select::UMASK | select::EDGE | select::INV | select::CMASK | 0x13_0000;
    for (number, any) in [(1, 0), (2, 0), (3, select::ANY), (4, select::ANY), (5, 0)] {
        let mut unit = driver(with_status(), capabilities(version(number)), EARLY);
        unit.program(general(0), Some(everything));
        let enable = if number == 1 { 0 } else { EN };
        assert_eq!(unit.bus().take_log(), [Write(0x186, valid | any | enable)], "version {number}");
    }
}

#[test]
fn a_load_of_a_stopped_counter_drops_what_it_had_overflowed_before() {
    let mut unit = driver(with_status(), capabilities(version(4)), EARLY);
    unit.program(general(0), Some(cycles()));
    unit.bus().set(0x38e, 1);
    unit.bus().take_log();
    unit.load(general(0), 1);
    assert_eq!(unit.bus().take_log(), [Write(0x390, 1), Write(0x4c1, minus(1))]);
    unit.enable(CounterSet(1));
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
}

#[test]
fn a_load_is_at_most_half_of_what_can_be_written() {
    let mut short = driver(with_status(), capabilities(version(2)), EARLY);
    assert_eq!((short.load_max(general(0)), short.load_max(fixed(0))), (1 << 31, 1 << 47));
    short.load(general(0), u64::MAX);
    assert_eq!(short.bus().registers[&0xc1], 0x8000_0000, "bit 31 is copied upwards");
    short.load(general(1), 0);
    assert_eq!(short.bus().registers[&0xc2], 0xffff_ffff, "at least one event");
    let mut full = driver(with_status(), capabilities(version(3)), EARLY);
    assert_eq!((full.load_max(general(0)), full.load_max(fixed(0))), (1 << 47, 1 << 47));
    full.load(general(0), u64::MAX);
    assert_eq!(full.bus().registers[&0x4c1], 1 << 47);
}

#[test]
fn a_read_is_what_the_counter_holds() {
    let mut unit = driver(with_status(), capabilities(version(2)), EARLY);
    unit.bus().set(0xc2, 0xabcd_ffff_ffff_fff0);
    assert_eq!(unit.read(general(1)), 0xffff_ffff_fff0);
    assert_eq!(unit.bus().take_log(), [Read(0xc2)]);
}

#[test]
fn what_is_enabled_or_disabled_in_the_handler_takes_effect_at_its_end() {
    let mut unit = counting(version(2), EARLY, CounterSet(0b01));
    unit.program(general(1), Some(cycles()));
    unit.begin_pmi();
    unit.bus().take_log();
    unit.disable(CounterSet(0b01));
    unit.enable(CounterSet(0b10));
    assert_eq!(unit.bus().take_log(), []);
    unit.end_pmi();
    assert_eq!(unit.bus().take_log(), [Write(0x38f, 0b10)]);
    unit.enable(CounterSet(0b10));
    assert_eq!(unit.bus().take_log(), [], "counts already");
}

#[test]
fn a_recovery_leaves_nothing_running_and_nothing_pending() {
    let mut unit = counting(version(4), EARLY, CounterSet(0b11));
    unit.begin_pmi();
    unit.bus().set(0x38e, 0b11);
    unit.bus().take_log();
    unit.recover();
    assert_eq!(unit.bus().take_log(), [Write(0x38f, 0), Write(0x390, 0x0800_0003_0000_0003)]);
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    unit.end_pmi();
    assert_eq!(unit.bus().take_log(), [Read(0x38e)], "stays stopped");
    unit.load(general(0), 10);
    unit.enable(CounterSet(0b01));
    assert_eq!(unit.bus().log.last(), Some(&Write(0x38f, 0b01)), "its event is still there");
    let mut old = counting(version(1), EARLY, CounterSet(0b11));
    old.recover();
    assert_eq!(old.bus().take_log(), [Write(0x186, CYCLES), Write(0x187, CYCLES)]);
    assert_eq!(old.take_overflows(), CounterSet::EMPTY);
}
