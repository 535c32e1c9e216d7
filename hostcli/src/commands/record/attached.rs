//! Recording a target that runs already: the flags that make no sense then, and what its end means.
//!
//! | what happened | status |
//! |---|---|
//! | the run ended | as for a machine that was booted |
//! | Ctrl-C, or `--duration` passed: the capture is whole up to there | 0; 1 where there is no sample |
//! | the line was lost and did not come back | 2 |
//! | another kernel spoke: its bytes are not in the capture | 2 |
//! | nothing said which kernel it is | 2 |
//!
//! Another run on the line is refused, not recorded into a second file: a capture is of one run, a target that
//! restarts is most likely in trouble, and one that restarts for ever would fill the disk with captures.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nmiprof_wire::FatalCause;

use super::destination::Destination;
use super::display::Display;
use super::{Args, judge, summarize};
use crate::attach::{Address, AttachError, Attachment, End, Link, Plan, follow};
use crate::commands::{Error, Outcome};
use crate::machine::Ending;

/// Flags that mean something for a target that runs already.
const ALLOWED: [&str; 7] = ["port", "input", "reconnect", "duration", "output", "quiet", "verbose"];
/// Flags that describe the machine or how it is booted.
const MACHINE: [&str; 8] = ["cpus", "memory", "accel", "cpu", "icount", "qemu_args", "yes", "timeout"];

/// Refuses flags that the target can't honour any more.
///
/// # Errors
/// [`Error::Usage`] says what to do instead.
pub(super) fn check(args: &Args, address: &Address) -> Result<(), Error> {
    let Some(id) = args.given.other_than(&ALLOWED) else {
        return Ok(());
    };
    let flag = flag_of(id);
    Err(Error::Usage(if id == "timeout" {
        format!(
            "{flag}: the target at {address} runs already, and is not ended; say by --duration how long to record"
        )
    } else if MACHINE.contains(&id) {
        format!("{flag}: the target at {address} runs already, on a machine of its own; leave {flag} out")
    } else {
        format!(
            "{flag}: the target at {address} runs already, and what it does stands on its own command line; leave {flag} \
             out, and boot it with the words that you want (`nmiprof image --iso` makes an image with them)"
        )
    }))
}

/// Returns a flag as the user writes it, from its name in the code.
fn flag_of(id: &str) -> String {
    let name = match id {
        "arguments" => return "arguments after --".to_owned(),
        "qemu_args" => "qemu-arg",
        "workloads" => "workload",
        "programs" => "program",
        "events" => "event",
        "period" => "count",
        "frequency" => "freq",
        "chains" => "call-graph",
        "profile" => "pmu-profile",
        name => name,
    };
    format!("--{}", name.replace('_', "-"))
}

