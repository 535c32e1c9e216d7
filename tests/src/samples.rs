//! Samples of a finished capture, for tests that look at each of them.

use nmiprof::capture::{CaptureError, Stream};

/// One sample with its whole call chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedSample {
    /// The CPU that took it.
    pub cpu: u16,
    /// When it was taken, in clock ticks.
    pub time: u64,
    /// The interrupted instruction.
    pub ip: u64,
    /// Return addresses, innermost first.
    pub callers: Vec<u64>,
    /// Number of the process; 0 for none.
    pub process: u32,
    /// Index of the event.
    pub event: u8,
}

/// Decodes all samples of a capture.
///
/// # Panics
/// If the capture can't be decoded, or the kernel counted its samples, which have no times then.
#[must_use]
pub fn samples(capture: &[u8]) -> Vec<ChainedSample> {
    let mut samples = Vec::new();
    let mut stream = Stream::new("test");
    let decoded: Result<(), CaptureError> = stream.push(capture, |block| {
        samples.extend(block.samples.iter().map(|sample| ChainedSample {
            cpu: block.cpu,
            time: sample.time.exact().expect("a sample with a time"),
            ip: sample.ip,
            callers: block.chains.callers(sample.chain).collect(),
            process: sample.process,
            event: block.event,
        }));
        Ok(())
    });
    decoded.expect("a capture of this build decodes");
    samples
}
