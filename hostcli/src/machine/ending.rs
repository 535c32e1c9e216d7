//! From what was seen of a machine to what it means.
//!
//! | process | stream | ending |
//! |---|---|---|
//! | exit code `Success` | `End` of every CPU | [`Ending::Completed`] |
//! | exit code `Success` | anything else | [`Ending::Unfinished`] |
//! | ended | `Fatal` | [`Ending::Fatal`] |
//! | another exit code | no `Fatal` | [`Ending::Speechless`] |
//! | status 0 | no `Fatal` | [`Ending::Reset`]: a triple fault, under `-no-reboot` |
//! | status 0, "terminating on signal" | no `Fatal` | [`Ending::Interrupted`] |
//! | another status, or a signal | no `Fatal` | [`Ending::QemuFailed`] |
//! | ran after the grace period | last word said | [`Ending::NoExitDevice`] |
//! | ran at the time limit | last word not said | [`Ending::Hang`] |
//!
//! Only the first row is success: the exit code alone is not, and neither is the stream alone.

use std::fmt;

use nmiprof_wire::{ExitCode, FatalCause};

use super::line::is_complete;
use super::process::Exit;
use super::supervise::Stop;
use crate::capture::{FatalReport, Record};

/// What was seen of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// How it came to its end.
    pub stop: Stop,
    /// What came over the line.
    pub record: &'a Record,
    /// What QEMU wrote to stderr.
    pub stderr: &'a str,
}

/// What the end of a machine means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The kernel did what it was asked for.
    Completed,
    /// The kernel gave up and said why.
    Fatal(FatalReport),
    /// The kernel left with this code, and its reason never arrived.
    Speechless(ExitCode),
    /// The kernel left as if all were well, but not every CPU's final counters came.
    Unfinished,
    /// The machine reset: a triple fault.
    Reset,
    /// Somebody ended QEMU from outside.
    Interrupted,
    /// The kernel said its last word but the machine went on.
    NoExitDevice,
    /// The time limit passed before the kernel's last word.
    Hang {
        /// Whether the kernel had described its run by then.
        has_begun: bool,
    },
    /// QEMU itself failed.
    QemuFailed(Exit),
}

impl Ending {
    /// Judges what was seen.
    #[must_use]
    pub fn of(evidence: &Evidence<'_>) -> Self {
        match evidence.stop {
            Stop::LimitPassed => Self::Hang { has_begun: evidence.record.run().is_some() },
            Stop::Lingered => Self::NoExitDevice,
            Stop::Exited(exit) => match evidence.record.messages().fatal() {
                Some(report) => Self::Fatal(report.clone()),
                None => Self::of_exit(exit, evidence),
            },
        }
    }

    fn of_exit(exit: Exit, evidence: &Evidence<'_>) -> Self {
        let Exit::Status(status) = exit else {
            return Self::QemuFailed(exit);
        };
        match ExitCode::from_process_status(status) {
            Some(ExitCode::Success) if is_complete(evidence.record) => Self::Completed,
            Some(ExitCode::Success) => Self::Unfinished,
            Some(code) => Self::Speechless(code),
            None if status != 0 => Self::QemuFailed(exit),
            None if evidence.stderr.contains("terminating on signal") => Self::Interrupted,
            None => Self::Reset,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("the run is complete"),
            Self::Fatal(report) => write_fatal(report, f),
            Self::Speechless(code) => {
                write!(f, "the kernel left with code {code:?}, and its reason did not arrive")
            }
            Self::Unfinished => f.write_str("the kernel left without the final counters of every CPU"),
            Self::Reset => f.write_str("the machine reset: most likely a triple fault"),
            Self::Interrupted => f.write_str("QEMU was ended from outside"),
            Self::NoExitDevice => {
                f.write_str("the kernel finished but the machine went on: it has no isa-debug-exit device")
            }
            Self::Hang { has_begun: true } => {
                f.write_str("the time limit passed before the run was complete")
            }
            Self::Hang { has_begun: false } => {
                f.write_str("the time limit passed and the kernel said nothing")
            }
            Self::QemuFailed(exit) => write!(f, "QEMU failed ({exit})"),
        }
    }
}

