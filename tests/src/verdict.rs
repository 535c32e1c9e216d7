//! What a test's machine run means for the test.
//!
//! [`Ending`] says what happened to a machine; a [`Verdict`] says whether that is what a test can build
//! on. The mapping has no default arm, so a new way to end has to be judged here before it compiles.

use std::fmt;

use nmiprof::capture::FatalReport;
use nmiprof::machine::{Boot, BootError, Ending, Exit, StartError};
use nmiprof_wire::{ExitCode, FatalCause};

use crate::skips::Skip;

/// What a machine run means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The exit code says success and the final counters of every CPU came.
    Pass,
    /// The kernel failed.
    Fail(Failure),
    /// The machine had to be ended.
    Timeout(Timeout),
    /// The machine could not be started, for want of something.
    Skip(Skip),
    /// QEMU ended in a way that is not the kernel's.
    Unknown(Exit),
}

/// How a kernel failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It panicked.
    Panic(FatalReport),
    /// It gave up for another reason.
    GaveUp(FatalReport),
    /// It left with this code, and its reason did not arrive.
    Speechless(ExitCode),
    /// It left with success but without the completion token.
    NoToken,
    /// The machine reset, which under `-no-reboot` ends it.
    TripleFault,
    /// The harness could not follow it.
    NotFollowed(String),
}

/// Why a machine had to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// The kernel had not said its last word when the limit passed.
    Hang,
    /// The kernel had, but it could not end the machine.
    NoExitDevice,
}

impl Verdict {
    /// Judges what [`nmiprof::machine::boot`] returned.
    #[must_use]
    pub fn of(result: &Result<Boot, BootError>) -> Self {
        match result {
            Ok(boot) => Self::from(&boot.ending),
            Err(BootError::Start(StartError::NoProgram(program))) => {
                Self::Skip(Skip::needed_in_ci(format!("there is no QEMU at `{program}`")))
            }
            Err(error) => Self::Fail(Failure::NotFollowed(error.to_string())),
        }
    }

    /// Tells whether a test can build on the run.
    #[must_use]
    pub const fn is_pass(&self) -> bool {
        matches!(self, Self::Pass)
    }
}

impl From<&Ending> for Verdict {
    fn from(ending: &Ending) -> Self {
        match ending {
            Ending::Completed => Self::Pass,
            Ending::Fatal(report) if report.cause == FatalCause::Panic => {
                Self::Fail(Failure::Panic(report.clone()))
            }
            Ending::Fatal(report) => Self::Fail(Failure::GaveUp(report.clone())),
            Ending::Speechless(code) => Self::Fail(Failure::Speechless(*code)),
            Ending::Unfinished => Self::Fail(Failure::NoToken),
            Ending::Reset => Self::Fail(Failure::TripleFault),
            Ending::NoExitDevice => Self::Timeout(Timeout::NoExitDevice),
            Ending::Hang { .. } => Self::Timeout(Timeout::Hang),
            Ending::Interrupted => Self::Unknown(Exit::Status(0)),
            Ending::QemuFailed(exit) => Self::Unknown(*exit),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("PASS"),
            Self::Fail(failure) => write!(f, "FAIL: {failure}"),
            Self::Timeout(timeout) => write!(f, "TIMEOUT: {timeout}"),
            Self::Skip(skip) => write!(f, "SKIP: {skip}"),
            Self::Unknown(exit) => write!(f, "UNKNOWN: QEMU ended with {exit}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(report) => write!(f, "panic: {} ({}:{})", report.message, report.file, report.line),
            Self::GaveUp(report) => write!(f, "{}: {}", report.cause_name(), report.message),
            Self::Speechless(code) => write!(f, "exit code {code:?} without a reason"),
            Self::NoToken => f.write_str("success without the final counters of every CPU"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::NotFollowed(why) => write!(f, "the harness could not follow: {why}"),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hang => "hang",
            Self::NoExitDevice => "the kernel finished, but there is no exit device",
        })
    }
}

#[cfg(test)]
mod tests {
    //! The classification, on made-up evidence: process status, stream, and who ended the machine.

    use super::*;
    use nmiprof::capture::writer::{Writer, hello};
    use nmiprof::capture::{CaptureError, Record, Stream};
    use nmiprof::machine::{Evidence, Program, Stop};
    use nmiprof_wire::{CpuTotals, Fatal, Frame};

