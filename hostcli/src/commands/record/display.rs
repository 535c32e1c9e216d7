//! What a user sees while a run goes on.
//!
//! On a terminal it is one live line that is drawn again and again, with the kernel's own lines above it.
//! Elsewhere it is an ordinary line now and then.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use nmiprof_wire::{LogLevel, Options};

use crate::capture::LogLine;
use crate::machine::{CommandLine, Observer, Progress};

/// Time between two lines where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);
/// Steps of the bar.
const BAR_STEPS: u64 = 1000;

/// How much a user wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Noise {
    /// Errors only.
    Quiet,
    /// What goes on.
    Normal,
    /// And how it is done.
    Verbose,
}

impl Noise {
    /// Creates what the flags `-q` and `-v` ask for.
    pub(in crate::commands) const fn new(is_quiet: bool, is_verbose: bool) -> Self {
        match (is_quiet, is_verbose) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Verbose,
            (false, false) => Self::Normal,
        }
    }
}

/// Display of a run that goes on.
pub(super) struct Display<'a> {
    noise: Noise,
    bar: Option<ProgressBar>,
    copy: Option<&'a mut dyn Write>,
    notes: &'a mut dyn Write,
    first_sample: Option<Instant>,
    last_line: Option<Instant>,
}

impl<'a> Display<'a> {
    /// Creates a display on `notes`, or on the terminal that the standard error is. Bytes go to `copy`.
    pub(super) fn new(noise: Noise, copy: Option<&'a mut dyn Write>, notes: &'a mut dyn Write) -> Self {
        let has_bar = noise != Noise::Quiet && io::stderr().is_terminal();
        Self { noise, bar: has_bar.then(new_bar), copy, notes, first_sample: None, last_line: None }
    }

    /// Takes the live line away.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    /// Prints a line above the live one. A display that can't be written to is no reason to end a run.
    fn print(&mut self, line: &str) {
        let notes = &mut *self.notes;
        let mut write = || drop(writeln!(notes, "{line}"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn rate_per_second(&mut self, samples: u64) -> u64 {
        if samples == 0 {
            return 0;
        }
        let first = *self.first_sample.get_or_insert_with(Instant::now);
        let ms = u64::try_from(first.elapsed().as_millis()).unwrap_or(u64::MAX);
        samples.saturating_mul(1000).checked_div(ms).unwrap_or(0)
    }

    fn is_line_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.last_line.is_none_or(|last| now.duration_since(last) >= PLAIN_INTERVAL);
        if is_due {
            self.last_line = Some(now);
        }
        is_due
    }
}

impl Observer for Display<'_> {
    fn started(&mut self, command_line: &CommandLine) {
        if self.noise == Noise::Verbose {
            self.print(&command_line.to_string());
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.copy.as_mut().map_or(Ok(()), |copy| copy.write_all(bytes))
    }

    fn log(&mut self, line: &LogLine) {
        match line.level {
            LogLevel::Warning => self.print(&format!("kernel: warning: {}", line.text)),
            LogLevel::Info if self.noise != Noise::Quiet => self.print(&format!("kernel: {}", line.text)),
            LogLevel::Info => {}
        }
    }

    fn output(&mut self, program: &str, text: &str) {
        if self.noise != Noise::Quiet {
            self.print(&format!("{program}: {text}"));
        }
    }

    fn line(&mut self, text: &str) {
        self.print(&format!("nmiprof: {text}"));
    }

    fn progress(&mut self, progress: &Progress<'_>) {
        let record = progress.record;
        if self.noise == Noise::Quiet || record.run().is_none() {
            return;
        }
        let rate = self.rate_per_second(record.samples());
        let line = live_line(progress, rate);
        if let Some(bar) = &self.bar {
            bar.set_position(steps_done(progress));
            bar.set_message(line);
        } else if self.is_line_due() {
            self.print(&format!("nmiprof: {line}"));
        }
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:16}] {wide_msg}");
    let bar = ProgressBar::new(BAR_STEPS);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Says what came, with what matters most first: a narrow terminal cuts the end.
fn live_line(progress: &Progress<'_>, rate_per_second: u64) -> String {
    let record = progress.record;
    let rate = (rate_per_second > 0).then(|| format!(" ({}/s)", HumanCount(rate_per_second)));
    let left = progress.time_left.map(|left| format!(", {:.1} s left", left.as_secs_f64()));
    format!(
        "{} samples{}, {} lost, {}{}",
        HumanCount(record.samples()),
        rate.unwrap_or_default(),
        HumanCount(record.lost_so_far()),
        HumanBytes(record.bytes()),
        left.unwrap_or_default()
    )
}

fn steps_done(progress: &Progress<'_>) -> u64 {
    let run = progress.record.run();
    let asked = run.and_then(|run| Options::parse(&run.command_line).ok());
    let (Some(options), Some(left)) = (asked, progress.time_left) else {
        return 0;
    };
    let left = left.as_nanos().saturating_mul(u128::from(BAR_STEPS)) / u128::from(options.duration_ns.max(1));
    BAR_STEPS.saturating_sub(u64::try_from(left).unwrap_or(BAR_STEPS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::writer::{SyntheticSample, Writer, hello};
    use crate::capture::{CaptureError, Record, Stream};

    fn record() -> Record {
        let mut writer = Writer::new(&hello()).expect("it fits");
        for time in 0..1234 {
            let sample = SyntheticSample { time, ..SyntheticSample::default() };
            writer.sample(&sample).expect("it fits");
        }
        let mut stream = Stream::new("made up");
        let bytes = writer.end().expect("it fits");
        stream.push(&bytes, |_| Ok::<(), CaptureError>(())).expect("a sound stream");
        stream.finish()
    }

    #[test]
    fn the_live_line_says_what_came_and_what_is_left() {
        let record = record();
        let progress = Progress { record: &record, time_left: Some(Duration::from_millis(250)) };
        let line = live_line(&progress, 5000);
        assert!(line.starts_with("1,234 samples (5,000/s), 0 lost, "), "{line}");
        assert!(line.ends_with(", 0.2 s left"), "{line}");
        assert!(!live_line(&progress, 0).contains("/s"), "no rate is known at first");
        assert_eq!(steps_done(&progress), 750);
    }

    #[test]
    fn bytes_are_copied_and_a_quiet_display_keeps_warnings() {
        let (mut copy, mut notes) = (Vec::new(), Vec::new());
        let mut display = Display::new(Noise::Quiet, Some(&mut copy), &mut notes);
        display.bytes(b"ab").expect("room");
        display.bytes(b"c").expect("room");
        for level in [LogLevel::Info, LogLevel::Warning] {
            let text = format!("{level:?}");
            display.log(&LogLine { time: 0, level, text });
        }
        display.finish();
        assert_eq!(copy, b"abc");
        assert_eq!(notes, b"kernel: warning: Warning\n");
    }
}
