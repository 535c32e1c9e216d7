//! Goal: every event has the right code and the right counters on every CPU, and where it has none, the reason is
//! the true one.
//!
//! Method: CPUs are described by their capabilities, and the codes written down here a second time from sources
//! other than those of the tables: the architectural events and AMD's common ones as KVM's unit tests have them
//! (kvm-unit-tests, `x86/pmu.c`), the others as the vendors' event lists have them (Intel's perfmon JSON files, AMD's
//! in Linux, `tools/perf/pmu-events/arch/x86`). Random raw events on random CPUs check what holds for all.

use GenericEvent::*;
use nmiprof_pmu::event::{
    Event, EventKind, GenericEvent, NotOffered, encode, generic_events, offer, parse_list,
};
use nmiprof_pmu::unit::select;
use nmiprof_pmu::{Capabilities, CoreKind, Counter, CounterSet, Encoding, Extras, Interface};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const FIXED: u64 = 1 << 32;

fn intel(version: u8, model: u8, general: u8, fixed: u64) -> Capabilities {
    Capabilities {
        interface: Interface::Intel { version },
        family: 6,
        model,
        core_kind: None,
        general: CounterSet::first_general(general),
        general_width_bits: 48,
        fixed: CounterSet(fixed * FIXED),
        fixed_width_bits: 48,
        full_width_writes: true,
        freeze_on_pmi: true,
        missing_events: 0,
        extras: Extras::default(),
    }
}

fn amd(interface: Interface, family: u16, model: u8, general: u8) -> Capabilities {
    Capabilities { interface, family, model, fixed: CounterSet::EMPTY, ..intel(1, 0, general, 0) }
}

fn skylake() -> Capabilities {
    intel(4, 0x5e, 4, 0b111)
}

fn ice_lake() -> Capabilities {
    intel(5, 0x7e, 8, 0b1111)
}

fn nehalem() -> Capabilities {
    intel(3, 0x1a, 4, 0b111)
}

fn zen(family: u16, model: u8) -> Capabilities {
    amd(Interface::AmdCoreExtension, family, model, 6)
}

fn bulldozer() -> Capabilities {
    zen(0x15, 0x01)
}

