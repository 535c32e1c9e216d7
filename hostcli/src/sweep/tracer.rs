//! Takes a reference trace: a machine under QEMU's debug stub, stepped through one NMI.
//!
//! [`Tracer::count`] runs a machine to its end and counts how often the entry is reached;
//! [`Tracer::trace`] runs the same machine again up to one of these arrivals and steps from there to the
//! interrupted instruction. Under icount the two runs are the same run. While it steps, the stub holds
//! interrupts and timers back, so nothing but the NMI itself is in the trace.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use tempfile::TempDir;

use super::code::{Code, CodeError, Flow};
use super::gdb::{Client, GdbError, Stopped};
use super::trace::{Seen, Trace, TraceError};
use crate::capture::{CaptureError, Record, Stream};
use crate::machine::process::Machine;
use crate::machine::{MachineConfig, Program, StartError};

/// With `sleep=off` a stopped CPU's clock jumps to its next timer, so that the first step would already find
/// the timer of the second NMI expired.
const STEPPED_ICOUNT: &str = "shift=0,sleep=on";

/// Most instructions of one NMI: a hundred times what any entry takes.
pub const STEPS_MAX: usize = 100_000;
/// Most arrivals that are counted.
const ARRIVALS_MAX: u64 = 100_000;
/// Wall time of one traced machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Words of the frame that the CPU pushes: RIP, CS, RFLAGS, RSP, SS.
const FRAME_WORDS: usize = 5;

/// A machine to be traced, as often as needed.
#[derive(Clone, Copy, Debug)]
pub struct Tracer<'a> {
    /// The QEMU to use.
    pub program: &'a Program,
    /// The image to boot.
    pub image: &'static [u8],
    /// Its code.
    pub code: &'a Code,
    /// The kernel command line.
    pub kernel_command_line: &'a str,
    /// Label of the NMI entry.
    pub label: &'a str,
    /// CPUs of the machine. Whichever reaches the entry first is followed.
    pub cpus: u16,
}

/// What one NMI was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its instructions.
    pub trace: Trace,
    /// The instruction that the CPU pushed as the interrupted one.
    pub interrupted: u64,
}

impl Tracer<'_> {
    /// Runs to the end; returns how often the entry was reached, and what came over the line.
    ///
    /// # Errors
    /// [`TracerError`] where the machine can't be followed.
    pub fn count(&self) -> Result<(u64, Record), TracerError> {
        let mut session = Session::start(self)?;
        let mut arrivals = 0;
        while session.run_to_next_arrival()? {
            arrivals += 1;
            if arrivals > ARRIVALS_MAX {
                return Err(TracerError::TooMany);
            }
        }
        Ok((arrivals, session.record()?))
    }

    /// Traces the arrival with this number, from 1.
    ///
    /// # Errors
    /// [`TracerError`] where there is none, or it does not return.
    pub fn trace(&self, arrival: u64) -> Result<Traced, TracerError> {
        let mut is_it = |candidate: &mut Arrival<'_>| Ok(candidate.number == arrival);
        let stops = self.stops(Nmis::Held, &mut is_it)?;
        let trace = Trace::annotate(&stops, self.code)?;
        // What an NMI returns to is its last stop.
        let interrupted = stops.last().map(|stop| stop.rip).ok_or(TracerError::NoReturn)?;
        Ok(Traced { trace, interrupted })
    }

    /// Steps through the first arrival that `is_it`; the last stop is the interrupted instruction.
    ///
    /// # Errors
    /// [`TracerError`] where there is none, or it does not return.
    pub fn stops(&self, nmis: Nmis, is_it: Choice<'_>) -> Result<Vec<Seen>, TracerError> {
        let mut session = Session::start(self)?;
        for number in 1..=ARRIVALS_MAX {
            if !session.run_to_next_arrival()? {
                return Err(TracerError::NoArrival { seen: number - 1 });
            }
            if is_it(&mut Arrival { number, client: &mut session.client, code: self.code })? {
                return session.stops(self.code, nmis);
            }
        }
        Err(TracerError::TooMany)
    }
}

/// Tells which arrival is meant.
pub type Choice<'a> = &'a mut dyn FnMut(&mut Arrival<'_>) -> Result<bool, GdbError>;

/// What becomes of an NMI that is raised while another one is stepped through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nmis {
    /// It waits until the stepping is over.
    Held,
    /// It is taken as soon as the CPU allows, and stepped through as well.
    Taken,
}

/// An NMI at the first instruction of its entry.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// Its number since the machine started, from 1.
    pub number: u64,
    client: &'a mut Client,
    code: &'a Code,
}

impl Arrival<'_> {
    /// Counts the callers of the interrupted function by frame pointers, up to `max`.
    ///
    /// # Errors
    /// [`GdbError`] where the stub fails.
    pub fn callers(&mut self, max: usize) -> Result<usize, GdbError> {
        let mut frame = self.client.registers()?.rbp;
        let mut callers = 0;
        while frame != 0 && callers < max {
            let [caller, return_address] = match self.client.words::<2>(frame) {
                // No memory is there: not a frame pointer.
                Err(GdbError::Answer { .. }) => break,
                words => words?,
            };
            if self.code.flow(return_address).is_none() {
                break;
            }
            callers += 1;
            frame = caller;
        }
        Ok(callers)
    }
}

