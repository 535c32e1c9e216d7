//! Which ticks put the second NMI on which boundary, when a third one is to follow.
//!
//! The handler has more to do then than in the reference trace, so boundaries after that come some ticks later. So
//! the way is tried out once, with a third NMI that comes long after the second: tick after tick, the second one lands
//! on the boundaries in the order of the trace, with some in between that are not in it. This chooses what is
//! asked for, not what is demanded: a boundary that is not found here is missed.

use std::collections::BTreeMap;

use nmiprof_wire::Pair;

use super::demand::{Demand, Side};

/// Most boundaries of the trace in a row that the handler passes by when a third NMI is to follow.
const SKIPPED_MAX: usize = 16;

/// Returns the position at which the second NMI lands for each number of ticks that puts it on a boundary.
///
/// Where several ticks do, because NMIs were masked before, it is the last one: the only one that is raised there.
#[must_use]
pub fn align(tried: &[Pair], demand: &Demand<'_>) -> BTreeMap<u32, usize> {
    let all = demand.rows();
    let mut aligned = BTreeMap::new();
    let (mut cursor, mut before) = (0, None);
    for pair in tried {
        if before.is_some_and(|(_, second)| second == pair.second) {
            if let Some((ticks, _)) = before
                && let Some(position) = aligned.remove(&ticks)
            {
                aligned.insert(pair.ticks, position);
            }
        } else {
            let ahead = all.iter().enumerate().skip(cursor).take(SKIPPED_MAX + 1);
            let mut found = ahead.filter(|(_, (position, _))| demand.is_at(pair.second, *position));
            if let Some((index, (position, _))) = found.next() {
                aligned.insert(pair.ticks, *position);
                cursor = index + 1;
            }
        }
        before = Some((pair.ticks, pair.second));
    }
    aligned
}

/// Which rows are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// None: no third NMI.
    Nothing,
    /// Those of the windows.
    Windows,
    /// Those of the handler as well.
    Everything,
}

impl Scope {
    /// Tells whether a row of this side is done.
    #[must_use]
    pub fn holds(self, side: Side) -> bool {
        match self {
            Self::Nothing => false,
            Self::Windows => side != Side::Body,
            Self::Everything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::pairs::demand::tests::{BASE, boundaries, demand};
    use nmiprof_wire::Landing;

    fn aligned(landings: &[(u64, u16)]) -> Vec<(u32, usize)> {
        let boundaries = boundaries();
        let pairs: Vec<_> = (1..)
            .zip(landings)
            .map(|(ticks, (address, runs))| Pair {
                ticks,
                second: Landing::at(BASE + address, *runs),
                ..Pair::default()
            })
            .collect();
        align(&pairs, &demand(&boundaries)).into_iter().collect()
    }

    #[test]
    fn the_last_of_several_ticks_is_the_one_that_is_raised_there() {
        let found = aligned(&[(102, 0), (102, 0), (102, 0), (103, 0), (300, 0)]);
        assert_eq!(found, [(3, 2), (4, 3), (5, 4)]);
    }

    #[test]
    fn what_is_not_in_the_trace_is_passed_by() {
        let found = aligned(&[(103, 0), (300, 0), (555, 1), (556, 1), (301, 1), (302, 1)]);
        assert_eq!(found, [(1, 3), (2, 4), (5, 5), (6, 8)]);
    }

    #[test]
    fn the_wrong_run_is_another_place() {
        assert_eq!(aligned(&[(104, 2), (104, 1)]), [(2, 9)]);
    }
}
