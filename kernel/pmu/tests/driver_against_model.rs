//! Goal: the driver and the model, which were written by different hands from the same manuals, agree: no overflow is
//! lost or reported twice, counters hold what was counted, no reserved bit is written.
//!
//! Method: random programs of driver operations on the model of each real CPU, checked after each step against a
//! truth that the test keeps by itself (`support/program.rs`). `NMIPROF_SEED` repeats a run.

mod support;

use nmiprof_pmu::Sound;
use nmiprof_pmu::profiles::{ALL, Profile, Registers};

use support::cpu::Counts;
use support::program::{Setting, run};
use support::random::{Random, seed};

/// Programs on each CPU, and operations of each.
const PROGRAMS: u64 = 120;
const STEPS: u64 = 2000;

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
