//! From bytes to the capture: whole frames, of one run.
//!
//! Bytes are decoded and written frame by frame: the beginning of a frame waits for its zero, so that the
//! capture can end exactly where another run begins. After a cut nothing is written until it is known which run
//! speaks; what shows that is a description of the run, its final counters, or its last words.

use std::io::{self, Write};

use memchr::memrchr;
use nmiprof_wire::LINE_BYTES_MAX;

use super::error::AttachError;
use crate::capture::{CaptureError, CpuAccount, Record, SEARCH_BYTES_MAX, Stream};
use crate::machine::Observer;
use crate::machine::follower::Follower;

/// Writer of a capture.
pub(super) struct Recorder<'a> {
    name: String,
    follower: Follower,
    out: &'a mut dyn Write,
    bytes_written: u64,
    /// The frame that has begun; bounded by [`LINE_BYTES_MAX`].
    begun: Vec<u8>,
    trial: Option<Trial>,
    bytes_left_out: u64,
}

/// What came since a cut, and what it says by itself.
struct Trial {
    bytes: Vec<u8>,
    stream: Stream,
}

/// Why the recorder takes no more.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another run speaks now, for this reason.
    Another(String),
    /// It can't go on.
    Failed(AttachError),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// What was recorded.
pub(super) struct Recorded {
    pub(super) record: Record,
    pub(super) bytes_written: u64,
    pub(super) bytes_left_out: u64,
}

impl<'a> Recorder<'a> {
    /// Creates a recorder that writes to `out`; `name` is what errors call the line.
    pub(super) fn new(name: &str, out: &'a mut dyn Write) -> Self {
        Self {
            name: name.to_owned(),
            follower: Follower::new(name),
            out,
            bytes_written: 0,
            begun: Vec::new(),
            trial: None,
            bytes_left_out: 0,
        }
    }