/// Records what comes over a line.
///
/// # Errors
/// [`Error`] where there is no capture, or not a whole one.
pub(super) fn run(
    args: &Args,
    address: &Address,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Outcome, Error> {
    let stop = stop_on_signals()?;
    // The line first: what is not there must not cost an older capture its name.
    let link = Link::open(address)?;
    if !args.quiet {
        writeln!(notes, "nmiprof: attached to {address}; Ctrl-C ends the recording")?;
    }
    let mut destination = Destination::prepare(&args.output, out)?;
    let failed = |source| Error::output(&args.output, source);
    let mut display = Display::new(args.noise(), None, notes);
    let plan = Plan { duration: args.work.duration, reconnect: args.attach.reconnect };
    let followed = {
        let mut writer = destination.writer().map_err(failed)?;
        follow(link, plan, &mut *writer, &stop, &mut display)
    };
    display.finish();
    match followed {
        Ok(attachment) => conclude(attachment, args, notes),
        Err(AttachError::Capture(error)) => Err(error.into()),
        Err(AttachError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(error.into()),
        Err(AttachError::Output(error)) => Err(failed(error)),
    }
}

/// Returns what Ctrl-C sets. The second one ends the process at once, wherever it is.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let status = i32::from(Error::EXIT_STATUS);
        signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Says what was recorded, and judges it.
fn conclude(attachment: Attachment, args: &Args, notes: &mut dyn Write) -> Result<Outcome, Error> {
    if !args.quiet && attachment.bytes_written > 0 {
        summarize(&attachment.record, attachment.bytes_written, args, notes)?;
        describe(&attachment, notes)?;
    }
    let failed = |attachment| Err(DetachedError::new(attachment, &args.output).into());
    if let Some(report) = attachment.record.messages().fatal() {
        if report.cause != FatalCause::Invariant {
            return failed(attachment);
        }
        writeln!(notes, "nmiprof: {}", Ending::Fatal(report.clone()))?;
        return Ok(Outcome::Findings);
    }
    match attachment.end {
        _ if attachment.record.run().is_none() => failed(attachment),
        End::Lost(_) | End::Another(_) => failed(attachment),
        End::Final => judge(&attachment.record, true, notes),
        End::Interrupted | End::TimeOver => judge(&attachment.record, false, notes),
    }
}

/// Says what is particular about a capture of a run that was joined, left or cut.
fn describe(attachment: &Attachment, notes: &mut dyn Write) -> io::Result<()> {
    if let Some(joined) = attachment.record.joined() {
        let samples = joined.samples_before;
        writeln!(notes, "[ nmiprof record: attached in the middle of the run, after {samples} samples ]")?;
    }
    if attachment.cuts > 0 {
        let (cuts, lost) = (attachment.cuts, attachment.record.lost_on_the_line());
        writeln!(notes, "[ nmiprof record: the line was cut {cuts} times; {lost} samples were lost on it ]")?;
    }
    if attachment.bytes_left_out > 0 {
        let bytes = attachment.bytes_left_out;
        writeln!(
            notes,
            "[ nmiprof record: {bytes} bytes are left out: they are of another run, or nothing showed whose they are ]"
        )?;
    }
    match attachment.end {
        End::Interrupted | End::TimeOver => {
            let end = &attachment.end;
            writeln!(
                notes,
                "[ nmiprof record: {end}; the target goes on, and the capture is whole up to here ]"
            )
        }
        _ => Ok(()),
    }
}

/// A recording that did not get what it was to get.
#[derive(Debug)]
pub struct DetachedError {
    attachment: Box<Attachment>,
    file: PathBuf,
}

impl DetachedError {
    fn new(attachment: Attachment, file: &Path) -> Self {
        Self { attachment: Box::new(attachment), file: file.to_path_buf() }
    }

    /// Returns why the recording ended.
    #[must_use]
    pub fn end(&self) -> &End {
        &self.attachment.end
    }
}

impl fmt::Display for DetachedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (record, end) = (&self.attachment.record, &self.attachment.end);
        let (bytes, file) = (self.attachment.bytes_written, self.file.display());
        if let Some(report) = record.messages().fatal() {
            let advice = match report.cause {
                FatalCause::Configuration => "correct what it names where the target is booted".to_owned(),
                _ => format!("that is a defect of the kernel: keep {file} and report it"),
            };
            return write!(f, "{}; {advice}", Ending::Fatal(report.clone()));
        }
        match (end, record.frames()) {
            (End::Another(_), _) => write!(
                f,
                "{end}; the capture ends at byte {bytes}, before it: keep {file}, and record the other run anew"
            ),
            _ if record.run().is_some() => write!(
                f,
                "{end}; the capture ends at byte {bytes} without the final counters: `nmiprof info -i {file}` shows what \
                 arrived; wait longer with --reconnect SECS"
            ),
            (_, 0) if bytes == 0 => write!(
                f,
                "{end}, and not one byte came; check that the target runs and that the line is plugged in"
            ),
            (_, 0) => write!(
                f,
                "{end}, and not one of {bytes} bytes was part of a frame; name the line of an nmiprof kernel, and its speed \
                 by --port DEVICE@BAUD"
            ),
            _ => write!(
                f,
                "{end}, and nothing in {bytes} bytes said which kernel sent them; record for longer than a second of the \
                 target's time"
            ),
        }
    }
}

impl std::error::Error for DetachedError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;
    use clap::CommandFactory as _;

    fn refused(words: &[&str]) -> Option<String> {
        let words = [&["--port", "/dev/ttyS0"], words].concat();
        let args: Args = parse(&words).expect("sound flags");
        args.check().err().map(|error| error.to_string())
    }

    #[test]
    fn flags_of_a_machine_are_refused_even_with_their_default_values() {
        for words in [["--memory", "256M"], ["--accel", "tcg"], ["--qemu-arg", "-S"], ["--icount", "on"]] {
            let error = refused(&words).expect("it is running");
            assert!(error.starts_with(words[0]) && error.contains("runs already"), "{error}");
        }
        assert!(refused(&["--timeout", "5"]).is_some_and(|error| error.contains("--duration")));
    }

    #[test]
    fn words_of_the_kernel_are_refused_with_where_they_belong() {
        for words in
            [["-w", "sort"], ["--append", "chains=on"], ["-c", "7"], ["-e", "cycles"], ["--ring", "lazy"]]
        {
            let error = refused(&words).expect("it is running");
            assert!(error.contains("on its own command line"), "{error}");
        }
    }

    #[test]
    fn flags_of_the_recording_are_taken() {
        let words = ["-o", "a", "-q", "--duration", "5", "--reconnect", "0"];
        assert_eq!(refused(&words), None);
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn every_flag_is_called_by_its_name() {
        for argument in Cli::command().get_arguments().filter(|argument| argument.get_long().is_some()) {
            let long = argument.get_long().map(|long| format!("--{long}"));
            assert_eq!(Some(flag_of(argument.get_id().as_str())), long);
        }
        let known: Vec<_> = Cli::command().get_arguments().map(|a| a.get_id().to_string()).collect();
        for id in ALLOWED.iter().chain(&MACHINE) {
            assert!(known.contains(&(*id).to_owned()), "{id}");
        }
    }
}
