//! One conversation with a GDB stub.
//!
//! Requests are answered one by one; every packet is acknowledged. All of it has to end before the
//! deadline that it started with. The stub's default for single steps is the right one here: interrupts
//! and timers wait, so that what is stepped through is the code itself.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::packet::{Event, Inbox, encode, hex_bytes};

/// Longest wait for bytes before the deadline is looked at again.
const SLICE: Duration = Duration::from_millis(200);
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(10);
/// Most damaged or refused packets of one request.
const RESENDS_MAX: u32 = 3;
/// Bytes before RIP in the stub's register block: 16 general-purpose registers.
const RIP_OFFSET: usize = 16 * 8;
/// RBP is the seventh register of that block.
const RBP_OFFSET: usize = 6 * 8;
/// RSP is the eighth.
const RSP_OFFSET: usize = 7 * 8;

/// Bit of QEMU's `sstep`: a step is one instruction.
const SSTEP_ENABLE: u8 = 1;
/// Bit of QEMU's `sstep`: timers wait.
const SSTEP_NOTIMER: u8 = 4;

/// The registers that a trace needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The next instruction.
    pub rip: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The frame pointer.
    pub rbp: u64,
}

impl Registers {
    /// Reads the stub's register block: 64-bit registers in its order, low byte first.
    fn parse(block: &[u8]) -> Option<Self> {
        let bytes = hex_bytes(block.get(..2 * (RIP_OFFSET + 8))?)?;
        let word = |offset: usize| Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?));
        Some(Self { rip: word(RIP_OFFSET)?, rsp: word(RSP_OFFSET)?, rbp: word(RBP_OFFSET)? })
    }
}

/// Why the target does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// At a breakpoint, or after a step.
    Trapped,
    /// It has ended.
    Exited,
}

/// A conversation.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    inbox: Inbox,
    deadline: Instant,
}

