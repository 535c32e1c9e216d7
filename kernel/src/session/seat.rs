//! One CPU's part in a run: what it counts with, and the producer of its ring.
//!
//! A seat is made, used and given up on its own CPU, for timers, counters and their NMIs are that CPU's. What waits in
//! its ring is taken by CPU 0, which gets the ring's [`Drain`] for that.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use nmiprof_pmu::engine::Throttle;
use nmiprof_pmu::{TickPmu, TimerPmu};
use nmiprof_ring::{Consumer, Producer, Ring};
use nmiprof_wire::{ClockKind, Options, PmuCounters, Sampling, Stress};

use super::refuse;
use crate::arch::clock::Frequencies;
use crate::arch::percpu::PerCpu;
use crate::calibrate::{self, Calibration};
use crate::drain::{Drain, Space};
use crate::info;
use crate::memory::ring_memory::RingMemory;
use crate::pmu::events::{RunEvent, Wanted};
use crate::pmu::source::{Period, TickSource};
use crate::pmu::{self, Place, Pmu};
use crate::report;
use crate::sampler::{self, Detail, Kept, Sampler};

/// Instructions of the longest sample: a full call chain, page faults, and a nested NMI.
const LONGEST_SAMPLE_INSTRUCTIONS: u64 = 2048;
/// Samples of the longest kind that a slow machine takes in a second: one in 50 microseconds.
const LONGEST_SAMPLES_PER_SECOND: u64 = 20_000;

/// What all seats of a run have in common.
#[derive(Clone, Copy)]
pub struct Setup {
    /// The command line.
    pub options: Options<'static>,
    /// How fast the clocks run.
    pub frequencies: Frequencies,
    /// More than one CPU works, so that ticks of the clock are nobody's instructions.
    pub is_shared_clock: bool,
}

/// What one CPU counts with.
pub struct Seat {
    setup: Setup,
    /// The CPU.
    pub cpu: &'static PerCpu,
    /// What the timer's self-test found.
    pub calibration: Calibration,
    /// What counts.
    pub pmu: Pmu,
    /// What is counted.
    pub events: Vec<RunEvent>,
    /// The counters want to be ticked.
    pub needs_tick: bool,
    /// The events take turns.
    is_multiplexed: bool,
    /// Which samples are kept.
    kept: Kept,
    /// Samples may be of several address spaces.
    has_spaces: bool,
    /// What the timer or the line counted besides samples.
    timer_counts: PmuCounters,
    /// The ring's producer, while the NMI does not have it.
    ring: Option<Producer<'static, RingMemory>>,
}

impl Seat {
    /// Makes the ring, tests the sources of overflows, and finds out what is to be counted; also returns the drain of
    /// the ring. `line` is what ticks for all CPUs, where that was chosen already; `spaces` are those in which this CPU's samples may be, besides the kernel's own.
    ///
    /// # Context
    /// Thread of the CPU.
    pub fn new(
        setup: Setup,
        cpu: &'static PerCpu,
        line: Option<TickSource>,
        spaces: Vec<Space>,
    ) -> (Self, Drain) {
        let Setup { options, frequencies, .. } = setup;
        let (producer, consumer) = make_ring(&options, cpu.index);
        let has_spaces = !spaces.is_empty();
        let mut drain = Drain::new(cpu, consumer, options.chains, spaces).aggregating(options.aggregate);
        cpu.nmi.set_nest_on_first_touch(options.stress == Stress::Nest);
        let (timer, producer) = calibrate::run(cpu, producer, &mut drain, frequencies.tsc_hz);
        let mut calibration = timer.unwrap_or(Calibration::UNKNOWN);
        if setup.is_shared_clock {
            calibration.clock = ClockKind::Time;
        }
        let tsc_hz = frequencies.tsc_hz;
        let place = Place { cpu, options: &setup.options, timer, line, tsc_hz, drain: &mut drain };
        let (pmu, producer) = Pmu::choose(place, producer).unwrap_or_else(|why| refuse(&why));
        if pmu.source.is_some() {
            // Its ticks are time, whatever the local APIC's timer counts.
            calibration = Calibration::UNKNOWN;
        }
        let mut seat = Self {
            setup,
            cpu,
            calibration,
            pmu,
            events: Vec::new(),
            needs_tick: false,
            is_multiplexed: false,
            kept: Kept::ALL,
            has_spaces,
            timer_counts: PmuCounters::default(),
            ring: Some(producer),
        };
        seat.set_events();
        (seat, drain)
    }