fn write_fatal(report: &FatalReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let what = match report.cause {
        FatalCause::Panic => "the kernel panicked",
        FatalCause::Invariant => "the kernel found an NMI invariant broken",
        FatalCause::Configuration => "the kernel refuses its command line",
        FatalCause::Exception => "the kernel took an exception that nothing handles",
    };
    write!(f, "{what} on CPU {}: {}", report.cpu, report.message)?;
    if report.file.is_empty() {
        return Ok(());
    }
    write!(f, " ({}:{})", report.file, report.line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::writer::{Writer, hello};
    use crate::capture::{CaptureError, Stream};
    use nmiprof_wire::{Fatal, Frame};

    fn judge(stop: Stop, record: &Record) -> Ending {
        let stderr = "";
        Ending::of(&Evidence { stop, record, stderr })
    }

    fn record(bytes: &[u8]) -> Record {
        let mut stream = Stream::new("made up");
        stream.push(bytes, |_| Ok::<(), CaptureError>(())).expect("a sound stream");
        stream.finish()
    }

    fn started() -> Record {
        record(&Writer::new(&hello()).expect("it fits").into_bytes())
    }

    fn complete() -> Record {
        record(&Writer::new(&hello()).expect("it fits").end().expect("it fits"))
    }

    fn fatal(file: &str) -> Record {
        let mut writer = Writer::new(&hello()).expect("it fits");
        let fatal =
            Fatal { cause: FatalCause::Panic, cpu: 0, time: 1, message: "made \x1b[2Jup", file, line: 7 };
        writer.frame(&Frame::Fatal(fatal)).expect("it fits");
        record(&writer.into_bytes())
    }

    fn status(code: ExitCode) -> Stop {
        Stop::Exited(Exit::Status(code.process_status()))
    }

    #[test]
    fn only_the_exit_code_and_the_token_together_are_success() {
        let complete = complete();
        let cut = started();
        assert_eq!(judge(status(ExitCode::Success), &complete), Ending::Completed);
        assert_eq!(judge(status(ExitCode::Success), &cut), Ending::Unfinished);
        assert_eq!(judge(Stop::Exited(Exit::Status(0)), &complete), Ending::Reset);
        assert_eq!(judge(Stop::Lingered, &complete), Ending::NoExitDevice);
    }

    #[test]
    fn a_fatal_report_is_never_success() {
        let fatal = fatal("up.rs");
        let report = fatal.messages().fatal().cloned().expect("it is one");
        for code in [ExitCode::Success, ExitCode::Panic] {
            assert_eq!(judge(status(code), &fatal), Ending::Fatal(report.clone()));
        }
        assert_eq!(judge(Stop::Exited(Exit::Status(0)), &fatal), Ending::Fatal(report));
        assert_eq!(judge(Stop::Lingered, &fatal), Ending::NoExitDevice);
    }

    #[test]
    fn a_code_without_its_reason_is_told() {
        let ending = judge(status(ExitCode::Panic), &started());
        assert_eq!(ending, Ending::Speechless(ExitCode::Panic));
    }

    #[test]
    fn a_silent_end_with_status_0_is_a_reset_unless_somebody_asked_for_it() {
        let record = started();
        let stop = Stop::Exited(Exit::Status(0));
        assert_eq!(judge(stop, &record), Ending::Reset);
        let stderr = "qemu-system-x86_64: terminating on signal 15 from pid 1";
        let evidence = Evidence { stop, record: &record, stderr };
        assert_eq!(Ending::of(&evidence), Ending::Interrupted);
    }

    #[test]
    fn qemus_own_failures_are_not_the_kernels() {
        for exit in [Exit::Status(1), Exit::Status(127), Exit::Signal(11)] {
            let ending = judge(Stop::Exited(exit), &started());
            assert_eq!(ending, Ending::QemuFailed(exit));
        }
    }

    #[test]
    fn a_hang_tells_whether_the_kernel_had_begun() {
        for (record, has_begun) in [(record(b""), false), (started(), true)] {
            assert_eq!(judge(Stop::LimitPassed, &record), Ending::Hang { has_begun });
        }
    }
    #[test]
    fn a_reason_is_shown_with_its_place_and_can_not_drive_the_terminal() {
        for (file, place) in [("up.rs", " (up.rs:7)"), ("", "")] {
            let text = judge(status(ExitCode::Panic), &fatal(file)).to_string();
            assert_eq!(text, format!("the kernel panicked on CPU 0: made \\u{{1b}}[2Jup{place}"));
        }
    }
}
