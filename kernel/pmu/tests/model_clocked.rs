//! Goal: the model under a clock loses no NMI and doubles none, interrupts when it should, and counts what its
//! formulas say.
//!
//! Method: a bench with a simulated clock, timer and NMI counter, on which every access costs some ticks, so that time
//! moves between any two of them. What should have come of 100000 random accesses is found by an oracle that is told
//! every event of every tick, one by one. `NMIPROF_SEED` repeats a run; the seed is printed.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use nmiprof_pmu::MsrBus;
use nmiprof_pmu::model::{
    ClockedModel, FORMULAS, Flaw, GUARD_TICKS, Line, MARGIN_TICKS, Model, Privilege, Rate, Signal,
};
use nmiprof_pmu::profiles::{ALDER_LAKE_E, CORE_DUO, NEHALEM, Profile, SKYLAKE, ZEN2, ZEN4};

const LVT_NMI: u32 = 0x400;
const MASKED: u32 = 1 << 16;
/// User, kernel, interrupt, enable.
const FLAGS: u64 = 0x0053_0000;
const STEPS: u32 = 100_000;
/// Most ticks that a look at the bench takes in the storm.
const COST_MAX: u64 = 3;

/// A clock, a timer and an NMI line.
struct Bench {
    now: Cell<u64>,
    /// What the last access saw first: the time up to which the model has come.
    seen: Cell<Option<u64>>,
    /// Ticks that each look at the bench takes.
    cost: Cell<u64>,
    timer_end: Cell<Option<u64>>,
    timer_nmis: Cell<u64>,
    self_nmis: Cell<u64>,
    arms: Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        let zero = || Cell::new(0);
        let (now, cost, timer_nmis, self_nmis, arms) = (zero(), zero(), zero(), zero(), zero());
        let (seen, timer_end) = (Cell::new(None), Cell::new(None));
        Self { now, seen, cost, timer_end, timer_nmis, self_nmis, arms }
    }

    fn pass(&self, ticks: u64) {
        self.now.set(self.now.get() + ticks);
        if self.timer_end.get().is_some_and(|end| end <= self.now.get()) {
            self.timer_end.set(None);
            self.timer_nmis.set(self.timer_nmis.get() + 1);
        }
    }

    fn nmis(&self) -> u64 {
        self.timer_nmis.get() + self.self_nmis.get()
    }
}

impl Line for &Bench {
    fn now(&self) -> u64 {
        self.pass(self.cost.get());
        if self.seen.get().is_none() {
            self.seen.set(Some(self.now.get()));
        }
        self.now.get()
    }
    fn arm(&self, ticks: u32) {
        self.pass(self.cost.get());
        self.arms.set(self.arms.get() + 1);
        self.timer_end.set((ticks != 0).then(|| self.now.get() + u64::from(ticks)));
    }
    fn remaining(&self) -> u32 {
        self.pass(self.cost.get());
        let left = self.timer_end.get().map_or(0, |end| end - self.now.get());
        u32::try_from(left).expect("armed with 32 bits")
    }
    fn raise(&self) {
        self.self_nmis.set(self.self_nmis.get() + 1);
    }
}

fn mask(distance: u64) -> u64 {
    distance.wrapping_neg() & ((1 << 48) - 1)
}

/// Programs a general counter of an Intel part to overflow after so many events.
fn start(pmu: &mut impl MsrBus, counter: u32, code: u64, distance: u64) {
    pmu.write(0x186 + counter, 0).unwrap();
    pmu.write(0xc1 + counter, mask(distance)).unwrap();
    pmu.write(0x186 + counter, code | FLAGS).unwrap();
}

#[test]
fn the_timer_ends_right_after_the_overflow_and_its_nmi_is_the_only_one() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench);
    pmu.write_lvtpc(LVT_NMI);
    start(&mut pmu, 0, 0xc0, 1000);
    assert_eq!(bench.timer_end.get(), Some(1000 + MARGIN_TICKS));
    bench.pass(1000 + MARGIN_TICKS);
    assert_eq!(bench.nmis(), 1);
    assert_eq!(pmu.read(0x38e), Ok(1));
    assert_eq!(pmu.read_lvtpc(), LVT_NMI | MASKED);
    assert_eq!((bench.nmis(), pmu.take_strays()), (1, 0));
}

