//! Goal: the model's Intel registers do what the SDM says of each version, and fault where it says so.
//!
//! Method: one rule per test, on the oldest and the newest part that it concerns; the numbers of the registers are
//! written out, so that a wrong constant in the model can't hide.

use nmiprof_pmu::model::{Flaw, Model, Privilege, Signal};
use nmiprof_pmu::profiles::{
    ALDER_LAKE_P, CORE_DUO, ICE_LAKE, NEHALEM, PENRYN, Profile, SANDY_BRIDGE, SAPPHIRE_RAPIDS, SKYLAKE,
};
use nmiprof_pmu::{Counter, GeneralProtection, MsrBus};

const PMC0: u32 = 0xc1;
const A_PMC0: u32 = 0x4c1;
const SELECT0: u32 = 0x186;
const FIXED0: u32 = 0x309;
const FIXED_CTRL: u32 = 0x38d;
const STATUS: u32 = 0x38e;
const GLOBAL: u32 = 0x38f;
const RESET: u32 = 0x390;
const SET: u32 = 0x391;
const IN_USE: u32 = 0x392;
const CAPABILITIES: u32 = 0x345;
const DEBUG: u32 = 0x1d9;
const MISC: u32 = 0x1a0;

/// Instructions, user and kernel, enabled, without interrupt.
const COUNT: u64 = 0x0043_00c0;
/// The same with interrupt.
const SAMPLE: u64 = COUNT | 1 << 20;
const LVT_NMI: u32 = 0x400;

const INTEL: [&Profile; 7] =
    [&CORE_DUO, &PENRYN, &NEHALEM, &SANDY_BRIDGE, &SKYLAKE, &ICE_LAKE, &SAPPHIRE_RAPIDS];

fn faults<T>(result: Result<T, GeneralProtection>) -> bool {
    result.is_err()
}

fn instructions(model: &mut Model, count: u64) {
    model.happen(Signal::Instructions, count, Privilege::Kernel);
}

/// A model that samples instructions on counter 0, 10 before its overflow.
fn sampling(profile: &'static Profile) -> Model {
    let mut model = Model::new(profile);
    model.write_lvtpc(LVT_NMI);
    model.write(PMC0, (-10_i64).cast_unsigned()).unwrap();
    model.write(SELECT0, SAMPLE).unwrap();
    model
}

#[test]
fn after_reset_the_global_control_enables_the_general_counters_and_nothing_else_is_set() {
    for profile in [&PENRYN, &SKYLAKE, &SAPPHIRE_RAPIDS] {
        let mut model = Model::new(profile);
        let general = (model.counters().0 & 0xffff_ffff).count_ones();
        assert_eq!(model.read(GLOBAL), Ok((1 << general) - 1), "{}", profile.name);
        for msr in [PMC0, SELECT0, FIXED0, FIXED_CTRL, STATUS, DEBUG] {
            assert_eq!(model.read(msr), Ok(0), "{} {msr:x}", profile.name);
        }
        assert_eq!(model.read_lvtpc(), 1 << 16, "an LVT entry is masked after reset");
    }
}

#[test]
fn version_1_has_no_global_registers_and_no_fixed_counters() {
    let mut model = Model::new(&CORE_DUO);
    for msr in [FIXED0, FIXED_CTRL, STATUS, GLOBAL, RESET, SET, IN_USE] {
        assert!(faults(model.read(msr)), "{msr:x}");
        assert!(faults(model.write(msr, 0)), "{msr:x}");
    }
    assert_eq!(model.read(SELECT0 + 1), Ok(0));
    assert!(faults(model.read(SELECT0 + 2)), "two counters");
    assert!(faults(model.rdpmc(1 << 30)));
}

#[test]
fn in_version_1_the_enable_bit_alone_lets_a_counter_count() {
    let mut model = Model::new(&CORE_DUO);
    model.write(SELECT0, COUNT).unwrap();
    instructions(&mut model, 7);
    assert_eq!(model.read(PMC0), Ok(7));
    model.write(SELECT0, COUNT & !(1 << 22)).unwrap();
    instructions(&mut model, 7);
    assert_eq!(model.read(PMC0), Ok(7));
}

