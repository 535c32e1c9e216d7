//! What counts: the CPU's counters, a model of some, or nothing but a timer.
//!
//! A PMU with registers is a [`Bus`], the vendor's driver on it, and the engine that maps events to counters. The CPU's
//! own and a model's differ in the bus alone. What is announced is believed only after [`counter_test`]: every
//! counter has to count and to interrupt. Where none does, a timer counts ([`choice`] says which),
//! and where that is not enough for the events, a model, which counts by formulas of the clock and says so.

mod accounts;
mod bus;
mod choice;
pub mod counter_test;
pub mod events;
mod formula;
mod offers;
pub mod source;
pub mod timer;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nmiprof_pmu::model::ClockedModel;
use nmiprof_pmu::profiles::{self, Profile};
use nmiprof_pmu::{Capabilities, CounterSet, Driver, Encoding, Engine, Handling, Settings, detect};
use nmiprof_ring::Producer;
use nmiprof_wire::{CounterReport, CounterVerdict, Job, LvtpcUnmask, Options, PmuChoice, PmuInfo, PmuKind};
use raw_cpuid::{CpuId, CpuIdReaderNative};

use crate::arch::msr_bus::CpuBus;
use crate::arch::percpu::{PerCpu, SHARED_BYTES};
use crate::calibrate::{Calibration, CalibrationError};
use crate::drain::Drain;
use crate::memory::ring_memory::RingMemory;
use crate::{info, warning};
pub use bus::Bus;
use counter_test::Bench;
pub use offers::send_offers;
use source::TickSource;

/// A PMU with registers.
pub type Counters = Engine<Driver<Bus>>;

const _: () = assert!(
    align_of::<Counters>() == SHARED_BYTES,
    "no shared cache line: nothing else on the heap lies on the counters' lines"
);

/// The ring's producer, lent for tests.
type Ring = Producer<'static, RingMemory>;

/// What counts on this CPU.
pub struct Pmu {
    kind: PmuKind,
    name: String,
    fallback: String,
    /// What the tests of the counters found.
    pub reports: Vec<CounterReport>,
    /// The counters that can be used; none where the timer counts.
    pub registers: Option<Registers>,
    /// The line that ticks, where that counts.
    pub source: Option<TickSource>,
}

/// A PMU with registers, and which of its counters can be used.
pub struct Registers {
    /// The counters, while the NMI does not have them.
    pub counters: Option<Box<Counters>>,
    /// What there is.
    pub capabilities: Capabilities,
    /// What can be used.
    pub usable: CounterSet,
}

/// What the choice of a PMU needs.
pub struct Place<'a> {
    /// The CPU.
    pub cpu: &'static PerCpu,
    /// The command line.
    pub options: &'a Options<'static>,
    /// What the timer's self-test found.
    pub timer: Result<Calibration, CalibrationError>,
    /// The line that ticks for all CPUs, where another CPU has chosen one.
    pub line: Option<TickSource>,
    /// Frequency of the time-stamp counter.
    pub tsc_hz: u64,
    /// Where the samples of the tests go.
    pub drain: &'a mut Drain,
}

impl Pmu {
    /// Chooses what counts, as the command line says; gives the ring back.
    ///
    /// # Errors
    /// A text that says why nothing can count as it was asked for, and what to do.
    pub fn choose(mut place: Place<'_>, ring: Ring) -> Result<(Self, Ring), String> {
        if place.line.is_some() {
            return Ok((Self::of_timer(place.line, String::new()), ring));
        }
        match choice::resolve(place.options)? {
            PmuChoice::Auto => place.choose_best(ring),
            PmuChoice::Timer => place.timer(String::new(), ring),
            PmuChoice::Hardware => {
                let (pmu, ring) = place.hardware(ring);
                Ok((pmu.map_err(|why| format!("pmu=hardware: {why}; choose pmu=auto"))?, ring))
            }
            PmuChoice::ModelIntel => place.model(&profiles::SKYLAKE, String::new(), ring),
            PmuChoice::ModelAmd => place.model(&profiles::ZEN2, String::new(), ring),
        }
    }

    /// Describes it.
    pub fn info(&self) -> PmuInfo<'_> {
        PmuInfo { kind: self.kind, name: &self.name, fallback: &self.fallback }
    }

    /// Takes the counters, to count with them.
    pub fn take_counters(&mut self) -> Option<Box<Counters>> {
        self.registers.as_mut()?.counters.take()
    }

    /// Gives the counters back.
    pub fn give_back(&mut self, counters: Option<Box<Counters>>) {
        if let Some(registers) = &mut self.registers {
            registers.counters = counters;
        }
    }

    /// Tells whether something other than hardware counts.
    pub const fn is_virtual(&self) -> bool {
        matches!(self.kind, PmuKind::Virtual)
    }

    /// Says what stands in for an event that a model counts; empty where the hardware counts it.
    pub fn formula(&self, encoding: &Encoding) -> &'static str {
        match (self.kind, &self.registers) {
            (PmuKind::Virtual, Some(registers)) => formula::of(encoding, &registers.capabilities),
            _ => "",
        }
    }
}

