//! Goal: what CPUID says comes out as capabilities, and nothing that it can say panics or exceeds what has an address.
//!
//! Method: leaves as the manuals lay them out, for made-up processors of each kind; then random leaves, vendor names
//! among them, from a printed seed. Leaves that a test does not name are zeros up to the highest leaf, and the highest
//! leaf's answer beyond it, as on a processor.

use std::collections::BTreeMap;

use super::{NoPmu, detect};
use crate::bus::{GeneralProtection, MsrBus};
use crate::capabilities::{CoreKind, Extras, Interface};
use crate::counter::CounterSet;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use raw_cpuid::{CpuIdReader, CpuIdResult};

/// Answers of CPUID, by leaf: EAX, EBX, ECX, EDX.
#[derive(Clone, Debug, Default)]
struct Leaves(BTreeMap<u32, [u32; 4]>);

impl Leaves {
    fn with(mut self, leaf: u32, answer: [u32; 4]) -> Self {
        self.0.insert(leaf, answer);
        self
    }
}

impl CpuIdReader for Leaves {
    fn cpuid2(&self, leaf: u32, _: u32) -> CpuIdResult {
        let leaf_max = |from: u32| self.0.get(&from).map_or(0, |answer| answer[0]);
        let known = if leaf >= 0x8000_0000 { leaf <= leaf_max(0x8000_0000) } else { leaf <= leaf_max(0) };
        let leaf = if known { leaf } else { leaf_max(0) };
        let [eax, ebx, ecx, edx] = self.0.get(&leaf).copied().unwrap_or_default();
        CpuIdResult { eax, ebx, ecx, edx }
    }
}

/// Registers that can be read.
#[derive(Debug, Default)]
struct Registers(BTreeMap<u32, u64>);

impl MsrBus for Registers {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        self.0.get(&msr).copied().ok_or(GeneralProtection)
    }

    fn write(&mut self, _: u32, _: u64) -> Result<(), GeneralProtection> {
        panic!("detection changes nothing")
    }

    fn read_lvtpc(&mut self) -> u32 {
        panic!("detection needs nothing of the APIC")
    }

    fn write_lvtpc(&mut self, _: u32) {
        panic!("detection changes nothing")
    }
}

/// A processor whose performance monitoring is on, and which has no full-width writes.
fn registers() -> Registers {
    Registers(BTreeMap::from([(0x1a0, 1 << 7), (0x345, 0)]))
}

/// Leaf 0 with this vendor's name, in EBX, EDX and ECX.
fn vendor(leaf_max: u32, name: &[u8; 12]) -> [u32; 4] {
    let word = |at: usize| u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
    [leaf_max, word(0), word(8), word(4)]
}

/// Family 6, model 9EH.
const COFFEE_LAKE: u32 = 0x000_906ea;
const PDCM: u32 = 1 << 15;
const DS: u32 = 1 << 21;

fn intel(perfmon: [u32; 4]) -> Leaves {
    Leaves::default()
        .with(0, vendor(0x1c, b"GenuineIntel"))
        .with(1, [COFFEE_LAKE, 0, PDCM, DS])
        .with(0xa, perfmon)
}

/// Family 19H, model 61H.
const ZEN_4: u32 = 0x00a6_0f12;
const CORE_EXTENSION: u32 = 1 << 23;
const IBS: u32 = 1 << 10;

fn amd(signature: u32, features: u32, perfmon: [u32; 4]) -> Leaves {
    Leaves::default()
        .with(0, vendor(0xd, b"AuthenticAMD"))
        .with(1, [signature, 0, 0, 0])
        .with(0x8000_0000, [0x8000_0022, 0, 0, 0])
        .with(0x8000_0001, [0, 0, features, 0])
        .with(0x8000_0022, perfmon)
}

#[test]
fn version_4_with_four_general_and_three_fixed_counters() {
    let mut bus = registers();
    bus.0.insert(0x345, 1 << 13);
    let found = detect(&intel([0x0730_0404, 0, 0xffff, 0x603]), &mut bus).expect("there is one");
    assert_eq!(found.interface, Interface::Intel { version: 4 });
    assert_eq!((found.family, found.model, found.core_kind), (6, 0x9e, None));
    assert_eq!((found.general, found.general_width_bits), (CounterSet(0b1111), 48));
    assert_eq!((found.fixed, found.fixed_width_bits), (CounterSet(0b111 << 32), 48), "ECX is not read yet");
    assert!(found.full_width_writes && found.freeze_on_pmi);
    assert_eq!(found.missing_events, !0x7f, "all seven");
    assert_eq!(found.extras, Extras { pebs: true, ..Extras::default() });
}

#[test]
fn version_1_has_general_counters_only() {
    let found = detect(&intel([0x0728_0201, 0b10, 0, 0xffff_ffff]), &mut registers()).expect("there is one");
    assert_eq!((found.general, found.general_width_bits), (CounterSet(0b11), 40));
    assert_eq!((found.fixed, found.fixed_width_bits), (CounterSet::EMPTY, 0));
    assert!(!found.freeze_on_pmi && !found.full_width_writes);
    assert_eq!(found.missing_events, !0x7f | 0b10);
}

