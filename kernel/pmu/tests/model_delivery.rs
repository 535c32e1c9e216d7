//! Goal: between an overflow and an NMI the model keeps the LVT entry's rules and the latency, on both vendors.
//!
//! Method: small examples; and random programs in which telling events in one call gives the same as one by one.

use nmiprof_pmu::model::{Flaw, Model, Privilege, Signal};
use nmiprof_pmu::profiles::{ALL, Profile, Registers, SKYLAKE, ZEN2};
use nmiprof_pmu::{Counter, MsrBus};
use proptest::prelude::*;

const LVT_NMI: u32 = 0x400;
const MASKED: u32 = 1 << 16;
/// Instructions, user and kernel, enabled, with interrupt.
const SAMPLE: u64 = 0x0053_00c0;

/// Returns the numbers of the first select and counter, and their distance to the next.
fn addresses(profile: &Profile) -> Option<(u32, u32)> {
    match profile.registers {
        Registers::Intel(_) => Some((0x186, 0xc1)),
        Registers::Amd(_) => Some((0xc001_0000, 0xc001_0004)),
        Registers::Forgotten => None,
    }
}

fn start(model: &mut Model, counter: u32, select: u64, distance: u64) {
    let (selects, counters) = addresses(model.profile()).unwrap();
    model.write(selects + counter, 0).unwrap();
    model.write(counters + counter, distance.wrapping_neg() & 0xffff_ffff_ffff).unwrap();
    model.write(selects + counter, select).unwrap();
}

fn instructions(model: &mut Model, count: u64) {
    model.happen(Signal::Instructions, count, Privilege::Kernel);
}

#[test]
fn intel_masks_the_lvt_entry_when_it_delivers() {
    let mut model = Model::new(&SKYLAKE);
    model.write_lvtpc(LVT_NMI);
    start(&mut model, 0, SAMPLE, 10);
    start(&mut model, 1, SAMPLE, 12);
    instructions(&mut model, 20);
    assert_eq!((model.take_nmis(), model.read_lvtpc()), (1, LVT_NMI | MASKED));
    assert_eq!(model.read(0x38e), Ok(0b11), "the status tells of both");
}

#[test]
fn an_overflow_under_a_masked_lvt_entry_is_not_remembered() {
    let mut model = Model::new(&SKYLAKE);
    model.write_lvtpc(LVT_NMI | MASKED);
    start(&mut model, 0, SAMPLE, 10);
    instructions(&mut model, 20);
    model.write_lvtpc(LVT_NMI);
    instructions(&mut model, 20);
    assert_eq!((model.take_nmis(), model.read(0x38e)), (0, Ok(1)));
    assert_eq!(model.violations().unmasked_with_overflow, 1);
}

#[test]
fn a_part_that_raises_on_unmask_does_so_until_the_status_is_cleared() {
    let mut model = Model::new(&SKYLAKE).with_flaw(Flaw::RaisesOnUnmask);
    model.write_lvtpc(LVT_NMI);
    start(&mut model, 0, SAMPLE, 10);
    instructions(&mut model, 20);
    assert_eq!(model.take_nmis(), 1);
    model.write_lvtpc(LVT_NMI);
    assert_eq!((model.take_nmis(), model.read_lvtpc()), (1, LVT_NMI | MASKED));
    model.write(0x390, 1).unwrap();
    model.write_lvtpc(LVT_NMI);
    assert_eq!(model.take_nmis(), 0);
}

#[test]
fn an_nmi_comes_its_latency_after_the_overflow_and_the_counter_counts_on() {
    for profile in [&SKYLAKE, &ZEN2] {
        let mut model = Model::new(profile).with_latency(7);
        model.write_lvtpc(LVT_NMI);
        start(&mut model, 0, SAMPLE, 10);
        assert_eq!(model.happen_until_nmi(Signal::Instructions, 100, Privilege::User), 83);
        assert_eq!((model.take_nmis(), model.rdpmc(0)), (1, Ok(7)));
    }
}

#[test]
fn overflows_within_one_latency_are_one_nmi_on_intel_and_two_on_amd() {
    for (profile, nmis) in [(&SKYLAKE, 1), (&ZEN2, 2)] {
        let mut model = Model::new(profile).with_latency(7);
        model.write_lvtpc(LVT_NMI);
        start(&mut model, 0, SAMPLE, 10);
        start(&mut model, 1, SAMPLE, 14);
        instructions(&mut model, 100);
        assert_eq!(model.take_nmis(), nmis, "{}", profile.name);
    }
}

#[test]
fn a_pmi_meets_the_lvt_entry_as_it_is_when_it_arrives() {
    let mut model = Model::new(&SKYLAKE).with_latency(7);
    model.write_lvtpc(LVT_NMI);
    start(&mut model, 0, SAMPLE, 10);
    instructions(&mut model, 12);
    assert_eq!(model.steps_to_delivery(), 5);
    model.write_lvtpc(LVT_NMI | MASKED);
    instructions(&mut model, 12);
    assert_eq!((model.take_nmis(), model.steps_to_delivery()), (0, u64::MAX));
}

#[test]
fn an_lvt_entry_with_a_vector_interrupts_with_that() {
    let mut model = Model::new(&SKYLAKE);
    model.write_lvtpc(0xe7);
    start(&mut model, 0, SAMPLE, 10);
    instructions(&mut model, 12);
    let interrupts = model.take_interrupts();
    assert_eq!((interrupts.count, interrupts.vector, model.take_nmis()), (1, 0xe7, 0));
}