/// One machine under the stub. Dropping it ends the machine.
struct Session {
    client: Client,
    entry: u64,
    is_at_entry: bool,
    _machine: Machine,
    line: PathBuf,
    _directory: TempDir,
}

impl Session {
    fn start(tracer: &Tracer<'_>) -> Result<Self, TracerError> {
        let entry = tracer.code.entry(tracer.label)?.start;
        let directory = tempfile::tempdir()?;
        let (line, socket) = (directory.path().join("line"), directory.path().join("gdb"));
        let config = MachineConfig {
            kernel_command_line: tracer.kernel_command_line.to_owned(),
            cpus: tracer.cpus,
            extra_args: ["-S", "-gdb", &stub_at(&socket), "-icount", STEPPED_ICOUNT]
                .map(str::to_owned)
                .to_vec(),
            ..MachineConfig::new(tracer.image, line.clone())
        };
        let machine = Machine::start(tracer.program, &config)?;
        let mut client = Client::connect(&socket, Instant::now() + LIMIT)?;
        client.set_breakpoint(entry)?;
        Ok(Self { client, entry, is_at_entry: false, _machine: machine, line, _directory: directory })
    }

    /// Runs to the next arrival at the entry; `false` where the machine ends before that.
    fn run_to_next_arrival(&mut self) -> Result<bool, TracerError> {
        // A breakpoint under RIP would be hit again at once.
        if self.is_at_entry && self.client.step()? == Stopped::Exited {
            return Ok(false);
        }
        self.is_at_entry = self.client.resume()? == Stopped::Trapped;
        if self.is_at_entry && self.client.registers()?.rip != self.entry {
            return Err(TracerError::Astray);
        }
        Ok(self.is_at_entry)
    }

    /// Steps from the entry until the interrupted instruction is next, on the interrupted stack.
    fn stops(&mut self, code: &Code, nmis: Nmis) -> Result<Vec<Seen>, TracerError> {
        let mut registers = self.client.registers()?;
        let [rip, _cs, _rflags, rsp, _ss] = self.client.words::<FRAME_WORDS>(registers.rsp)?;
        self.client.clear_breakpoint(self.entry)?;
        if nmis == Nmis::Taken {
            self.client.step_into_interrupts()?;
        }
        let mut seen = Vec::new();
        while (registers.rip, registers.rsp) != (rip, rsp) {
            if seen.len() == STEPS_MAX {
                return Err(TracerError::NoReturn);
            }
            let is_iret = code.flow(registers.rip) == Some(Flow::Iret);
            let iret_target = if is_iret { Some(self.client.words::<1>(registers.rsp)?[0]) } else { None };
            seen.push(Seen { rip: registers.rip, iret_target });
            if self.client.step()? == Stopped::Exited {
                return Err(TracerError::NoReturn);
            }
            registers = self.client.registers()?;
        }
        seen.push(Seen { rip, iret_target: None });
        Ok(seen)
    }

    fn record(&self) -> Result<Record, TracerError> {
        let mut stream = Stream::new("the reference run");
        stream.push(&fs::read(&self.line)?, |_| Ok::<(), CaptureError>(()))?;
        Ok(stream.finish())
    }
}

/// Returns QEMU's option for a stub at a socket. QEMU reads two commas as one in a name.
fn stub_at(socket: &Path) -> String {
    format!("unix:{},server=on,wait=off", socket.display().to_string().replace(',', ",,"))
}

/// Why there is no reference trace.
#[derive(Debug, thiserror::Error)]
pub enum TracerError {
    /// The image has no such entry.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The machine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The stub failed.
    #[error(transparent)]
    Gdb(#[from] GdbError),
    /// What was seen makes no trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The line can't be decoded.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// There is no place for temporary files.
    #[error("can't use a temporary file: {0}; make room, or name another directory by TMPDIR")]
    Io(#[from] io::Error),
    /// The machine stopped where there is no breakpoint.
    #[error("QEMU's debug stub stopped the machine away from the NMI entry; use another QEMU (NMIPROF_QEMU)")]
    Astray,
    /// The entry was reached absurdly often.
    #[error(
        "the reference run took more than {ARRIVALS_MAX} NMIs; that is a defect of the entry, so report it"
    )]
    TooMany,
    /// The machine ended before the arrival that was asked for.
    #[error("the machine ended after {seen} NMIs, and the one to be traced was not among them; report it")]
    NoArrival {
        /// How many there were.
        seen: u64,
    },
    /// The NMI did not return.
    #[error(
        "the reference NMI did not return within {STEPS_MAX} instructions; that is a defect of the entry, so report it"
    )]
    NoReturn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_the_socket_path_is_doubled() {
        assert_eq!(stub_at(Path::new("/t/a,b")), "unix:/t/a,,b,server=on,wait=off");
    }
}