#[test]
fn version_5_may_have_fixed_counters_with_gaps() {
    let found = detect(&intel([0x0830_0805, 0, 0b1_0001, 0x602]), &mut registers()).expect("there is one");
    assert_eq!(found.fixed, CounterSet(0b1_0011 << 32));
    let found = detect(&intel([0x0830_0805, 0, u32::MAX, 0x61f]), &mut registers()).expect("there is one");
    assert_eq!(found.fixed, CounterSet(0xffff << 32), "no more than have control bits");
}

#[test]
fn events_beyond_the_length_of_their_vector_are_missing() {
    for (length, missing) in [(0, u32::MAX), (7, !0x7f), (8, !0xff), (32, 0), (255, 0)] {
        let leaves = intel([length << 24 | 0x30_0402, 0, 0, 0]);
        assert_eq!(detect(&leaves, &mut registers()).expect("there is one").missing_events, missing);
    }
}

#[test]
fn the_kind_of_core_is_said_on_hybrid_processors_only() {
    for (leaf_7, leaf_1a, kind) in [
        (1 << 15, 0x2000_0001, Some(CoreKind::Atom)),
        (1 << 15, 0x4000_0001, Some(CoreKind::Core)),
        (1 << 15, 0x1000_0000, None),
        (0, 0x4000_0001, None),
    ] {
        let leaves =
            intel([0x0730_0405, 0, 0, 0x603]).with(7, [0, 0, 0, leaf_7]).with(0x1a, [leaf_1a, 0, 0, 0]);
        assert_eq!(detect(&leaves, &mut registers()).expect("there is one").core_kind, kind);
    }
}

#[test]
fn the_deepest_stack_of_branch_records_counts() {
    for (leaf_7, depths, entries) in
        [(0, 0xff, 0), (1 << 19, 0, 0), (1 << 19, 0b1011, 32), (1 << 19, 0xff, 64)]
    {
        let leaves =
            intel([0x0730_0405, 0, 0, 0x603]).with(7, [0, 0, 0, leaf_7]).with(0x1c, [depths, 0, 0, 0]);
        let found = detect(&leaves, &mut registers()).expect("there is one");
        assert_eq!(found.extras.lbr_depth_entries, entries);
    }
}

#[test]
fn a_leaf_beyond_the_highest_is_not_believed() {
    // The answer would be that of leaf 0AH, which looks like an Atom in leaf 1AH, and like 16 entries in leaf 1CH.
    let leaves = intel([0x2030_0402, 0, 0, 0x603])
        .with(0, vendor(0xa, b"GenuineIntel"))
        .with(7, [0, 0, 0, 1 << 15 | 1 << 19]);
    let found = detect(&leaves, &mut registers()).expect("there is one");
    assert_eq!((found.core_kind, found.extras.lbr_depth_entries), (None, 0));
}

#[test]
fn registers_that_are_not_there_cost_features_and_not_the_pmu() {
    let found = detect(&intel([0x0730_0404, 0, 0, 0x603]), &mut Registers::default()).expect("there is one");
    assert!(!found.full_width_writes && !found.extras.pebs);
    let mut bus = registers();
    bus.0.insert(0x345, 1 << 13);
    bus.0.insert(0x1a0, 1 << 7 | 1 << 12);
    let without_pdcm = intel([0x0730_0404, 0, 0, 0x603]).with(1, [COFFEE_LAKE, 0, 0, DS]);
    let found = detect(&without_pdcm, &mut bus).expect("there is one");
    assert!(!found.full_width_writes && !found.extras.pebs, "one bit says no PEBS, one is not asked for");
}

#[test]
fn counts_and_widths_are_cut_to_what_can_be() {
    let found =
        detect(&intel([0xffff_ffff, u32::MAX, u32::MAX, u32::MAX]), &mut registers()).expect("there is one");
    assert_eq!((found.general.count(), found.general_width_bits), (10, 64));
    assert_eq!((found.fixed.count(), found.fixed_width_bits), (16, 64));
    let found =
        detect(&intel([0x0700_0402, 0, 0, 0x603]), &mut registers()).expect("fixed ones have a width");
    assert!(found.general.is_empty());
}

