//! What one run counts with: its events, and a sampler made of a timer or of counters.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;

use nmiprof_pmu::engine::Throttle;
use nmiprof_pmu::{TickPmu, TimerPmu};
use nmiprof_wire::{ClockKind, Frame, Sampling};

use super::{Session, refuse};
use crate::calibrate::Calibration;
use crate::info;
use crate::pmu;
use crate::pmu::events::{RunEvent, Wanted};
use crate::pmu::source::{Period, TickSource};
use crate::sampler::{self, Detail, Sampler};
use crate::stream;

/// Instructions of the longest sample: a full call chain, page faults, and a nested NMI.
const LONGEST_SAMPLE_INSTRUCTIONS: u64 = 2048;
/// Samples of the longest kind that a slow machine takes in a second: one in 50 microseconds.
const LONGEST_SAMPLES_PER_SECOND: u64 = 20_000;

impl Session {
    /// Finds out what is to be counted, and asks the counters for it.
    pub(super) fn set_events(&mut self) {
        let Some(registers) = &self.pmu.registers else {
            let name = pmu::timer::event_name(self.options.events, self.calibration.clock);
            self.kept = pmu::timer::kept(self.options.events);
            self.events = vec![match &self.pmu.source {
                Some(source) => self.line_event(name, source),
                None => RunEvent::new(name, self.options.sampling),
            }];
            return;
        };
        let usable = registers.usable;
        let wanted =
            Wanted::new(&self.options, &self.pmu, &registers.capabilities).unwrap_or_else(|why| refuse(&why));
        let mut counters = self.pmu.take_counters().expect("sampling is off");
        counters.set_events(&wanted.requests, usable).unwrap_or_else(|error| {
            refuse(&format!("events={}: {error}", self.options.events));
        });
        (self.events, self.kept) = (wanted.events, wanted.kept);
        self.pmu.give_back(Some(counters));
    }

    /// Starts to sample.
    ///
    /// # Panics
    /// If sampling is on already.
    pub fn start(&mut self) {
        self.begin();
        if self.pmu.registers.is_some() {
            self.start_counters();
        } else if let Some(source) = self.pmu.source {
            self.start_line(&source);
        } else {
            let period = self.timer_period();
            self.start_timer(period, self.timer_throttle(period));
            info!("sampling: one {} sample every {period} events", self.events[0].info().name);
        }
    }

    /// Describes the event of a line, which ticks as often as it can.
    fn line_event(&self, name: &str, source: &TickSource) -> RunEvent {
        let sampling = match self.options.sampling {
            Sampling::Frequency(hz) => Sampling::Frequency(hz),
            _ => Sampling::Period(self.line_period(source).overflow_ticks()),
        };
        RunEvent::with_formula(name, sampling, source.formula())
    }

    /// Returns the period that a line is to tick with; refuses one that could take more of a CPU than sampling may.
    fn line_period(&self, source: &TickSource) -> Period {
        let clock_hz = source.clock_hz();
        let ticks = match self.options.sampling {
            Sampling::Frequency(hz) => clock_hz / hz,
            Sampling::Period(ticks) => ticks,
            Sampling::Count => u64::MAX,
        };
        let percent = match self.options.cpu_percent_max {
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

    fn start_line(&mut self, source: &TickSource) {
        let period = self.line_period(source);
        let rhythm = source.rhythm(period, self.frequencies.tsc_hz);
        let ticks = TickPmu::new(source.clock(), rhythm, source.prepare(&rhythm));
        let ring = self.ring.take().expect("sampling is off");
        self.start_sampler(Sampler::with_ticks(self.cpu.apic, ticks, ring, self.detail()));
        source.start(period);
        info!(
            "sampling: one {} sample every {} ticks of the {}, {} Hz",
            self.events[0].info().name,
            period.overflow_ticks(),
            source.name(),
            source.clock_hz()
        );
    }

    /// Returns the period that the timer is to count.
    fn timer_period(&self) -> u64 {
        match self.options.sampling {
            Sampling::Frequency(hz) => (self.frequencies.apic_timer_hz / hz).max(1),
            Sampling::Period(events) => events,
            Sampling::Count => u64::MAX,
        }
    }

    /// Begins to account for overflows and drops: those of the self-test don't count.
    pub fn begin(&mut self) {
        self.cpu.nmi.counters.overflows.reset();
        self.cpu.nmi.counters.throttled.reset();
        self.drain.begin(self.events.len());
    }

    pub(super) fn start_timer(&mut self, period: u64, throttle: Throttle) {
        let Calibration { resume_ticks, resume_ticks_unusual, .. } = self.calibration;
        let is_usual = sampler::is_usual(self.detail(), &throttle);
        let resume_ticks = if is_usual { resume_ticks } else { resume_ticks_unusual };
        let mut timer = TimerPmu::new(self.cpu.apic, resume_ticks);
        timer.set_period(period);
        let ring = self.ring.take().expect("sampling is off");
        self.start_sampler(Sampler::with_timer(timer, ring, self.detail(), throttle));
    }

    /// Returns the throttle that a period of the timer needs: none if it is so long that the handler can't have the
    /// share that it may have, whatever it does.
    fn timer_throttle(&self, period: u64) -> Throttle {
        let percent = self.options.cpu_percent_max;
        let longest_sample_ticks = match self.calibration.clock {
            ClockKind::Instructions => LONGEST_SAMPLE_INSTRUCTIONS,
            ClockKind::Time => self.frequencies.tsc_hz / LONGEST_SAMPLES_PER_SECOND,
        };
        if period.saturating_mul(u64::from(percent)) >= 100 * longest_sample_ticks {
            return Throttle::OFF;
        }
        let window_ticks = self.frequencies.tsc_hz / u64::from(self.options.tick_hz.max(1));
        let mut throttle = Throttle::new(window_ticks, percent);
        throttle.set_overhead(self.calibration.sample_ticks.unwrap_or_default());
        throttle
    }

    fn start_counters(&mut self) {
        let counters = self.pmu.take_counters().expect("sampling is off");
        let ring = self.ring.take().expect("sampling is off");
        let (needs_tick, multiplexed) = (counters.needs_tick(), counters.is_multiplexed());
        let sampler = Sampler::with_counters(self.cpu.apic, counters, ring, self.detail());
        self.needs_tick = needs_tick;
        // What the tests of the counters have raised is told apart by this.
        stream::send(&Frame::Sync(self.drain.totals()));
        self.start_sampler(sampler);
        let turns = if multiplexed { ", in turns" } else { "" };
        info!("counting: {} events{turns}", self.events.len());
    }

    fn start_sampler(&self, sampler: Sampler) {
        let started = self.cpu.nmi.start(self.cpu.apic, Box::new(sampler));
        assert!(started.is_ok(), "the self-test has started the same timer");
    }

    const fn detail(&self) -> Detail {
        Detail { chains: self.options.chains, spaces: self.has_processes, kept: self.kept }
    }
}
