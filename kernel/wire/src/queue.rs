//! Frames on their way out, in memory of a fixed size.
//!
//! A frame goes in whole or not at all, so what leaves is a row of whole frames however slow the line is. Bytes leave
//! from the front in pieces of any size: as many as the sender has room for.

use crate::framing::LINE_BYTES_MAX;
use crate::{Frame, encode};

/// Queue of at most `BYTES` line bytes.
#[derive(Debug)]
pub struct FrameQueue<const BYTES: usize> {
    bytes: [u8; BYTES],
    /// Index of the first byte that waits; below `BYTES`.
    first: usize,
    /// Bytes that wait; at most `BYTES`.
    len: usize,
    /// One frame, before it is known to fit.
    line: [u8; LINE_BYTES_MAX],
}

/// Why a frame did not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// It does not fit behind what waits. It will when that has left.
    Full,
    /// It fits into no line and never will.
    TooLong,
}

impl<const BYTES: usize> Default for FrameQueue<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> FrameQueue<BYTES> {
    /// Creates an empty queue.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(BYTES >= LINE_BYTES_MAX, "any frame fits into an empty queue") };
        Self { bytes: [0; BYTES], first: 0, len: 0, line: [0; LINE_BYTES_MAX] }
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// [`QueueError`] where it did not go in; the queue is as it was.
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<(), QueueError> {
        let count = encode(frame, &mut self.line).map_err(|_| QueueError::TooLong)?.len();
        if count > self.room() {
            return Err(QueueError::Full);
        }
        let start = (self.first + self.len) % BYTES;
        let (head, tail) = self.line[..count].split_at(count.min(BYTES - start));
        self.bytes[start..start + head.len()].copy_from_slice(head);
        self.bytes[..tail.len()].copy_from_slice(tail);
        self.len += count;
        Ok(())
    }

    /// Appends a zero, if there is room: whatever the reader has got before it is no part of the next frame.
    pub fn push_zero(&mut self) {
        if self.room() > 0 {
            self.bytes[(self.first + self.len) % BYTES] = 0;
            self.len += 1;
        }
    }

    /// Returns bytes that are to leave next: all that wait, or those up to the end of the memory.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        let end = (self.first + self.len).min(BYTES);
        &self.bytes[self.first..end]
    }

    /// Removes bytes from the front; no more than wait.
    pub fn remove(&mut self, count: usize) {
        let count = count.min(self.len);
        self.first = (self.first + count) % BYTES;
        self.len -= count;
    }

    /// Returns how many bytes wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Tells whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many bytes more fit.
    #[must_use]
    pub const fn room(&self) -> usize {
        BYTES - self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, LogLevel, decode};
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
    use std::string::{String, ToString as _};
    use std::vec::Vec;

    const BYTES: usize = LINE_BYTES_MAX + 100;

    fn log(text: &str) -> Frame<'_> {
        Frame::Log(Log { time: 7, level: LogLevel::Info, text })
    }

    /// Decodes the texts of a row of whole frames.
    fn texts(bytes: &[u8]) -> Vec<String> {
        let lines = bytes.split_inclusive(|byte| *byte == 0);
        let text = |line: &[u8]| {
            let (zero, line) = line.split_last().expect("not empty");
            assert_eq!(*zero, 0, "a whole frame");
            match decode(&mut line.to_vec()) {
                Ok(Frame::Log(log)) => log.text.to_string(),
                other => panic!("{other:?}"),
            }
        };
        lines.map(text).collect()
    }

    proptest! {
        #[test]
        fn what_went_in_leaves_whole_and_in_order(
            steps in prop::collection::vec((any::<bool>(), 0..400_usize), 1..200),
        ) {
            let mut queue = FrameQueue::<BYTES>::new();
            let (mut pushed, mut left) = (Vec::new(), Vec::new());
            for (number, (pushes, size)) in steps.into_iter().enumerate() {
                if pushes {
                    let text = number.to_string() + &"x".repeat(size);
                    let room = queue.room();
                    let outcome = queue.push(&log(&text));
                    match outcome {
                        Ok(()) => pushed.push(text),
                        Err(error) => {
                            prop_assert_eq!(error, QueueError::Full);
                            prop_assert!(room < size + 40, "there was room for it");
                            prop_assert_eq!(queue.room(), room, "nothing of it went in");
                        }
                    }
                } else {
                    let count = size.min(queue.front().len());
                    left.extend_from_slice(&queue.front()[..count]);
                    queue.remove(count);
                }
            }
            while !queue.is_empty() {
                left.extend_from_slice(queue.front());
                queue.remove(queue.front().len());
            }
            prop_assert_eq!(texts(&left), pushed);
            prop_assert_eq!(queue.room(), BYTES);
        }
    }

    #[test]
    fn a_frame_that_no_line_holds_is_refused_for_good() {
        let mut queue = FrameQueue::<BYTES>::new();
        assert_eq!(queue.push(&log(&"x".repeat(LINE_BYTES_MAX))), Err(QueueError::TooLong));
        assert!(queue.is_empty());
    }

    #[test]
    fn removing_more_than_waits_empties_the_queue() {
        let mut queue = FrameQueue::<BYTES>::new();
        queue.push(&log("one")).expect("it fits");
        queue.remove(usize::MAX);
        assert!(queue.is_empty() && queue.front().is_empty());
        queue.push(&log("two")).expect("it fits");
        assert_eq!(texts(queue.front()), ["two"]);
    }
}
