//! Bytes of a line, decoded as they come and shown to an [`Observer`].

use std::time::Duration;

use nmiprof_wire::Options;

use super::line::Progress;
use super::supervise::Observer;
use crate::capture::{CaptureError, Record, Sample, Stream};

/// Decoder of a line that goes on.
#[derive(Debug)]
pub(crate) struct Follower {
    stream: Stream,
    sampled: Option<TickSpan>,
    logs_shown: usize,
    output_shown: usize,
}

/// First and latest moment of the sampled part, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TickSpan {
    first: u64,
    last: u64,
}

impl Follower {
    /// Creates a follower; `name` is what errors call the line.
    pub(crate) fn new(name: &str) -> Self {
        Self { stream: Stream::new(name), sampled: None, logs_shown: 0, output_shown: 0 }
    }

    /// Decodes the next bytes, and shows what they say.
    ///
    /// # Errors
    /// [`CaptureError`] where there is nothing more to follow. Damage is no error: it is counted.
    pub(crate) fn push(&mut self, bytes: &[u8], observer: &mut dyn Observer) -> Result<(), CaptureError> {
        let result = self.stream.push(bytes, |block| {
            self.sampled = extended(self.sampled, block.samples);
            Ok::<(), CaptureError>(())
        });
        self.show(observer);
        result
    }

    /// Returns what came so far.
    pub(crate) fn progress(&self) -> Progress<'_> {
        Progress { record: self.record(), time_left: self.time_left() }
    }

    /// Returns everything but the samples.
    pub(crate) fn record(&self) -> &Record {
        self.stream.record()
    }

    /// Ends the line and returns its record.
    pub(crate) fn finish(self) -> Record {
        self.stream.finish()
    }

    fn show(&mut self, observer: &mut dyn Observer) {
        let logs = self.stream.record().messages().logs();
        for line in logs.iter().skip(self.logs_shown) {
            observer.log(line);
        }
        self.logs_shown = logs.len();
        let processes = self.stream.record().processes();
        for output in processes.output().iter().skip(self.output_shown) {
            let name = processes.find(output.process).map_or("?", |process| &process.name);
            observer.output(name, &output.text);
        }
        self.output_shown = processes.output().len();
    }

    fn time_left(&self) -> Option<Duration> {
        let (run, sampled) = (self.stream.record().run()?, self.sampled?);
        let options = Options::parse(&run.command_line).ok()?;
        let (seconds, us) = run.seconds_and_us(sampled.last.saturating_sub(sampled.first));
        let passed = Duration::from_secs(seconds).saturating_add(Duration::from_micros(us));
        Some(Duration::from_nanos(options.duration_ns).saturating_sub(passed))
    }
}

fn extended(span: Option<TickSpan>, samples: &[Sample]) -> Option<TickSpan> {
    let (first, last) = (samples.first()?.time.span().0, samples.last()?.time.span().1);
    let span = span.unwrap_or(TickSpan { first, last });
    Some(TickSpan { last: span.last.max(last), ..span })
}
