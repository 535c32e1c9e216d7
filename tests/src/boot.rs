//! One boot of an embedded image, described step by step, and what came of it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;
use std::{env, fs, io, thread};

use nmiprof::capture::{CaptureError, LogLine, Record, Stream};
use nmiprof::images::{Example, Image};
use nmiprof::machine::{
    self, BootError, CommandLine, Consent, Ending, Evidence, MachineConfig, Medium, Observer, Program, Size,
    Stop, find_or_install,
};
use nmiprof_program::archive;
use nmiprof_wire::{Line, Options};

use crate::far_end::{Account, FarEnd};
use crate::skips::Skip;
use crate::verdict::Verdict;

/// Tests sample as densely as they need to; one that wants a throttle appends its word.
const UNTHROTTLED: u8 = 0;

/// A boot to be done.
#[derive(Clone, Debug)]
#[must_use = "nothing boots before `run`"]
pub struct Boot {
    image: Image,
    kernel_command_line: String,
    /// Programs to run, each with its arguments.
    programs: Vec<Vec<String>>,
    module: Vec<u8>,
    medium: Option<Medium>,
    machine: Option<String>,
    cpu: Option<String>,
    cpus: u16,
    memory: Size,
    icount: bool,
    has_exit_device: bool,
    has_serial_port: bool,
    far_end: Option<FarEnd>,
    qemu_args: Vec<String>,
    limit: Duration,
    program: Option<Program>,
    sampling: Option<Sender<()>>,
}

impl Boot {
    /// Wall time that a run gets unless the test says otherwise.
    pub const LIMIT: Duration = Duration::from_secs(60);

    /// Describes a boot of `image` with the defaults of `nmiprof record`.
    pub fn image(image: Image) -> Self {
        let options = Options { line: Line::File, cpu_percent_max: UNTHROTTLED, ..Options::default() };
        Self {
            image,
            kernel_command_line: options.to_string(),
            programs: Vec::new(),
            module: Vec::new(),
            medium: None,
            machine: None,
            cpu: None,
            cpus: 1,
            memory: Size::mib(256),
            icount: true,
            has_exit_device: true,
            has_serial_port: true,
            far_end: None,
            qemu_args: Vec::new(),
            limit: Self::LIMIT,
            program: None,
            sampling: None,
        }
    }

    /// Replaces the kernel command line. The line is always a file.
    pub fn options(mut self, options: &Options<'_>) -> Self {
        let options = Options { line: Line::File, cpu_percent_max: UNTHROTTLED, ..*options };
        self.kernel_command_line = options.to_string();
        self
    }

    /// Adds words to the kernel command line; they win over earlier ones.
    pub fn append(mut self, words: &str) -> Self {
        self.kernel_command_line = format!("{} {words}", self.kernel_command_line);
        self
    }

    /// Adds an embedded program, by its name and arguments, separated by spaces.
    pub fn user_program(mut self, command: &str) -> Self {
        self.programs.push(command.split_whitespace().map(str::to_owned).collect());
        self
    }

    /// Hands these bytes to the kernel in place of programs.
    pub fn module(mut self, bytes: Vec<u8>) -> Self {
        self.module = bytes;
        self
    }

    /// Boots from this medium, which has its own image, command line and programs on it.
    pub fn medium(mut self, medium: Medium) -> Self {
        self.medium = Some(medium);
        self
    }

    /// Sets the machine type, in QEMU's words.
    pub fn machine(mut self, machine: &str) -> Self {
        self.machine = Some(machine.to_owned());
        self
    }

    /// Sets the CPU model, in QEMU's words.
    pub fn cpu(mut self, cpu: &str) -> Self {
        self.cpu = Some(cpu.to_owned());
        self
    }

    /// Sets the number of CPUs of the machine.
    pub fn cpus(mut self, cpus: u16) -> Self {
        self.cpus = cpus;
        self
    }

    /// Sets the memory of the machine.
    pub fn memory(mut self, memory: Size) -> Self {
        self.memory = memory;
        self
    }

    /// Lets the clock of the machine count time instead of instructions.
    pub fn without_icount(mut self) -> Self {
        self.icount = false;
        self
    }

    /// Leaves out the device by which the kernel ends the machine.
    pub fn without_exit_device(mut self) -> Self {
        self.has_exit_device = false;
        self
    }