    fn verdict(stop: Stop, bytes: &[u8]) -> Verdict {
        let record = decoded(bytes);
        let evidence = Evidence { stop, record: &record, stderr: "" };
        Verdict::from(&Ending::of(&evidence))
    }

    fn decoded(bytes: &[u8]) -> Record {
        let mut stream = Stream::new("made up");
        stream.push(bytes, |_| Ok::<(), CaptureError>(())).expect("a sound stream");
        stream.finish()
    }

    fn started(cpus: u16) -> Writer {
        let mut run = hello();
        run.cpus = cpus;
        Writer::new(&run).expect("it fits")
    }

    fn panicked() -> Vec<u8> {
        let mut writer = started(1);
        let fatal =
            Fatal { cause: FatalCause::Panic, cpu: 0, time: 0, message: "made up", file: "up.rs", line: 1 };
        writer.frame(&Frame::Fatal(fatal)).expect("it fits");
        writer.into_bytes()
    }

    fn exited(status: i32) -> Stop {
        Stop::Exited(Exit::Status(status))
    }

    const SUCCESS: i32 = ExitCode::Success.process_status();

    #[test]
    fn passing_takes_the_exit_code_and_the_token() {
        let complete = started(1).end().expect("it fits");
        assert_eq!(verdict(exited(SUCCESS), &complete), Verdict::Pass);
        let cut = started(1).into_bytes();
        assert_eq!(verdict(exited(SUCCESS), &cut), Verdict::Fail(Failure::NoToken));
        assert_eq!(verdict(exited(SUCCESS), b""), Verdict::Fail(Failure::NoToken));
    }

    #[test]
    fn one_cpu_of_two_is_no_token() {
        let mut writer = started(2);
        writer.frame(&Frame::End(CpuTotals::default())).expect("it fits");
        let bytes = writer.into_bytes();
        assert_eq!(verdict(exited(SUCCESS), &bytes), Verdict::Fail(Failure::NoToken));
    }

    #[test]
    fn the_five_ways_to_go_wrong_are_five_verdicts_and_none_passes() {
        let complete = started(1).end().expect("it fits");
        let missing = BootError::Start(StartError::NoProgram(Program::at("/nowhere")));
        let verdicts = [
            verdict(exited(ExitCode::Panic.process_status()), &panicked()),
            verdict(Stop::LimitPassed, &started(1).into_bytes()),
            verdict(exited(0), &started(1).into_bytes()),
            verdict(Stop::Lingered, &complete),
            Verdict::of(&Err(missing)),
        ];
        assert!(matches!(&verdicts[0], Verdict::Fail(Failure::Panic(report)) if report.message == "made up"));
        assert_eq!(verdicts[1], Verdict::Timeout(Timeout::Hang));
        assert_eq!(verdicts[2], Verdict::Fail(Failure::TripleFault));
        assert_eq!(verdicts[3], Verdict::Timeout(Timeout::NoExitDevice));
        assert!(matches!(&verdicts[4], Verdict::Skip(skip) if skip.is_needed_in_ci));
        assert!(!verdicts.iter().any(Verdict::is_pass));
        let texts: std::collections::BTreeSet<_> = verdicts.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), verdicts.len(), "each reads differently");
    }

    #[test]
    fn a_panic_never_passes_whatever_the_process_says() {
        for stop in [exited(SUCCESS), exited(0), exited(ExitCode::Panic.process_status())] {
            let verdict = verdict(stop, &panicked());
            assert!(matches!(verdict, Verdict::Fail(Failure::Panic(_))), "{verdict}");
        }
        assert_eq!(verdict(Stop::Lingered, &panicked()), Verdict::Timeout(Timeout::NoExitDevice));
    }

    #[test]
    fn a_status_that_is_not_the_kernels_is_unknown() {
        for exit in [Exit::Status(1), Exit::Status(2), Exit::Signal(6)] {
            assert_eq!(verdict(Stop::Exited(exit), b""), Verdict::Unknown(exit));
        }
    }

    #[test]
    fn an_exit_code_without_its_reason_is_a_failure_of_its_own() {
        let code = ExitCode::Exception;
        let verdict = verdict(exited(code.process_status()), &started(1).into_bytes());
        assert_eq!(verdict, Verdict::Fail(Failure::Speechless(code)));
    }
}
