//! What one run counts with: its events, and a sampler made of a timer or of counters.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;

use nmiprof_pmu::TimerPmu;
use nmiprof_pmu::engine::Throttle;
use nmiprof_wire::{ClockKind, Frame, Sampling};

use super::{Session, refuse};
use crate::calibrate::Calibration;
use crate::info;
use crate::pmu;
use crate::pmu::events::{RunEvent, Wanted};
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
            self.events = vec![RunEvent::new(name, self.options.sampling)];
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
        } else {
            let period = self.timer_period();
            self.start_timer(period, self.timer_throttle(period));
            info!("sampling: one {} sample every {period} events", self.events[0].info().name);
        }
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