#[test]
fn from_version_2_on_the_global_enable_is_anded_with_the_counters_own() {
    for profile in INTEL.into_iter().skip(1) {
        let mut model = Model::new(profile);
        model.write(SELECT0, COUNT).unwrap();
        model.write(FIXED_CTRL, 0b0011).unwrap();
        for (global, general, fixed) in [(1_u64, 5, 0), (1 << 32, 5, 5), (0, 5, 5), (1 | 1 << 32, 10, 10)] {
            model.write(GLOBAL, global).unwrap();
            instructions(&mut model, 5);
            assert_eq!(model.read(PMC0), Ok(general), "{}", profile.name);
            assert_eq!(model.read(FIXED0), Ok(fixed), "{}", profile.name);
        }
    }
}

#[test]
fn the_registers_of_version_4_fault_before_it() {
    for profile in INTEL {
        let is_new = profile.leaf(0xa, 0)[0] & 0xff >= 4;
        let mut model = Model::new(profile);
        assert_eq!(faults(model.read(SET)), !is_new, "{}", profile.name);
        assert_eq!(faults(model.write(SET, 0)), !is_new, "{}", profile.name);
        assert_eq!(faults(model.read(IN_USE)), !is_new, "{}", profile.name);
    }
}

#[test]
fn counters_that_do_not_exist_fault() {
    for profile in INTEL {
        let mut model = Model::new(profile);
        let general = (model.counters().0 & 0xffff_ffff).count_ones();
        let fixed = (model.counters().0 >> 32).count_ones();
        for (msr, count) in [(PMC0, general), (SELECT0, general), (FIXED0, fixed)] {
            assert!(count == 0 || !faults(model.read(msr + count - 1)), "{} {msr:x}", profile.name);
            assert!(faults(model.read(msr + count)), "{} {msr:x}", profile.name);
            assert!(faults(model.write(msr + count, 0)), "{} {msr:x}", profile.name);
        }
        assert!(faults(model.read(0xc001_0000)) && faults(model.read(0xc000_0300)), "those are AMD's");
    }
}

#[test]
fn a_legacy_write_takes_the_low_32_bits_with_their_sign_and_never_faults() {
    for (profile, width) in [(&PENRYN, 40), (&SKYLAKE, 48)] {
        let mut model = Model::new(profile);
        let mask = (1_u64 << width) - 1;
        for (written, held) in [
            (0x7fff_ffff, 0x7fff_ffff),
            (0x8000_0000, 0xffff_ffff_8000_0000 & mask),
            (0x1234_5678_0000_0001, 1),
            (u64::MAX, mask),
        ] {
            model.write(PMC0, written).unwrap();
            assert_eq!(model.read(PMC0), Ok(held), "{} {written:x}", profile.name);
        }
    }
}

#[test]
fn a_full_width_write_takes_every_bit_of_the_counter_and_faults_on_one_more() {
    let mut model = Model::new(&SKYLAKE);
    model.write(A_PMC0, 0x8000_0000).unwrap();
    assert_eq!(model.read(PMC0), Ok(0x8000_0000), "no sign is extended");
    assert_eq!(model.read(A_PMC0), Ok(0x8000_0000), "the alias reads the same counter");
    model.write(A_PMC0, (1 << 48) - 1).unwrap();
    assert!(faults(model.write(A_PMC0, 1 << 48)));
    assert_eq!(model.read(PMC0), Ok((1 << 48) - 1), "a write that faults writes nothing");
}

#[test]
fn full_width_aliases_exist_where_the_capabilities_say_so() {
    for profile in INTEL {
        let mut model = Model::new(profile);
        let announced = model.read(CAPABILITIES).is_ok_and(|bits| bits & 1 << 13 != 0);
        assert_eq!(faults(model.write(A_PMC0, 0)), !announced, "{}", profile.name);
    }
}

#[test]
fn fixed_counters_are_written_in_full_and_their_bits_beyond_the_width_are_reserved() {
    for (profile, width) in [(&PENRYN, 40), (&SKYLAKE, 48)] {
        let mut model = Model::new(profile);
        model.write(FIXED0 + 1, (1 << width) - 1).unwrap();
        assert_eq!(model.read(FIXED0 + 1), Ok((1 << width) - 1));
        assert!(faults(model.write(FIXED0 + 1, 1 << width)));
    }
}

#[test]
fn any_thread_can_be_chosen_in_version_3_and_4_only() {
    for profile in INTEL {
        let version = profile.leaf(0xa, 0)[0] & 0xff;
        let mut model = Model::new(profile);
        let allowed = (3..=4).contains(&version);
        assert_eq!(faults(model.write(SELECT0, COUNT | 1 << 21)), !allowed, "{}", profile.name);
        if version >= 2 {
            assert_eq!(faults(model.write(FIXED_CTRL, 0b0111)), !allowed, "{}", profile.name);
        }
    }
}