impl Client {
    /// Connects to the stub at `path`, which may still be about to open it.
    ///
    /// # Errors
    /// [`GdbError`] where there is none by the deadline.
    pub fn connect(path: &Path, deadline: Instant) -> Result<Self, GdbError> {
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Self::over(stream, deadline),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => thread::sleep(RETRY),
            }
        }
    }

    /// Talks over a stream that is connected already.
    ///
    /// # Errors
    /// What the system says.
    pub fn over(stream: UnixStream, deadline: Instant) -> Result<Self, GdbError> {
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        let mut client = Self { stream, inbox: Inbox::default(), deadline };
        client.request("?")?;
        Ok(client)
    }

    /// Sets a breakpoint.
    ///
    /// # Errors
    /// [`GdbError`] where the stub does not do that.
    pub fn set_breakpoint(&mut self, address: u64) -> Result<(), GdbError> {
        self.request_ok(&format!("Z0,{address:x},1"))
    }

    /// Removes a breakpoint.
    ///
    /// # Errors
    /// [`GdbError`] where the stub does not do that.
    pub fn clear_breakpoint(&mut self, address: u64) -> Result<(), GdbError> {
        self.request_ok(&format!("z0,{address:x},1"))
    }

    /// Lets interrupts, NMIs among them, through while the target is stepped. Timers still wait.
    ///
    /// Each is a stop of its own, at the first instruction of its handler. After QEMU's "GDB usage",
    /// "Advanced debugging options".
    ///
    /// # Errors
    /// [`GdbError`] where the stub does not do that.
    pub fn step_into_interrupts(&mut self) -> Result<(), GdbError> {
        self.request_ok(&format!("Qqemu.sstep={:x}", SSTEP_ENABLE | SSTEP_NOTIMER))
    }

    /// Lets the target run to the next breakpoint or to its end. It has to be stepped off a breakpoint first.
    ///
    /// # Errors
    /// [`GdbError`] where neither comes by the deadline.
    pub fn resume(&mut self) -> Result<Stopped, GdbError> {
        self.run("c")
    }

    /// Executes one instruction, or the delivery of the exception that it raises.
    ///
    /// # Errors
    /// [`GdbError`] where the target does not stop by the deadline.
    pub fn step(&mut self) -> Result<Stopped, GdbError> {
        self.run("s")
    }

    /// Reads the registers.
    ///
    /// # Errors
    /// [`GdbError`] where the answer is not the register block of an x86-64 CPU.
    pub fn registers(&mut self) -> Result<Registers, GdbError> {
        let block = self.request("g")?;
        Registers::parse(&block).ok_or_else(|| GdbError::answer("g", &block))
    }

    /// Reads `N` words of memory.
    ///
    /// # Errors
    /// [`GdbError`] where they can't be read.
    pub fn words<const N: usize>(&mut self, address: u64) -> Result<[u64; N], GdbError> {
        let request = format!("m{address:x},{:x}", N * size_of::<u64>());
        let answer = self.request(&request)?;
        let bytes = hex_bytes(&answer).filter(|bytes| bytes.len() == N * size_of::<u64>());
        let bytes = bytes.ok_or_else(|| GdbError::answer(&request, &answer))?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
            *word = bytes.iter().rev().fold(0, |high, byte| (high << 8) | u64::from(*byte));
        }
        Ok(words)
    }

    fn run(&mut self, request: &str) -> Result<Stopped, GdbError> {
        let answer = match self.request(request) {
            Err(GdbError::Closed) => return Ok(Stopped::Exited),
            answer => answer?,
        };
        match answer.first() {
            Some(b'T' | b'S') => Ok(Stopped::Trapped),
            Some(b'W' | b'X') => Ok(Stopped::Exited),
            _ => Err(GdbError::answer(request, &answer)),
        }
    }

    fn request_ok(&mut self, request: &str) -> Result<(), GdbError> {
        let answer = self.request(request)?;
        if answer == b"OK" { Ok(()) } else { Err(GdbError::answer(request, &answer)) }
    }

    /// Sends a request and waits for its answer.
    fn request(&mut self, request: &str) -> Result<Vec<u8>, GdbError> {
        let packet = encode(request);
        self.send(&packet)?;
        let mut resends = 0;
        loop {
            match self.next_event()? {
                Event::Ack => continue,
                Event::Packet(answer) => {
                    // The far end may have ended with this packet as its last.
                    drop(self.send(b"+"));
                    return Ok(answer);
                }
                Event::Resend => self.send(&packet)?,
                Event::Damaged => self.send(b"-")?,
            }
            resends += 1;
            if resends > RESENDS_MAX {
                return Err(GdbError::Noise);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), GdbError> {
        self.stream.write_all(bytes).map_err(GdbError::from)
    }

    fn next_event(&mut self) -> Result<Event, GdbError> {
        let mut piece = [0; 4096];
        loop {
            if let Some(event) = self.inbox.next_event() {
                return Ok(event);
            }
            if Instant::now() >= self.deadline {
                return Err(GdbError::Deadline);
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(GdbError::Closed),
                Ok(len) => self.inbox.push(piece.get(..len).unwrap_or_default()),
                Err(error) if is_temporary(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum GdbError {
    /// The deadline passed.
    #[error("QEMU's debug stub did not answer in time; try again on a host with less load")]
    Deadline,
    /// The far end went away.
    #[error("QEMU closed its debug stub; see what it says by running the printed command by hand")]
    Closed,
    /// Packet after packet was damaged.
    #[error("QEMU's debug stub sends damaged packets; use another QEMU (NMIPROF_QEMU)")]
    Noise,
    /// The answer is not one to this request.
    #[error("QEMU's debug stub answers `{request}` by `{answer}`; use another QEMU (NMIPROF_QEMU)")]
    Answer {
        /// What was asked.
        request: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// The system failed.
    #[error("can't talk to QEMU's debug stub: {0}; make sure that TMPDIR is a short path with room in it")]
    Io(io::Error),
}

impl From<io::Error> for GdbError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl GdbError {
    fn answer(request: &str, answer: &[u8]) -> Self {
        let start = answer.get(..answer.len().min(40)).unwrap_or_default();
        Self::Answer { request: request.to_owned(), answer: start.escape_ascii().to_string() }
    }
}

#[cfg(test)]
mod tests;