#[test]
fn an_access_between_the_overflow_and_the_end_of_the_timer_leaves_the_nmi_to_the_timer() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench);
    pmu.write_lvtpc(LVT_NMI);
    start(&mut pmu, 0, 0xc0, 1000);
    bench.pass(1000);
    assert_eq!((pmu.read(0x38e), bench.nmis()), (Ok(1), 0));
    bench.pass(10_000);
    pmu.poll();
    assert_eq!((bench.nmis(), pmu.take_strays()), (1, 0));
}

#[test]
fn an_nmi_that_the_timer_is_not_armed_for_is_a_self_nmi() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench).with_flaw(Flaw::RaisesOnUnmask);
    pmu.write(0x391, 1).unwrap();
    pmu.write_lvtpc(LVT_NMI);
    assert_eq!((bench.timer_nmis.get(), bench.self_nmis.get()), (0, 1));
}

#[test]
fn an_overdue_nmi_does_not_wait_for_a_timer_that_is_armed_for_another_one() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&ZEN2, &bench);
    let program = |pmu: &mut ClockedModel<&Bench>, counter: u32, distance: u64| {
        pmu.write(0xc001_0004 + counter, mask(distance)).unwrap();
        pmu.write(0xc001_0000 + counter, 0xc0 | FLAGS).unwrap();
    };
    pmu.write_lvtpc(LVT_NMI);
    program(&mut pmu, 0, 1000);
    bench.pass(900);
    program(&mut pmu, 1, 5);
    assert_eq!(bench.timer_end.get(), Some(1000 + MARGIN_TICKS), "about to end, so left alone");
    bench.pass(10);
    pmu.poll();
    assert_eq!((bench.timer_nmis.get(), bench.self_nmis.get()), (0, 1));
    bench.pass(100);
    pmu.poll();
    assert_eq!((bench.timer_nmis.get(), bench.self_nmis.get(), pmu.take_strays()), (1, 1, 0));
}

#[test]
fn a_second_overflow_is_a_self_nmi_on_amd_and_merged_on_intel() {
    for (profile, selects, counters, expected) in
        [(&SKYLAKE, 0x186, 0xc1, 0), (&ZEN2, 0xc001_0000, 0xc001_0004, 1)]
    {
        let bench = Bench::new();
        let mut pmu = ClockedModel::new(profile, &bench);
        pmu.write_lvtpc(LVT_NMI);
        for counter in 0..2 {
            let value = (1000 + u64::from(counter)).wrapping_neg() & ((1 << 48) - 1);
            pmu.write(counters + counter, value).unwrap();
            pmu.write(selects + counter, 0xc0 | FLAGS).unwrap();
        }
        bench.pass(2000);
        pmu.poll();
        assert_eq!((bench.timer_nmis.get(), bench.self_nmis.get()), (1, expected), "{}", profile.name);
    }
}

#[test]
fn latency_delays_the_timer_and_the_counter_counts_on() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench).with_latency(30);
    pmu.write_lvtpc(LVT_NMI);
    start(&mut pmu, 0, 0xc0, 1000);
    assert_eq!(bench.timer_end.get(), Some(1030 + MARGIN_TICKS));
    bench.pass(1000);
    pmu.write(0x186, 0).unwrap();
    assert_eq!(bench.timer_end.get(), Some(1030 + MARGIN_TICKS), "late, though stopped");
    bench.pass(30 + MARGIN_TICKS);
    pmu.poll();
    assert_eq!((bench.nmis(), pmu.take_strays()), (1, 0));
}

#[test]
fn a_freeze_takes_effect_at_the_overflow_and_not_at_the_next_access() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench);
    pmu.write_lvtpc(LVT_NMI);
    pmu.write(0x1d9, 1 << 12).unwrap();
    pmu.write(0xc2, 0).unwrap();
    pmu.write(0x187, 0x3c | FLAGS).unwrap();
    start(&mut pmu, 0, 0xc0, 1000);
    bench.pass(1_000_000);
    assert_eq!((pmu.rdpmc(0), pmu.rdpmc(1)), (Ok(0), Ok(1250)));
}

#[test]
fn reading_does_not_touch_the_timer() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench);
    pmu.write_lvtpc(LVT_NMI);
    start(&mut pmu, 0, 0xc0, 1000);
    let arms = bench.arms.get();
    for _ in 0..50 {
        bench.pass(10);
        pmu.read(0xc1).unwrap();
        pmu.read(0x38e).unwrap();
        pmu.write(0x187, 0).unwrap();
    }
    assert_eq!(bench.arms.get(), arms);
}