fn encoded(text: &str, capabilities: &Capabilities) -> Result<Encoding, NotOffered> {
    let events = parse_list(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    encode(&events[0], capabilities)
}

fn select_of(event: GenericEvent, capabilities: &Capabilities) -> Option<u64> {
    offer(event, capabilities).ok().map(|encoding| encoding.select)
}

fn assert_selects(capabilities: &Capabilities, expected: &[(GenericEvent, u64)]) {
    for &event in generic_events() {
        let select = expected.iter().find(|(it, _)| *it == event).map(|(_, select)| *select);
        assert_eq!(select_of(event, capabilities), select, "{event} on {capabilities:?}");
    }
}

// kvm-unit-tests, x86/pmu.c
const INTEL_COMMON: [(GenericEvent, u64); 7] = [
    (Cycles, 0x003c),
    (Instructions, 0x00c0),
    (BusCycles, 0x013c),
    (CacheReferences, 0x4f2e),
    (CacheMisses, 0x412e),
    (Branches, 0x00c4),
    (BranchMisses, 0x00c5),
];
const AMD_COMMON: [(GenericEvent, u64); 4] =
    [(Cycles, 0x0076), (Instructions, 0x00c0), (Branches, 0x00c2), (BranchMisses, 0x00c3)];

#[test]
fn intel_has_the_architectural_events_on_every_generation() {
    let only_general = intel(1, 0x0e, 2, 0);
    assert_selects(&only_general, &INTEL_COMMON);
    let fixed = [&INTEL_COMMON[..], &[(RefCycles, 0x0300)]].concat();
    assert_selects(&skylake(), &fixed);
    assert_selects(&intel(2, 0x17, 2, 0b111), &fixed);
    assert_selects(&ice_lake(), &[&fixed[..], &[(Slots, 0x0400)]].concat());
}

#[test]
fn each_bit_of_ebx_takes_its_event_away() {
    let bits = [Cycles, Instructions, BusCycles, CacheReferences, CacheMisses, Branches, BranchMisses];
    for (bit, &event) in bits.iter().enumerate() {
        let capabilities = Capabilities { missing_events: 1 << bit, ..ice_lake() };
        for &other in generic_events() {
            let gone = other == event || offer(other, &ice_lake()).is_err();
            assert_eq!(offer(other, &capabilities).is_err(), gone, "bit {bit}, {other}");
        }
        assert_eq!(offer(event, &capabilities), Err(NotOffered::Missing { event }));
    }
}

#[test]
fn events_that_fixed_counters_have_are_not_in_ebx() {
    let capabilities = Capabilities { missing_events: u32::MAX, ..ice_lake() };
    assert_eq!(select_of(RefCycles, &capabilities), Some(0x0300));
    assert_eq!(select_of(Slots, &capabilities), Some(0x0400));
    assert_eq!(select_of(Cycles, &capabilities), None);
}

#[test]
fn nehalem_counts_executed_mispredictions_where_retired_ones_are_missing() {
    let capabilities = Capabilities { missing_events: 1 << 6, ..nehalem() };
    assert_eq!(select_of(BranchMisses, &capabilities), Some(0x7f89));
    assert_eq!(select_of(BranchMisses, &nehalem()), Some(0x00c5));
    let later = Capabilities { missing_events: 1 << 6, ..skylake() };
    assert_eq!(offer(BranchMisses, &later), Err(NotOffered::Missing { event: BranchMisses }));
}

#[test]
fn fixed_counters_join_the_general_ones_where_they_count_the_same() {
    let counters = |event| offer(event, &ice_lake()).expect("offered").counters;
    assert_eq!(counters(Instructions), CounterSet(FIXED | 0xff));
    assert_eq!(counters(Cycles), CounterSet(FIXED << 1 | 0xff));
    assert_eq!(counters(RefCycles), CounterSet(FIXED << 2));
    assert_eq!(counters(Slots), CounterSet(FIXED << 3));
    for event in [BusCycles, CacheReferences, CacheMisses, Branches, BranchMisses] {
        assert_eq!(counters(event), CounterSet(0xff), "{event}");
    }
}

#[test]
fn only_counters_that_are_there_are_named() {
    let holes = Capabilities { fixed: CounterSet(FIXED << 1 | FIXED << 2), ..skylake() };
    assert_eq!(offer(Instructions, &holes).expect("offered").counters, CounterSet(0xf));
    let none = Capabilities { fixed: CounterSet::EMPTY, ..skylake() };
    assert_eq!(offer(RefCycles, &none), Err(NotOffered::NoCounter));
    assert_eq!(offer(Slots, &skylake()), Err(NotOffered::NoCounter));
    let no_general = Capabilities { general: CounterSet::EMPTY, ..skylake() };
    assert_eq!(offer(Instructions, &no_general).expect("offered").counters, CounterSet(FIXED));
    assert_eq!(offer(Branches, &no_general), Err(NotOffered::NoCounter));
}

#[test]
fn the_cores_of_a_hybrid_processor_differ_in_their_counters() {
    let core = Capabilities { core_kind: Some(CoreKind::Core), ..intel(5, 0x97, 8, 0b1111) };
    let atom = Capabilities { core_kind: Some(CoreKind::Atom), ..intel(5, 0x97, 6, 0b111) };
    assert_eq!(offer(Slots, &core).expect("offered").counters, CounterSet(FIXED << 3));
    assert_eq!(offer(Slots, &atom), Err(NotOffered::NoCounter));
    assert_eq!(offer(Cycles, &core).map(|it| it.select), offer(Cycles, &atom).map(|it| it.select));
    assert!(encoded("cpu_core/cycles/", &core).is_ok());
    assert!(encoded("cpu_atom/cycles/", &atom).is_ok());
    let wanted = CoreKind::Core;
    assert_eq!(encoded("cpu_core/cycles/", &atom), Err(NotOffered::OtherCore { wanted }));
    assert_eq!(encoded("cpu_core/cycles/", &skylake()), Err(NotOffered::OtherCore { wanted }));
    assert!(encoded("cpu/cycles/", &atom).is_ok());
}

#[test]
fn stalled_cycles_are_cycles_without_a_micro_op_where_intel_has_them() {
    // UOPS_ISSUED 0EH/01H, UOPS_EXECUTED B1H/3FH, UOPS_DISPATCHED.THREAD B1H/01H; INV, CMASK 1.
    let none_in_cycle = |event_and_umask: u64| Some(event_and_umask | select::INV | 1 << 24);
    for model in [0x1a, 0x1e, 0x2e, 0x25, 0x2c, 0x2f] {
        let capabilities = intel(3, model, 4, 0b111);
        assert_eq!(select_of(StalledCyclesFrontend, &capabilities), none_in_cycle(0x010e));
        assert_eq!(select_of(StalledCyclesBackend, &capabilities), none_in_cycle(0x3fb1));
    }
    for model in [0x2a, 0x2d] {
        let capabilities = intel(3, model, 8, 0b111);
        assert_eq!(select_of(StalledCyclesFrontend, &capabilities), none_in_cycle(0x010e));
        assert_eq!(select_of(StalledCyclesBackend, &capabilities), none_in_cycle(0x01b1));
    }
    for model in [0x3a, 0x3e] {
        let capabilities = intel(3, model, 8, 0b111);
        assert_eq!(select_of(StalledCyclesFrontend, &capabilities), none_in_cycle(0x010e));
        assert_eq!(select_of(StalledCyclesBackend, &capabilities), None);
    }
    for capabilities in
        [skylake(), ice_lake(), intel(2, 0x17, 2, 0b111), Capabilities { family: 0x13, ..nehalem() }]
    {
        assert_eq!(select_of(StalledCyclesFrontend, &capabilities), None);
        assert_eq!(select_of(StalledCyclesBackend, &capabilities), None);
    }
}

#[test]
fn amd_has_the_same_codes_from_k7_to_family_16h() {
    let expected = [
        &AMD_COMMON[..],
        &[(CacheReferences, 0x077d), (CacheMisses, 0x077e)],
        &[(StalledCyclesFrontend, 0x00d0), (StalledCyclesBackend, 0x00d1)],
    ]
    .concat();
    for family in [0x06, 0x0f, 0x10, 0x11, 0x12, 0x14, 0x15, 0x16] {
        assert_selects(&amd(Interface::AmdLegacy, family, 2, 4), &expected);
    }
    assert_selects(&amd(Interface::AmdLegacy, 0x05, 2, 4), &[]);
}

#[test]
fn the_generations_of_zen_differ_in_stalls_and_reference_cycles() {
    let caches = [(CacheReferences, 0xff60), (CacheMisses, 0x0964)];
    let zen_1 =
        [&AMD_COMMON[..], &caches, &[(StalledCyclesFrontend, 0x0287), (StalledCyclesBackend, 0x0187)]]
            .concat();
    // de_dis_uop_queue_empty_di0, event A9H
    let zen_2 = [&AMD_COMMON[..], &caches, &[(StalledCyclesFrontend, 0x00a9)]].concat();
    // ls_not_halted_p0_cyc.p0_freq_cyc, event 120H, unit mask 01H
    let zen_4 = [&zen_2[..], &[(RefCycles, 1 << 32 | 0x0120)]].concat();
    for (family, model) in
        [(0x17, 0x01), (0x17, 0x08), (0x17, 0x11), (0x17, 0x18), (0x17, 0x50), (0x18, 0x00)]
    {
        assert_selects(&zen(family, model), &zen_1);
    }
    for (family, model) in
        [(0x17, 0x31), (0x17, 0x60), (0x17, 0x71), (0x17, 0x90), (0x19, 0x01), (0x19, 0x21), (0x19, 0x50)]
    {
        assert_selects(&zen(family, model), &zen_2);
    }
    for (family, model) in
        [(0x19, 0x11), (0x19, 0x61), (0x19, 0x74), (0x19, 0xa0), (0x1a, 0x02), (0x1a, 0x44), (0x1b, 0)]
    {
        assert_selects(&zen(family, model), &zen_4);
    }
}

#[test]
fn every_counter_of_amd_counts_every_generic_event_but_on_family_15h() {
    for &event in generic_events() {
        if let Ok(encoding) = offer(event, &zen(0x1a, 2)) {
            assert_eq!(encoding.counters, CounterSet(0b11_1111), "{event}");
        }
    }
    let counters = |event| offer(event, &bulldozer()).expect("offered").counters;
    for event in [Instructions, Branches, BranchMisses] {
        assert_eq!(counters(event), CounterSet(0b11_1111), "{event}");
    }
    for event in [Cycles, CacheReferences, CacheMisses, StalledCyclesFrontend, StalledCyclesBackend] {
        assert_eq!(counters(event), CounterSet(0b00_0111), "{event}");
    }
    // A hypervisor may hide the core extension: four counters are left.
    let four = amd(Interface::AmdLegacy, 0x15, 1, 4);
    assert_eq!(offer(Instructions, &four).expect("offered").counters, CounterSet(0b1111));
}

#[test]
fn raw_events_of_family_15h_go_where_their_unit_is_wired() {
    let counters = |text| encoded(text, &bulldozer()).map(|it| it.counters.0);
    for (text, expected) in [
        ("r0000", 0b11_1000),
        ("rf000", 0b11_1000),
        ("r1100", 0b00_1000),
        ("r0103", 0b00_1000),
        ("r0304", 0b00_1000),
        ("r0104", 0b11_1000),
        ("r011", 0b11_1000),
        ("r023", 0b00_0111),
        ("r02d", 0b00_1000),
        ("r02e", 0b00_1001),
        ("r0131", 0b00_0111),
        ("r040", 0b11_1111),
        ("r043", 0b00_0111),
        ("r076", 0b00_0111),
        ("r08f", 0b00_0001),
        ("r090", 0b00_0111),
        ("r1000000c0", 0b11_1000),
        ("r100000087", 0b00_0001),
        ("r0dc", 0b11_1111),
        ("r0d4", 0b00_0111),
        ("r1000000d6", 0b11_1111),
    ] {
        assert_eq!(counters(text), Ok(expected), "{text}");
    }
    // Two unit masks at once; no unit; the north bridge.
    for text in ["r0331", "r0a0", "r0b0", "r0e9", "r0f0"] {
        assert_eq!(counters(text), Err(NotOffered::NoCounter), "{text}");
    }
}

#[test]
fn a_raw_event_of_a_fixed_counter_gets_it_unless_it_has_conditions() {
    for (text, fixed) in [("r0c0", FIXED), ("r03c", FIXED << 1), ("cpu/event=0xc0/", FIXED)] {
        assert_eq!(encoded(text, &ice_lake()).expect("offered").counters.0, fixed | 0xff, "{text}");
    }
    for text in ["r10000c0", "cpu/event=0xc0,edge/", "cpu/event=0xc0,inv,cmask=1/", "r1c0", "r13c"] {
        assert_eq!(encoded(text, &ice_lake()).expect("offered").counters.0, 0xff, "{text}");
    }
    assert_eq!(encoded("cpu/event=0x3c,any/", &skylake()).expect("offered").counters.0, 0xf);
    // Intel's event lists: INST_RETIRED.ANY, CPU_CLK_UNHALTED.THREAD, .REF_TSC, TOPDOWN.SLOTS
    for (text, index) in [("r100", 0), ("r200", 1), ("r300", 2), ("r400", 3)] {
        assert_eq!(encoded(text, &ice_lake()).expect("offered").counters.0, FIXED << index, "{text}");
    }
    for text in ["r0", "r500", "r1000300"] {
        assert_eq!(encoded(text, &ice_lake()), Err(NotOffered::NoCounter), "{text}");
    }
    // No fixed counters, and an event 0 of its own, on AMD.
    assert_eq!(encoded("r300", &zen(0x19, 1)).expect("offered").counters.0, 0b11_1111);
}

#[test]
fn bits_that_the_register_has_not_are_refused_by_name() {
    let reserved = |bits, capabilities: &Capabilities| {
        Err(NotOffered::ReservedBits { bits, interface: capabilities.interface })
    };
    let check = |text, bits, capabilities: Capabilities| {
        assert_eq!(encoded(text, &capabilities), reserved(bits, &capabilities), "{text}");
    };
    check("cpu/event=0x1c0/", 1 << 32, skylake());
    check("r8000000c0", 1 << 35, skylake());
    check("r800c0", 1 << 19, skylake());
    check("r1000000000000000", 1 << 60, zen(0x17, 1));
    check("r10000000c0", 1 << 36, zen(0x17, 1));
    check("cpu/event=0x3c,any/", 1 << 21, zen(0x17, 1));
    check("cpu/event=0x3c,any/", 1 << 21, ice_lake());
    check("cpu/event=0x3c,any/", 1 << 21, intel(2, 0x17, 2, 0b111));
    check("cpu/event=0x1c0/", 1 << 32, amd(Interface::AmdLegacy, 0x0f, 5, 4));
    assert!(encoded("cpu/event=0x1c0/", &amd(Interface::AmdLegacy, 0x10, 5, 4)).is_ok());
    assert!(encoded("cpu/event=0x3c,any/", &nehalem()).is_ok());
    assert!(encoded("cpu/event=0x3c,any/", &skylake()).is_ok());
    let message = encoded("cpu/event=0x3c,any/", &ice_lake()).unwrap_err().to_string();
    assert_eq!(message, "the event-select register of intel-v5 has no bit 21 (any)");
}

#[test]
fn bits_that_the_driver_sets_are_refused_by_name() {
    let error = encoded("r5300c0", &skylake()).unwrap_err();
    assert_eq!(error, NotOffered::DriverBits { bits: 0x53_0000 });
    let message = "leave out bit 16 (USR), 17 (OS), 20 (INT), 22 (EN): \
                   `:u` and `:k` say where to count, the driver does the rest";
    assert_eq!(error.to_string(), message);
    for bit in [16, 17, 20, 22] {
        let bits = 1u64 << bit;
        let text = format!("r{:x}", bits | 0xc0);
        assert_eq!(encoded(&text, &zen(0x17, 1)), Err(NotOffered::DriverBits { bits }));
    }
}

#[test]
fn reasons_say_which_event_is_missing_on_which_cpu() {
    let no_stalls = offer(StalledCyclesBackend, &zen(0x17, 0x31)).unwrap_err().to_string();
    assert_eq!(no_stalls, "no such event on AMD family 17h model 31h: stalled-cycles-backend");
    let no_stalls = offer(StalledCyclesBackend, &skylake()).unwrap_err().to_string();
    assert_eq!(no_stalls, "no such event on Intel family 06h model 5eh: stalled-cycles-backend");
    let missing = Capabilities { missing_events: 1, ..skylake() };
    let message = offer(Cycles, &missing).unwrap_err().to_string();
    assert_eq!(message, "this CPU's CPUID.0AH:EBX says that the event is missing: cycles");
}

#[test]
fn letters_become_privilege_levels_and_nothing_else() {
    let all = encoded("cycles", &skylake()).expect("offered");
    assert_eq!((all.user, all.kernel), (true, true));
    assert_eq!(offer(Cycles, &skylake()), Ok(all));
    assert_eq!(encoded("cycles:u", &skylake()), Ok(Encoding { kernel: false, ..all }));
    assert_eq!(encoded("r3c:k", &skylake()), Ok(Encoding { user: false, ..all }));
    assert_eq!(encoded("cycles/period=3/", &skylake()), Ok(all));
}

fn cpu() -> impl Strategy<Value = Capabilities> {
    let interface = prop_oneof![
        (1u8..=6).prop_map(|version| Interface::Intel { version }),
        Just(Interface::AmdLegacy),
        Just(Interface::AmdCoreExtension),
        Just(Interface::AmdPerfMonV2),
    ];
    let family = prop_oneof![Just(6u16), 0x0fu16..=0x1a, any::<u16>()];
    (interface, family, any::<u8>(), 0u8..=32, any::<u16>(), any::<u32>()).prop_map(
        |(interface, family, model, general, fixed, missing_events)| {
            let base = intel(1, model, general, u64::from(fixed));
            let fixed =
                if matches!(interface, Interface::Intel { .. }) { base.fixed } else { CounterSet::EMPTY };
            Capabilities { interface, family, missing_events, fixed, ..base }
        },
    )
}

/// A raw event with few bits, so that it is not always refused.
fn raw() -> impl Strategy<Value = u64> {
    let sparse = prop::collection::vec(0u32..40, 0..6)
        .prop_map(|bits| bits.iter().map(|bit| 1u64 << bit).fold(0, |a, b| a | b));
    prop_oneof![any::<u64>(), 0u64..0x10000, sparse]
}

/// What an encoding may never be, on whatever CPU.
fn assert_sound(encoding: Encoding, capabilities: &Capabilities) {
    assert!(!encoding.counters.is_empty());
    assert!(encoding.counters.without(capabilities.counters()).is_empty());
    let layout = 0xff8c_ffffu64 & !(1 << 19) | select::ANY | select::EVENT_HIGH;
    assert_eq!(encoding.select & !layout, 0, "{:#x}", encoding.select);
    if matches!(capabilities.interface, Interface::Intel { .. }) {
        assert_eq!(encoding.select & select::EVENT_HIGH, 0);
        let has_conditions = encoding.select >> 16 != 0;
        assert!(!has_conditions || !encoding.counters.iter().any(Counter::is_fixed));
    }
}

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("tests/event_encodings.seeds");
    ProptestConfig { cases: 4000, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_is_offered_fits_the_cpu(capabilities in cpu(), select in raw()) {
        let text = format!("r{select:x}");
        let event = Event { kind: EventKind::Raw(select), ..parse_list(&text).expect("right")[0] };
        match encode(&event, &capabilities) {
            Ok(encoding) => {
                prop_assert_eq!(encoding.select, select);
                assert_sound(encoding, &capabilities);
            }
            Err(reason) => prop_assert!(!reason.to_string().is_empty()),
        }
        for &event in generic_events() {
            if let Ok(encoding) = offer(event, &capabilities) {
                assert_sound(encoding, &capabilities);
                prop_assert!(encoding.user && encoding.kernel);
            }
        }
    }
}
