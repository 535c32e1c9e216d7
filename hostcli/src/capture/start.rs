//! Where a stream begins: at the start of the run, or in the middle of it.
//!
//! A reader that joins a line late misses what was sent before. Its first bytes are most likely the end of a frame, which
//! is no damage of the line, and its first samples have high numbers, which is no loss of the line either. The account of
//! each CPU has those samples as lost, because the identity needs them, and here it is said which ones they are.
//!
//! What tells the two apart is what the stream says itself, so that a file says the same as the line did: the first
//! samples of each CPU, where nothing was damaged before them but the very first bytes. Where all of them have the number
//! 0, the stream began with the run, and the first bytes are damage after all. A line that loses its very first frames
//! without a trace looks the same as one that was joined late; that is so for every reader.

use nmiprof_wire::DecodeError;

use super::Damage;
use super::decoder::DamagedFrame;

/// What a reader missed by joining in the middle of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Joined {
    /// Bytes of the frame in whose middle the stream begins; 0 where it begins between two frames.
    pub head_bytes: u64,
    /// Samples that were sent before. They are among those lost on the line.
    pub samples_before: u64,
}

/// What is known of the beginning of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    /// Bytes before the first zero that are no frame.
    head: Option<DamagedFrame>,
    joined: Option<Joined>,
}

impl Start {
    /// Keeps the first bytes of the stream, if `damaged` is those; tells whether it is.
    pub(super) fn keep_head(&mut self, damaged: &DamagedFrame) -> bool {
        let may_be_end = damaged.cause.is_some_and(|cause| cause != DecodeError::TooLong);
        let is_head = damaged.offset == 0 && may_be_end;
        if is_head {
            self.head = Some(*damaged);
        }
        is_head
    }

    /// Learns the number of a CPU's first sample, from a stretch of the stream without damage.
    pub(super) fn first_sample(&mut self, number: u64) {
        if number > 0 {
            let joined = self.joined.get_or_insert_default();
            joined.samples_before = joined.samples_before.saturating_add(number);
        }
    }

    /// Returns what was missed, if the stream begins in the middle of a run.
    pub(super) fn joined(&self) -> Option<Joined> {
        let head_bytes = self.head.map_or(0, |head| head.bytes);
        self.joined.map(|joined| Joined { head_bytes, ..joined })
    }

    /// Adds the first bytes to the damage, unless they are the end of a frame.
    pub(super) fn with_head(&self, mut damage: Damage) -> Damage {
        if let (Some(head), None) = (self.head, self.joined) {
            damage.count(head.offset, head.bytes);
            damage.first_offset = Some(head.offset);
        }
        damage
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::writer::{SyntheticSample, Writer, hello};
    use crate::capture::{CaptureError, Joined, Record, Stream};
    use nmiprof_wire::Frame;

    /// A run of 300 samples that describes itself again after every hundred; a block is sent by then.
    fn run() -> Vec<u8> {
        let mut hello = hello();
        let mut writer = Writer::new(&hello).expect("it fits");
        for time in 1..=300 {
            writer.sample(&SyntheticSample { time, ..SyntheticSample::default() }).expect("it fits");
            if time % 100 == 0 {
                hello.time = time;
                writer.flush().and_then(|()| writer.frame(&Frame::Hello(hello.clone()))).expect("it fits");
            }
        }
        writer.end().expect("it fits")
    }

    fn record(bytes: &[u8]) -> Record {
        let mut stream = Stream::new("made up");
        stream.push(bytes, |_| Ok::<(), CaptureError>(())).expect("a sound stream");
        stream.finish()
    }

    /// Returns the offsets at which frames begin.
    fn frames(bytes: &[u8]) -> Vec<usize> {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == 0);
        std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
    }

    #[test]
    fn what_begins_in_the_middle_of_a_frame_is_not_damaged() {
        let bytes = run();
        let start = frames(&bytes)[1] + 3;
        let record = record(&bytes[start..]);
        let joined = record.joined().expect("its first block is missing");
        assert!(joined.head_bytes > 0 && joined.samples_before > 0, "{joined:?}");
        assert_eq!(record.damage().frames, 0);
        let total = record.accounts().total();
        assert_eq!((total.link_lost, total.received), (joined.samples_before, 300 - joined.samples_before));
    }

    #[test]
    fn what_begins_between_two_frames_has_no_head() {
        let bytes = run();
        let record = record(&bytes[frames(&bytes)[2]..]);
        assert!(matches!(record.joined(), Some(Joined { head_bytes: 0, samples_before: 1.. })));
    }

    #[test]
    fn first_bytes_before_the_whole_run_are_damage() {
        let bytes = [b"text of a firmware\0", &run()[..]].concat();
        let record = record(&bytes);
        assert_eq!(record.joined(), None);
        let damage = record.damage();
        assert_eq!((damage.frames, damage.bytes, damage.first_offset), (1, 19, Some(0)));
    }

    #[test]
    fn a_gap_after_damage_is_a_loss_of_the_line() {
        let bytes = run();
        let starts = frames(&bytes);
        let mut bytes = bytes;
        bytes[starts[1] + 5] ^= 0x40;
        let record = record(&bytes);
        assert_eq!((record.joined(), record.damage().frames), (None, 1));
        assert!(record.accounts().total().link_lost > 0);
    }

    #[test]
    fn text_alone_is_damage() {
        assert_eq!(record(b"some text\0").damage().frames, 1);
    }
}
