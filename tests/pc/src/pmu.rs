//! The PMU: the register model of `nmiprof-pmu`, fed with what was really executed.
//!
//! Telling the model of every instruction would cost more than executing it. Events are collected, and told when it
//! matters: before an access to a register, and before anything can overflow. How long that is follows from the most
//! that one instruction can add; in the last stretch before an overflow each instruction is told alone. So the overflow
//! falls on the instruction that caused it, and the model is exact at every access.
//!
//! Within one instruction the order of events is fixed: those of counters with smaller numbers first.

use nmiprof_pmu::model::{Flaw, Model, Privilege, Signal};
use nmiprof_pmu::profiles::Profile;

use crate::events::Counts;

/// Counts by level: user and kernel.
pub type ByLevel = [Counts; 2];

/// Position of user code's counts.
pub const USER: usize = 0;
/// Position of the kernel's.
pub const KERNEL: usize = 1;

const SIGNALS_MAX: usize = 32;

/// How long NMIs are under way, in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub least: u64,
    /// How many more there can be: they differ from NMI to NMI, by a sequence that is the same in each run.
    pub spread: u64,
}

/// The model, and how far it has been told.
#[derive(Clone, Debug)]
pub struct Pmu {
    model: Model,
    latency: Latency,
    /// State of the sequence.
    drawn: u64,
    told: ByLevel,
    /// Boundaries after which the model has to be told again, at the latest.
    due_boundaries: u64,
    is_counting: bool,
    is_intel: bool,
}

impl Pmu {
    /// Creates the PMU of a CPU, perhaps with a flaw; an NMI comes so long after its overflow.
    #[must_use]
    pub fn new(profile: &'static Profile, flaw: Option<Flaw>, latency: Latency) -> Self {
        let mut model = Model::new(profile).with_latency(latency.least);
        if let Some(flaw) = flaw {
            model = model.with_flaw(flaw);
        }
        Self {
            model,
            latency,
            drawn: 1,
            told: ByLevel::default(),
            due_boundaries: u64::MAX,
            is_counting: false,
            is_intel: profile.is_intel(),
        }
    }

    /// Returns the model, as of the last access.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the model, to be accessed; it has been told everything.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Returns the boundary at which the model has to be told.
    #[inline]
    #[must_use]
    pub const fn due_boundaries(&self) -> u64 {
        self.due_boundaries
    }

    /// Tells whether any counter runs.
    #[inline]
    #[must_use]
    pub const fn is_counting(&self) -> bool {
        self.is_counting
    }

    /// Tells the model what has happened.
    pub fn tell(&mut self, totals: &ByLevel) {
        if self.is_counting {
            let mut signals = [Signal::Instructions; SIGNALS_MAX];
            let count = self.signals(&mut signals);
            for (level, privilege) in [(USER, Privilege::User), (KERNEL, Privilege::Kernel)] {
                let news = totals[level] - self.told[level];
                for signal in &signals[..count] {
                    let events = news.of(*signal, self.is_intel);
                    if events > 0 {
                        self.model.happen(*signal, events, privilege);
                    }
                }
            }
        }
        self.pass_time(totals);
        self.told = *totals;
    }

    /// Lets time pass for an NMI that is on its way while all counters stand still, as they do when they are frozen.
    ///
    /// The model's time is the events that it is told; where there are none, each instruction is one that nobody counts.
    fn pass_time(&mut self, totals: &ByLevel) {
        const TIME: Signal = Signal::Other(u64::MAX);
        let instructions = |of: &ByLevel| of[USER].instructions + of[KERNEL].instructions;
        if self.model.running().is_empty() && self.model.steps_to_delivery() != u64::MAX {
            let passed = instructions(totals) - instructions(&self.told);
            self.model.happen(TIME, passed, Privilege::Kernel);
        }
    }

    /// Finds out when the model has to be told again.
    pub fn plan(&mut self, boundaries: u64) {
        self.is_counting = !self.model.running().is_empty();
        let is_under_way = self.model.steps_to_delivery() != u64::MAX;
        if self.latency.spread > 0 && !is_under_way {
            let more = self.draw() % (self.latency.spread + 1);
            self.model.set_latency(self.latency.least + more);
        }
        let slack = |next: nmiprof_pmu::model::NextOverflow| {
            (next.events - 1) / Counts::most_per_instruction(next.signal)
        };
        let shortest = self.model.next_overflows().map(slack).min();
        let slack = if is_under_way { Some(0) } else { shortest };
        self.due_boundaries = slack.map_or(u64::MAX, |slack| boundaries.saturating_add(slack.max(1)));
    }

    /// Draws the next number of the sequence (xorshift; Marsaglia, "Xorshift RNGs", 2003).
    const fn draw(&mut self) -> u64 {
        self.drawn ^= self.drawn << 13;
        self.drawn ^= self.drawn >> 7;
        self.drawn ^= self.drawn << 17;
        self.drawn
    }

    /// Lists what the running counters count, each once.
    fn signals(&self, list: &mut [Signal; SIGNALS_MAX]) -> usize {
        let mut count = 0;
        for next in self.model.next_overflows() {
            if !list[..count].contains(&next.signal) && count < SIGNALS_MAX {
                list[count] = next.signal;
                count += 1;
            }
        }
        count
    }
}
