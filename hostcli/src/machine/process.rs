//! One running QEMU, which never outlives its owner.
//!
//! Three things end it: [`Machine::kill`], dropping the [`Machine`], and the death of this process however
//! it comes, by the parent-death signal of Linux. That signal is sent when the *thread* that started the
//! child ends, not the process. So the child is started by a thread of its own, the keeper, that does
//! nothing else than wait for it: the keeper can't end before the child has.
//!
//! The keeper waits without reaping and reaps under the lock that [`Machine::kill`] takes, so that a kill
//! never hits a process that got the same number later.
#![expect(unsafe_code, reason = "the parent-death signal is set in the child, between fork and exec")]

use std::fmt;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions};
use tempfile::NamedTempFile;

use super::command_line::CommandLine;
use super::config::MachineConfig;
use super::program::Program;
use crate::capture::clean;

/// A QEMU process.
#[derive(Debug)]
pub struct Machine {
    command_line: CommandLine,
    child: Arc<Mutex<Child>>,
    exited: Receiver<io::Result<ExitStatus>>,
    keeper: Option<JoinHandle<()>>,
    stderr: std::fs::File,
    /// What QEMU reads at its start: the image, and the module if there is one.
    files: Vec<NamedTempFile>,
}

impl Machine {
    /// Most bytes of QEMU's error output that are kept.
    const STDERR_BYTES_MAX: u64 = 16 << 10;

    /// Starts QEMU.
    ///
    /// # Errors
    /// [`StartError`] where there is no process to wait for.
    pub fn start(program: &Program, config: &MachineConfig<'_>) -> Result<Self, StartError> {
        let files = write_files(config).map_err(StartError::Temporary)?;
        let stderr = tempfile::tempfile().map_err(StartError::Temporary)?;
        let errors = stderr.try_clone().map_err(StartError::Temporary)?;
        let command_line = CommandLine::new(program.path()).args(
            config.arguments(files.first().map(NamedTempFile::path), files.get(1).map(NamedTempFile::path)),
        );
        let mut command = command_line.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let (child, exited, keeper) =
            start_kept(command).map_err(|source| StartError::of(program, source))?;
        Ok(Self { command_line, child, exited, keeper: Some(keeper), stderr, files })
    }

    /// Returns the command that was run.
    #[must_use]
    pub fn command_line(&self) -> &CommandLine {
        &self.command_line
    }

    /// Waits for the end of the process, for at most `tick`; `None` while it runs.
    ///
    /// # Errors
    /// What the system says where it can't be waited for.
    pub fn wait(&self, tick: Duration) -> io::Result<Option<Exit>> {
        match self.exited.recv_timeout(tick) {
            Ok(status) => status.map(|status| Some(Exit::from(status))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the process is gone already")),
        }
    }

    /// Ends the process at once, if it still runs.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&self) -> io::Result<()> {
        lock(&self.child).kill()
    }

    /// Removes the files that image and module were loaded from. QEMU has read them once the kernel runs.
    pub fn release_image(&mut self) {
        self.files.clear();
    }

    /// Returns what QEMU wrote to stderr, made fit for a terminal line by line.
    ///
    /// # Errors
    /// What the system says.
    pub fn stderr(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.stderr.rewind()?;
        (&self.stderr).take(Self::STDERR_BYTES_MAX).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().map(clean).collect();
        Ok(lines.join("\n"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.kill().is_ok()
            && let Some(keeper) = self.keeper.take()
        {
            // The keeper has nothing to report that still matters.
            drop(keeper.join());
        }
    }
}

/// Writes what QEMU is to load: the image, and the module if there is one.
fn write_files(config: &MachineConfig<'_>) -> io::Result<Vec<NamedTempFile>> {
    let mut files = Vec::new();
    if config.medium.is_none() {
        files.push(write_file(config.image, ".elf")?);
        if !config.module.is_empty() {
            files.push(write_file(&config.module, ".cpio")?);
        }
    }
    Ok(files)
}

fn write_file(content: &[u8], suffix: &str) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("nmiprof-").suffix(suffix).tempfile()?;
    file.write_all(content)?;
    Ok(file)
}

type Kept = (Arc<Mutex<Child>>, Receiver<io::Result<ExitStatus>>, JoinHandle<()>);

fn start_kept(mut command: Command) -> io::Result<Kept> {
    let (started, child) = channel();
    let (exit, exited) = channel();
    end_with_parent(&mut command);
    let keeper = thread::Builder::new()
        .name("qemu keeper".to_owned())
        .spawn(move || keep(command, &started, &exit))?;
    let child = child.recv().map_err(io::Error::other)??;
    Ok((child, exited, keeper))
}

/// The keeper's life: start, wait, reap, report.
fn keep(
    mut command: Command,
    started: &Sender<io::Result<Arc<Mutex<Child>>>>,
    exit: &Sender<io::Result<ExitStatus>>,
) {
    let child = command.spawn().map(|child| Arc::new(Mutex::new(child)));
    let kept = child.as_ref().ok().map(Arc::clone);
    // A receiver that is gone has dropped its machine, and so killed the child: waiting is still right.
    drop(started.send(child));
    if let Some(child) = kept {
        let status = wait_without_reaping(&child).and_then(|()| lock(&child).wait());
        drop(exit.send(status));
    }
}

fn wait_without_reaping(child: &Mutex<Child>) -> io::Result<()> {
    let pid = Pid::from_child(&lock(child));
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), options))?;
    Ok(())
}

/// Locks the child; a poisoned lock guards a process number that is still right.
fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in the child, between fork and exec. This process has several threads, so
    // until exec only what is async-signal-safe may happen there.
    // 1. (checked below, in `end_with`) it makes two system calls, prctl and getppid, by functions that
    //    neither allocate nor take a lock;
    // 2. (checked below, in `end_with`) its error is a number, and a number becomes an `io::Error` without
    //    allocation;
    // 3. (checked above) it captures one process number by value, and nothing that a thread could own.
    unsafe {
        command.pre_exec(move || end_with(parent));
    }
}

/// Asks the system to kill this process when its parent thread ends.
#[cfg(target_os = "linux")]
fn end_with(parent: Pid) -> io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the call: then no signal comes.
    if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
}

/// Elsewhere the child ends with its [`Machine`] only.
#[cfg(not(target_os = "linux"))]
fn end_with_parent(_: &mut Command) {}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal, which this program did not send.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::Status(code),
            None => Self::Signal(status.signal().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "status {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Why a machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is not there.
    #[error("there is no QEMU at `{0}`; ask `nmiprof doctor` what to install")]
    NoProgram(Program),
    /// The system refuses to run it.
    #[error("`{program}` can't be run: {source}; try it by hand: `{program} --version`")]
    Spawn {
        /// The program.
        program: Program,
        /// What the system said.
        source: io::Error,
    },
    /// There is no place for the files that QEMU needs.
    #[error("can't make a temporary file: {0}; make room, or name another directory by TMPDIR")]
    Temporary(io::Error),
}

impl StartError {
    fn of(program: &Program, source: io::Error) -> Self {
        let program = program.clone();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoProgram(program),
            _ => Self::Spawn { program, source },
        }
    }
}

#[cfg(test)]
mod tests;