    /// Leaves out the serial port.
    pub fn without_serial_port(mut self) -> Self {
        self.has_serial_port = false;
        self
    }

    /// Leads the line to a far end, which may hold it up, and lets time be time: a pace means nothing else.
    pub fn far_end(mut self, far_end: FarEnd) -> Self {
        self.far_end = Some(far_end);
        self.has_serial_port = false;
        self.without_icount().append("line=live")
    }

    /// Adds an argument for QEMU, after ours.
    pub fn qemu_arg(mut self, arg: &str) -> Self {
        self.qemu_args.push(arg.to_owned());
        self
    }

    /// Sets the wall time after which the machine is ended.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Uses this QEMU instead of the one that is found.
    pub fn program(mut self, program: Program) -> Self {
        self.program = Some(program);
        self
    }

    /// Sends on `signal` when the kernel says that it samples.
    pub fn signal_sampling(mut self, signal: Sender<()>) -> Self {
        self.sampling = Some(signal);
        self
    }

    /// Boots, waits for the end, and judges. The command line is printed, and kept.
    ///
    /// # Panics
    /// Where there is no place for a temporary file.
    #[must_use]
    pub fn run(self) -> Run {
        let directory = tempfile::tempdir().expect("tests need room for temporary files");
        let mut scribe = Scribe { sampling: self.sampling, command_line: None };
        let module = if self.programs.is_empty() { self.module } else { archive_of(&self.programs) };
        let socket = directory.path().join("far");
        let far_args = self.far_end.is_some().then(|| FarEnd::qemu_args(&socket));
        let usual = MachineConfig::new(self.image.elf(), directory.path().join("line"));
        let config = MachineConfig {
            kernel_command_line: self.kernel_command_line,
            module,
            medium: self.medium,
            machine: self.machine.unwrap_or(usual.machine),
            cpu: self.cpu.unwrap_or(usual.cpu),
            cpus: self.cpus,
            memory: self.memory,
            icount: self.icount,
            has_exit_device: self.has_exit_device,
            has_serial_port: self.has_serial_port,
            extra_args: far_args.into_iter().flatten().chain(self.qemu_args).collect(),
            limit: self.limit,
            ..usual
        };
        let program = match self.program.map_or_else(qemu, Ok) {
            Ok(program) => program,
            Err(skip) => return Run::skipped(skip),
        };
        let (result, far) = match &self.far_end {
            Some(far_end) => boot_with(far_end, &socket, &program, &config, &mut scribe),
            None => (machine::boot(&program, &config, &mut scribe), None),
        };
        let verdict = Verdict::of(&result);
        eprintln!("{verdict}");
        Run {
            verdict,
            // A machine that never started has left no file.
            capture: fs::read(&config.line).unwrap_or_default(),
            command_line: scribe.command_line,
            boot: result.ok(),
            far,
        }
    }
}

/// Boots a machine whose line leads to a far end, and judges it when that has read the last byte.
fn boot_with(
    far_end: &FarEnd,
    socket: &Path,
    program: &Program,
    config: &MachineConfig<'_>,
    scribe: &mut Scribe,
) -> (Result<machine::Boot, BootError>, Option<Account>) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| far_end.read(socket, &config.line, &is_over));
        let result = machine::boot(program, config, scribe);
        // Relaxed: a flag that ends waiting, and nothing else.
        is_over.store(true, Ordering::Relaxed);
        let account = reader.join().expect("the far end does not panic").expect("the far end can read");
        (result.map(|boot| judged_again(boot, config)), Some(account))
    })
}

/// Judges a machine by everything that was on its line: the last bytes come after its end.
fn judged_again(mut boot: machine::Boot, config: &MachineConfig<'_>) -> machine::Boot {
    let mut stream = Stream::new("the far end");
    let bytes = fs::read(&config.line).expect("the far end has made it");
    stream.push(&bytes, |_| Ok::<(), CaptureError>(())).expect("a stream of this build");
    boot.record = stream.finish();
    boot.ending = Ending::of(&Evidence { stop: boot.stop, record: &boot.record, stderr: &boot.stderr });
    boot
}

/// Packs embedded programs.
///
/// # Panics
/// Where there is no such program, or too many.
#[must_use]
pub fn archive_of(programs: &[Vec<String>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, words) in programs.iter().enumerate() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let example = Example::find(words[0]).expect("an embedded program");
        archive::push(&mut bytes, number, &words, example.elf).expect("sound arguments");
    }
    archive::finish(&mut bytes).expect("it fits");
    bytes
}

