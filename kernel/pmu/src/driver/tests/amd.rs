//! Goal: AMD's three interfaces: two without global registers, one with.
//!
//! Method: see the parent. Register numbers and sequences are from APM volume 2, "Performance Monitoring Counters".

use super::{CYCLES, EARLY, EN, LATE, Lvt, NMI, NMI_MASKED, Read, Script, Write};
use super::{capabilities, cycles, driver, general, minus};
use crate::capabilities::{Capabilities, Interface};
use crate::counter::CounterSet;
use crate::driver::{Driver, Handling, Sound, Unmask};
use crate::unit::{CounterUnit, Encoding, select};

/// The event select and the count of counters 0 and 1.
const LEGACY: [(u32, u32); 2] = [(0xc001_0000, 0xc001_0004), (0xc001_0001, 0xc001_0005)];
const CORE: [(u32, u32); 2] = [(0xc001_0200, 0xc001_0201), (0xc001_0202, 0xc001_0203)];

const STATUS: u32 = 0xc000_0300;
const CONTROL: u32 = 0xc000_0301;
const CLEAR: u32 = 0xc000_0302;

#[test]
fn without_global_registers_each_counter_is_stopped_asked_and_started() {
    for (interface, [(select_0, count_0), (select_1, count_1)]) in
        [(Interface::AmdLegacy, LEGACY), (Interface::AmdCoreExtension, CORE)]
    {
        let mut unit = driver(Script::default(), capabilities(interface), EARLY);
        unit.program(general(0), Some(cycles()));
        unit.load(general(0), 1000);
        unit.program(general(1), Some(cycles()));
        unit.load(general(1), 500);
        unit.enable(CounterSet(0b11));
        let expected = [
            Write(select_0, CYCLES),
            Write(count_0, minus(1000)),
            Write(select_1, CYCLES),
            Write(count_1, minus(500)),
            Write(select_0, CYCLES | EN),
            Write(select_1, CYCLES | EN),
        ];
        assert_eq!(unit.bus().take_log(), expected);
        unit.bus().set(count_0, 2);
        unit.begin_pmi();
        assert_eq!(unit.take_overflows(), CounterSet(0b01));
        unit.load(general(0), 1000);
        assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
        unit.end_pmi();
        let expected = [
            Lvt(NMI),
            Write(select_0, CYCLES),
            Write(select_1, CYCLES),
            Read(count_0),
            Read(count_1),
            Write(count_0, minus(1000)),
            Read(count_0),
            Read(count_1),
            Write(select_0, CYCLES | EN),
            Write(select_1, CYCLES | EN),
        ];
        assert_eq!(unit.bus().take_log(), expected);
    }
}

#[test]
fn an_overflow_in_flight_is_found_by_the_second_look() {
    let mut unit = driver(Script::default(), capabilities(Interface::AmdCoreExtension), EARLY);
    for index in 0..2 {
        unit.program(general(index), Some(cycles()));
        unit.load(general(index), 1000);
    }
    unit.enable(CounterSet(0b11));
    unit.begin_pmi();
    unit.bus().set(CORE[0].1, 0);
    assert_eq!(unit.take_overflows(), CounterSet(0b01));
    unit.load(general(0), 1000);
    unit.bus().set(CORE[1].1, 0);
    assert_eq!(unit.take_overflows(), CounterSet(0b10));
    unit.load(general(1), 1000);
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
}

#[test]
fn perfmon_v2_starts_asks_and_acknowledges_all_at_once() {
    let capabilities = capabilities(Interface::AmdPerfMonV2);
    let mut unit = driver(Script::acknowledging(CLEAR, STATUS), capabilities, LATE);
    unit.program(general(1), Some(cycles()));
    unit.load(general(1), 1000);
    unit.enable(CounterSet(0b10));
    let expected = [
        Write(CORE[1].0, CYCLES | EN),
        Write(CLEAR, 0b10),
        Write(CORE[1].1, minus(1000)),
        Write(CONTROL, 0b10),
    ];
    assert_eq!(unit.bus().take_log(), expected);
    // The reserved bit 63 is what early microcode sets.
    unit.bus().set(STATUS, 1 << 63 | 0b10);
    unit.begin_pmi();
    assert_eq!(unit.take_overflows(), CounterSet(0b10));
    unit.load(general(1), 1000);
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    unit.end_pmi();
    let expected = [
        Write(CONTROL, 0),
        Read(STATUS),
        Write(CLEAR, 0b10),
        Write(CORE[1].1, minus(1000)),
        Read(STATUS),
        Lvt(NMI),
        Write(CONTROL, 0b10),
    ];
    assert_eq!(unit.bus().take_log(), expected);
}

#[test]
fn a_reset_never_touches_what_the_interface_lacks() {
    let freeze = Handling { unmask: Unmask::Early, freeze: true };
    let legacy = Capabilities { freeze_on_pmi: true, ..capabilities(Interface::AmdLegacy) };
    let mut unit = Driver::<_, Sound>::new(Script::default(), legacy, freeze);
    unit.shut_down();
    let [(select_0, count_0), (select_1, count_1)] = LEGACY;
    let expected =
        [Write(select_0, 0), Write(select_1, 0), Write(count_0, 0), Write(count_1, 0), Lvt(NMI_MASKED)];
    assert_eq!(unit.bus().take_log(), expected);
    let v2 = Capabilities { freeze_on_pmi: true, ..capabilities(Interface::AmdPerfMonV2) };
    let mut unit = Driver::<_, Sound>::new(Script::acknowledging(CLEAR, STATUS), v2, freeze);
    unit.reset();
    let [(select_0, count_0), (select_1, count_1)] = CORE;
    let expected = [
        Write(CONTROL, 0),
        Write(select_0, 0),
        Write(select_1, 0),
        Write(count_0, 0),
        Write(count_1, 0),
        Write(CLEAR, 0b11),
        Lvt(NMI),
    ];
    assert_eq!(unit.bus().take_log(), expected);
}

#[test]
fn an_event_code_of_twelve_bits_reaches_the_select_and_intels_any_bit_does_not() {
    let mut unit = driver(Script::default(), capabilities(Interface::AmdCoreExtension), EARLY);
    unit.program(general(0), Some(Encoding { select: u64::MAX, user: false, ..cycles() }));
    let valid = select::EVENT | select::UMASK | select::EDGE | select::INV | select::CMASK;
    let expected = valid | select::EVENT_HIGH | 0x12_0000;
    assert_eq!(unit.bus().take_log(), [Write(CORE[0].0, expected)]);
    assert_eq!(unit.load_max(general(0)), 1 << 47);
}

#[test]
fn the_first_families_have_event_codes_of_eight_bits() {
    for (family, high) in [(6, 0), (0xf, 0), (0x10, select::EVENT_HIGH)] {
        let legacy = Capabilities { family, ..capabilities(Interface::AmdLegacy) };
        let mut unit = driver(Script::default(), legacy, EARLY);
        unit.program(general(0), Some(Encoding { select: 0x3c | select::EVENT_HIGH, ..cycles() }));
        assert_eq!(unit.bus().take_log(), [Write(0xc001_0000, CYCLES | high)], "family {family:#x}");
    }
}