#[test]
fn each_reason_for_no_pmu_is_its_own() {
    let usual = [0x0730_0404, 0, 0, 0x603];
    let off = || Registers(BTreeMap::from([(0x1a0, 0)]));
    let stranger = intel(usual).with(0, vendor(0x1c, b"CentaurHauls"));
    let garbage = intel(usual).with(0, vendor(0x1c, &[0xff; 12]));
    let short = intel(usual).with(0, vendor(9, b"GenuineIntel"));
    let shortest = intel(usual).with(0, vendor(0, b"GenuineIntel"));
    let k6 = amd(0x580, 0, [0; 4]);
    let empty = amd(ZEN_4, CORE_EXTENSION, [1, 0, 0, 0]);
    for (leaves, bus, expected) in [
        (stranger, registers(), NoPmu::UnknownVendor),
        (garbage, registers(), NoPmu::UnknownVendor),
        (shortest, registers(), NoPmu::NoFamily),
        (short, registers(), NoPmu::NoLeaf),
        (intel([0x0730_0400, 0, 0, 0]), registers(), NoPmu::VersionZero),
        (intel(usual), off(), NoPmu::TurnedOff),
        (intel([0x0730_0002, 0, 0, 0]), registers(), NoPmu::NoCounters),
        (intel([0x0730_0001, 0, 0, 0x603]), registers(), NoPmu::NoCounters),
        (k6, registers(), NoPmu::OldFamily),
        (empty, registers(), NoPmu::NoCounters),
    ] {
        assert_eq!(detect(&leaves, &mut { bus }), Err(expected), "{expected}");
    }
}

#[test]
fn amd_has_three_interfaces() {
    let v2 = [0b101, 0x40 | 6, 0, 0];
    for (signature, features, perfmon, interface, counters, freezes) in [
        (0x00a6_0f12, CORE_EXTENSION, v2, Interface::AmdPerfMonV2, 6, true),
        (0x00a6_0f12, CORE_EXTENSION, [1, 15, 0, 0], Interface::AmdPerfMonV2, 15, false),
        (0x0080_0f11, CORE_EXTENSION, [0; 4], Interface::AmdCoreExtension, 6, false),
        (0x00a6_0f12, 0, v2, Interface::AmdLegacy, 4, false),
        (0x0010_0f43, 0, [0; 4], Interface::AmdLegacy, 4, false),
    ] {
        let found =
            detect(&amd(signature, features, perfmon), &mut Registers::default()).expect("there is one");
        assert_eq!((found.interface, found.freeze_on_pmi), (interface, freezes));
        assert_eq!((found.general, found.general_width_bits), (CounterSet::first_general(counters), 48));
        assert!(found.fixed.is_empty() && found.full_width_writes);
    }
}

#[test]
fn hygon_is_an_amd() {
    let leaves = amd(0x0090_0f01, CORE_EXTENSION, [0; 4]).with(0, vendor(0xd, b"HygonGenuine"));
    let found = detect(&leaves, &mut Registers::default()).expect("there is one");
    assert_eq!((found.interface, found.family), (Interface::AmdCoreExtension, 0x18));
}

#[test]
fn ibs_is_described_by_its_leaf_or_taken_as_whole() {
    for (features, leaf, (fetch, op)) in [
        (0, 0b111, (false, false)),
        (IBS, 0b111, (true, true)),
        (IBS, 0b101, (false, true)),
        (IBS, 0b011, (true, false)),
        (IBS, 0, (true, true)),
    ] {
        let leaves = amd(ZEN_4, CORE_EXTENSION | features, [0; 4]).with(0x8000_001b, [leaf, 0, 0, 0]);
        let found = detect(&leaves, &mut Registers::default()).expect("there is one");
        assert_eq!((found.extras.ibs_fetch, found.extras.ibs_op), (fetch, op));
    }
}

#[test]
fn the_largest_family_does_not_overflow() {
    let found = detect(&amd(0x0fff_ffff, 0, [0; 4]), &mut Registers::default()).expect("there is one");
    assert_eq!((found.family, found.model), (0x10e, 0xff));
}

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("src/cpuid/tests.seeds");
    ProptestConfig { cases: 2000, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

fn any_vendor() -> impl Strategy<Value = [u8; 12]> {
    prop_oneof![
        4 => Just(*b"GenuineIntel"),
        4 => Just(*b"AuthenticAMD"),
        1 => Just(*b"HygonGenuine"),
        1 => any::<[u8; 12]>(),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_answer_of_cpuid_panics_or_gives_counters_without_an_address(
        name in any_vendor(),
        leaf_max in prop_oneof![0..0x20u32, any::<u32>()],
        extended_max in prop_oneof![0x8000_0000..0x8000_0030u32, any::<u32>()],
        answers in any::<[[u32; 4]; 8]>(),
        (misc, capabilities) in any::<(u64, u64)>(),
    ) {
        let mut leaves = Leaves::default()
            .with(0, vendor(leaf_max, &name))
            .with(0x8000_0000, [extended_max, 0, 0, 0]);
        let numbers = [1, 7, 0xa, 0x1a, 0x1c, 0x8000_0001, 0x8000_001b, 0x8000_0022];
        for (number, answer) in numbers.into_iter().zip(answers) {
            leaves = leaves.with(number, answer);
        }
        let mut bus = Registers(BTreeMap::from([(0x1a0, misc), (0x345, capabilities)]));
        if let Ok(found) = detect(&leaves, &mut bus) {
            prop_assert!(!found.counters().is_empty());
            prop_assert!(found.general.without(CounterSet::first_general(15)).is_empty());
            prop_assert!(found.fixed.without(CounterSet(0xffff << 32)).is_empty());
            for counter in found.counters().iter() {
                prop_assert!((1..=64).contains(&found.width_bits(counter)));
            }
        }
    }
}
