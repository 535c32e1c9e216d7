//! Which pairs of boundaries have to be hit: from the reference trace and the labels of the entry alone.
//!
//! The second NMI lands on a boundary of the first one and is nested, however its entry handles that. From then on
//! a boundary can be passed twice: by the *outer* run, which goes on, and by the *next* run, which the second NMI
//! has caused. Where it is passed, and whether NMIs are unmasked there, follows from a few habits that each entry
//! declares by its labels and in the comment at its head:
//!
//! | habit | entry | what it means |
//! |---|---|---|
//! | *joins* | `rostedt`, `repeat` to `window_end` | a run is about to start, which serves the second NMI as well: there is no next run |
//! | *takes over* | `latched` and `tristate`, `window` to `window_end` | the second NMI does not go back to the outer run, and starts the next one |
//! | *decides* | the same, the first branch of the window | once latched, the outer run ends here |
//! | *stays masked* | `softmask`, and with nested return `ret` | the nested NMI goes back without `iretq`: NMIs stay masked in the outer run until an `iretq` of its own |
//! | *starts at* | `copy`, `run`, `run`, `execute` | the next run begins at this label |
//! | *starts unmasked* | see [`Demand::next_starts_unmasked`] | NMIs are not masked there |
//!
//! In every run the handler touches a page of its own that is not there. So where faults return by `iret`, the exit
//! of every run is unmasked, whatever its start is.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use nmiprof_wire::{FaultReturn, Landing, NestedReturn, NmiEntry, Unmask};

use crate::sweep::boundary::{Boundaries, Boundary, Class};
use crate::sweep::code::Code;
use crate::sweep::combination::Combination;

/// Which part of an NMI a boundary is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The entry's own code, before it calls the handler.
    Entry,
    /// The handler, and what it calls and raises.
    Body,
    /// The entry's own code, after the handler.
    Exit,
}

/// Which run passes a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// The one that the second NMI interrupted.
    Outer,
    /// The one that it caused.
    Next,
}

/// A pair that has to be hit: positions in the reference trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Where the second NMI lands.
    pub second: usize,
    /// Where the third one lands.
    pub third: usize,
    /// Which run the third one interrupts there.
    pub pass: Pass,
}

/// What is demanded of the pairs of one combination.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    boundaries: &'a Boundaries,
    /// The entry's own code.
    entry: Range<u64>,
    /// Positions outside the entry's own code.
    body: Range<usize>,
    /// Positions of the entry's own code by address.
    windows: HashMap<u64, usize>,
    /// Positions of the body whose address stands nowhere else in the trace.
    unique: HashMap<u64, usize>,
    /// Positions at which an NMI lands, if it is not nested.
    landable: HashSet<usize>,
    habits: Habits,
}

/// How an entry handles a nested NMI.
#[derive(Clone, Debug, Default)]
struct Habits {
    entry: Option<NmiEntry>,
    joins: Range<u64>,
    takes_over: Range<u64>,
    /// Position of the branch.
    decides: Option<usize>,
    stays_masked: bool,
    /// Position.
    starts_at: usize,
    is_early: bool,
    faults_unmask: bool,
}

impl<'a> Demand<'a> {
    /// Derives the demand; `None` where the entry has no label that it should have, or no code but its own.
    #[must_use]
    pub fn of(combination: &Combination, boundaries: &'a Boundaries, code: &Code) -> Option<Self> {
        let label = combination.label();
        let mut demand = Self::arrange(boundaries, code.entry(&label).ok()?)?;
        demand.habits = Habits::of(combination, &label, code, &demand.windows)?;
        Some(demand)
    }

    /// Arranges boundaries for an entry without habits.
    fn arrange(boundaries: &'a Boundaries, entry: Range<u64>) -> Option<Self> {
        let all = boundaries.all();
        let inner = all.get(..all.len().checked_sub(1)?)?;
        let is_outside = |boundary: &Boundary| !entry.contains(&boundary.address);
        let body = inner.iter().position(is_outside)?..inner.iter().rposition(is_outside)? + 1;
        let (mut windows, mut unique, mut counts) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (position, boundary) in inner.iter().enumerate() {
            *counts.entry(boundary.address).or_insert(0_u32) += 1;
            let side = if body.contains(&position) { &mut unique } else { &mut windows };
            side.entry(boundary.address).or_insert(position);
        }
        unique.retain(|address, _| counts.get(address) == Some(&1));
        let mut demand = Self {
            boundaries,
            entry,
            body,
            windows,
            unique,
            landable: HashSet::new(),
            habits: Habits::default(),
        };
        demand.landable = demand.rows().into_iter().map(|(position, _)| position).collect();
        Some(demand)
    }

