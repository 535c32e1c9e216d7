//! Flags that say what counts.

use clap::builder::PossibleValuesParser;
use nmiprof_pmu::profiles;
use nmiprof_wire::{LvtpcUnmask, Options, PmuChoice, SourceChoice};

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

/// What each source of a timer's NMIs is, for the help.
const SOURCES: [(SourceChoice, &str); 5] = [
    (SourceChoice::Auto, "the first that works: counters, lapic, hpet, pit"),
    (SourceChoice::Pmu, "the counters' own, and no timer"),
    (SourceChoice::Lapic, "the local APIC's timer: emulators let it raise NMIs, hardware does not"),
    (SourceChoice::Hpet, "the HPET, through the I/O APIC: periods are ticks of its counter"),
    (SourceChoice::Pit, "the interval timer, through the I/O APIC: periods are ticks of 1,193,182 Hz"),
];

/// Flags that say what counts.
#[derive(Clone, Debug, clap::Args)]
pub struct PmuArgs {
    /// What counts
    #[arg(long, value_name = "PMU", default_value = "auto", value_parser = described(&PMUS, PmuChoice::name))]
    pub pmu: PmuChoice,

    /// Whose interrupt is the NMI of a timer
    #[arg(long, value_name = "SOURCE", default_value = "auto", value_parser = described(&SOURCES, SourceChoice::name))]
    pub source: SourceChoice,

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
        Options { pmu: self.pmu, source: self.source, profile, lvtpc: self.lvtpc, ..options }
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
    fn every_pmu_and_every_source_is_described() {
        assert!(SourceChoice::ALL.iter().all(|source| SOURCES.iter().any(|(known, _)| known == source)));
        let args: PmuArgs = parse(&["--source", "hpet"]).expect("a sound flag");
        let text = args.apply(Options::default()).to_string();
        assert_eq!(Options::parse(&text).expect("our own words").source, SourceChoice::Hpet);
        assert!(PmuChoice::ALL.iter().all(|pmu| PMUS.iter().any(|(known, _)| known == pmu)));
        let error = parse::<PmuArgs>(&["--pmu", "tpu"]).expect_err("there is none").to_string();
        assert!(error.contains("model-intel") && error.contains("hardware"), "{error}");
        let error = parse::<PmuArgs>(&["--pmu-profile", "zen"]).expect_err("there is none").to_string();
        assert!(error.contains("zen4") && error.contains("skylake"), "{error}");
    }
}
