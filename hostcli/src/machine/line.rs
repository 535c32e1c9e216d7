//! The file that the serial line is written to, decoded while it grows.
//!
//! QEMU empties the file when it starts, so it is made here first, and the handle stays valid.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use super::follower::Follower;
use super::supervise::Observer;
use crate::capture::{CaptureError, CpuAccount, Identity, Record};

/// Reader of a growing line.
#[derive(Debug)]
pub struct Line {
    file: File,
    buffer: Vec<u8>,
    follower: Follower,
}

impl Line {
    const PIECE_BYTES: usize = 64 << 10;

    /// Makes the file at `path`, empty.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        File::create(path)?;
        Ok(Self {
            file: File::open(path)?,
            buffer: vec![0; Self::PIECE_BYTES],
            follower: Follower::new(&path.display().to_string()),
        })
    }

    /// Decodes what is new, and shows it to `observer`.
    ///
    /// # Errors
    /// [`LineError`] where there is nothing more to follow. Damage is no error: it is counted.
    pub fn follow(&mut self, observer: &mut dyn Observer) -> Result<(), LineError> {
        loop {
            let len = match self.file.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let piece = self.buffer.get(..len).unwrap_or_default();
            observer.bytes(piece)?;
            self.follower.push(piece, observer)?;
        }
    }

    /// Returns what came so far.
    #[must_use]
    pub fn progress(&self) -> Progress<'_> {
        self.follower.progress()
    }

    /// Ends the line and returns its record.
    #[must_use]
    pub fn finish(self) -> Record {
        self.follower.finish()
    }
}

/// What came over a line so far.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Everything but the samples.
    pub record: &'a Record,
    /// How much of the sampled part is still to come, in the kernel's time.
    pub time_left: Option<Duration>,
}

/// Tells whether the final counters of every announced CPU came: the token of a completed run.
#[must_use]
pub fn is_complete(record: &Record) -> bool {
    let has_ended = |cpu: &CpuAccount| cpu.identity() != Identity::Incomplete;
    record.run().is_some() && record.accounts().cpus().iter().all(has_ended)
}

/// Tells whether the kernel has said its last word.
#[must_use]
pub fn is_final(record: &Record) -> bool {
    record.messages().fatal().is_some() || is_complete(record)
}

/// Why a line can't be followed any further.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The file can't be read, or the observer failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What comes over it is not what this build decodes.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::writer::{SyntheticSample, Writer, hello};
    use crate::capture::{LogLine, Stream};
    use nmiprof_wire::{Frame, Log, LogLevel};
    use std::io::Write as _;

    /// Keeps everything that it is shown.
    #[derive(Default)]
    struct Notebook {
        bytes: Vec<u8>,
        logs: Vec<String>,
    }

    impl Observer for Notebook {
        fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.bytes.extend_from_slice(bytes);
            Ok(())
        }

        fn log(&mut self, line: &LogLine) {
            self.logs.push(line.text.clone());
        }
    }

    fn capture(times: &[u64]) -> Vec<u8> {
        let mut writer = Writer::new(&hello()).expect("it fits");
        let log = |text| Frame::Log(Log { time: 0, level: LogLevel::Info, text });
        writer.frame(&log("one")).expect("it fits");
        for time in times {
            let sample = SyntheticSample { time: *time, ..SyntheticSample::default() };
            writer.sample(&sample).expect("it fits");
        }
        writer.frame(&log("two")).expect("it fits");
        writer.end().expect("it fits")
    }

    #[test]
    fn a_growing_file_is_shown_once_and_in_order() {
        let directory = tempfile::tempdir().expect("room");
        let path = directory.path().join("line");
        let mut line = Line::create(&path).expect("room");
        let mut writer = File::create(&path).expect("QEMU empties it again");
        let (bytes, mut notebook) = (capture(&[5, 6]), Notebook::default());
        for piece in bytes.chunks(7) {
            writer.write_all(piece).expect("room");
            line.follow(&mut notebook).expect("a sound stream");
        }
        assert_eq!(notebook.bytes, bytes);
        assert_eq!(notebook.logs, ["one", "two"]);
        assert!(is_complete(&line.finish()));
    }

    #[test]
    fn time_left_falls_from_the_first_sample_to_zero() {
        for (last, left_ms) in [(0, 1000), (400_000_000, 600), (7_000_000_000, 0)] {
            let directory = tempfile::tempdir().expect("room");
            let path = directory.path().join("line");
            let mut line = Line::create(&path).expect("room");
            assert_eq!(line.progress().time_left, None, "nothing came");
            let start = 5_000_000_000;
            std::fs::write(&path, capture(&[start, start + last])).expect("room");
            line.follow(&mut ()).expect("a sound stream");
            assert_eq!(line.progress().time_left, Some(Duration::from_millis(left_ms)));
        }
    }

    #[test]
    fn a_run_is_complete_when_every_announced_cpu_has_ended() {
        let mut two_cpus = hello();
        two_cpus.cpus = 2;
        let whole = Writer::new(&two_cpus).expect("it fits").end().expect("it fits");
        let last_end = whole[..whole.len() - 1].iter().rposition(|byte| *byte == 0).expect("frames");
        for (bytes, complete) in [(&whole[..], true), (&whole[..=last_end], false), (&[], false)] {
            let mut stream = Stream::new("made up");
            stream.push(bytes, |_| Ok::<(), CaptureError>(())).expect("a sound stream");
            assert_eq!(is_complete(stream.record()), complete);
            assert_eq!(is_final(stream.record()), complete);
        }
    }
}