#[test]
fn a_masked_lvt_entry_leaves_the_timer_alone() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench);
    start(&mut pmu, 0, 0xc0, 1000);
    assert_eq!(bench.timer_end.get(), None);
    pmu.write_lvtpc(LVT_NMI);
    assert!(bench.timer_end.get().is_some());
    pmu.write_lvtpc(LVT_NMI | MASKED);
    assert_eq!(bench.timer_end.get(), None);
}

#[test]
fn a_deadline_beyond_32_bits_is_armed_in_parts_whose_nmis_are_strays() {
    let bench = Bench::new();
    let mut pmu = ClockedModel::new(&SKYLAKE, &bench);
    pmu.write_lvtpc(LVT_NMI);
    let distance = (1_u64 << 33) + 5;
    pmu.write(0x4c1, distance.wrapping_neg() & ((1 << 48) - 1)).unwrap();
    pmu.write(0x186, 0xc0 | FLAGS).unwrap();
    for part in 1..=2 {
        bench.pass(u64::from(u32::MAX));
        pmu.poll();
        assert_eq!((bench.nmis(), pmu.take_strays(), pmu.read(0x38e)), (part, 1, Ok(0)));
    }
    bench.pass(distance - 2 * u64::from(u32::MAX) + MARGIN_TICKS);
    assert_eq!((bench.nmis(), pmu.read(0x38e), pmu.take_strays()), (3, Ok(1), 0));
}

#[test]
fn a_timer_that_ends_while_a_write_makes_it_needless_is_a_stray() {
    let mut strays = 0;
    // A look costs at most half of what is guarded: one look and one arming fit.
    for (cost, distance) in
        (0..GUARD_TICKS / 2).flat_map(|cost| (1..8).map(move |eighth| (cost, eighth * 100)))
    {
        let bench = Bench::new();
        let mut pmu = ClockedModel::new(&ZEN2, &bench);
        pmu.write_lvtpc(LVT_NMI);
        pmu.write(0xc001_0004, 1000_u64.wrapping_neg() & ((1 << 48) - 1)).unwrap();
        pmu.write(0xc001_0000, 0xc0 | FLAGS).unwrap();
        bench.pass(bench.timer_end.get().unwrap() - bench.now.get() - distance);
        bench.cost.set(cost);
        pmu.write(0xc001_0000, 0).unwrap();
        bench.cost.set(0);
        bench.pass(5000);
        pmu.poll();
        let delivered = u64::from(pmu.rdpmc(0).unwrap() < 1000);
        let stray = u64::from(pmu.take_strays());
        assert_eq!(bench.nmis(), delivered + stray, "cost {cost}, {distance} ticks before the end");
        strays += stray;
    }
    assert!(strays > 10, "the case arises");
}

#[test]
fn formulas_and_their_inverses_agree() {
    let seed = seed();
    let mut random = Random(seed.max(1));
    for formula in FORMULAS {
        for _ in 0..2_000 {
            let ticks = random.any_size(52);
            let events = formula.rate.events(ticks);
            let first = formula.rate.ticks(events + 1);
            assert!(first > ticks, "seed {seed}: {formula:?} after {ticks}");
            assert!(formula.rate.events(first) > events, "seed {seed}: {formula:?} after {ticks}");
            assert!(formula.rate.events(first - 1) <= events, "seed {seed}: {formula:?} after {ticks}");
        }
    }
}

#[test]
fn every_event_happens_as_its_formula_says() {
    let texts: Vec<_> = FORMULAS.iter().map(|formula| formula.text).collect();
    assert!(texts.iter().all(|text| text.contains("tick")));
    for (code, ticks, events) in [
        (0x3c, 4, 5),
        (0xc0, 1, 1),
        (0x13c, 1, 1),
        (0x4f2e, 16, 1),
        (0x412e, 64, 1),
        (0xc4, 8, 1),
        (0xc5, 128, 1),
    ] {
        let bench = Bench::new();
        let mut pmu = ClockedModel::new(&SKYLAKE, &bench);
        pmu.write(0x186, code | FLAGS).unwrap();
        // In steps that divide nothing evenly: nothing is lost between two looks.
        for _ in 0..7_001 {
            bench.pass(3);
            pmu.poll();
        }
        assert_eq!(pmu.rdpmc(0), Ok(7_001 * 3 * events / ticks), "{code:x}");
    }
    let misses = FORMULAS.iter().find(|formula| formula.signal == Signal::LlcMisses).unwrap().rate;
    let Rate::Alternating { window_log2, .. } = misses else { panic!("a changing rate") };
    let turn = 1 << window_log2;
    assert_eq!(
        (misses.events(turn), misses.events(2 * turn) - misses.events(turn)),
        (turn / 64, turn / 1024)
    );
}

