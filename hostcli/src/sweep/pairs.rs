//! Pairs: a second NMI at one boundary of a first one, and a third one at every instruction after that.
//!
//! - [`demand`]: which pairs of boundaries have to be hit, from the reference trace and the entry's labels;
//! - [`align`]: which ticks put the second NMI on which boundary;
//! - [`plan`]: rows of pairs, over machines that may die at any of them;
//! - [`judge`]: what they reported against what was demanded;
//! - [`outcome`]: what is said of it in the end.
//!
//! A *row* is one boundary for the second NMI with all ticks for the third one, from the second one's own up to
//! well after the return of all three. The rows of the windows are those of the entry's own code, before and after
//! the handler; the others are those of the handler and the fault inside it.

pub mod align;
pub mod demand;
pub mod judge;
pub mod outcome;
pub mod plan;

pub use align::{Scope, align};
pub use demand::{Demand, Side};
pub use judge::{PairJudge, PairJudgement};
pub use outcome::{FailedPairing, MissedPair, Pairs};
pub use plan::{PairsPlan, Rows};
