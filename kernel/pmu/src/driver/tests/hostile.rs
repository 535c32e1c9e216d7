//! Goal: nothing that capabilities, callers or a bus say makes the driver panic or leave its registers.
//!
//! Method: random capabilities and calls, from a printed seed, over a bus that refuses at random; every access has to
//! fall into the registers that the manuals name.

use super::{EARLY, LATE, Script, cycles, driver, general};
use crate::bus::{GeneralProtection, MsrBus};
use crate::capabilities::{Capabilities, Interface};
use crate::counter::{Counter, CounterSet};
use crate::driver::{Driver, Handling, Sound, Unmask};
use crate::unit::{CounterUnit, Encoding};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// MSRs that belong to the counters of either vendor.
fn belongs_to_counters(msr: u32) -> bool {
    matches!(msr,
        0xc1..=0xca | 0x186..=0x18f | 0x1d9 | 0x309..=0x318 | 0x38d..=0x390 | 0x4c1..=0x4ca
        | 0xc000_0300..=0xc000_0302 | 0xc001_0000..=0xc001_0007 | 0xc001_0200..=0xc001_021d)
}

/// A bus that answers and refuses by a number that it steps.
struct Moody(u64);

impl Moody {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 33
    }

    fn answer(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        assert!(belongs_to_counters(msr), "{msr:x} is not a counter's register");
        let answer = self.next();
        if answer.is_multiple_of(4) { Err(GeneralProtection) } else { Ok(answer) }
    }
}

impl MsrBus for Moody {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        self.answer(msr)
    }

    fn write(&mut self, msr: u32, _: u64) -> Result<(), GeneralProtection> {
        self.answer(msr).map(drop)
    }

    fn read_lvtpc(&mut self) -> u32 {
        0
    }

    fn write_lvtpc(&mut self, _: u32) {}
}

fn any_capabilities() -> impl Strategy<Value = Capabilities> {
    let interface = prop_oneof![
        any::<u8>().prop_map(|version| Interface::Intel { version }),
        Just(Interface::AmdLegacy),
        Just(Interface::AmdCoreExtension),
        Just(Interface::AmdPerfMonV2),
    ];
    (interface, any::<[u64; 2]>(), any::<[u8; 2]>(), any::<[bool; 2]>()).prop_map(
        |(interface, sets, widths, flags)| Capabilities {
            general: CounterSet(sets[0]),
            fixed: CounterSet(sets[1]),
            general_width_bits: widths[0],
            fixed_width_bits: widths[1],
            full_width_writes: flags[0],
            freeze_on_pmi: flags[1],
            ..super::capabilities(interface)
        },
    )
}

/// One call of the driver, by number.
fn call(unit: &mut Driver<Moody>, number: u8, counter: Counter, word: u64) {
    match number {
        0 => unit.reset(),
        1 => unit.shut_down(),
        2 => unit.program(counter, Some(Encoding { select: word, ..cycles() })),
        3 => unit.program(counter, None),
        4 => unit.load(counter, word),
        5 => assert!(unit.read(counter) <= u64::MAX >> (64 - unit.capabilities().width_bits(counter))),
        6 => unit.enable(CounterSet(word)),
        7 => unit.disable(CounterSet(word)),
        8 => unit.begin_pmi(),
        9 => {
            let counters = unit.capabilities().counters();
            assert!(unit.take_overflows().without(counters).is_empty());
        }
        10 => unit.recover(),
        _ => unit.end_pmi(),
    }
}

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("src/driver/tests/hostile.seeds");
    ProptestConfig { cases: 1000, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_call_panics_or_leaves_the_counters_registers(
        capabilities in any_capabilities(),
        (early, freeze) in any::<(bool, bool)>(),
        seed in any::<u64>(),
        calls in proptest::collection::vec((0..12u8, 0..64u8, any::<u64>()), 0..200),
    ) {
        let handling = Handling { unmask: if early { Unmask::Early } else { Unmask::Late }, freeze };
        let mut unit = Driver::<_, Sound>::new(Moody(seed), capabilities, handling);
        for (number, index, word) in calls {
            let counter = if index < 32 { Counter::general(index) } else { Counter::fixed(index - 32) };
            call(&mut unit, number, counter.expect("below 32"), word);
        }
    }
}

#[test]
fn impossible_widths_become_possible_ones() {
    for (said, used) in [(0, 1), (1, 1), (64, 64), (65, 64), (255, 64)] {
        let capabilities = Capabilities {
            general_width_bits: said,
            fixed_width_bits: said,
            ..super::capabilities(Interface::Intel { version: 4 })
        };
        let unit = driver(Script::default(), capabilities, EARLY);
        for counter in unit.capabilities().counters().iter() {
            assert_eq!(unit.capabilities().width_bits(counter), used);
            assert_eq!(unit.load_max(counter), 1 << (used - 1));
        }
    }
}

#[test]
fn a_refused_access_is_counted_and_the_rest_goes_on() {
    let capabilities = super::capabilities(Interface::Intel { version: 2 });
    let bus = Script { missing: vec![0x186, 0xc1, 0x38e], ..Script::default() };
    let mut unit = driver(bus, capabilities, EARLY);
    assert_eq!(unit.errors(), 2, "its event select and its count");
    unit.program(general(0), Some(cycles()));
    unit.begin_pmi();
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
    unit.end_pmi();
    assert_eq!(unit.errors(), 4);
}

#[test]
fn a_counter_that_can_not_be_read_has_not_overflowed() {
    let bus = Script { missing: vec![0xc001_0004], ..Script::default() };
    let mut unit = driver(bus, super::capabilities(Interface::AmdLegacy), LATE);
    unit.program(general(0), Some(cycles()));
    unit.load(general(0), 1);
    unit.enable(CounterSet(1));
    assert_eq!(unit.take_overflows(), CounterSet::EMPTY);
}
