//! What a user should know of a line that is open and yet of no use: nothing comes, or nothing that makes sense.
//!
//! Neither ends anything. A kernel may be busy, or its line may stall; and who has set the wrong speed can set the
//! right one and start again.

use std::time::{Duration, Instant};

use crate::capture::Record;

/// How long a line may be silent, or speak nonsense, until it is said. A kernel speaks once a second, of its own time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The clocks of an open line.
#[derive(Debug)]
pub(super) struct Watch {
    opened_at: Instant,
    heard_at: Instant,
    is_silence_said: bool,
    is_nonsense_said: bool,
}

impl Watch {
    /// Starts the clocks.
    pub(super) const fn start(now: Instant) -> Self {
        Self { opened_at: now, heard_at: now, is_silence_said: false, is_nonsense_said: false }
    }

    /// Learns that bytes came.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard_at, self.is_silence_said) = (now, false);
    }

    /// Returns what is to be said, each once.
    pub(super) fn check(&mut self, now: Instant, record: &Record) -> Option<String> {
        if now.duration_since(self.heard_at) >= PATIENCE && !self.is_silence_said {
            self.is_silence_said = true;
            let seconds = PATIENCE.as_secs();
            return Some(format!("nothing has come for {seconds} s; still listening, Ctrl-C ends"));
        }
        let is_nonsense = record.bytes() > 0 && record.frames() == 0;
        if is_nonsense && now.duration_since(self.opened_at) >= PATIENCE && !self.is_nonsense_said {
            self.is_nonsense_said = true;
            let bytes = record.bytes();
            return Some(format!(
                "not one frame in {bytes} bytes: is this the line of an nmiprof kernel, and is its speed right?"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{CaptureError, Stream};

    fn record(bytes: &[u8]) -> Record {
        let mut stream = Stream::new("made up");
        stream.push(bytes, |_| Ok::<(), CaptureError>(())).expect("garbage is no error");
        stream.finish()
    }

    #[test]
    fn silence_is_said_once_and_again_after_the_next_bytes() {
        let (start, empty) = (Instant::now(), record(b""));
        let mut watch = Watch::start(start);
        assert_eq!(watch.check(start + PATIENCE / 2, &empty), None);
        assert!(watch.check(start + PATIENCE, &empty).is_some_and(|text| text.contains("nothing has come")));
        assert_eq!(watch.check(start + PATIENCE * 2, &empty), None);
        watch.heard(start + PATIENCE * 3);
        assert_eq!(watch.check(start + PATIENCE * 3, &empty), None);
        assert!(watch.check(start + PATIENCE * 4, &empty).is_some());
    }

    #[test]
    fn bytes_without_a_frame_are_said_once() {
        let (start, garbage) = (Instant::now(), record(b"login: \0\0"));
        let mut watch = Watch::start(start);
        watch.heard(start + PATIENCE);
        assert!(watch.check(start + PATIENCE, &garbage).is_some_and(|text| text.contains("in 9 bytes")));
        assert_eq!(watch.check(start + PATIENCE, &garbage), None);
    }
}
