//! Which timer counts, where no counter does: the first whose NMIs come.
//!
//! | source | needs | why not first |
//! |---|---|---|
//! | the local APIC's timer | a CPU that lets it raise NMIs: emulators do | hardware refuses, or does nothing |
//! | the HPET | ACPI, an I/O APIC, a periodic comparator | its NMIs reach all CPUs; its ticks are time |
//! | the interval timer | ACPI, an I/O APIC | as the HPET's; the scheduler has to tick by the real-time clock |
//!
//! None is believed before its self-test ([`calibrate`](crate::calibrate)), and why one was passed over is told.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nmiprof_wire::{Options, PmuChoice, PmuKind, SourceChoice};

use super::source::TickSource;
use super::{Place, Pmu, Ring};
use crate::calibrate;

/// Says which PMU is meant by `pmu` and `source` together.
///
/// # Errors
/// A text that says why the two contradict each other.
pub(super) fn resolve(options: &Options<'_>) -> Result<PmuChoice, String> {
    use {PmuChoice as Pmu, SourceChoice as Source};
    let (pmu, source) = (options.pmu, options.source);
    match (pmu, source) {
        (_, Source::Auto) | (Pmu::Hardware, Source::Pmu) => Ok(pmu),
        (Pmu::Auto, Source::Pmu) => Ok(Pmu::Hardware),
        (Pmu::Auto | Pmu::Timer, Source::Lapic | Source::Hpet | Source::Pit) => Ok(Pmu::Timer),
        (Pmu::ModelIntel | Pmu::ModelAmd, Source::Lapic) => Ok(pmu),
        (Pmu::Hardware, _) => {
            Err(format!("source={source}: pmu=hardware has its counters' own interrupt; choose pmu=timer"))
        }
        (Pmu::Timer, Source::Pmu) => {
            Err("source=pmu: pmu=timer needs a timer's interrupt; choose pmu=hardware".to_string())
        }
        (Pmu::ModelIntel | Pmu::ModelAmd, _) => Err(format!(
            "source={source}: pmu={pmu} sets a deadline for each overflow, which only source=lapic can"
        )),
    }
}

impl Place<'_> {
    /// Chooses the timer that counts.
    pub(super) fn timer(&mut self, fallback: String, mut ring: Ring) -> Result<(Pmu, Ring), String> {
        if !self.timer_suffices() {
            return Err(format!(
                "pmu=timer: a timer samples one event, instructions, and counts none (job={} events={}); choose \
                 pmu=model-intel or pmu=model-amd, which count by formulas of the clock",
                self.options.job, self.options.events
            ));
        }
        let mut why = fallback;
        for source in candidates(self.options.source) {
            let tested;
            (tested, ring) = self.test(*source, ring);
            match tested {
                Ok(line) => return Ok((Pmu::of_timer(line, why), ring)),
                Err(reason) => why = join(&why, &reason),
            }
        }
        Err(format!("{why}: no overflow source; run on a machine with a PMU, or under QEMU's TCG"))
    }

    /// Finds out whether a source's NMIs come; the local APIC's timer was tested already, and is no line.
    fn test(&mut self, source: SourceChoice, ring: Ring) -> (Result<Option<TickSource>, String>, Ring) {
        let apic = self.cpu.apic;
        let (name, found) = match source {
            SourceChoice::Hpet => ("the HPET", TickSource::hpet(apic)),
            SourceChoice::Pit => ("the interval timer", TickSource::interval_timer(apic)),
            _ => {
                let tested = self.timer.map(|_| None);
                return (
                    tested.map_err(|error| format!("the APIC timer raises no NMI here ({error:?})")),
                    ring,
                );
            }
        };
        let complain = |why: String| format!("{name} can't be used: {why}");
        let line = match found {
            Ok(line) => line,
            Err(why) => return (Err(complain(why)), ring),
        };
        let (tested, ring) = calibrate::ticks::test(self.cpu, &line, ring, self.drain, self.tsc_hz);
        (tested.map(|()| Some(line)).map_err(complain), ring)
    }
}

impl Pmu {
    /// Describes a timer that counts: the local APIC's, or a line.
    pub(super) fn of_timer(source: Option<TickSource>, fallback: String) -> Self {
        let name = source.as_ref().map_or("lapic-timer", TickSource::name).to_string();
        Self { kind: PmuKind::Virtual, name, fallback, reports: Vec::new(), registers: None, source }
    }
}

/// Lists the sources that may be used, the best one first.
const fn candidates(source: SourceChoice) -> &'static [SourceChoice] {
    match source {
        SourceChoice::Lapic => &[SourceChoice::Lapic],
        SourceChoice::Hpet => &[SourceChoice::Hpet],
        SourceChoice::Pit => &[SourceChoice::Pit],
        SourceChoice::Auto | SourceChoice::Pmu => {
            &[SourceChoice::Lapic, SourceChoice::Hpet, SourceChoice::Pit]
        }
    }
}

fn join(why: &str, reason: &str) -> String {
    if why.is_empty() { reason.to_string() } else { format!("{why}; {reason}") }
}