#[test]
fn a_counter_without_its_interrupt_bit_overflows_in_silence() {
    let mut model = Model::new(&SKYLAKE);
    model.write_lvtpc(LVT_NMI);
    start(&mut model, 0, SAMPLE & !(1 << 20), 10);
    instructions(&mut model, 12);
    assert_eq!((model.take_nmis(), model.read(0x38e)), (0, Ok(1)));
}

#[test]
fn an_lvt_entry_that_sticks_never_delivers() {
    let mut model = Model::new(&ZEN2).with_flaw(Flaw::MaskSticks);
    model.write_lvtpc(LVT_NMI);
    start(&mut model, 0, SAMPLE, 10);
    instructions(&mut model, 12);
    assert_eq!((model.take_nmis(), model.read_lvtpc()), (0, LVT_NMI | MASKED));
}

#[test]
fn the_delivery_status_is_read_only() {
    let mut model = Model::new(&SKYLAKE);
    model.write_lvtpc(LVT_NMI | 1 << 12);
    assert_eq!((model.read_lvtpc(), model.violations().reserved_bits), (LVT_NMI, 0));
}

#[test]
fn the_next_overflows_are_what_an_outside_clock_needs_to_know() {
    let mut model = Model::new(&SKYLAKE);
    start(&mut model, 2, SAMPLE & !(1 << 16), 10);
    model.write(0x38d, 0b0010_0000).unwrap();
    model.write(0x38f, 0b100 | 1 << 33).unwrap();
    let next: Vec<_> = model.next_overflows().collect();
    assert_eq!(next.len(), 2);
    assert_eq!((next[0].counter, next[0].signal), (Counter::general(2).unwrap(), Signal::Instructions));
    assert_eq!((next[0].user, next[0].kernel, next[0].events, next[0].interrupts), (false, true, 10, true));
    assert_eq!((next[1].counter, next[1].signal), (Counter::fixed(1).unwrap(), Signal::UnhaltedCycles));
    assert_eq!((next[1].user, next[1].kernel, next[1].events), (true, false, 1 << 48));
}

/// What is done to a model.
#[derive(Clone, Debug)]
enum Action {
    Start { counter: u32, select: u64, distance: u64 },
    Events { signal: Signal, count: u64, privilege: Privilege },
    Lvt(u32),
    Freeze(bool),
    ClearStatus,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let select = prop_oneof![Just(0xc0_u64), Just(0x3c), Just(0x76), Just(0xc4)];
    let signal =
        prop_oneof![Just(Signal::Instructions), Just(Signal::UnhaltedCycles), Just(Signal::Branches),];
    let privilege = prop_oneof![Just(Privilege::User), Just(Privilege::Kernel)];
    let flags =
        (0_u64..4, any::<bool>()).prop_map(|(levels, int)| levels << 16 | u64::from(int) << 20 | 1 << 22);
    let start = (0_u32..2, select, flags, 1_u64..200).prop_map(|(counter, select, flags, distance)| {
        Action::Start { counter, select: select | flags, distance }
    });
    let events = (signal, 0_u64..150, privilege).prop_map(|(signal, count, privilege)| Action::Events {
        signal,
        count,
        privilege,
    });
    let lvt = prop_oneof![Just(LVT_NMI), Just(LVT_NMI | MASKED), Just(0x31)].prop_map(Action::Lvt);
    let action = prop_oneof![
        3 => start,
        6 => events,
        3 => lvt,
        1 => any::<bool>().prop_map(Action::Freeze),
        2 => Just(Action::ClearStatus),
    ];
    prop::collection::vec(action, 1..40)
}

/// Does an action, with events told `at_once` or one by one.
fn act(model: &mut Model, action: &Action, at_once: bool) {
    let is_intel = model.profile().is_intel();
    match *action {
        Action::Start { counter, select, distance } => start(model, counter, select, distance),
        Action::Events { signal, count, privilege } if at_once => model.happen(signal, count, privilege),
        Action::Events { signal, count, privilege } => {
            (0..count).for_each(|_| model.happen(signal, 1, privilege));
        }
        Action::Lvt(entry) => model.write_lvtpc(entry),
        // Not every part has these: the fault is the same in both models.
        Action::Freeze(on) => drop(model.write(0x1d9, u64::from(on) << 12)),
        Action::ClearStatus => {
            let (clear, enable) = if is_intel { (0x390, 0x38f) } else { (0xc000_0302, 0xc000_0301) };
            let _ = model.write(clear, model.counters().0 | 1 << 59);
            let _ = model.write(clear, model.counters().0);
            let _ = model.write(enable, model.counters().0);
        }
    }
}

proptest! {
    #[test]
    fn events_told_at_once_do_the_same_as_one_by_one(
        actions in actions(), part in 0..ALL.len() - 1, latency in 0_u64..20,
    ) {
        let profile = ALL[part];
        prop_assume!(addresses(profile).is_some());
        let mut fast = Model::new(profile).with_latency(latency);
        let mut slow = fast.clone();
        for action in &actions {
            act(&mut fast, action, true);
            act(&mut slow, action, false);
            let (status, control) = if profile.is_intel() { (0x38e, 0x38f) } else { (0xc000_0300, 0xc000_0301) };
            prop_assert_eq!(fast.rdpmc(0), slow.rdpmc(0));
            prop_assert_eq!(fast.rdpmc(1), slow.rdpmc(1));
            prop_assert_eq!(fast.read(status), slow.read(status));
            prop_assert_eq!(fast.read(control), slow.read(control));
            prop_assert_eq!(fast.read_lvtpc(), slow.read_lvtpc());
            prop_assert_eq!(fast.take_nmis(), slow.take_nmis());
            prop_assert_eq!(fast.take_interrupts(), slow.take_interrupts());
            prop_assert_eq!(fast.steps_to_delivery(), slow.steps_to_delivery());
        }
    }
}