#[test]
fn the_upper_half_of_a_select_is_reserved_but_for_transactions_and_adaptive_pebs() {
    for profile in INTEL {
        let has_transactions = profile.leaf(7, 0)[1] & 1 << 11 != 0;
        let mut model = Model::new(profile);
        let has_adaptive = model.read(CAPABILITIES).is_ok_and(|bits| bits & 1 << 14 != 0);
        for bit in 32..64 {
            let allowed = match bit {
                32 => has_transactions,
                34 => has_adaptive,
                _ => false,
            };
            assert_eq!(faults(model.write(SELECT0, 1 << bit)), !allowed, "{} bit {bit}", profile.name);
        }
    }
    let mut model = Model::new(&SKYLAKE);
    assert!(!faults(model.write(SELECT0 + 2, 1 << 33)), "IN_TXCP is for counter 2");
}

#[test]
fn pin_control_is_not_writeable_from_sandy_bridge_on() {
    for (profile, kept) in [(&NEHALEM, 1 << 19), (&SANDY_BRIDGE, 0), (&SKYLAKE, 0)] {
        let mut model = Model::new(profile);
        model.write(SELECT0, 1 << 19).unwrap();
        assert_eq!(model.read(SELECT0), Ok(kept), "{}", profile.name);
    }
}

#[test]
fn controls_of_counters_that_do_not_exist_are_reserved() {
    let mut model = Model::new(&SKYLAKE);
    for (msr, first_reserved) in [(GLOBAL, 1_u64 << 4), (GLOBAL, 1 << 35), (FIXED_CTRL, 1 << 12)] {
        assert!(faults(model.write(msr, first_reserved)), "{msr:x}");
        assert!(!faults(model.write(msr, first_reserved >> 1)), "{msr:x}");
    }
    let mut model = Model::new(&ALDER_LAKE_P);
    assert!(faults(model.write(GLOBAL, 1 << 6)) && faults(model.write(GLOBAL, 1 << 35)));
}

#[test]
fn the_status_is_read_only_and_so_are_in_use_and_the_capabilities() {
    let mut model = Model::new(&SKYLAKE);
    for msr in [STATUS, IN_USE, CAPABILITIES] {
        assert!(faults(model.write(msr, 0)), "{msr:x}");
    }
}

#[test]
fn the_status_reset_register_has_reserved_bits_by_version() {
    for (profile, uncore, freeze) in
        [(&PENRYN, false, false), (&NEHALEM, true, false), (&SKYLAKE, true, true)]
    {
        let mut model = Model::new(profile);
        let counters = model.counters().0;
        assert!(!faults(model.write(RESET, counters | 3 << 62)), "{}", profile.name);
        assert_eq!(!faults(model.write(RESET, 1 << 61)), uncore, "{}", profile.name);
        assert_eq!(!faults(model.write(RESET, 3 << 58)), freeze, "{}", profile.name);
        for bit in (0..55).filter(|bit| counters & 1 << bit == 0) {
            assert!(faults(model.write(RESET, 1 << bit)), "{} bit {bit}", profile.name);
        }
    }
}

#[test]
fn a_counter_counts_only_at_the_privilege_levels_that_it_is_told() {
    for (select, user, kernel) in [(1_u64 << 16, 3, 0), (1 << 17, 0, 4), (3 << 16, 3, 4), (0, 0, 0)] {
        let mut model = Model::new(&SKYLAKE);
        model.write(SELECT0, 0x0040_00c0 | select).unwrap();
        model.write(FIXED_CTRL, (select >> 17 & 1) | (select >> 16 & 1) << 1).unwrap();
        model.write(GLOBAL, 1 | 1 << 32).unwrap();
        model.happen(Signal::Instructions, 3, Privilege::User);
        model.happen(Signal::Instructions, 4, Privilege::Kernel);
        assert_eq!(model.read(PMC0), Ok(user + kernel));
        assert_eq!(model.read(FIXED0), Ok(user + kernel));
    }
}

