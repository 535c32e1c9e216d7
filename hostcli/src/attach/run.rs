//! The loop of an attached recording: read, record, show, and mind the clocks.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::error::AttachError;
use super::recorder::{Recorded, Recorder, Refusal};
use super::retry::{INTERVAL, Retry};
use super::source::{Heard, Link, TICK};
use super::watch::Watch;
use crate::capture::Record;
use crate::machine::Observer;
use crate::machine::line::is_final;

const PIECE_BYTES: usize = 64 << 10;

/// How long to follow a line.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Host time after which the recording ends; `None` for no limit.
    pub duration: Option<Duration>,
    /// How long a lost line is waited for.
    pub reconnect: Duration,
}

/// A recording that has ended.
#[derive(Debug)]
pub struct Attachment {
    /// Why it ended.
    pub end: End,
    /// What came over the line.
    pub record: Record,
    /// Length of the capture.
    pub bytes_written: u64,
    /// Bytes that are not in the capture: of another run, or after a cut and nothing showed whose they are.
    pub bytes_left_out: u64,
    /// How often the line was lost and came back.
    pub cuts: u32,
}

/// Why a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The kernel said its last word.
    Final,
    /// The user asked for it.
    Interrupted,
    /// The time was over.
    TimeOver,
    /// The line was lost, for this reason, and did not come back.
    Lost(String),
    /// Another run speaks on the line, which shows in this.
    Another(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Final => f.write_str("the run is over"),
            Self::Interrupted => f.write_str("ended by the user"),
            Self::TimeOver => f.write_str("the time is over"),
            Self::Lost(why) => write!(f, "the line was lost and did not come back: {why}"),
            Self::Another(why) => write!(f, "another run began on the line: {why}"),
        }
    }
}

/// Follows a line until the kernel's last word, or until `stop` is set, and writes what comes to `out`.
///
/// # Errors
/// [`AttachError`] where it can't go on. Everything that the line or the target can do is an [`End`].
pub fn follow(
    link: Link,
    plan: Plan,
    out: &mut dyn Write,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Attachment, AttachError> {
    let recorder = Recorder::new(&link.address().to_string(), out);
    let session = Session::new(link, plan, recorder, stop);
    session.run(observer)
}

/// A recording that goes on.
struct Session<'a> {
    link: Link,
    /// The line is open, as far as is known.
    is_open: bool,
    recorder: Recorder<'a>,
    retry: Retry,
    watch: Watch,
    end_at: Option<Instant>,
    /// Set by the user's signal handler. Relaxed: it guards nothing, and is asked again within a tick.
    stop: &'a AtomicBool,
    cuts: u32,
    /// Why the line is lost, while it is.
    why_lost: String,
    shown_at: Instant,
}

impl<'a> Session<'a> {
    fn new(link: Link, plan: Plan, recorder: Recorder<'a>, stop: &'a AtomicBool) -> Self {
        let now = Instant::now();
        Self {
            link,
            is_open: true,
            recorder,
            retry: Retry::new(plan.reconnect),
            watch: Watch::start(now),
            end_at: plan.duration.and_then(|duration| now.checked_add(duration)),
            stop,
            cuts: 0,
            why_lost: String::new(),
            shown_at: now,
        }
    }

    fn run(mut self, observer: &mut dyn Observer) -> Result<Attachment, AttachError> {
        let mut buffer = vec![0; PIECE_BYTES];
        let end = loop {
            if let Some(end) = self.end_by_itself() {
                break end;
            }
            if !self.is_open {
                self.reopen();
            }
            match self.listen(&mut buffer, observer) {
                Ok(()) => self.show(observer),
                Err(Refusal::Another(why)) => break End::Another(why),
                Err(Refusal::Failed(error)) => return Err(error),
            }
        };
        let Recorded { record, bytes_written, bytes_left_out } = self.recorder.finish()?;
        Ok(Attachment { end, record, bytes_written, bytes_left_out, cuts: self.cuts })
    }

    /// Returns the end that needs no more bytes, if it has come.
    fn end_by_itself(&self) -> Option<End> {
        let now = Instant::now();
        if is_final(self.recorder.follower().record()) {
            Some(End::Final)
        } else if self.stop.load(Ordering::Relaxed) {
            Some(End::Interrupted)
        } else if self.end_at.is_some_and(|end_at| now >= end_at) {
            Some(End::TimeOver)
        } else if !self.is_open && !self.retry.is_allowed(now) {
            Some(End::Lost(self.why_lost.clone()))
        } else {
            None
        }
    }

    fn listen(&mut self, buffer: &mut [u8], observer: &mut dyn Observer) -> Result<(), Refusal> {
        match self.link.read(buffer) {
            Heard::Silence => Ok(()),
            Heard::Bytes(count) => {
                self.heard(observer);
                self.recorder.take(buffer.get(..count).unwrap_or_default(), observer)
            }
            Heard::Lost(why) => {
                self.lost(why, observer);
                Ok(())
            }
        }
    }

    fn heard(&mut self, observer: &mut dyn Observer) {
        let now = Instant::now();
        self.watch.heard(now);
        if let Some(lost_for) = self.retry.heard(now) {
            self.cuts = self.cuts.saturating_add(1);
            let seconds = lost_for.as_secs_f64();
            observer.line(&format!("{} is back after {seconds:.1} s", self.link.address()));
        }
    }

    fn lost(&mut self, why: String, observer: &mut dyn Observer) {
        self.is_open = false;
        self.recorder.cut();
        if self.retry.lost(Instant::now()) {
            observer.line(&format!("lost {}: {why}", self.link.address()));
        }
        self.why_lost = why;
    }

    /// Waits a little, and tries to open the line again.
    fn reopen(&mut self) {
        thread::sleep(INTERVAL);
        match self.link.reopen() {
            Ok(()) => {
                self.is_open = true;
                self.watch = Watch::start(Instant::now());
            }
            Err(error) => self.why_lost = error.to_string(),
        }
    }

    /// Shows how it goes, at most once a tick.
    fn show(&mut self, observer: &mut dyn Observer) {
        let now = Instant::now();
        if now.duration_since(self.shown_at) < TICK {
            return;
        }
        self.shown_at = now;
        let follower = self.recorder.follower();
        if let Some(text) = self.watch.check(now, follower.record()).filter(|_| self.is_open) {
            observer.line(&format!("{}: {text}", self.link.address()));
        }
        observer.progress(&follower.progress());
    }
}
