//! Attaching to a kernel that runs already, at the far end of a line.
//!
//! Top-down: [`follow`] reads a [`Link`] until the run or the user ends it, and writes what came over it; it ends
//! with an [`Attachment`] that holds an [`End`].
//!
//! - [`Address`]: which line; [`source`]: the line as something to read with a timeout, by [`port`] or [`socket`];
//! - [`retry`]: how long a lost line is waited for;
//! - [`recorder`]: from bytes to the capture, frame by frame, and across a cut;
//! - [`watch`]: what a user should know of a line that is silent or speaks nonsense;
//! - [`run`]: the loop.
//!
//! A capture is what came over the line, verbatim, with two exceptions at a cut. Where a frame had begun, a zero is
//! added, so that it can't swallow the next one. And what comes afterwards is kept once it is known to be of the same
//! run: until then it is held back.

mod address;
mod error;
mod port;
mod recorder;
mod retry;
mod run;
mod socket;
mod source;
mod watch;

pub use address::{Address, BAUD, is_line_name};
pub use error::AttachError;
pub use port::{Access, accesses};
pub use run::{Attachment, End, Plan, follow};
pub use source::{Link, OpenError};