#[test]
fn selects_name_the_architectural_events() {
    for (code, signal) in [
        (0x003c, Signal::UnhaltedCycles),
        (0x00c0, Signal::Instructions),
        (0x013c, Signal::ReferenceCycles),
        (0x4f2e, Signal::LlcReferences),
        (0x412e, Signal::LlcMisses),
        (0x00c4, Signal::Branches),
        (0x00c5, Signal::BranchMisses),
        (0x01a4, Signal::Slots),
        (0x0100_00c0, Signal::Other(0x0100_00c0)),
        (0x0004_00c0, Signal::Other(0x0004_00c0)),
        (0x010e, Signal::Other(0x010e)),
    ] {
        let mut model = Model::new(&ICE_LAKE);
        model.write(SELECT0, code | 0x0043_0000).unwrap();
        model.happen(Signal::Other(0xff), 50, Privilege::Kernel);
        model.happen(signal, 5, Privilege::User);
        assert_eq!(model.read(PMC0), Ok(5), "{code:x}");
    }
}

#[test]
fn fixed_counters_count_one_event_each() {
    let signals = [Signal::Instructions, Signal::UnhaltedCycles, Signal::ReferenceCycles, Signal::Slots];
    let mut model = Model::new(&ICE_LAKE);
    model.write(FIXED_CTRL, 0x3333).unwrap();
    model.write(GLOBAL, 0xf << 32).unwrap();
    for (index, signal) in signals.into_iter().enumerate() {
        model.happen(signal, 10 + index as u64, Privilege::Kernel);
    }
    for index in 0..4 {
        assert_eq!(model.read(FIXED0 + index), Ok(10 + u64::from(index)));
        assert_eq!(model.rdpmc(1 << 30 | index), Ok(10 + u64::from(index)));
    }
}

#[test]
fn an_architectural_event_that_is_announced_as_missing_does_not_count() {
    let mut model = Model::new(&NEHALEM);
    model.write(SELECT0, 0x0043_00c5).unwrap();
    model.happen(Signal::BranchMisses, 5, Privilege::User);
    assert_eq!(model.read(PMC0), Ok(0));
}

#[test]
fn an_overflow_is_from_all_ones_to_zero_and_its_status_stays_until_it_is_cleared() {
    let mut model = sampling(&SKYLAKE);
    instructions(&mut model, 9);
    assert_eq!((model.read(PMC0), model.read(STATUS)), (Ok((1 << 48) - 1), Ok(0)));
    instructions(&mut model, 1);
    assert_eq!((model.read(PMC0), model.read(STATUS)), (Ok(0), Ok(1)));
    instructions(&mut model, 100);
    assert_eq!((model.read(PMC0), model.read(STATUS)), (Ok(100), Ok(1)), "it counts on");
    model.write(RESET, 2).unwrap();
    assert_eq!(model.read(STATUS), Ok(1), "another counter's bit");
    model.write(RESET, 1).unwrap();
    assert_eq!((model.read(STATUS), model.read(RESET)), (Ok(0), Ok(0)));
}

#[test]
fn the_status_can_be_set_and_reset_from_version_4_on() {
    let mut model = Model::new(&SKYLAKE);
    model.write(SET, 1 << 33 | 1).unwrap();
    assert_eq!(model.read(STATUS), Ok(1 << 33 | 1));
    assert!(faults(model.write(SET, 1 << 63)));
    model.write(RESET, 1 << 33).unwrap();
    assert_eq!(model.read(STATUS), Ok(1));
    assert_eq!(model.take_nmis(), 0, "setting the status interrupts nobody");
}

#[test]
fn in_use_tells_which_counters_have_an_event_and_whether_one_interrupts() {
    let mut model = Model::new(&SKYLAKE);
    model.write(SELECT0 + 1, 0xc0).unwrap();
    model.write(FIXED_CTRL, 0b0010_0000).unwrap();
    assert_eq!(model.read(IN_USE), Ok(1 << 1 | 1 << 33));
    model.write(SELECT0 + 1, 1 << 20).unwrap();
    assert_eq!(model.read(IN_USE), Ok(1 << 63 | 1 << 33));
}

#[test]
fn the_legacy_freeze_clears_the_global_control_and_software_enables_again() {
    for profile in [&PENRYN, &NEHALEM, &SANDY_BRIDGE] {
        let mut model = sampling(profile);
        model.write(DEBUG, 1 << 12).unwrap();
        model.write(GLOBAL, 1 | 1 << 32).unwrap();
        model.write(FIXED_CTRL, 0b0011).unwrap();
        instructions(&mut model, 30);
        assert_eq!((model.read(PMC0), model.read(FIXED0)), (Ok(0), Ok(10)), "{}", profile.name);
        assert_eq!((model.read(GLOBAL), model.read(STATUS)), (Ok(0), Ok(1)), "{}", profile.name);
        model.write(RESET, 1).unwrap();
        instructions(&mut model, 30);
        assert_eq!(model.read(PMC0), Ok(0), "clearing the status does not start anything");
        model.write(GLOBAL, 1).unwrap();
        instructions(&mut model, 30);
        assert_eq!(model.read(PMC0), Ok(30));
    }
}

