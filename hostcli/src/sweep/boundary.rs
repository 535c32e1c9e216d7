//! Instruction boundaries of an NMI and the class of each.
//!
//! **What masking means.** The CPU masks NMIs when it delivers one and unmasks them when the next `iretq`
//! completes, whoever executes it. So the boundary before an inner `iretq` is still masked, and the one
//! after it, which is the instruction that the `iretq` goes back to, is the first where an NMI arrives. An
//! NMI that came anywhere since the delivery is latched, one of them, and arrives exactly there. (Silicon
//! may delay it by one instruction after an `iretq`; the emulator does not.) From there to the return of
//! this NMI nothing masks them again, because only another NMI would.
//!
//! From that, and from nothing else, each boundary of a reference trace has its class:
//!
//! | class | before it | an NMI placed there |
//! |---|---|---|
//! | `masked` | no `iretq` | lands at the first boundary that is not masked |
//! | `early` | only an `iretq` of an entry that was asked to unmask early | lands there |
//! | `reachable` | an `iretq` of an exception, or the return itself | lands there |
//!
//! The same address may stand at several positions (a function called twice, the instruction that faulted
//! and comes again), so a boundary is a position, and is named by its address and occurrence.

use std::collections::HashMap;
use std::ops::Range;

use nmiprof_wire::Unmask;

use super::trace::{StepKind, Trace};

/// Whether an NMI can arrive at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It can't.
    Masked,
    /// It can because the entry was asked to unmask early.
    Early,
    /// It can because an exception has returned, or this NMI has.
    Reachable,
}

impl Class {
    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            Self::Early => "early",
            Self::Reachable => "reachable",
        }
    }
}

/// One boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Address of the instruction after it.
    pub address: u64,
    /// How many earlier positions have the same address.
    pub occurrence: u32,
    /// Whether an NMI can arrive there.
    pub class: Class,
    /// Retired instructions between the first boundary and this one.
    pub tick: u32,
}

/// Boundaries of one NMI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundaries {
    all: Vec<Boundary>,
    inner_irets: Vec<usize>,
}

impl Boundaries {
    /// Classifies the boundaries of a trace.
    ///
    /// `entry` is the code of the NMI entry; `unmask` tells what an inner `iretq` in there is for.
    #[must_use]
    pub fn of(trace: &Trace, entry: &Range<u64>, unmask: Unmask) -> Self {
        let (ticks, last) = (trace.ticks(), trace.steps().len().saturating_sub(1));
        let mut boundaries = Self { all: Vec::with_capacity(ticks.len()), inner_irets: Vec::new() };
        let (mut class, mut occurrences) = (Class::Masked, HashMap::new());
        for (position, (step, tick)) in trace.steps().iter().zip(ticks).enumerate() {
            let occurrence = occurrences.entry(step.address).or_insert(0);
            boundaries.all.push(Boundary { address: step.address, occurrence: *occurrence, class, tick });
            *occurrence += 1;
            if step.kind == StepKind::Iret {
                let is_return = position + 1 >= last;
                let is_early = !is_return && unmask == Unmask::Early && entry.contains(&step.address);
                class = after_iret(class, is_early);
                if !is_return {
                    boundaries.inner_irets.push(position);
                }
            }
        }
        boundaries
    }

    /// Returns every boundary, in the order of the trace.
    #[must_use]
    pub fn all(&self) -> &[Boundary] {
        &self.all
    }

    /// Returns the positions of the `iretq`s before the return.
    #[must_use]
    pub fn inner_irets(&self) -> &[usize] {
        &self.inner_irets
    }

    /// Counts the boundaries of a class.
    #[must_use]
    pub fn count(&self, class: Class) -> usize {
        self.all.iter().filter(|boundary| boundary.class == class).count()
    }

    /// Returns the retired instructions from the first boundary to the last.
    #[must_use]
    pub fn ticks(&self) -> u32 {
        self.all.last().map_or(0, |boundary| boundary.tick)
    }
}

/// What exceptions unmask stays reachable without early unmasking, so it is the stronger class.
fn after_iret(before: Class, is_early: bool) -> Class {
    match (before, is_early) {
        (Class::Masked | Class::Early, true) => Class::Early,
        _ => Class::Reachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::trace::Step;
    use Class::{Early, Masked, Reachable};
    use StepKind::{Faulted, Iret, Retired};

    const ENTRY: Range<u64> = 100..200;

    fn boundaries(steps: &[(u64, StepKind)], unmask: Unmask) -> Boundaries {
        let steps = steps.iter().map(|(address, kind)| Step { address: *address, kind: *kind });
        Boundaries::of(&Trace::new(steps.collect()), &ENTRY, unmask)
    }

    fn classes(boundaries: &Boundaries) -> Vec<Class> {
        boundaries.all().iter().map(|boundary| boundary.class).collect()
    }

    #[test]
    fn without_an_inner_iret_only_the_return_is_reachable() {
        let found = boundaries(&[(100, Retired), (101, Iret), (7, Retired)], Unmask::Fault);
        assert_eq!(classes(&found), [Masked, Masked, Reachable]);
        assert!(found.inner_irets().is_empty());
        assert_eq!(found.ticks(), 2);
    }

    #[test]
    fn the_instruction_after_an_exceptions_iret_is_the_first_reachable_one() {
        let steps = [(100, Retired), (300, Faulted), (400, Iret), (300, Retired), (101, Iret), (7, Retired)];
        let found = boundaries(&steps, Unmask::Fault);
        assert_eq!(classes(&found), [Masked, Masked, Masked, Reachable, Reachable, Reachable]);
        assert_eq!(found.inner_irets(), [2]);
        let again = found.all()[3];
        assert_eq!((again.address, again.occurrence, again.tick), (300, 1, 2), "the fault takes no time");
    }

    #[test]
    fn early_ends_where_an_exception_would_have_unmasked_anyway() {
        let steps = [(100, Iret), (101, Faulted), (400, Iret), (101, Retired), (102, Iret), (7, Retired)];
        let found = boundaries(&steps, Unmask::Early);
        assert_eq!(classes(&found), [Masked, Early, Early, Reachable, Reachable, Reachable]);
        assert_eq!([Masked, Early, Reachable].map(|class| found.count(class)), [1, 2, 3]);
    }

    #[test]
    fn an_iret_of_the_entry_is_early_only_where_that_was_asked_for() {
        let steps = [(100, Iret), (101, Retired), (102, Iret), (7, Retired)];
        assert_eq!(classes(&boundaries(&steps, Unmask::Fault)), [Masked, Reachable, Reachable, Reachable]);
        assert_eq!(classes(&boundaries(&steps, Unmask::Early)), [Masked, Early, Early, Reachable]);
    }

    #[test]
    fn a_loop_has_one_boundary_for_each_time_around() {
        let steps = [(100, Retired), (101, Retired), (100, Retired), (101, Iret), (7, Retired)];
        let found = boundaries(&steps, Unmask::Fault);
        let occurrences: Vec<_> = found.all().iter().map(|boundary| boundary.occurrence).collect();
        assert_eq!(occurrences, [0, 0, 1, 1, 0]);
    }

    #[test]
    fn an_empty_trace_has_no_boundary() {
        assert_eq!(boundaries(&[], Unmask::Fault).all(), []);
    }
}
