//! Goal: the model's AMD registers do what the APM and the PPRs say of the K7's counters, the core extension and
//! PerfMonV2.
//!
//! Method: one rule per test, with the numbers of the registers written out.

use nmiprof_pmu::model::{Flaw, Model, Privilege, Signal};
use nmiprof_pmu::profiles::{BULLDOZER, FAMILY_10H, K8, Profile, QEMU64, ZEN2, ZEN3, ZEN4, ZEN5};
use nmiprof_pmu::{GeneralProtection, MsrBus};

const LEGACY_CTL: u32 = 0xc001_0000;
const LEGACY_CTR: u32 = 0xc001_0004;
const CTL: u32 = 0xc001_0200;
const CTR: u32 = 0xc001_0201;
const STATUS: u32 = 0xc000_0300;
const GLOBAL: u32 = 0xc000_0301;
const CLEAR: u32 = 0xc000_0302;
const SET: u32 = 0xc000_0303;
const DEBUG: u32 = 0x1d9;
const LVT_NMI: u32 = 0x400;

/// Instructions, user and kernel, enabled, without interrupt.
const COUNT: u64 = 0x0043_00c0;
/// The same with interrupt.
const SAMPLE: u64 = COUNT | 1 << 20;
const MASK: u64 = (1 << 48) - 1;

const AMD: [&Profile; 7] = [&K8, &FAMILY_10H, &BULLDOZER, &ZEN2, &ZEN3, &ZEN4, &ZEN5];

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
    model.write(LEGACY_CTR, 10_u64.wrapping_neg() & MASK).unwrap();
    model.write(LEGACY_CTL, SAMPLE).unwrap();
    model
}

#[test]
fn four_counters_are_at_the_legacy_addresses_of_every_family() {
    for profile in AMD {
        let mut model = Model::new(profile);
        for counter in 0..4 {
            model.write(LEGACY_CTL + counter, COUNT).unwrap();
            instructions(&mut model, 10);
            assert_eq!(model.read(LEGACY_CTR + counter), Ok(10), "{}", profile.name);
        }
        assert!(faults(model.read(LEGACY_CTR + 4)), "{}", profile.name);
        assert!(faults(model.read(0x186)) && faults(model.read(0x38f)), "those are Intel's");
    }
}

#[test]
fn the_core_extension_has_six_and_the_legacy_addresses_alias_the_first_four() {
    for profile in AMD {
        let is_extended = profile.leaf(0x8000_0001, 0)[2] & 1 << 23 != 0;
        let mut model = Model::new(profile);
        assert_eq!(!faults(model.read(CTL)), is_extended, "{}", profile.name);
        if is_extended {
            model.write(CTL + 2 * 3, COUNT).unwrap();
            model.write(CTR + 2 * 3, 100).unwrap();
            assert_eq!(model.read(LEGACY_CTL + 3), Ok(COUNT));
            assert_eq!(model.read(LEGACY_CTR + 3), Ok(100));
            model.write(CTL + 2 * 5, COUNT).unwrap();
            instructions(&mut model, 5);
            assert_eq!((model.read(CTR + 2 * 5), model.rdpmc(5)), (Ok(5), Ok(5)));
            assert!(faults(model.read(CTL + 2 * 6)) && faults(model.rdpmc(6)));
        } else {
            assert!(!faults(model.rdpmc(3)) && faults(model.rdpmc(4)), "{}", profile.name);
        }
    }
}

#[test]
fn the_global_registers_come_with_perfmon_v2() {
    for profile in AMD {
        let is_v2 = profile.leaf(0x8000_0022, 0)[0] & 1 != 0;
        let mut model = Model::new(profile);
        for msr in [STATUS, GLOBAL, CLEAR, SET] {
            assert_eq!(!faults(model.read(msr)), is_v2, "{} {msr:x}", profile.name);
        }
        assert_eq!(is_v2, [ZEN4.name, ZEN5.name].contains(&profile.name));
    }
}