#[test]
fn the_streamlined_freeze_sets_a_status_bit_and_clearing_it_starts_the_counters() {
    for profile in [&SKYLAKE, &SAPPHIRE_RAPIDS] {
        let mut model = sampling(profile);
        model.write(DEBUG, 1 << 12).unwrap();
        model.write(GLOBAL, 1 | 1 << 32).unwrap();
        model.write(FIXED_CTRL, 0b0011).unwrap();
        instructions(&mut model, 30);
        assert_eq!((model.read(PMC0), model.read(FIXED0)), (Ok(0), Ok(10)), "{}", profile.name);
        assert_eq!((model.read(GLOBAL), model.read(STATUS)), (Ok(1 | 1 << 32), Ok(1 | 1 << 59)));
        model.write(RESET, 1).unwrap();
        instructions(&mut model, 30);
        assert_eq!(model.read(PMC0), Ok(0), "still frozen");
        model.write(RESET, 1 << 59).unwrap();
        instructions(&mut model, 30);
        assert_eq!((model.read(PMC0), model.read(FIXED0)), (Ok(30), Ok(40)), "{}", profile.name);
    }
}

#[test]
fn only_an_overflow_that_asks_for_a_pmi_freezes() {
    let mut model = sampling(&SKYLAKE);
    model.write(DEBUG, 1 << 12).unwrap();
    model.write(SELECT0, COUNT).unwrap();
    instructions(&mut model, 30);
    assert_eq!((model.read(PMC0), model.read(STATUS)), (Ok(20), Ok(1)));
}

#[test]
fn an_overflow_freezes_though_the_lvt_entry_is_masked() {
    let mut model = sampling(&SKYLAKE);
    model.write(DEBUG, 1 << 12).unwrap();
    model.write_lvtpc(LVT_NMI | 1 << 16);
    instructions(&mut model, 30);
    assert_eq!((model.read(PMC0), model.take_nmis()), (Ok(0), 0));
}

#[test]
fn counters_that_overflow_on_the_same_event_all_do_so_before_the_freeze() {
    let mut model = sampling(&SKYLAKE);
    model.write(DEBUG, 1 << 12).unwrap();
    model.write(FIXED0, (1 << 48) - 10).unwrap();
    model.write(FIXED_CTRL, 0b1011).unwrap();
    model.write(GLOBAL, 1 | 1 << 32).unwrap();
    instructions(&mut model, 30);
    assert_eq!(model.read(STATUS), Ok(1 | 1 << 32 | 1 << 59));
    assert_eq!(model.take_nmis(), 1, "the mask merges them");
}

#[test]
fn branch_records_freeze_by_their_enable_bit_before_version_4_and_by_a_status_bit_from_it_on() {
    let mut model = sampling(&NEHALEM);
    model.write(DEBUG, 1 << 11 | 1).unwrap();
    instructions(&mut model, 10);
    assert_eq!(model.read(DEBUG), Ok(1 << 11));
    let mut model = sampling(&SKYLAKE);
    model.write(DEBUG, 1 << 11 | 1).unwrap();
    instructions(&mut model, 12);
    assert_eq!((model.read(DEBUG), model.read(STATUS)), (Ok(1 << 11 | 1), Ok(1 << 58 | 1)));
    assert_eq!(model.read(PMC0), Ok(2), "the counters are not frozen");
}

#[test]
fn the_freeze_bits_are_reserved_in_version_1_and_other_bits_of_the_debug_register_always() {
    for profile in INTEL {
        let can_freeze = profile.leaf(0xa, 0)[0] & 0xff >= 2;
        let mut model = Model::new(profile);
        assert_eq!(!faults(model.write(DEBUG, 3 << 11)), can_freeze, "{}", profile.name);
        for bit in (2..6).chain(16..64) {
            assert!(faults(model.write(DEBUG, 1 << bit)), "{} bit {bit}", profile.name);
        }
    }
}

