//! Mistakes, one type each, and who notices them.

use nmiprof_pmu::profiles::Profile;
use nmiprof_pmu::{Defect, Sound};

use super::program::{Setting, run};
use super::random::Random;

/// Programs that a mistake has on each CPU before it is said to survive, and operations of each.
const PROGRAMS: u64 = 60;
const STEPS: u64 = 2000;

/// A mistake: its name, and what runs a program with it until something is noticed.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    run: fn(Setting, u64, u64) -> Result<super::cpu::Counts, String>,
}

impl Mutant {
    /// Runs programs on a CPU; returns what was wrong first, and in which program.
    pub(crate) fn caught(&self, profile: &'static Profile, random: &mut Random) -> Option<(u64, String)> {
        (0..PROGRAMS).find_map(|program| {
            let setting = Setting::random(profile, random);
            let wrong = (self.run)(setting, random.next(), STEPS).err()?;
            Some((program, wrong.rsplit(": ").next().unwrap_or_default().trim().to_owned()))
        })
    }
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
        pub(crate) const MUTANTS: &[Mutant] = &[$(Mutant { name: stringify!($flag), run: run::<$name> }),*];
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

/// The driver itself, as one of them: it is not caught.
pub(crate) const SOUND: Mutant = Mutant { name: "SOUND", run: run::<Sound> };
