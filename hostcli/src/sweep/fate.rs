//! What a second NMI did at each boundary: its fate.
//!
//! Two things are seen of it: where it landed, and the counts of arrivals, nested arrivals and runs of the
//! handler. The boundary for which it was *due* follows from the ticks of its placement, for one tick is one
//! instruction. From these:
//!
//! | fate | seen | meaning |
//! |---|---|---|
//! | `delayed` | landed later than it was due | the CPU held it back until an `iretq` unmasked NMIs |
//! | `joined` | 1 nested, 1 run | it came before the handler had begun: that run served both |
//! | `latched` | 1 nested, 2 runs | it left a mark, for which the exit ran the handler once more |
//! | `restarted` | the same, in the [exit window](ExitWindow) | the exit had let go already; the handler was started again |
//! | `apart` | none nested, 2 runs | the first NMI had returned: it is a first one itself |
//!
//! `latched` and `restarted` look alike from outside. Labels of the entry tell them apart, not counts.

use std::ops::Range;

use nmiprof_wire::{NmiEntry, Placement};

use super::boundary::{Boundaries, Boundary, Class};
use super::code::Window;
use super::combination::Combination;
use super::judge::{Judge, Landing};
use super::run::Sweep;

/// A boundary, and what became of the NMI that was due there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The boundary.
    pub boundary: Boundary,
    /// What became of the NMI.
    pub fate: Fate,
}

/// What became of the NMI that was due at a boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Landed(Arrival),
    /// The machine did not outlive it, and ended like this.
    Died(String),
    /// It is the same moment as the boundary before: the delivery of a fault takes no time.
    Simultaneous,
    /// No NMI was due there: the sweep was left alone before.
    Untried,
}

/// An NMI that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The position at which it landed; `None` if that is no boundary where it could.
    pub position: Option<usize>,
    /// What it did there.
    pub effect: Effect,
    /// What was counted.
    pub placement: Placement,
}

/// What an NMI did where it landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// One run served it and the first NMI.
    Joined,
    /// It left a mark, and the handler ran once more.
    Latched,
    /// It landed in the exit window, and the handler ran once more.
    Restarted,
    /// It was a first NMI itself.
    Apart,
    /// It broke something: the names of what failed.
    Failed(Vec<&'static str>),
    /// Nothing failed, but the counts are those of no known effect.
    Unexplained,
}

impl Effect {
    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Latched => "latched",
            Self::Restarted => "restarted",
            Self::Apart => "apart",
            Self::Failed(_) => "failed",
            Self::Unexplained => "unexplained",
        }
    }
}

/// The addresses at which the exit of an entry has let go already, or is about to, so that a nested NMI is
/// recognized by where it arrives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitWindow(Range<u64>);

impl ExitWindow {
    /// Finds the exit window of a combination among the labelled stretches of its entry; empty for an entry
    /// that has none.
    #[must_use]
    pub fn of(combination: &Combination, windows: &[Window]) -> Self {
        let label = combination.label();
        let (first, last) = match combination.entry {
            NmiEntry::Naive => return Self::default(),
            // The state is cleared by the instruction before.
            NmiEntry::Rostedt | NmiEntry::Softmask => ("iretq", "iretq"),
            NmiEntry::Latched | NmiEntry::Tristate => ("window", "iretq"),
        };
        let find = |name: &str| windows.iter().find(|window| window.symbol == format!("{label}_{name}"));
        match (find(first), find(last)) {
            // Only the first address after the last label is a boundary: what is there does not go on.
            (Some(first), Some(last)) => Self(first.start..last.start + 1),
            _ => Self::default(),
        }
    }

    /// Tells whether an address is in the window.
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        self.0.contains(&address)
    }
}

/// Finds what became of the NMI that was due at each boundary, in the order of the trace.
#[must_use]
pub fn sites(boundaries: &Boundaries, exit: &ExitWindow, sweep: &Sweep) -> Vec<Site> {
    let judge = Judge::new(boundaries);
    let teller = Teller { boundaries, exit, sweep, offset: judge.offset(&sweep.placements), judge };
    let site = |(position, boundary): (usize, &Boundary)| Site {
        boundary: *boundary,
        fate: teller.fate(position, boundary),
    };
    boundaries.all().iter().enumerate().map(site).collect()
}

/// Everything that decides about a fate.
struct Teller<'a> {
    boundaries: &'a Boundaries,
    exit: &'a ExitWindow,
    sweep: &'a Sweep,
    judge: Judge<'a>,
    /// Ticks of the placement that is due at position 0.
    offset: i64,
}

impl Teller<'_> {
    fn fate(&self, position: usize, boundary: &Boundary) -> Fate {
        let before = position.checked_sub(1).and_then(|before| self.boundaries.all().get(before));
        if before.is_some_and(|before| before.tick == boundary.tick) {
            return Fate::Simultaneous;
        }
        let due = self.offset + i64::from(boundary.tick);
        if let Some(death) = self.sweep.deaths.iter().find(|death| i64::from(death.ticks) == due) {
            return Fate::Died(death.reason.clone());
        }
        let placements = &self.sweep.placements;
        match placements.binary_search_by_key(&due, |placement| i64::from(placement.ticks)) {
            Ok(index) => placements.get(index).map_or(Fate::Untried, |one| Fate::Landed(self.arrival(one))),
            Err(_) => Fate::Untried,
        }
    }

    fn arrival(&self, placement: &Placement) -> Arrival {
        let landing = self.judge.landing(placement, self.offset);
        let position = if let Landing::At(position) = landing { Some(position) } else { None };
        let kinds = self.judge.kinds(placement, landing);
        let effect = if kinds.is_empty() { self.effect(placement, position) } else { Effect::Failed(kinds) };
        Arrival { position, effect, placement: *placement }
    }

    /// Tells what an NMI did that broke nothing.
    fn effect(&self, placement: &Placement, position: Option<usize>) -> Effect {
        let Placement { arrivals, runs, nested, last_rip, .. } = *placement;
        let has_returned = position.is_none_or(|position| position + 1 == self.boundaries.all().len());
        match (arrivals, nested, runs) {
            (2, 0, 2) if has_returned => Effect::Apart,
            (2, 1, 1) if !has_returned => Effect::Joined,
            (2, 1, 2) if self.exit.contains(last_rip) => Effect::Restarted,
            (2, 1, 2) if !has_returned => Effect::Latched,
            _ => Effect::Unexplained,
        }
    }
}

impl Site {
    /// Returns the name of the fate of an NMI that was due at this boundary, whose position is given.
    #[must_use]
    pub fn fate_name(&self, position: usize) -> &'static str {
        match &self.fate {
            Fate::Landed(arrival) => match (arrival.position, self.boundary.class) {
                (Some(landed), _) if landed == position => arrival.effect.name(),
                (Some(_), Class::Masked) => "delayed",
                (None, _) if matches!(arrival.effect, Effect::Failed(_)) => arrival.effect.name(),
                _ => "astray",
            },
            Fate::Died(_) => "died",
            Fate::Simultaneous => "simultaneous",
            Fate::Untried => "untried",
        }
    }
}

#[cfg(test)]
mod tests;
