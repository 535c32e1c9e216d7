//! Mistakes, one type each, and who notices them.

use nmiprof_pmu::profiles::Profile;
use nmiprof_pmu::{Defect, Sound};

use super::program::{self, Setting};
use super::random::Random;
use super::sampling;

/// Programs that a mistake has on each CPU before it is said to survive, and operations of each.
const PROGRAMS: u64 = 60;
const STEPS: u64 = 2000;
const SAMPLING_PROGRAMS: u64 = 20;
const SAMPLING_STEPS: u64 = 300;

/// A mistake: its name, and what runs a program with it until something is noticed.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    run: fn(Setting, u64, u64) -> Result<(), String>,
    sample: fn(Setting, u64, u64) -> Result<(), String>,
}

impl Mutant {
    /// Runs programs on a CPU; returns what was wrong first, and in which program.
    pub(crate) fn caught(&self, profile: &'static Profile, random: &mut Random) -> Option<(u64, String)> {
        (0..PROGRAMS).find_map(|program| {
            let setting = Setting::random(profile, random);
            let wrong = (self.run)(setting, random.next(), STEPS).err()?;
            Some((program, reason(&wrong)))
        })
    }

    /// The same with the engine.
    pub(crate) fn caught_sampling(
        &self,
        profile: &'static Profile,
        random: &mut Random,
    ) -> Option<(u64, String)> {
        (0..SAMPLING_PROGRAMS).find_map(|program| {
            let setting = Setting::random(profile, random);
            let wrong = (self.sample)(setting, random.next(), SAMPLING_STEPS).err()?;
            Some((program, reason(&wrong)))
        })
    }
}

/// Returns the end of what a failure says.
fn reason(wrong: &str) -> String {
    wrong.lines().last().and_then(|line| line.split_once("flaw None: ")).map_or("", |(_, why)| why).to_owned()
}

fn drive<D: Defect>(setting: Setting, seed: u64, steps: u64) -> Result<(), String> {
    program::run::<D>(setting, seed, steps).map(|_| ())
}

fn sample<D: Defect>(setting: Setting, seed: u64, steps: u64) -> Result<(), String> {
    sampling::run::<D>(setting, seed, steps).map(|_| ())
}

/// Declares the types of mistakes, and the list of them.
macro_rules! mutants {
    ($($name:ident: $flag:ident;)*) => {
        $(
            struct $name;
            impl Defect for $name {
                const $flag: bool = true;
            }
        )*
        /// Every constant of [`Defect`].
        pub(crate) const MUTANTS: &[Mutant] = &[$(Mutant { name: stringify!($flag), run: drive::<$name>, sample: sample::<$name> }),*];
    };
}

mutants! {
    ForgetsUnmask: FORGETS_UNMASK;
    ForgetsAcknowledge: FORGETS_ACKNOWLEDGE;
    AcknowledgesUnread: ACKNOWLEDGES_UNREAD;
    ReloadsOneTooMany: RELOADS_ONE_TOO_MANY;
    DoesNotExtendTheSign: DOES_NOT_EXTEND_THE_SIGN;
    LoadsBeyondTheSign: LOADS_BEYOND_THE_SIGN;
    WritesReservedBit: WRITES_RESERVED_BIT;
    EnablesBeforeLoad: ENABLES_BEFORE_LOAD;
    IgnoresSecondOverflow: IGNORES_SECOND_OVERFLOW;
    DoesNotStop: DOES_NOT_STOP;
    ForgetsResume: FORGETS_RESUME;
    ResumesDisabled: RESUMES_DISABLED;
    ForgetsInterrupt: FORGETS_INTERRUPT;
    SwapsPrivileges: SWAPS_PRIVILEGES;
    OverwritesFixedNeighbours: OVERWRITES_FIXED_NEIGHBOURS;
    StaysFrozen: STAYS_FROZEN;
    KeepsStaleOverflow: KEEPS_STALE_OVERFLOW;
    ReturnsDisabled: RETURNS_DISABLED;
    TopBitIs31: TOP_BIT_IS_31;
    ReportsTwice: REPORTS_TWICE;
}

/// Mistakes that the engine hardly meets. It enables in its handler, where the end of the handler starts; it gives back what it
/// stops, loads what was reported before it asks again, and takes a stale report for the end of a part.
/// The machine under the engine stops in time, so nothing overflows after the status was read.
pub(crate) const HIDDEN_FROM_ENGINE: [&str; 6] = [
    "ACKNOWLEDGES_UNREAD",
    "ENABLES_BEFORE_LOAD",
    "RESUMES_DISABLED",
    "KEEPS_STALE_OVERFLOW",
    "RETURNS_DISABLED",
    "REPORTS_TWICE",
];

/// The driver itself, as one of them: it is not caught.
pub(crate) const SOUND: Mutant = Mutant { name: "SOUND", run: drive::<Sound>, sample: sample::<Sound> };