#[test]
fn after_reset_the_global_control_of_perfmon_v2_enables_all_counters() {
    let mut model = Model::new(&ZEN4);
    assert_eq!(model.read(GLOBAL), Ok(0b11_1111));
    model.write(CTL, COUNT).unwrap();
    instructions(&mut model, 3);
    model.write(GLOBAL, 0).unwrap();
    instructions(&mut model, 3);
    assert_eq!(model.read(CTR), Ok(3));
}

#[test]
fn a_counter_has_48_bits_and_the_upper_ones_of_a_write_are_dropped() {
    for profile in AMD {
        let mut model = Model::new(profile);
        model.write(LEGACY_CTR, u64::MAX).unwrap();
        assert_eq!(model.read(LEGACY_CTR), Ok(MASK), "{}", profile.name);
        assert_eq!(model.violations().reserved_bits, 1);
        model.write(LEGACY_CTR, 0x8000_0000).unwrap();
        assert_eq!(model.read(LEGACY_CTR), Ok(0x8000_0000), "no sign is extended");
    }
}

#[test]
fn reserved_bits_of_a_select_read_as_zero() {
    for profile in AMD {
        let mut model = Model::new(profile);
        model.write(LEGACY_CTL, u64::MAX).unwrap();
        let wide = if profile.name == K8.name { 0 } else { 0xf << 32 | 3 << 40 };
        let expected = 0xffff_ffff & !(1 << 19 | 1 << 21) | wide;
        assert_eq!(model.read(LEGACY_CTL), Ok(expected), "{}", profile.name);
    }
}

#[test]
fn selects_name_events_by_family() {
    let zen = [(0xff60, Signal::LlcReferences), (0x0964, Signal::LlcMisses), (0xa9, Signal::StalledFrontend)];
    let old = [
        (0x077d, Signal::LlcReferences),
        (0x077e, Signal::LlcMisses),
        (0xd0, Signal::StalledFrontend),
        (0xd1, Signal::StalledBackend),
    ];
    let all = [
        (0x76, Signal::UnhaltedCycles),
        (0xc0, Signal::Instructions),
        (0xc2, Signal::Branches),
        (0xc3, Signal::BranchMisses),
        (0x0100_00c0, Signal::Other(0x0100_00c0)),
    ];
    for profile in AMD {
        let is_zen = profile.leaf(1, 0)[0] >> 20 & 0xff >= 8;
        let own = if is_zen { &zen[..] } else { &old[..] };
        for &(code, signal) in all.iter().chain(own) {
            let mut model = Model::new(profile);
            model.write(LEGACY_CTL, code | 3 << 16 | 1 << 22).unwrap();
            model.happen(Signal::Other(0xff), 50, Privilege::User);
            model.happen(signal, 5, Privilege::User);
            assert_eq!(model.read(LEGACY_CTR), Ok(5), "{} {code:x}", profile.name);
        }
        let mut model = Model::new(profile);
        model.write(LEGACY_CTL, 0x1_0000_0120 | 3 << 16 | 1 << 22).unwrap();
        model.happen(Signal::ReferenceCycles, 5, Privilege::User);
        let counted = if profile.leaf(0x8000_0022, 0)[0] & 1 != 0 { 5 } else { 0 };
        assert_eq!(model.read(LEGACY_CTR), Ok(counted), "{}", profile.name);
    }
}

#[test]
fn a_select_for_neither_user_nor_kernel_counts_nothing() {
    for (bits, user, kernel) in [(0_u64, 0, 0), (1, 3, 0), (2, 0, 4), (3, 3, 4)] {
        let mut model = Model::new(&ZEN2);
        model.write(CTL, COUNT & !(3 << 16) | bits << 16).unwrap();
        model.happen(Signal::Instructions, 3, Privilege::User);
        model.happen(Signal::Instructions, 4, Privilege::Kernel);
        assert_eq!(model.read(CTR), Ok(user + kernel));
    }
}

#[test]
fn an_overflow_without_global_registers_leaves_no_trace_but_the_counter() {
    let mut model = sampling(&BULLDOZER);
    instructions(&mut model, 12);
    assert_eq!((model.read(CTR), model.take_nmis()), (Ok(2), 1));
}