    /// Finds out what is to be counted, and asks the counters for it.
    fn set_events(&mut self) {
        let options = self.setup.options;
        let Some(registers) = &self.pmu.registers else {
            let name = pmu::timer::event_name(options.events, self.calibration.clock);
            self.kept = pmu::timer::kept(options.events);
            self.events = vec![match &self.pmu.source {
                Some(source) => self.line_event(name, source),
                None => RunEvent::new(name, options.sampling),
            }];
            return;
        };
        let usable = registers.usable;
        let wanted =
            Wanted::new(&options, &self.pmu, &registers.capabilities).unwrap_or_else(|why| refuse(&why));
        let mut counters = self.pmu.take_counters().expect("sampling is off");
        counters.set_events(&wanted.requests, usable).unwrap_or_else(|error| {
            refuse(&format!("events={}: {error}", options.events));
        });
        (self.events, self.kept) = (wanted.events, wanted.kept);
        (self.needs_tick, self.is_multiplexed) = (counters.needs_tick(), counters.is_multiplexed());
        self.pmu.give_back(Some(counters));
    }

    /// Begins to account for overflows and drops: those of the self-test don't count.
    pub fn begin(&self, drain: &mut Drain) {
        self.cpu.nmi.counters.overflows.reset();
        self.cpu.nmi.counters.throttled.reset();
        drain.begin(self.events.len());
    }

    /// Starts to sample.
    ///
    /// # Context
    /// Thread of the CPU.
    ///
    /// # Panics
    /// If sampling is on already.
    pub fn start(&mut self) {
        if self.pmu.registers.is_some() {
            self.start_counters();
        } else if let Some(source) = self.pmu.source {
            self.follow_line(&source);
        } else {
            let period = self.timer_period();
            self.start_timer(period, self.timer_throttle(period));
        }
    }

    /// Says what is sampled or counted.
    pub fn announce(&self) {
        if self.pmu.registers.is_some() {
            let turns = if self.is_multiplexed { ", in turns" } else { "" };
            info!("counting: {} events{turns}", self.events.len());
        } else if let Some(source) = &self.pmu.source {
            info!(
                "sampling: one {} sample every {} ticks of the {}, {} Hz",
                self.events[0].info().name,
                self.line_period(source).overflow_ticks(),
                source.name(),
                source.clock_hz()
            );
        } else {
            let period = self.timer_period();
            info!("sampling: one {} sample every {period} events", self.events[0].info().name);
        }
    }

    /// Stops to sample.
    ///
    /// # Context
    /// Thread of the CPU.
    pub fn stop(&mut self) {
        if let Some(sampler) = self.cpu.nmi.stop(self.cpu.apic) {
            self.timer_counts = sampler.timer_counts();
            let (counters, ring) = sampler.into_parts();
            self.ring = Some(ring);
            self.pmu.give_back(counters);
        }
    }

    /// Sends what the counters came to.
    pub fn send_counts(&mut self) {
        self.pmu.send_counts(self.cpu.index, self.events.len(), self.timer_counts);
    }

    /// Samples with a timer.
    pub fn start_timer(&mut self, period: u64, throttle: Throttle) {
        let Calibration { resume_ticks, resume_ticks_unusual, .. } = self.calibration;
        let is_usual = sampler::is_usual(self.detail(), &throttle);
        let resume_ticks = if is_usual { resume_ticks } else { resume_ticks_unusual };
        let mut timer = TimerPmu::new(self.cpu.apic, resume_ticks);
        timer.set_period(period);
        let ring = self.ring.take().expect("sampling is off");
        self.start_sampler(Sampler::with_timer(timer, ring, self.detail(), throttle));
    }

    /// Makes the line ready to tick, if one counts: right before the CPUs start to listen to it.
    ///
    /// # Context
    /// Thread of one CPU, as [`Seat::start_line`].
    pub fn prepare_line(&self) {
        if let Some(source) = &self.pmu.source {
            source.prepare();
        }
    }

    /// Lets the line tick, if one counts: all CPUs that sample listen to it.
    pub fn start_line(&self) {
        if let Some(source) = &self.pmu.source {
            source.start(self.line_period(source));
        }
    }

    /// Describes the event of a line, which ticks as often as it can.
    fn line_event(&self, name: &str, source: &TickSource) -> RunEvent {
        let sampling = match self.setup.options.sampling {
            Sampling::Frequency(hz) => Sampling::Frequency(hz),
            _ => Sampling::Period(self.line_period(source).overflow_ticks()),
        };
        RunEvent::with_formula(name, sampling, source.formula())
    }