    /// Returns the part that a position is in.
    #[must_use]
    pub fn side(&self, position: usize) -> Side {
        match position {
            _ if position < self.body.start => Side::Entry,
            _ if position < self.body.end => Side::Body,
            _ => Side::Exit,
        }
    }

    /// Tells whether an address is in the entry's own code.
    #[must_use]
    pub fn is_entry(&self, address: u64) -> bool {
        self.entry.contains(&address)
    }

    /// Finds the position of an address in the entry's own code.
    #[must_use]
    pub fn window_position(&self, address: u64) -> Option<usize> {
        self.windows.get(&address).copied()
    }

    /// Finds the position of an address of the body, if it stands there only.
    #[must_use]
    pub fn body_position(&self, address: u64) -> Option<usize> {
        self.unique.get(&address).copied()
    }

    /// Tells whether an arrival is at a position of the outermost run.
    #[must_use]
    pub fn is_at(&self, landing: Landing, position: usize) -> bool {
        let runs_are_right = match self.side(position) {
            Side::Body => landing.runs <= 1,
            _ => landing.runs == self.runs_before(position),
        };
        landing.address() == self.address(position) && runs_are_right
    }

    /// Returns the runs that have begun at a position of the entry's own code, on the outer pass.
    #[must_use]
    pub fn runs_before(&self, position: usize) -> u16 {
        u16::from(self.side(position) == Side::Exit)
    }

    /// Tells whether one of the body's first `steps` instructions has this address.
    #[must_use]
    pub fn is_start_of_body(&self, address: u64, steps: usize) -> bool {
        let start = self.boundaries.all().get(self.body.clone()).unwrap_or_default();
        start.iter().take(steps).any(|boundary| boundary.address == address)
    }

    /// Returns the boundaries at which a second NMI lands: position and ticks after the first boundary.
    ///
    /// Where several have the same ticks, because the delivery of a fault takes none, it lands at the first.
    #[must_use]
    pub fn rows(&self) -> Vec<(usize, u32)> {
        let all = self.boundaries.all();
        let mut rows: Vec<(usize, u32)> = Vec::new();
        for (position, boundary) in all.iter().enumerate().take(all.len().saturating_sub(1)) {
            let is_new = rows.last().is_none_or(|(_, tick)| *tick != boundary.tick);
            if boundary.class != Class::Masked && is_new {
                rows.push((position, boundary.tick));
            }
        }
        rows
    }

    /// Returns the pairs that have to be hit from one row, and how many ordered pairs of it can't be.
    ///
    /// The third NMI is wanted at every later boundary of the entry's own code. Between two boundaries of the body
    /// it is wanted where both come after the last `iretq` of an exception: what the handler did before that
    /// depends on the NMIs that have come. Where exceptions return without one, nothing tells that point, and no
    /// such pair is wanted; the third NMI comes there all the same.
    #[must_use]
    pub fn of_row(&self, second: usize) -> (Vec<Wanted>, usize) {
        let (mut wanted, mut unreachable) = (Vec::new(), 0);
        let is_later = |third: &usize| *third > second && self.landable.contains(third);
        for third in self.windows.values().copied().filter(is_later) {
            let passes = [Pass::Outer, Pass::Next];
            match passes.into_iter().find(|pass| self.can_land(second, third, *pass)) {
                Some(pass) => wanted.push(Wanted { second, third, pass }),
                None => unreachable += 1,
            }
        }
        let is_settled = self.habits.faults_unmask
            && self.body.contains(&second)
            && self.boundaries.inner_irets().iter().all(|iret| *iret < second);
        for third in self.unique.values().copied().filter(|third| is_settled && is_later(third)) {
            if self.can_land(second, third, Pass::Outer) {
                wanted.push(Wanted { second, third, pass: Pass::Outer });
            }
        }
        wanted.sort_unstable_by_key(|one| one.third);
        (wanted, unreachable)
    }

