//! The parts of a trace: the stub's own instructions, and the stretches of other code between them.

use std::ops::Range;

use crate::sweep::Site;

/// What a stretch of a trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Instructions of the entry, before it calls the handler.
    Entry,
    /// The handler and what it calls.
    Handler,
    /// The exception that it raises, from the first instruction of its stub to its return.
    Fault,
    /// Instructions of the entry, after the handler.
    Exit,
    /// The interrupted instruction.
    Interrupted,
}

impl Kind {
    /// Returns the name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Handler => "handler",
            Self::Fault => "page fault",
            Self::Exit => "exit",
            Self::Interrupted => "interrupted code",
        }
    }

    /// Tells whether its instructions belong to the entry.
    pub(super) const fn is_stub(self) -> bool {
        matches!(self, Self::Entry | Self::Exit)
    }
}

/// A stretch of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// What it is.
    pub(super) kind: Kind,
    /// Its positions.
    pub(super) positions: Range<usize>,
}

/// Divides a trace, in its order and without a gap. `stub` holds the addresses of the entry.
pub(super) fn parts(sites: &[Site], stub: &Range<u64>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut walk = Walk::default();
    for position in 0..sites.len() {
        let kind = walk.kind(sites, position, stub);
        match parts.last_mut() {
            Some(part) if part.kind == kind => part.positions.end = position + 1,
            _ => parts.push(Part { kind, positions: position..position + 1 }),
        }
    }
    parts
}

/// What has to be remembered on the way along a trace.
#[derive(Default)]
struct Walk {
    /// The instruction that faulted, until it comes again.
    faulted: Option<u64>,
    has_left_stub: bool,
}

impl Walk {
    fn kind(&mut self, sites: &[Site], position: usize, stub: &Range<u64>) -> Kind {
        let Some(site) = sites.get(position) else { return Kind::Interrupted };
        let (address, next) = (site.boundary.address, sites.get(position + 1));
        if self.faulted == Some(address) {
            self.faulted = None;
        }
        let is_fault = self.faulted.is_some();
        // What takes no time has faulted.
        if !is_fault && next.is_some_and(|next| next.boundary.tick == site.boundary.tick) {
            self.faulted = Some(address);
        }
        let is_stub = stub.contains(&address);
        self.has_left_stub |= !is_stub;
        match (next, is_fault, is_stub) {
            (None, ..) => Kind::Interrupted,
            (_, true, _) => Kind::Fault,
            (_, _, false) => Kind::Handler,
            (_, _, true) if self.has_left_stub => Kind::Exit,
            (_, _, true) => Kind::Entry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Boundary, Class, Fate};

    fn found(steps: &[(u64, u32)]) -> Vec<(Kind, Range<usize>)> {
        let site = |(address, tick): &(u64, u32)| Site {
            boundary: Boundary { address: *address, occurrence: 0, class: Class::Masked, tick: *tick },
            fate: Fate::Untried,
        };
        let sites: Vec<_> = steps.iter().map(site).collect();
        parts(&sites, &(100..200)).into_iter().map(|part| (part.kind, part.positions)).collect()
    }

    #[test]
    fn a_trace_is_divided_at_the_call_the_fault_and_the_return() {
        let steps = [
            (100, 0),
            (101, 1),
            (300, 2),
            (301, 3),
            (400, 3),
            (300, 4),
            (401, 5),
            (301, 6),
            (102, 7),
            (7, 8),
        ];
        let expected = [
            (Kind::Entry, 0..2),
            (Kind::Handler, 2..4),
            (Kind::Fault, 4..7),
            (Kind::Handler, 7..8),
            (Kind::Exit, 8..9),
            (Kind::Interrupted, 9..10),
        ];
        assert_eq!(found(&steps), expected);
    }

    #[test]
    fn a_trace_without_a_fault_or_without_anything_is_one_too() {
        assert_eq!(found(&[(100, 0), (300, 1), (101, 2), (7, 3)]).len(), 4);
        assert_eq!(found(&[(7, 0)]), [(Kind::Interrupted, 0..1)]);
        assert!(found(&[]).is_empty());
    }
}
