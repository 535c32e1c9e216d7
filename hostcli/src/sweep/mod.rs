//! The NMI sweep, seen from the host: a second NMI at every instruction boundary of a first one, and a third.
//!
//! - [`combination`]: what is swept, and which of it is sound;
//! - [`mutant`]: known defects, and what shows each;
//! - [`code`]: instructions and labels of the embedded image;
//! - [`gdb`], [`tracer`], [`mod@trace`]: the reference trace, an NMI that nothing interrupts;
//! - [`boundary`]: the class of each boundary, from the trace and the instructions alone;
//! - [`placer`], [`run`]: machines that do the placements, and what goes on after one that dies;
//! - [`judge`]: placements against boundaries;
//! - [`fate`]: what the NMI that was due at each boundary did;
//! - [`pairs`]: a third NMI after the second one;
//! - [`dispatch`]: the dispatcher's staged situations, and its known defects;
//! - [`examine`]: all of it for one combination, mutants included, and its [`outcome`].
//!
//! The kernel says where each NMI landed and what did not hold. Where NMIs *can* land is derived here, so
//! the two are independent of each other.

pub mod boundary;
pub mod code;
pub mod combination;
pub mod dispatch;
pub mod examine;
pub mod fate;
pub mod gdb;
pub mod judge;
pub mod mutant;
pub mod outcome;
pub mod pairs;
pub mod placer;
pub mod run;
pub mod trace;
pub mod tracer;

pub use boundary::{Boundaries, Boundary, Class};
pub use code::{Code, CodeError, Window};
pub use combination::{Combination, PairRequest, Request};
pub use examine::{ExamineError, Examiner, Reference};
pub use fate::{Effect, ExitWindow, Fate, Site};
pub use mutant::{Mutant, ShownBy};
pub use outcome::Outcome;
pub use placer::{Placer, QemuPlacer};
pub use trace::Trace;
pub use tracer::{Tracer, TracerError};