    /// Returns what is recorded so far.
    pub(super) fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Refusal`]; the capture is whole up to there.
    pub(super) fn take(&mut self, bytes: &[u8], observer: &mut dyn Observer) -> Result<(), Refusal> {
        let Some(trial) = &mut self.trial else {
            return self.record(bytes, observer);
        };
        if !trial.judge(bytes, self.follower.record()).map_err(Refusal::Another)? {
            return Ok(());
        }
        let proven = self.trial.take().map(|trial| trial.bytes).unwrap_or_default();
        if !self.begun.is_empty() {
            self.record(&[0], observer)?;
        }
        self.record(&proven, observer)
    }

    /// Learns that the line was cut: what comes next may be of another run.
    pub(super) fn cut(&mut self) {
        self.leave_out();
        let stream = Stream::new(&self.name);
        self.trial = Some(Trial { bytes: Vec::new(), stream });
    }

    /// Ends the capture. What was not proven is left out, and counted.
    ///
    /// # Errors
    /// What the system says where the rest can't be written.
    pub(super) fn finish(mut self) -> Result<Recorded, AttachError> {
        self.leave_out();
        // What has no zero is no frame, so there is nothing in it to refuse.
        drop(self.follower.push(&self.begun, &mut ()));
        self.out.write_all(&self.begun)?;
        self.out.flush()?;
        self.bytes_written += self.begun.len() as u64;
        let (bytes_written, bytes_left_out) = (self.bytes_written, self.bytes_left_out);
        Ok(Recorded { record: self.follower.finish(), bytes_written, bytes_left_out })
    }

    fn leave_out(&mut self) {
        let bytes = self.trial.take().map_or(0, |trial| trial.bytes.len() as u64);
        self.bytes_left_out = self.bytes_left_out.saturating_add(bytes);
    }

    fn record(&mut self, bytes: &[u8], observer: &mut dyn Observer) -> Result<(), Refusal> {
        self.begun.extend_from_slice(bytes);
        let whole = match memrchr(0, &self.begun) {
            Some(zero) => zero + 1,
            None if self.begun.len() > LINE_BYTES_MAX => self.begun.len(),
            None => return Ok(()),
        };
        let rest = self.begun.split_off(whole);
        let whole = std::mem::replace(&mut self.begun, rest);
        self.commit(&whole, observer)
    }

    /// Decodes and writes; where another run begins inside, the part before it.
    fn commit(&mut self, bytes: &[u8], observer: &mut dyn Observer) -> Result<(), Refusal> {
        let result = self.follower.push(bytes, observer);
        let own = match &result {
            Err(CaptureError::SecondRun { offset, .. }) => {
                let own = usize::try_from(offset.saturating_sub(self.bytes_written));
                bytes.get(..own.unwrap_or(0)).unwrap_or_default()
            }
            _ => bytes,
        };
        self.out.write_all(own)?;
        self.bytes_written += own.len() as u64;
        match result {
            Ok(()) => Ok(()),
            Err(CaptureError::SecondRun { .. }) => {
                let others = (bytes.len() - own.len()).saturating_add(self.begun.len());
                self.bytes_left_out = self.bytes_left_out.saturating_add(others as u64);
                self.begun.clear();
                Err(Refusal::Another("the target was started again".to_owned()))
            }
            Err(error) => Err(Refusal::Failed(AttachError::Capture(error))),
        }
    }
}

impl Trial {
    /// Takes more bytes; tells whether it is known by now that they are of the run that `before` is of.
    ///
    /// # Errors
    /// Says why they are of another one, or can't be told.
    fn judge(&mut self, bytes: &[u8], before: &Record) -> Result<bool, String> {
        self.bytes.extend_from_slice(bytes);
        let pushed = self.stream.push(bytes, |_| Ok::<(), CaptureError>(()));
        pushed.map_err(|_| "it sends what this nmiprof can't read, or was started again".to_owned())?;
        let after = self.stream.record();
        if let Some(why) = before.contradiction(after) {
            return Err(why.to_owned());
        }
        let has_ended = after.accounts().cpus().iter().any(CpuAccount::is_ended);
        let is_known = after.run().is_some() || has_ended || after.messages().fatal().is_some();
        if !is_known && self.bytes.len() > SEARCH_BYTES_MAX {
            return Err("it did not say who it is".to_owned());
        }
        Ok(is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::writer::{SyntheticSample, Writer, hello};
    use nmiprof_wire::{BuildId, Frame, Hello};

    /// A run of two blocks between descriptions; returns it, and where the second description begins.
    fn run(hello: &Hello<'_>) -> (Vec<u8>, usize) {
        let (mut hello, mut writer) = (hello.clone(), Writer::new(hello).expect("it fits"));
        let mut middle = 0;
        for time in 1..=80 {
            writer.sample(&SyntheticSample { time, ..SyntheticSample::default() }).expect("it fits");
            if time == 40 {
                writer.flush().expect("it fits");
                middle = writer.bytes_so_far();
                hello.time = time;
                writer.frame(&Frame::Hello(hello.clone())).expect("it fits");
            }
        }
        (writer.end().expect("it fits"), middle)
    }

    /// Records `pieces`, with a cut between each and the next.
    fn record(pieces: &[&[u8]]) -> (Vec<u8>, Result<(), Refusal>, Recorded) {
        let mut out = Vec::new();
        let mut recorder = Recorder::new("made up", &mut out);
        let mut result = Ok(());
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 {
                recorder.cut();
            }
            // Small pieces, as a slow line sends them.
            result = piece.chunks(11).try_for_each(|bytes| recorder.take(bytes, &mut ()));
        }
        let recorded = recorder.finish().expect("room");
        (out, result, recorded)
    }

    #[test]
    fn bytes_are_kept_verbatim_even_those_that_are_no_frame() {
        let bytes = [b"garbage\0", &run(&hello()).0[..], b"a frame that has only beg"].concat();
        let (out, result, recorded) = record(&[&bytes]);
        assert!(result.is_ok());
        assert_eq!((out, recorded.bytes_written), (bytes.clone(), bytes.len() as u64));
        assert_eq!(recorded.record.bytes(), bytes.len() as u64);
    }

    #[test]
    fn a_cut_inside_a_frame_costs_that_frame_alone() {
        let (bytes, middle) = run(&hello());
        let (out, result, recorded) = record(&[&bytes[..middle - 5], &bytes[middle..]]);
        assert!(result.is_ok());
        assert_eq!(out, [&bytes[..middle - 5], &[0], &bytes[middle..]].concat(), "a zero ends the cut frame");
        let total = recorded.record.accounts().total();
        assert_eq!((total.received, total.link_lost), (40, 40));
        assert_eq!(recorded.record.damage().frames, 1);
    }

    #[test]
    fn a_cut_between_frames_loses_nothing_and_doubles_nothing() {
        let (bytes, middle) = run(&hello());
        let end = bytes.len() - 3;
        let (_, result, recorded) = record(&[&bytes[..middle], &bytes[middle..end], &bytes[end..]]);
        assert!(result.is_ok());
        assert_eq!(recorded.record.samples(), 80);
        assert_eq!(recorded.record.accounts().total().link_lost, 0);
    }

    #[test]
    fn another_run_after_a_cut_is_refused_and_leaves_no_byte() {
        let (bytes, middle) = run(&hello());
        let mut other = hello();
        other.build_id = BuildId([7; 20]);
        for (other, word) in [(other, "build"), (hello(), "clock")] {
            let (out, result, recorded) = record(&[&bytes[..middle], &run(&other).0]);
            assert!(matches!(&result, Err(Refusal::Another(why)) if why.contains(word)), "{result:?}");
            assert_eq!(out, &bytes[..middle]);
            assert!(recorded.bytes_left_out > 0);
        }
    }

    #[test]
    fn another_run_without_a_cut_is_refused_where_it_begins() {
        let (bytes, _) = run(&hello());
        let (out, result, recorded) = record(&[&[&bytes[..], &bytes[..]].concat()]);
        assert!(matches!(result, Err(Refusal::Another(_))), "{result:?}");
        assert_eq!((out, recorded.bytes_written), (bytes.clone(), bytes.len() as u64));
    }

    #[test]
    fn what_never_said_who_it_is_is_left_out_and_counted() {
        let (bytes, middle) = run(&hello());
        let (out, result, recorded) = record(&[&bytes[..middle], b"login: "]);
        assert!(result.is_ok());
        assert_eq!((out.len(), recorded.bytes_left_out), (middle, 7));
    }
}