    /// Tells whether a third NMI can land at a position of this pass after a second one at `second`.
    #[must_use]
    pub fn can_land(&self, second: usize, third: usize, pass: Pass) -> bool {
        match pass {
            Pass::Outer => self.outer_passes(second, third) && self.is_unmasked_in_outer(second, third),
            Pass::Next => {
                let is_passed = !self.joins(second) && third >= self.habits.starts_at;
                let fault_unmasks = self.habits.faults_unmask && self.side(third) == Side::Exit;
                is_passed && (fault_unmasks || self.next_starts_unmasked(second))
            }
        }
    }

    fn outer_passes(&self, second: usize, third: usize) -> bool {
        let goes_on = !self.habits.takes_over.contains(&self.address(second));
        goes_on && third >= second && self.habits.decides.is_none_or(|decides| third <= decides)
    }

    fn is_unmasked_in_outer(&self, second: usize, third: usize) -> bool {
        let mut irets = self.boundaries.inner_irets().iter();
        !self.habits.stays_masked || irets.any(|iret| (second..third).contains(iret))
    }

    /// Tells whether NMIs are unmasked where the next run begins.
    ///
    /// `rostedt` gets there by `iretq`. `softmask` gets there by a fault, which does not unmask on the emulator.
    /// `latched` and `tristate` get there by a jump where the outer run decides, with NMIs as they are then, or
    /// masked by the second NMI where it takes over. The early forms unmask on the way, but for `latched` where
    /// the outer run decides.
    fn next_starts_unmasked(&self, second: usize) -> bool {
        let takes_over = self.habits.takes_over.contains(&self.address(second));
        let decided_unmasked = !takes_over
            && self.habits.decides.is_some_and(|decides| self.is_unmasked_in_outer(second, decides));
        match self.habits.entry {
            Some(NmiEntry::Rostedt) => true,
            Some(NmiEntry::Latched) if !takes_over => decided_unmasked,
            _ => self.habits.is_early || decided_unmasked,
        }
    }

    fn joins(&self, second: usize) -> bool {
        self.habits.joins.contains(&self.address(second))
    }

    /// Returns the address at a position, 0 where there is none.
    #[must_use]
    pub fn address(&self, position: usize) -> u64 {
        self.boundaries.all().get(position).map_or(0, |boundary| boundary.address)
    }

    /// Returns the interrupted instruction, to which the outermost NMI returns.
    #[must_use]
    pub fn return_address(&self) -> u64 {
        self.boundaries.all().last().map_or(0, |boundary| boundary.address)
    }
}

impl Habits {
    fn of(
        combination: &Combination,
        label: &str,
        code: &Code,
        windows: &HashMap<u64, usize>,
    ) -> Option<Self> {
        let at = |name: &str| code.address(&format!("{label}_{name}"));
        let is_ret = combination.nested_return == NestedReturn::Ret;
        let common = Self {
            entry: Some(combination.entry),
            stays_masked: is_ret,
            is_early: combination.unmask == Unmask::Early,
            faults_unmask: combination.fault_return == FaultReturn::Iret,
            ..Self::default()
        };
        let position = |name: &str| windows.get(&at(name)?).copied();
        match combination.entry {
            // Nothing is ever nested in its sound forms.
            NmiEntry::Naive => Some(common),
            NmiEntry::Rostedt => {
                let joins = at("repeat")?..at("window_end")?;
                Some(Self { joins, starts_at: position("copy")?, ..common })
            }
            NmiEntry::Softmask => Some(Self { stays_masked: true, starts_at: position("run")?, ..common }),
            NmiEntry::Latched | NmiEntry::Tristate => {
                let starts = if combination.entry == NmiEntry::Latched { "run" } else { "execute" };
                let takes_over = at("window")?..at("window_end")?;
                let decides = windows.get(&code.conditional_branch(&takes_over)?).copied();
                Some(Self { takes_over, decides, starts_at: position(starts)?, ..common })
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
