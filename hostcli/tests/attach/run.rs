//! Runs that never were, and what a capture of one says.

use std::collections::BTreeSet;
use std::io::Cursor;

use nmiprof::capture::writer::{SyntheticSample, Writer, hello};
use nmiprof::capture::{Capture, CaptureError, Record};
use nmiprof_wire::{Frame, Hello};

/// Samples of a run.
pub(crate) const SAMPLES: u64 = 1000;
/// Samples between two descriptions of the run.
const SAMPLES_PER_HELLO: u64 = 100;

/// A run, byte for byte.
pub(crate) struct Run {
    pub(crate) bytes: Vec<u8>,
}

impl Run {
    /// Makes the run that most tests use.
    pub(crate) fn new() -> Self {
        Self::of(&hello())
    }

    /// Makes a run that is described by `hello`. No two of its samples have the same time.
    pub(crate) fn of(hello: &Hello<'_>) -> Self {
        let (mut hello, mut writer) = (hello.clone(), Writer::new(hello).expect("it fits"));
        for number in 1..=SAMPLES {
            let sample = SyntheticSample {
                time: number * 1000,
                ip: 0x1000 + number % 7,
                ..SyntheticSample::default()
            };
            writer.sample(&sample).expect("it fits");
            if number % SAMPLES_PER_HELLO == 0 {
                hello.time = sample.time;
                writer.flush().and_then(|()| writer.frame(&Frame::Hello(hello.clone()))).expect("it fits");
                writer.sync().expect("it fits");
            }
        }
        Self { bytes: writer.end().expect("it fits") }
    }

    /// Returns where the frames begin.
    pub(crate) fn frames(&self) -> Vec<usize> {
        let ends = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at + 1);
        std::iter::once(0).chain(ends.filter(|at| *at < self.bytes.len())).collect()
    }

    /// Returns a place in the middle of a frame, at this share of the run.
    pub(crate) fn inside_a_frame(&self, percent: usize) -> usize {
        let near = self.bytes.len() * percent / 100;
        let start = self.frames().into_iter().rfind(|at| *at <= near).expect("the first frame, if no other");
        start + 6
    }
}

/// Decodes a capture, and checks that no sample is in it twice.
pub(crate) fn decode(bytes: &[u8]) -> Record {
    let capture = Capture::from_reader("recorded", Box::new(Cursor::new(bytes.to_vec()))).expect("a capture");
    let mut times = BTreeSet::new();
    let read = capture.read(|block| {
        for sample in block.samples {
            let time = sample.time.exact().expect("samples, not counts");
            assert!(times.insert(time), "the sample at {time} came twice");
        }
        Ok::<(), CaptureError>(())
    });
    read.expect("one run")
}