impl Place<'_> {
    fn choose_best(&mut self, ring: Ring) -> Result<(Pmu, Ring), String> {
        let (hardware, ring) = self.hardware(ring);
        let why = match hardware {
            Ok(pmu) => return Ok((pmu, ring)),
            Err(why) => why,
        };
        if self.timer_suffices() {
            return self.timer(why, ring);
        }
        let is_amd = CpuId::new().get_vendor_info().is_some_and(|vendor| vendor.as_str() == "AuthenticAMD");
        let profile = if is_amd { &profiles::ZEN2 } else { &profiles::SKYLAKE };
        self.model(profile, format!("{why}; a timer alone can't count these events"), ring)
    }

    /// Tells whether one event of a timer is what was asked for.
    fn timer_suffices(&self) -> bool {
        self.options.job == Job::Record && timer::suffix(self.options.events).is_some()
    }

    fn hardware(&mut self, ring: Ring) -> (Result<Pmu, String>, Ring) {
        let mut bus = Bus::Cpu(CpuBus::new(self.cpu.apic));
        match detect(&CpuIdReaderNative, &mut bus) {
            Err(none) => (Err(none.to_string()), ring),
            Ok(capabilities) => self.open(bus, capabilities, capabilities.interface.to_string(), ring),
        }
    }

    fn model(
        &mut self,
        profile: &'static Profile,
        fallback: String,
        ring: Ring,
    ) -> Result<(Pmu, Ring), String> {
        let profile = match self.options.profile {
            "" => profile,
            name => profiles::find(name).ok_or_else(|| unknown_profile(name))?,
        };
        if let Err(error) = self.timer {
            return Err(format!(
                "{fallback}; the APIC timer raises no NMI here ({error:?}): a model needs one"
            ));
        }
        let mut bus = Bus::Model(ClockedModel::new(profile, self.cpu.apic));
        let capabilities = detect(&profile, &mut bus).map_err(|none| format!("{}: {none}", profile.name))?;
        let name = format!("{}, model of {}", capabilities.interface, profile.name);
        let (pmu, ring) = self.open(bus, capabilities, name, ring);
        Ok((Pmu { fallback, ..pmu? }, ring))
    }

    /// Tests the counters on a bus; there has to be one that works.
    fn open(
        &mut self,
        bus: Bus,
        capabilities: Capabilities,
        name: String,
        ring: Ring,
    ) -> (Result<Pmu, String>, Ring) {
        let kind = if bus.is_virtual() { PmuKind::Virtual } else { PmuKind::Hardware };
        let driver = Driver::new(bus, capabilities, self.handling());
        let mut counters = Box::new(Engine::new(driver, self.settings()));
        let sample_ticks = self.timer.ok().and_then(|timer| timer.sample_ticks);
        counters.set_nmi_overhead(sample_ticks.unwrap_or_default());
        let (reports, bench) =
            counter_test::test_all(self.cpu, Bench { counters, ring }, self.drain, self.tsc_hz);
        let usable = counter_test::usable(&capabilities, &reports);
        let Bench { counters, ring } = bench;
        if usable.is_empty() {
            if self.options.job == Job::PmuTest {
                tell(&name, &reports);
            }
            return (Err(format!("{name} is announced, but {}", complaint(&reports))), ring);
        }
        warn_of_broken(&name, &reports);
        let registers = Registers { counters: Some(counters), capabilities, usable };
        (
            Ok(Pmu {
                kind,
                name,
                fallback: String::new(),
                reports,
                registers: Some(registers),
                source: None,
            }),
            ring,
        )
    }

    const fn handling(&self) -> Handling {
        let unmask = match self.options.lvtpc {
            LvtpcUnmask::Late => nmiprof_pmu::Unmask::Late,
            LvtpcUnmask::Early => nmiprof_pmu::Unmask::Early,
        };
        Handling { unmask, freeze: true }
    }

    const fn settings(&self) -> Settings {
        Settings {
            clock_hz: self.tsc_hz,
            tick_hz: self.options.tick_hz,
            cpu_time_max_percent: self.options.cpu_percent_max,
        }
    }
}

/// Says what was found out about counters of which none can be used.
fn tell(name: &str, reports: &[CounterReport]) {
    for report in reports {
        let CounterReport { counter, verdict, counted, work, overflows } = *report;
        info!(
            "{name}: counter {counter}: {verdict:?}, {counted} of {work} instructions, {overflows} overflows"
        );
    }
}

/// Names each counter that is left out, while others work.
fn warn_of_broken(name: &str, reports: &[CounterReport]) {
    for report in reports {
        let why = match report.verdict {
            CounterVerdict::Dead => "it does not count",
            CounterVerdict::Silent => "it does not interrupt",
            CounterVerdict::Works | CounterVerdict::Untested => continue,
        };
        warning!("{name}: counter {} is left out: {why}", report.counter);
    }
}

/// Says what is wrong with counters of which none can be used.
fn complaint(reports: &[CounterReport]) -> &'static str {
    let all = |verdict| reports.iter().all(|report| report.verdict == verdict);
    if reports.is_empty() {
        "has no counters"
    } else if all(CounterVerdict::Dead) {
        "no counter counts"
    } else if all(CounterVerdict::Silent) {
        "no counter interrupts"
    } else {
        "no counter both counts and interrupts"
    }
}

fn unknown_profile(name: &str) -> String {
    let names: Vec<_> = profiles::ALL.iter().map(|profile| profile.id).collect();
    format!("profile={name}: no such processor; known: {}", names.join(", "))
}
