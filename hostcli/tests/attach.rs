//! Goal: `nmiprof record --port` and `-i` keep what comes over a line, whatever becomes of it: joined in the middle, cut,
//! stalled, noisy, closed for good, or taken over by another kernel. Nothing is lost without being counted, and nothing
//! is counted twice.
//!
//! Method: the command runs as a user starts it; the far end is this test, over real sockets and a pair of pseudo
//! terminals, with captures by the reference writer. A real machine is at the far end in the workspace's `tests` package.

#[path = "attach/cuts.rs"]
mod cuts;
#[path = "attach/ends.rs"]
mod ends;
#[path = "attach/lines.rs"]
mod lines;
#[path = "attach/recording.rs"]
mod recording;
#[path = "attach/refusals.rs"]
mod refusals;
#[path = "attach/run.rs"]
mod run;
