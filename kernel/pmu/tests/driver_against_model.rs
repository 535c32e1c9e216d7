//! Goal: the driver and the model, which were written by different hands from the same manuals, agree: no overflow is
//! lost or reported twice, counters hold what was counted, no reserved bit is written.
//!
//! Method: random programs of driver operations on the model of each real CPU, checked after each step against a
//! truth that the test keeps by itself (`support/program.rs`). `NMIPROF_SEED` repeats a run.

mod support;

use nmiprof_pmu::Sound;
use nmiprof_pmu::model::Flaw;
use nmiprof_pmu::profiles::{ALL, Profile, Registers};

use support::cpu::Counts;
use support::mutants::{HIDDEN_FROM_ENGINE, MUTANTS, SOUND};
use support::program::{Setting, run};
use support::random::{Random, seed};
use support::sampling::{self, Sampled};

/// Programs on each CPU, and operations of each.
const PROGRAMS: u64 = 100;
const STEPS: u64 = 2000;
const ENGINE_STEPS: u64 = 500;

/// Returns the CPUs that have a PMU.
fn real() -> impl Iterator<Item = &'static Profile> {
    ALL.into_iter().filter(|profile| !matches!(profile.registers, Registers::Forgotten))
}

#[test]
fn no_overflow_is_lost_or_reported_twice() {
    let mut random = Random::new(seed());
    for profile in real() {
        let mut total = Counts::default();
        for _ in 0..PROGRAMS {
            let setting = Setting::random(profile, &mut random);
            let counts =
                run::<Sound>(setting, random.next(), STEPS).unwrap_or_else(|wrong| panic!("{wrong}"));
            total.add(&counts);
        }
        println!("{:16} {} steps: {total:?}", profile.id, PROGRAMS * STEPS);
        total.assert_met(profile.id);
    }
}

/// Tells whether a mistake can show on a CPU: what it gets wrong has to be there.
fn can_show(mutant: &str, profile: &Profile) -> bool {
    let (intel, has_status) = match &profile.registers {
        Registers::Intel(facts) => (Some(facts), facts.version >= 2),
        Registers::Amd(facts) => (None, facts.global),
        Registers::Forgotten => (None, false),
    };
    let is_full_width = intel.is_none_or(|facts| facts.capabilities.is_some_and(|bits| bits & 1 << 13 != 0));
    match mutant {
        // AMD's delivery does not set the mask.
        "FORGETS_UNMASK" => intel.is_some(),
        "FORGETS_ACKNOWLEDGE" | "ACKNOWLEDGES_UNREAD" | "KEEPS_STALE_OVERFLOW" | "RETURNS_DISABLED" => {
            has_status
        }
        "DOES_NOT_EXTEND_THE_SIGN" => is_full_width || intel.is_some_and(|facts| facts.fixed > 0),
        "LOADS_BEYOND_THE_SIGN" => !is_full_width,
        "OVERWRITES_FIXED_NEIGHBOURS" => intel.is_some_and(|facts| facts.fixed > 0),
        "STAYS_FROZEN" => intel.is_some_and(|facts| facts.version >= 4),
        // Of a write of 32 bits, bit 31 is the sign.
        "TOP_BIT_IS_31" => !has_status && is_full_width,
        "REPORTS_TWICE" => !has_status,
        _ => true,
    }
}

#[test]
fn every_mistake_is_caught_on_every_cpu_on_which_it_can_show() {
    let mut random = Random::new(seed());
    let mut wrong = Vec::new();
    for mutant in MUTANTS.iter().chain([&SOUND]) {
        println!("{}", mutant.name);
        for profile in real() {
            let caught = mutant.caught(profile, &mut random);
            let (program, reason) = caught.clone().unwrap_or((0, "survives".into()));
            println!("    {:16} program {program}: {reason}", profile.id);
            if caught.is_some() != (can_show(mutant.name, profile) && mutant.name != SOUND.name) {
                wrong.push((mutant.name, profile.id, caught));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_engine_shows_mistakes_of_its_driver() {
    let mut random = Random::new(seed());
    let mut wrong = Vec::new();
    for mutant in MUTANTS.iter().chain([&SOUND]) {
        let caught: Vec<_> = real()
            .filter_map(|profile| Some((profile.id, mutant.caught_sampling(profile, &mut random)?)))
            .collect();
        println!("{:28} on {}: {:?}", mutant.name, caught.len(), caught.first());
        let may_survive = HIDDEN_FROM_ENGINE.contains(&mutant.name);
        if !may_survive && caught.is_empty() != (mutant.name == SOUND.name) {
            wrong.push(mutant.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_engine_counts_everything_and_samples_each_period_once() {
    let mut random = Random::new(seed());
    for profile in real() {
        let mut total = Sampled::default();
        for _ in 0..PROGRAMS {
            let setting = Setting::random(profile, &mut random);
            let sampled = sampling::run::<Sound>(setting, random.next(), ENGINE_STEPS);
            total.add(&sampled.unwrap_or_else(|wrong| panic!("{wrong}")));
        }
        println!("{:16} {} steps of the engine: {total:?}", profile.id, PROGRAMS * ENGINE_STEPS);
        total.assert_met(profile.id);
    }
}

#[test]
fn a_part_that_raises_again_on_unmask_gets_empty_nmis_and_loses_nothing() {
    let mut random = Random::new(seed());
    for profile in real() {
        for _ in 0..PROGRAMS / 10 {
            let mut setting = Setting::random(profile, &mut random);
            setting.flaw = Some(Flaw::RaisesOnUnmask);
            run::<Sound>(setting, random.next(), STEPS).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    }
}

#[test]
fn a_freeze_that_is_forgotten_loses_nothing() {
    let mut random = Random::new(seed());
    for profile in real() {
        for _ in 0..PROGRAMS / 10 {
            let mut setting = Setting::random(profile, &mut random);
            setting.flaw = Some(Flaw::FreezeForgotten);
            run::<Sound>(setting, random.next(), STEPS).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    }
}