#[test]
fn misc_enable_says_that_there_is_performance_monitoring_and_that_can_not_be_written() {
    let mut model = Model::new(&SKYLAKE);
    let before = model.read(MISC).unwrap();
    assert_eq!(before & (1 << 7 | 1 << 11 | 1 << 12), 1 << 7);
    model.write(MISC, before & !(1 << 7) | 1 << 12).unwrap();
    assert_eq!(model.read(MISC), Ok(before));
}

#[test]
fn rdpmc_reads_any_counter_and_faults_beyond_the_last() {
    let mut model = Model::new(&SKYLAKE);
    model.write(A_PMC0 + 3, 77).unwrap();
    assert_eq!(model.rdpmc(3), Ok(77));
    for index in [4, 1 << 30 | 3, 1 << 31, 256] {
        assert!(faults(model.rdpmc(index)), "{index:x}");
    }
}

#[test]
fn flaws_of_intel_parts() {
    let mut dead = Model::new(&SKYLAKE).with_flaw(Flaw::Dead);
    dead.write(SELECT0, SAMPLE).unwrap();
    instructions(&mut dead, 10);
    assert_eq!((dead.read(SELECT0), dead.read(PMC0), dead.rdpmc(0)), (Ok(0), Ok(0), Ok(0)));

    let mut forgets = Model::new(&SKYLAKE).with_flaw(Flaw::FullWidthForgotten);
    forgets.write(A_PMC0, 5).unwrap();
    forgets.write(FIXED0, 6).unwrap();
    assert_eq!((forgets.read(PMC0), forgets.read(FIXED0)), (Ok(0), Ok(6)));

    let mut stuck = Model::new(&SKYLAKE).with_flaw(Flaw::Stuck(Counter::general(1).unwrap()));
    stuck.write(SELECT0, COUNT).unwrap();
    stuck.write(SELECT0 + 1, COUNT).unwrap();
    instructions(&mut stuck, 10);
    assert_eq!((stuck.read(PMC0), stuck.read(PMC0 + 1)), (Ok(10), Ok(0)));

    let mut sticks = sampling(&SKYLAKE).with_flaw(Flaw::StatusSticks);
    instructions(&mut sticks, 10);
    sticks.write(RESET, 1).unwrap();
    assert_eq!(sticks.read(STATUS), Ok(1));

    let mut hidden = sampling(&SKYLAKE).with_flaw(Flaw::StatusHidden);
    instructions(&mut hidden, 10);
    assert_eq!((hidden.read(STATUS), hidden.take_nmis()), (Ok(0), 1));

    let mut no_freeze = sampling(&SKYLAKE).with_flaw(Flaw::FreezeForgotten);
    no_freeze.write(DEBUG, 3 << 11).unwrap();
    instructions(&mut no_freeze, 30);
    assert_eq!((no_freeze.read(DEBUG), no_freeze.read(PMC0)), (Ok(0), Ok(20)));

    let mut none = Model::new(&SKYLAKE).with_flaw(Flaw::NoDebugControl);
    assert!(faults(none.read(DEBUG)) && faults(none.write(DEBUG, 0)));

    let mut no_global = sampling(&PENRYN).with_flaw(Flaw::NoGlobal);
    assert!([STATUS, GLOBAL, RESET].into_iter().all(|msr| faults(no_global.read(msr))));
    instructions(&mut no_global, 10);
    assert_eq!((no_global.read(PMC0), no_global.take_nmis()), (Ok(0), 1));
}

#[test]
fn what_a_driver_should_not_do_is_counted() {
    let mut model = sampling(&SKYLAKE);
    assert_eq!(model.violations(), nmiprof_pmu::model::Violations::default());
    model.write(PMC0, 0).unwrap();
    assert_eq!(model.violations().written_while_counting, 1);
    model.write(SELECT0, SAMPLE & !0xff | 0x3c).unwrap();
    assert_eq!(model.violations().changed_while_counting, 1);
    model.write(SELECT0, 0).unwrap();
    model.write(SET, 1).unwrap();
    model.write(SELECT0, SAMPLE).unwrap();
    assert_eq!(model.violations().started_with_overflow, 1);
    model.write_lvtpc(1 << 16 | LVT_NMI);
    model.write_lvtpc(LVT_NMI);
    assert_eq!(model.violations().unmasked_with_overflow, 1);
    model.write_lvtpc(LVT_NMI | 1 << 13);
    assert_eq!(model.violations().reserved_bits, 1);
    assert!(faults(model.read(0x10)));
    assert_eq!(model.violations().faults, 1);
}