/// The registers of a part that the storm uses.
struct Registers {
    select: u32,
    counter: u32,
    distance: u32,
    clear: Option<u32>,
    codes: [u64; 4],
}

const INTEL: Registers = Registers {
    select: 0x186,
    counter: 0xc1,
    distance: 1,
    clear: Some(0x390),
    codes: [0xc0, 0x3c, 0xc4, 0x4f2e],
};
const AMD: Registers = Registers {
    select: 0xc001_0200,
    counter: 0xc001_0201,
    distance: 2,
    clear: None,
    codes: [0xc0, 0x76, 0xc2, 0xff60],
};
const SIGNALS: [Signal; 4] =
    [Signal::Instructions, Signal::UnhaltedCycles, Signal::Branches, Signal::LlcReferences];

/// The pair of a model under a clock and its oracle.
struct Storm<'a> {
    bench: &'a Bench,
    pmu: ClockedModel<&'a Bench>,
    oracle: Model,
    /// Ticks up to which the oracle has been told.
    told: u64,
    delivered: u64,
    strays: u64,
}

impl<'a> Storm<'a> {
    fn new(profile: &'static Profile, bench: &'a Bench) -> Self {
        let pmu = ClockedModel::new(profile, bench);
        Self { bench, pmu, oracle: Model::new(profile), told: bench.now.get(), delivered: 0, strays: 0 }
    }

    /// Does the same to both, at the time that the clocked one saw.
    fn both<R: PartialEq + std::fmt::Debug>(&mut self, access: impl Fn(&mut dyn MsrBus) -> R) -> R {
        self.bench.seen.set(None);
        let result = access(&mut self.pmu);
        // An access of nothing is none.
        let Some(seen) = self.bench.seen.get() else { return result };
        tell(&mut self.oracle, self.told, seen);
        self.told = seen;
        assert_eq!(access(&mut self.oracle), result);
        self.delivered += u64::from(self.oracle.take_nmis());
        self.strays += u64::from(self.pmu.take_strays());
        result
    }

    /// Returns when an NMI will come if nobody does anything, as the oracle foresees it.
    fn foreseen(&self) -> Option<u64> {
        let mut oracle = self.oracle.clone();
        (self.told..self.told + 4_000).find(|&tick| {
            tell(&mut oracle, tick, tick + 1);
            oracle.take_nmis() > 0
        })
    }

    /// Checks the balance of NMIs. The timer's may come before the model is seen to deliver it, and the model may
    /// deliver before the timer ends; a poll after both evens it out.
    fn check_balance(&mut self) {
        self.bench.cost.set(0);
        if let Some(end) =
            self.bench.timer_end.get().filter(|end| *end <= self.bench.now.get() + GUARD_TICKS + COST_MAX)
        {
            self.bench.pass(end - self.bench.now.get());
        }
        self.both(|pmu| pmu.read_lvtpc());
        assert_eq!(self.bench.nmis(), self.delivered + self.strays, "none lost, none doubled");
    }

    /// Checks that the timer ends when the oracle foresees an NMI, if it is not left alone for another one.
    fn check_timer(&mut self) {
        self.bench.cost.set(0);
        self.both(|pmu| pmu.read_lvtpc());
        let Some(tick) = self.foreseen() else { return };
        let end = self.bench.timer_end.get().expect("an NMI will come");
        let is_left_alone = end <= self.bench.now.get() + GUARD_TICKS + COST_MAX;
        assert!(end > tick || is_left_alone, "the timer ends at {end}, before the overflow in tick {tick}");
        // The tick in which it happens, the one after which the timer ends, and one look at the bench.
        let late = MARGIN_TICKS + 2 + COST_MAX;
        assert!(end <= tick + late || is_left_alone, "{end} is late for {tick}");
    }
}

