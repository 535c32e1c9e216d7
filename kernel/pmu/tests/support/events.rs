//! Events that programs count: encodings, and what they stand for by the manuals.
//!
//! Sources: SDM volume 3, "Architectural Performance Events"; PPRs of the AMD families. An event with a counter mask,
//! edge detection or inversion is one of its own for the model ([`Signal::Other`]), and so is every code that is not in
//! the tables.

use nmiprof_pmu::model::Signal;
use nmiprof_pmu::profiles::{Profile, Registers};
use nmiprof_pmu::unit::select;
use nmiprof_pmu::{Counter, Encoding};

use super::random::Random;
use super::truth::What;

/// An event of the general counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) select: u64,
    signal: Signal,
}

/// Intel's architectural events, by their bit in CPUID.0AH:EBX.
const INTEL: [Kind; 7] = [
    Kind { select: 0x003c, signal: Signal::UnhaltedCycles },
    Kind { select: 0x00c0, signal: Signal::Instructions },
    Kind { select: 0x013c, signal: Signal::ReferenceCycles },
    Kind { select: 0x4f2e, signal: Signal::LlcReferences },
    Kind { select: 0x412e, signal: Signal::LlcMisses },
    Kind { select: 0x00c4, signal: Signal::Branches },
    Kind { select: 0x00c5, signal: Signal::BranchMisses },
];

/// Events that all of AMD's families have under one code.
const AMD: [Kind; 4] = [
    Kind { select: 0x0076, signal: Signal::UnhaltedCycles },
    Kind { select: 0x00c0, signal: Signal::Instructions },
    Kind { select: 0x00c2, signal: Signal::Branches },
    Kind { select: 0x00c3, signal: Signal::BranchMisses },
];

/// Chooses a few events, so that counters often share one.
pub(crate) fn kinds(profile: &Profile, random: &mut Random) -> Vec<Kind> {
    let known = table(profile);
    let mut kinds: Vec<Kind> = (0..3).map(|_| random.pick(known)).collect();
    kinds.extend((0..2).map(|_| other(random)));
    kinds
}

fn table(profile: &Profile) -> &'static [Kind] {
    if profile.is_intel() { &INTEL } else { &AMD }
}

/// Makes up an event that is in no table. It has a counter mask, and any other bit that a select has on some CPU: what
/// this one does not have the driver drops.
fn other(random: &mut Random) -> Kind {
    let select = (random.next() & ANYWHERE) | 1 << 24;
    Kind { select, signal: Signal::Other(select) }
}

/// Bits that an event select has on every CPU.
const EVERYWHERE: u64 = select::EVENT | select::UMASK | select::EDGE | select::INV | select::CMASK;
/// Bits that it has on some.
const ANYWHERE: u64 = EVERYWHERE | select::ANY | select::EVENT_HIGH;

/// Returns the bits that an event select has.
const fn valid(profile: &Profile) -> u64 {
    match &profile.registers {
        Registers::Intel(facts) if facts.any_thread => EVERYWHERE | select::ANY,
        Registers::Amd(facts) if facts.wide_select => EVERYWHERE | select::EVENT_HIGH,
        _ => EVERYWHERE,
    }
}

/// Returns what a counter counts that is programmed with this.
pub(crate) fn what(profile: &Profile, counter: Counter, encoding: Encoding) -> What {
    let (user, kernel) = (encoding.user, encoding.kernel);
    if counter.is_fixed() {
        return What { signal: fixed(counter), user, kernel };
    }
    let select = encoding.select & valid(profile);
    let is_missing = |bit: usize| match &profile.registers {
        Registers::Intel(facts) => facts.missing_events & 1 << bit != 0,
        _ => false,
    };
    let known =
        table(profile).iter().enumerate().find(|(bit, kind)| kind.select == select && !is_missing(*bit));
    let signal = known.map_or(Signal::Other(select), |(_, kind)| kind.signal);
    What { signal, user, kernel }
}

fn fixed(counter: Counter) -> Signal {
    match counter.index() {
        0 => Signal::Instructions,
        1 => Signal::UnhaltedCycles,
        2 => Signal::ReferenceCycles,
        _ => Signal::Slots,
    }
}
