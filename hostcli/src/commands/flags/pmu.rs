//! Flags that say what counts.

use clap::builder::PossibleValuesParser;
use nmiprof_pmu::profiles;
use nmiprof_wire::{LvtpcUnmask, Options, PmuChoice};

use super::values::{choice, described};

/// What each choice of a PMU is, for the help.
const PMUS: [(PmuChoice, &str); 5] = [
    (
        PmuChoice::Auto,
        "the hardware where its counters work; else a timer, or a model where a timer is not enough",
    ),
    (PmuChoice::Hardware, "the counters of the CPU, or nothing"),
    (PmuChoice::Timer, "the local APIC's timer, which counts one event: instructions"),
    (PmuChoice::ModelIntel, "a model of an Intel PMU's registers, which counts by formulas of the clock"),
    (PmuChoice::ModelAmd, "a model of an AMD PMU's registers, which counts by formulas of the clock"),
];

/// Flags that say what counts.
#[derive(Clone, Debug, clap::Args)]
pub struct PmuArgs {
    /// What counts
    #[arg(long, value_name = "PMU", default_value = "auto", value_parser = described(&PMUS, PmuChoice::name))]
    pub pmu: PmuChoice,

    /// The processor that a model is of [default: one of its vendor]
    #[arg(long = "pmu-profile", value_name = "NAME", value_parser = processor())]
    pub profile: Option<String>,

    /// When the handler unmasks the local APIC's entry for overflows: as its last act, or as its first
    #[arg(long, value_name = "WHEN", default_value = "late", value_parser = choice(LvtpcUnmask::ALL, LvtpcUnmask::name))]
    pub lvtpc: LvtpcUnmask,
}

/// Returns a parser of the processors that models can be of.
fn processor() -> PossibleValuesParser {
    PossibleValuesParser::new(profiles::ALL.iter().map(|profile| profile.id))
}

impl PmuArgs {
    /// Adds what was asked for to `options`.
    pub(in crate::commands) fn apply<'a>(&'a self, options: Options<'a>) -> Options<'a> {
        let profile = self.profile.as_deref().unwrap_or_default();
        Options { pmu: self.pmu, profile, lvtpc: self.lvtpc, ..options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    #[test]
    fn flags_become_words_of_the_kernel() {
        let args: PmuArgs =
            parse(&["--pmu", "model-amd", "--pmu-profile", "zen4", "--lvtpc", "early"]).expect("sound flags");
        let text = args.apply(Options::default()).to_string();
        let options = Options::parse(&text).expect("our own words");
        assert_eq!((options.pmu, options.profile), (PmuChoice::ModelAmd, "zen4"));
        assert_eq!(options.lvtpc, LvtpcUnmask::Early);
    }

    #[test]
    fn every_pmu_is_described() {
        assert!(PmuChoice::ALL.iter().all(|pmu| PMUS.iter().any(|(known, _)| known == pmu)));
        let error = parse::<PmuArgs>(&["--pmu", "tpu"]).expect_err("there is none").to_string();
        assert!(error.contains("model-intel") && error.contains("hardware"), "{error}");
        let error = parse::<PmuArgs>(&["--pmu-profile", "zen"]).expect_err("there is none").to_string();
        assert!(error.contains("zen4") && error.contains("skylake"), "{error}");
    }
}