/// Tells a model every event between two times, one tick after the other.
fn tell(model: &mut Model, from: u64, to: u64) {
    let rates =
        SIGNALS.map(|signal| FORMULAS.into_iter().find(|formula| formula.signal == signal).unwrap().rate);
    let mut before = rates.map(|rate| rate.events(from));
    for tick in from..to {
        if model.running().is_empty() {
            return;
        }
        for (index, rate) in rates.into_iter().enumerate() {
            let after = rate.events(tick + 1);
            model.happen(SIGNALS[index], after - before[index], Privilege::Kernel);
            before[index] = after;
        }
    }
}

#[test]
fn no_nmi_is_lost_or_doubled_in_100000_random_accesses() {
    let seed = seed();
    let parts: [(&Profile, &Registers); 6] = [
        (&CORE_DUO, &INTEL),
        (&NEHALEM, &INTEL),
        (&SKYLAKE, &INTEL),
        (&ALDER_LAKE_E, &INTEL),
        (&ZEN2, &AMD),
        (&ZEN4, &Registers { clear: Some(0xc000_0302), ..AMD }),
    ];
    for ((profile, registers), own) in parts.into_iter().zip(seed..) {
        let seen = storm(profile, registers, own, STEPS / 6 + 1);
        println!(
            "{}: {} NMIs of the timer, {} of its own, {} strays",
            profile.name, seen[0], seen[1], seen[2]
        );
        assert!(seen[0] > 500, "the storm is one");
        assert!(seen[1] > 50 || profile.is_intel(), "overflows meet on AMD");
    }
}

fn storm(profile: &'static Profile, registers: &Registers, seed: u64, steps: u32) -> [u64; 3] {
    let bench = Bench::new();
    let mut random = Random(seed.max(1));
    let mut storm = Storm::new(profile, &bench);
    for step in 0..steps {
        act(&mut storm, registers, &mut random);
        match step % 64 {
            0 => storm.check_timer(),
            step if step % 4 == 0 => storm.check_balance(),
            _ => {}
        }
    }
    [bench.timer_nmis.get(), bench.self_nmis.get(), storm.strays]
}

fn act(storm: &mut Storm<'_>, registers: &Registers, random: &mut Random) {
    let counter = if random.below(2) == 0 { 0 } else { registers.distance };
    let (select, value) = (registers.select + counter, registers.counter + counter);
    let distance = 1 + random.any_size(9);
    let code = random.one_of(registers.codes) | FLAGS & !((random.below(8) / 7) << 20);
    match random.below(16) {
        0..4 => {
            storm.both(|pmu| pmu.write(value, mask(distance))).unwrap();
            storm.both(|pmu| pmu.write(select, code)).unwrap();
        }
        4 => drop(storm.both(|pmu| pmu.write(select, 0))),
        5 | 6 => storm.both(|pmu| pmu.write_lvtpc(LVT_NMI)),
        7 => storm.both(|pmu| pmu.write_lvtpc(LVT_NMI | MASKED)),
        8 => drop(storm.both(|pmu| registers.clear.map(|clear| pmu.write(clear, 0b11)))),
        9 => drop(storm.both(|pmu| pmu.read(value))),
        10 => drop(storm.both(|pmu| pmu.read_lvtpc())),
        11..14 => {
            let end = storm.bench.timer_end.get().map(|end| end - storm.bench.now.get());
            // A counter that has overflowed and counts on is far from the next one.
            let until = end.filter(|ticks| *ticks < 20_000).unwrap_or(50);
            storm.bench.pass(until.saturating_sub(random.below(4)));
            storm.both(|pmu| pmu.read(value)).unwrap();
        }
        _ => storm.bench.pass(random.below(300)),
    }
    let costs = [0, 0, 0, 1, COST_MAX];
    storm.bench.cost.set(random.one_of(costs));
}

/// A small generator (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    /// Returns a number of up to so many bits, each size as likely as the others.
    fn any_size(&mut self, bits: u64) -> u64 {
        let size = self.below(bits);
        self.below(1 << size)
    }

    fn one_of<const N: usize>(&mut self, choices: [u64; N]) -> u64 {
        let index = usize::try_from(self.below(N as u64)).expect("an index");
        choices[index]
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn seed() -> u64 {
    let given = std::env::var("NMIPROF_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        u64::from(now.subsec_nanos()) | 1 << 40
    });
    println!("NMIPROF_SEED={seed}");
    seed
}
