//! Goal: each defect changes what the driver does, so that a test suite that runs against it can fail.
//!
//! Method: one exercise that reaches every step of a counter's life, on five interfaces, with a defect and without. The
//! diaries and the answers must differ on at least one interface, and on each that the table names.

use super::{Access, Script, capabilities, cycles, fixed, general};
use crate::capabilities::Interface;
use crate::counter::CounterSet;
use crate::driver::{Defect, Driver, Handling, Sound, Unmask};
use crate::unit::{CounterUnit, Encoding};

const INTERFACES: [Interface; 5] = [
    Interface::Intel { version: 1 },
    Interface::Intel { version: 2 },
    Interface::Intel { version: 4 },
    Interface::AmdCoreExtension,
    Interface::AmdPerfMonV2,
];

/// What a driver did and said.
type Trace = (Vec<Access>, Vec<CounterSet>, Vec<u64>);

/// The status register, and the one that acknowledges.
fn status_msrs(interface: Interface) -> (u32, u32) {
    if interface == Interface::AmdPerfMonV2 { (0xc000_0300, 0xc000_0302) } else { (0x38e, 0x390) }
}

/// Two counters overflow together, a third is disabled, and all bits of the status are set; then again after a reload.
fn exercise<D: Defect>(interface: Interface) -> Trace {
    let handling = Handling { unmask: Unmask::Early, freeze: true };
    let (status, acknowledge) = status_msrs(interface);
    let mut unit: Driver<_, D> =
        Driver::new(Script::acknowledging(acknowledge, status), capabilities(interface), handling);
    let mut taken = Vec::new();
    unit.reset();
    let loads = [general(0), general(1), fixed(0), fixed(1)].map(|counter| unit.load_max(counter));
    for counter in [general(0), general(1), fixed(0), fixed(1)] {
        unit.program(counter, Some(Encoding { kernel: false, ..cycles() }));
        unit.load(counter, 0x1_0000_0001);
    }
    unit.enable(CounterSet(0x1_0000_0003));
    for _ in 0..2 {
        for msr in [0xc1, 0xc2, 0xc001_0201, 0xc001_0203] {
            unit.bus().set(msr, 0);
        }
        unit.bus().set(status, 1 << 59 | 0x2_0000_0003);
        unit.begin_pmi();
        taken.push(unit.take_overflows());
        taken.push(unit.take_overflows());
        unit.load(general(0), 1000);
        unit.bus().set(status, 1);
        taken.push(unit.take_overflows());
        unit.disable(general(1).set());
        unit.end_pmi();
    }
    // Half way: bit 31 is clear in a counter that has not overflowed.
    unit.load(general(0), 1);
    for msr in [0xc1, 0xc001_0201] {
        unit.bus().set(msr, 0xffff_0000_0000);
    }
    taken.push(unit.take_overflows());
    (unit.bus().take_log(), taken, loads.to_vec())
}

/// Declares defective types, and the list of where each of them shows.
macro_rules! defects {
    ($($name:ident: $flag:ident;)*) => {
        $(
            struct $name;
            impl Defect for $name {
                const $flag: bool = true;
            }
        )*
        /// Returns each defect's name, and for each interface whether it shows.
        fn showing() -> Vec<(&'static str, [bool; 5])> {
            vec![$((stringify!($flag), INTERFACES.map(|interface| {
                exercise::<$name>(interface) != exercise::<Sound>(interface)
            }))),*]
        }
    };
}

defects! {
    ForgetsUnmask: FORGETS_UNMASK;
    ForgetsAcknowledge: FORGETS_ACKNOWLEDGE;
    AcknowledgesUnread: ACKNOWLEDGES_UNREAD;
    ReloadsOneTooMany: RELOADS_ONE_TOO_MANY;
    DoesNotExtendTheSign: DOES_NOT_EXTEND_THE_SIGN;
    LoadsBeyondTheSign: LOADS_BEYOND_THE_SIGN;
    WritesReservedBit: WRITES_RESERVED_BIT;
    EnablesBeforeLoad: ENABLES_BEFORE_LOAD;
    IgnoresSecondOverflow: IGNORES_SECOND_OVERFLOW;
    DoesNotStop: DOES_NOT_STOP;
    ForgetsResume: FORGETS_RESUME;
    ResumesDisabled: RESUMES_DISABLED;
    ForgetsInterrupt: FORGETS_INTERRUPT;
    SwapsPrivileges: SWAPS_PRIVILEGES;
    OverwritesFixedNeighbours: OVERWRITES_FIXED_NEIGHBOURS;
    StaysFrozen: STAYS_FROZEN;
    KeepsStaleOverflow: KEEPS_STALE_OVERFLOW;
    ReturnsDisabled: RETURNS_DISABLED;
    TopBitIs31: TOP_BIT_IS_31;
    ReportsTwice: REPORTS_TWICE;
}

#[test]
fn each_defect_shows_where_it_can() {
    let everywhere = [true; 5];
    let with_status = [false, true, true, false, true];
    for (name, shows) in showing() {
        let expected = match name {
            "FORGETS_ACKNOWLEDGE" | "ACKNOWLEDGES_UNREAD" | "KEEPS_STALE_OVERFLOW" | "RETURNS_DISABLED" => {
                with_status
            }
            "DOES_NOT_EXTEND_THE_SIGN" => [false, true, true, true, true],
            "LOADS_BEYOND_THE_SIGN" => [true, true, false, false, false],
            "OVERWRITES_FIXED_NEIGHBOURS" => [false, true, true, false, false],
            "STAYS_FROZEN" => [false, false, true, false, false],
            "TOP_BIT_IS_31" | "REPORTS_TWICE" => [true, false, false, true, false],
            _ => everywhere,
        };
        assert_eq!(shows, expected, "{name} on {INTERFACES:?}");
    }
}

#[test]
fn the_driver_without_defects_does_the_same_every_time() {
    for interface in INTERFACES {
        assert_eq!(exercise::<Sound>(interface), exercise::<Sound>(interface));
    }
}
