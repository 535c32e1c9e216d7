//! AMD's event codes, by family.
//!
//! Sources: Linux 6.9, `arch/x86/events/amd/core.c`; BKDGs of families 0Fh to 16h and PPRs of families 17h to 1Ah
//! for what each code counts. Family 18h (Hygon) is a first Zen. Families to come count as the newest one.
//!
//! The caches of the generic names are the L2 here, whose events belong to the core; the L3 has counters of its own.

use super::super::GenericEvent::{self, *};
use crate::counter::CounterSet;
use crate::unit::select;

/// Codes of the generic events.
type Codes = &'static [(GenericEvent, u64)];

/// K7 to family 16h.
const K7: Codes = &[
    (Cycles, 0x76),
    (Instructions, 0xc0),
    (CacheReferences, 0x077d),
    (CacheMisses, 0x077e),
    (Branches, 0xc2),
    (BranchMisses, 0xc3),
    // decoder empty
    (StalledCyclesFrontend, 0xd0),
    // dispatch stalls
    (StalledCyclesBackend, 0xd1),
];

/// Zen and Zen+.
const ZEN_1: Codes = &[
    (Cycles, 0x76),
    (Instructions, 0xc0),
    (CacheReferences, 0xff60),
    (CacheMisses, 0x0964),
    (Branches, 0xc2),
    (BranchMisses, 0xc3),
    // instruction pipe stalls
    (StalledCyclesFrontend, 0x0287),
    (StalledCyclesBackend, 0x0187),
];

/// Zen 2 and Zen 3: the stall events are gone; an empty micro-op queue is the front end's.
const ZEN_2: Codes = &[
    (Cycles, 0x76),
    (Instructions, 0xc0),
    (CacheReferences, 0xff60),
    (CacheMisses, 0x0964),
    (Branches, 0xc2),
    (BranchMisses, 0xc3),
    (StalledCyclesFrontend, 0xa9),
];

/// Zen 4 and later: cycles at the frequency of P0, as MPERF counts them, have an event (120H).
const ZEN_4: Codes = &[
    (Cycles, 0x76),
    (Instructions, 0xc0),
    (RefCycles, 0x1_0000_0120),
    (CacheReferences, 0xff60),
    (CacheMisses, 0x0964),
    (Branches, 0xc2),
    (BranchMisses, 0xc3),
    (StalledCyclesFrontend, 0xa9),
];

/// Returns the code of a generic event.
pub(crate) fn code(event: GenericEvent, family: u16, model: u8) -> Option<u64> {
    codes(family, model).iter().find(|(it, _)| *it == event).map(|(_, select)| *select)
}

/// Returns the codes of a CPU.
const fn codes(family: u16, model: u8) -> Codes {
    match (family, model) {
        (0x06 | 0x0f..=0x16, _) => K7,
        (0x17, 0x00..=0x2f | 0x50..=0x5f) | (0x18, _) => ZEN_1,
        (0x17, _) => ZEN_2,
        (0x19, 0x10..=0x1f | 0x60..=0xaf) => ZEN_4,
        (0x19, _) => ZEN_2,
        (0x1a.., _) => ZEN_4,
        _ => &[],
    }
}

/// Returns the counters that can count a code, whether they are there or not.
///
/// Every counter counts every event, but on family 15h. There a pair of cores shares what it counts with, and each
/// unit is wired to some of the counters (BKDG for family 15h, "Performance Monitor Events"; the same in Linux,
/// `amd_get_event_constraints_f15h`). The north bridge's events have counters of their own there.
pub(crate) fn counters_of(select: u64, family: u16) -> CounterSet {
    if family == 0x15 { CounterSet(family_15h(select)) } else { CounterSet::first_general(u8::MAX) }
}

/// All six counters of family 15h.
const ALL: u64 = 0b11_1111;
const FIRST_THREE: u64 = 0b00_0111;
const LAST_THREE: u64 = 0b11_1000;

/// Returns the counters of a code on family 15h: exceptions first, then by unit, which the code's second digit is.
const fn family_15h(select: u64) -> u64 {
    let event = select & select::EVENT | (select & select::EVENT_HIGH) >> 24;
    let umask = (select & select::UMASK) >> 8;
    match event {
        0x000 if umask & 0xf0 != 0 && umask & 0x0f != 0 => 0b00_1000,
        0x004 if umask.count_ones() > 1 => 0b00_1000,
        0x003 | 0x00b | 0x00d | 0x02d => 0b00_1000,
        0x02e => 0b00_1001,
        0x031 if umask.count_ones() > 1 => 0,
        0x023 | 0x031 | 0x043 | 0x045 | 0x046 | 0x054 | 0x055 => FIRST_THREE,
        0x08f | 0x187 | 0x188 => 0b00_0001,
        0x0db..=0x0df | 0x1d6 | 0x1d8 => ALL,
        0x1c0 => LAST_THREE,
        _ => match event >> 4 & 0xf {
            0x0 | 0x1 => LAST_THREE,
            0x2..=0x5 | 0xc => ALL,
            0x6..=0x9 | 0xd => FIRST_THREE,
            _ => 0,
        },
    }
}
