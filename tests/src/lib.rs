//! The harness: boots an embedded kernel image in QEMU and gives a [`Verdict`].
//!
//! ```no_run
//! use nmiprof::images::Image;
//! use nmiprof_tests::Boot;
//!
//! let Some(run) = Boot::image(Image::Main).append("duration_ns=50000000").run().passed() else {
//!     return; // skipped, and counted as such
//! };
//! assert!(run.record.samples() > 0);
//! ```
//!
//! Three rules make a verdict worth something:
//! - passing takes the exit code *and* the completion token (`End` of every CPU);
//! - a hang, a triple fault, a panic, a missing exit device and a missing QEMU are five different
//!   verdicts, and none of them passes;
//! - a skip is printed and counted, and it is a failure in CI if CI needs what was missing.
//!
//! The machine itself is [`nmiprof::machine`], the one that users run: there is no second launcher.

pub mod boot;
pub mod combinations;
pub mod counts;
pub mod far_end;
pub mod firmware;
pub mod injection;
pub mod monitor;
pub mod samples;
pub mod shares;
pub mod skips;
pub mod verdict;

pub use boot::{Boot, Completed, Run, qemu};
pub use far_end::FarEnd;
pub use skips::Skip;
pub use verdict::{Failure, Timeout, Verdict};