    /// Returns the period that a line is to tick with; refuses one that could take more of a CPU than sampling may.
    fn line_period(&self, source: &TickSource) -> Period {
        let options = &self.setup.options;
        let clock_hz = source.clock_hz();
        let ticks = match options.sampling {
            Sampling::Frequency(hz) => clock_hz / hz,
            Sampling::Period(ticks) => ticks,
            Sampling::Count => u64::MAX,
        };
        let percent = match options.cpu_percent_max {
            0 => 100,
            percent => u64::from(percent),
        };
        let hz_max = LONGEST_SAMPLES_PER_SECOND * percent / 100;
        let ticks_min = clock_hz.div_ceil(hz_max.max(1));
        if ticks < ticks_min {
            refuse(&format!(
                "source={}: a sample every {ticks} ticks of a clock of {clock_hz} Hz could take more of a CPU than \
                 cpu_percent_max={percent}; choose freq={hz_max} or less, period={ticks_min} or more",
                source.name()
            ));
        }
        source.period(ticks)
    }

    /// Listens to a line that ticks for all CPUs.
    fn follow_line(&mut self, source: &TickSource) {
        let rhythm = source.rhythm(self.line_period(source), self.setup.frequencies.tsc_hz);
        let ticks = TickPmu::new(source.clock(), rhythm, source.first_due(&rhythm));
        let ring = self.ring.take().expect("sampling is off");
        self.start_sampler(Sampler::with_ticks(self.cpu.apic, ticks, ring, self.detail()));
    }

    fn start_counters(&mut self) {
        let counters = self.pmu.take_counters().expect("sampling is off");
        let ring = self.ring.take().expect("sampling is off");
        self.start_sampler(Sampler::with_counters(self.cpu.apic, counters, ring, self.detail()));
    }

    fn start_sampler(&self, sampler: Sampler) {
        let started = self.cpu.nmi.start(self.cpu.apic, Box::new(sampler));
        assert!(started.is_ok(), "the self-test has started the same timer");
    }

    /// Returns the period that the timer is to count.
    fn timer_period(&self) -> u64 {
        match self.setup.options.sampling {
            Sampling::Frequency(hz) => (self.setup.frequencies.apic_timer_hz / hz).max(1),
            Sampling::Period(events) => events,
            Sampling::Count => u64::MAX,
        }
    }

    /// Returns the throttle that a period of the timer needs: none if it is so long that the handler can't have the
    /// share that it may have, whatever it does.
    fn timer_throttle(&self, period: u64) -> Throttle {
        let Setup { options, frequencies, .. } = &self.setup;
        let percent = options.cpu_percent_max;
        let longest_sample_ticks = match self.calibration.clock {
            ClockKind::Instructions => LONGEST_SAMPLE_INSTRUCTIONS,
            ClockKind::Time => frequencies.tsc_hz / LONGEST_SAMPLES_PER_SECOND,
        };
        if period.saturating_mul(u64::from(percent)) >= 100 * longest_sample_ticks {
            return Throttle::OFF;
        }
        let window_ticks = frequencies.tsc_hz / u64::from(options.tick_hz.max(1));
        let mut throttle = Throttle::new(window_ticks, percent);
        throttle.set_overhead(self.calibration.sample_ticks.unwrap_or_default());
        throttle
    }

    const fn detail(&self) -> Detail {
        Detail { chains: self.setup.options.chains, spaces: self.has_spaces, kept: self.kept }
    }
}

fn make_ring(
    options: &Options<'_>,
    cpu: u16,
) -> (Producer<'static, RingMemory>, Consumer<'static, RingMemory>) {
    let memory = RingMemory::new(options.ring, options.ring_bytes, cpu).unwrap_or_else(|error| {
        report::configuration(format_args!(
            "CPU {cpu}: ring={} ring_bytes={}: {error:?}; choose a smaller ring",
            options.ring, options.ring_bytes
        ))
    });
    let ring = Ring::new(memory).and_then(|ring| match options.decommit {
        0 => Ok(ring),
        pages => ring.decommitting(pages as usize),
    });
    let ring = ring.unwrap_or_else(|error| {
        report::configuration(format_args!(
            "ring_bytes={} decommit={}: {error}",
            options.ring_bytes, options.decommit
        ))
    });
    #[cfg_attr(not(feature = "selftest"), expect(unused_mut, reason = "only a mutant changes it"))]
    let (producer, mut consumer) = Box::leak(Box::new(ring)).split();
    #[cfg(feature = "selftest")]
    crate::selftest::gap::prepare(options, &mut consumer);
    (producer, consumer)
}