#[test]
fn the_status_of_perfmon_v2_is_sticky_and_cleared_by_ones() {
    let mut model = sampling(&ZEN4);
    instructions(&mut model, 12);
    assert_eq!(model.read(STATUS), Ok(1));
    model.write(STATUS, 0).unwrap();
    assert_eq!(model.read(STATUS), Ok(1), "a write of the status is ignored");
    assert_eq!(model.violations().read_only, 1);
    model.write(CLEAR, !1).unwrap();
    assert_eq!(model.read(STATUS), Ok(1));
    model.write(CLEAR, u64::MAX).unwrap();
    assert_eq!((model.read(STATUS), model.read(CLEAR)), (Ok(0), Ok(0)));
    model.write(SET, 0b10).unwrap();
    assert_eq!((model.read(STATUS), model.read(SET)), (Ok(0b10), Ok(0)));
}

#[test]
fn reserved_bits_of_the_global_control_are_dropped() {
    let mut model = Model::new(&ZEN4);
    model.write(GLOBAL, u64::MAX).unwrap();
    assert_eq!(model.read(GLOBAL), Ok(0b11_1111));
}

#[test]
fn perfmon_v2_can_freeze_and_the_status_holds_the_counters_until_it_is_cleared() {
    let mut model = sampling(&ZEN4);
    model.write(DEBUG, 1 << 12).unwrap();
    model.write(CTL + 2, COUNT).unwrap();
    instructions(&mut model, 30);
    assert_eq!((model.read(CTR), model.read(CTR + 2)), (Ok(0), Ok(10)));
    assert_eq!(model.read(STATUS), Ok(1 | 1 << 59));
    model.write(CLEAR, 1 | 1 << 59).unwrap();
    instructions(&mut model, 30);
    assert_eq!((model.read(CTR), model.read(CTR + 2)), (Ok(30), Ok(40)));
}

#[test]
fn parts_that_can_not_freeze_fault_on_the_freeze_bits() {
    for profile in AMD {
        let can_freeze = profile.leaf(0x8000_0022, 0)[0] & 1 << 2 != 0;
        let mut model = Model::new(profile);
        assert_eq!(!faults(model.write(DEBUG, 1 << 12)), can_freeze, "{}", profile.name);
    }
}

#[test]
fn the_lvt_entry_is_not_masked_by_a_delivery_and_each_overflow_is_an_nmi() {
    for profile in AMD {
        let mut model = sampling(profile);
        model.write(LEGACY_CTR + 1, 10_u64.wrapping_neg() & MASK).unwrap();
        model.write(LEGACY_CTL + 1, SAMPLE).unwrap();
        instructions(&mut model, 10);
        assert_eq!(model.take_nmis(), 2, "{}", profile.name);
        assert_eq!(model.read_lvtpc(), LVT_NMI, "{}", profile.name);
    }
}

#[test]
fn a_counter_that_was_stopped_may_still_interrupt() {
    let mut model = sampling(&ZEN2).with_latency(5);
    instructions(&mut model, 12);
    assert_eq!(model.take_nmis(), 0);
    model.write(CTL, 0).unwrap();
    instructions(&mut model, 3);
    assert_eq!((model.take_nmis(), model.read(CTR)), (1, Ok(2)), "the late NMI");
}

#[test]
fn a_cpu_that_is_announced_by_its_family_only_may_have_nothing() {
    let mut model = Model::new(&QEMU64);
    for msr in [LEGACY_CTL, LEGACY_CTR, CTL, STATUS, 0x186, 0x38f] {
        assert_eq!(model.write(msr, COUNT), Ok(()));
        assert_eq!(model.read(msr), Ok(0));
    }
    assert!(model.counters().is_empty() && faults(model.rdpmc(0)));
}

#[test]
fn flaws_of_amd_parts() {
    let mut dead = Model::new(&ZEN4).with_flaw(Flaw::Dead);
    dead.write(CTL, SAMPLE).unwrap();
    assert_eq!((dead.read(CTL), dead.read(GLOBAL)), (Ok(0), Ok(0)));
    let mut silent = sampling(&ZEN4).with_flaw(Flaw::Silent);
    instructions(&mut silent, 10);
    assert_eq!((silent.read(STATUS), silent.take_nmis()), (Ok(1), 0));
}
