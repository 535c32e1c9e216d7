//! Goal: each profile's CPUID announces the registers that the profile has, and nothing in the table is a slip.
//!
//! Method: the fields that the SDM (CPUID leaf 0AH) and the APM (8000_0001H, 8000_0022H) define are taken from the
//! leaves by hand and through `raw-cpuid`, and compared with what was written from the manuals.

use nmiprof_pmu::profiles::{ALL, CORE_DUO, QEMU64, Registers, ZEN4};
use raw_cpuid::CpuId;

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = ALL.iter().map(|profile| profile.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn leaf_0ah_announces_what_an_intel_part_has() {
    for profile in ALL {
        let Registers::Intel(facts) = profile.registers else { continue };
        let [eax, ebx, ecx, edx] = profile.leaf(0xa, 0);
        let [version, general, width, events] = eax.to_le_bytes();
        assert_eq!((version, general, width), (facts.version, facts.general, facts.general_width_bits));
        assert_eq!(ebx & ((1 << events) - 1), facts.missing_events, "{}", profile.name);
        let fixed = u8::try_from(edx & 0x1f).unwrap();
        assert_eq!(
            (fixed, edx >> 5 & 0xff),
            (facts.fixed, u32::from(facts.fixed_width_bits)),
            "{}",
            profile.name
        );
        assert!(ecx == 0 || ecx == (1 << fixed) - 1, "{}", profile.name);
        let is_deprecated = edx & 1 << 15 != 0;
        assert_eq!(facts.any_thread, version >= 3 && !is_deprecated, "{}", profile.name);
        assert_eq!(facts.transactional, profile.leaf(7, 0)[1] & 1 << 11 != 0, "{}", profile.name);
        assert_eq!(facts.capabilities.is_some(), profile.leaf(1, 0)[2] & 1 << 15 != 0, "{}", profile.name);
    }
}

#[test]
fn extended_leaves_announce_what_an_amd_part_has() {
    for profile in ALL {
        let Registers::Amd(facts) = profile.registers else { continue };
        let is_extended = profile.leaf(0x8000_0001, 0)[2] & 1 << 23 != 0;
        assert_eq!(facts.core_extension, is_extended, "{}", profile.name);
        assert_eq!(facts.counters, if is_extended { 6 } else { 4 }, "{}", profile.name);
        let [eax, ebx, ..] = profile.leaf(0x8000_0022, 0);
        assert_eq!((facts.global, facts.freeze), (eax & 1 != 0, eax & 4 != 0), "{}", profile.name);
        assert!(!facts.global || ebx & 0xf == u32::from(facts.counters), "{}", profile.name);
    }
}

#[test]
fn raw_cpuid_reads_a_profile() {
    for profile in ALL {
        let cpuid = CpuId::with_cpuid_reader(profile);
        let vendor = cpuid.get_vendor_info().expect("leaf 0");
        assert_eq!(vendor.as_str() == "GenuineIntel", profile.is_intel(), "{}", profile.name);
        assert!(profile.is_intel() || vendor.as_str() == "AuthenticAMD");
        let features = cpuid.get_feature_info().expect("leaf 1");
        assert!(features.has_msr() && features.has_apic() && features.has_tsc(), "{}", profile.name);
    }
    let features = CpuId::with_cpuid_reader(&ZEN4).get_feature_info().expect("leaf 1");
    assert_eq!((features.family_id(), features.model_id()), (0x19, 0x11));
}

#[test]
fn a_leaf_beyond_the_last_is_the_last_one_on_intel_and_empty_on_amd() {
    assert_eq!(CORE_DUO.leaf(0x1c, 0), CORE_DUO.leaf(0xa, 0));
    assert_eq!(CORE_DUO.leaf(0x8000_0022, 0), CORE_DUO.leaf(0xa, 0));
    assert_eq!(QEMU64.leaf(0x8000_0022, 0), [0; 4]);
    assert_eq!(ZEN4.leaf(0xa, 0), [0; 4]);
}