/// Finds QEMU, and installs it where it is missing and this process is root or the user agreed beforehand.
///
/// # Errors
/// The skip of a test that needs QEMU.
pub fn qemu() -> Result<Program, Skip> {
    /// One test at a time looks, so that none installs what another one is installing.
    static LOOKING: Mutex<()> = Mutex::new(());

    let _looking = LOOKING.lock();
    let agreed = env::var_os("NMIPROF_INSTALL").is_some_and(|agreed| agreed == "1");
    let consent = if agreed { Consent::Given } else { Consent::NotGiven };
    // The standard error itself: what is installed is said even where a test's output is captured.
    find_or_install(consent, &mut io::stderr()).map_err(|missing| Skip::needed_in_ci(missing.to_string()))
}

/// Keeps and prints what a failed test needs to be run again by hand.
struct Scribe {
    sampling: Option<Sender<()>>,
    command_line: Option<CommandLine>,
}

impl Observer for Scribe {
    fn started(&mut self, command_line: &CommandLine) {
        eprintln!("{command_line}");
        self.command_line = Some(command_line.clone());
    }

    fn log(&mut self, line: &LogLine) {
        eprintln!("kernel: {}", line.text);
        if line.text.starts_with("sampling:")
            && let Some(signal) = self.sampling.take()
        {
            // Nobody may be waiting any more.
            let _ = signal.send(());
        }
    }
}

/// What came of a boot.
#[derive(Debug)]
pub struct Run {
    /// What it means.
    pub verdict: Verdict,
    /// The bytes of the line, verbatim.
    pub capture: Vec<u8>,
    /// The QEMU command line; `None` where nothing was started.
    pub command_line: Option<CommandLine>,
    /// What the far end did; `None` where the line was a file.
    pub far: Option<Account>,
    boot: Option<machine::Boot>,
}

impl Run {
    /// Returns the completed run, or `None` after registering a skip.
    ///
    /// # Panics
    /// On every verdict but `Pass` and `Skip`, and on a skip that CI does not tolerate.
    #[track_caller]
    #[must_use = "a skipped test has to return"]
    pub fn passed(self) -> Option<Completed> {
        match (self.verdict, self.boot) {
            (Verdict::Pass, Some(boot)) => {
                let far = self.far.unwrap_or_default();
                Some(Completed { capture: self.capture, record: boot.record, elapsed: boot.elapsed, far })
            }
            (Verdict::Skip(skip), _) => {
                skip.register();
                None
            }
            (verdict, boot) => {
                let stderr = boot.map(|boot| boot.stderr).unwrap_or_default();
                let command_line = self.command_line.as_ref().map(ToString::to_string);
                panic!("{verdict}\nQEMU says: {stderr}\n{}", command_line.unwrap_or_default())
            }
        }
    }

    /// Returns the verdict of a run that is expected to go wrong, or `None` after registering a skip.
    ///
    /// # Panics
    /// On a skip that CI does not tolerate.
    #[track_caller]
    #[must_use = "a skipped test has to return"]
    pub fn verdict(&self) -> Option<&Verdict> {
        if let Verdict::Skip(skip) = &self.verdict {
            skip.register();
            return None;
        }
        Some(&self.verdict)
    }

    /// Returns how the machine came to its end.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        self.boot.as_ref().map(|boot| boot.stop)
    }

    /// Returns what QEMU wrote to its standard error.
    #[must_use]
    pub fn stderr(&self) -> &str {
        self.boot.as_ref().map_or("", |boot| &boot.stderr)
    }

    /// Returns what came over the line; `None` where nothing was started.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.boot.as_ref().map(|boot| &boot.record)
    }

    fn skipped(skip: Skip) -> Self {
        Self { verdict: Verdict::Skip(skip), capture: Vec::new(), command_line: None, far: None, boot: None }
    }
}

/// A run that passed.
#[derive(Debug)]
pub struct Completed {
    /// The bytes of the line, verbatim.
    pub capture: Vec<u8>,
    /// What they say, but for the samples.
    pub record: Record,
    /// Wall time from start to end.
    pub elapsed: Duration,
    /// What the far end did; nothing where the line was a file.
    pub far: Account,
}
