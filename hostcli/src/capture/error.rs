//! Why a capture can't be used, and what to do about it.

use std::io;

use nmiprof_wire::WIRE_VERSION;

/// Why a capture can't be used. Offsets are in bytes from its start.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no such file.
    #[error("no capture at `{name}`; make one with `nmiprof record -o {name}`, or name another with -i")]
    NotFound {
        /// The file.
        name: String,
    },
    /// The name is a directory's.
    #[error("`{name}` is a directory; name the capture file inside it with -i")]
    Directory {
        /// The directory.
        name: String,
    },
    /// The name is a line's.
    #[error(
        "`{name}` is a line, not a capture; record it first: `nmiprof record -i {name} -o nmiprof.data`, then read \
         that file"
    )]
    Line {
        /// The line.
        name: String,
    },
    /// The system can't read it.
    #[error("can't read `{name}` at byte {offset}: {source}; check the file and its permissions")]
    Io {
        /// The file.
        name: String,
        /// How far it was read.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// There is not one byte in it.
    #[error(
        "`{name}` is empty: the kernel sent nothing; record again, and ask `nmiprof doctor` if it stays so"
    )]
    Empty {
        /// The file.
        name: String,
    },
    /// Nothing in it is a frame.
    #[error(
        "`{name}` is no nmiprof capture: not one frame in its first {searched} bytes; \
         name a file that `nmiprof record` wrote"
    )]
    NotACapture {
        /// The file.
        name: String,
        /// Bytes looked at.
        searched: u64,
    },
    /// There are frames but none that describes the run.
    #[error(
        "`{name}` has frames but no usable Hello in its first {searched} bytes, so nothing says which kernel \
         sent them; record again, and let it run for more than a second"
    )]
    NoHello {
        /// The file.
        name: String,
        /// Bytes looked at.
        searched: u64,
    },
    /// The kernel gave up before it described the run.
    #[error("`{name}` has no run, for the kernel gave up before it: {reason}")]
    GaveUp {
        /// The file.
        name: String,
        /// What the kernel said.
        reason: String,
    },
    /// The first description of the run makes no sense.
    #[error("`{name}` describes a run that can't be, at byte {offset}: {reason}; record again")]
    SenselessHello {
        /// The file.
        name: String,
        /// Where the frame begins.
        offset: u64,
        /// What makes no sense.
        reason: &'static str,
    },
    /// It was sent in another version of the stream.
    #[error(
        "`{name}` is of wire version {found} (byte {offset}), and this nmiprof reads version {WIRE_VERSION}; \
         read it with the nmiprof that recorded it"
    )]
    Version {
        /// The file.
        name: String,
        /// Where the frame begins.
        offset: u64,
        /// The version in it.
        found: u16,
    },
    /// It was sent by a build whose frames differ within the same version.
    #[error(
        "`{name}` comes from a build whose frames differ (schema {found:016x} at byte {offset}); \
         read it with the nmiprof that recorded it"
    )]
    Schema {
        /// The file.
        name: String,
        /// Where the frame begins.
        offset: u64,
        /// The schema hash in it.
        found: u64,
    },
    /// A second run begins inside it.
    #[error(
        "a second run begins at byte {offset} of `{name}`; split it: \
         `head -c {offset} FILE > first.data`, `tail -c +{} FILE > second.data`",
        offset.saturating_add(1)
    )]
    SecondRun {
        /// The file.
        name: String,
        /// Where the frame begins.
        offset: u64,
    },
}
