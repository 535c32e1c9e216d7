//! The flags of `nmiprof record`, and the machine and kernel command line that they ask for.

use std::path::PathBuf;
use std::time::Duration;

use nmiprof_wire::{
    Dispatch, FaultReturn, Line, NestedReturn, NmiEntry, Options, RingMode, Sampling, Stress, UnknownPolicy,
    Unmask,
};

use super::display::Noise;
use super::values::{choice, on_off, seconds, word};
use crate::commands::Error;
use crate::machine::{MachineConfig, Size};

/// Flags of `nmiprof record`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The machine.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// What is sampled, and how.
    #[command(flatten)]
    pub sampling: SamplingArgs,

    /// Capture file; an existing one becomes FILE.old; `-` is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "nmiprof.data")]
    pub output: PathBuf,

    /// Wall time after which the machine is ended [default: 60 s and 30 s per second of target time]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Arguments of the program, where --program names one
    #[arg(last = true, value_name = "ARG")]
    pub arguments: Vec<String>,

    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print the QEMU command line
    #[arg(short, long)]
    pub verbose: bool,
}

impl Args {
    /// Refuses what this target can't do.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to do instead.
    pub(super) fn check(&self) -> Result<(), Error> {
        let cpus = self.machine.cpus;
        if cpus != 1 {
            return Err(Error::Usage(format!(
                "--cpus {cpus}: the kernel runs on one CPU so far; leave --cpus out"
            )));
        }
        self.sampling.check()?;
        if let Some(mutant) = self.mutant() {
            return Err(Error::Usage(format!(
                "--append mutant={mutant}: an NMI entry with a known defect makes no profile; leave the word out, or \
                 see `nmiprof selftest nmi`"
            )));
        }
        match self.sampling.event.as_deref() {
            None | Some("instructions" | "instructions:u" | "instructions:k") => Ok(()),
            Some(other) => Err(Error::Usage(format!(
                "-e {other}: QEMU's emulator has no performance counters, so nothing counts that here; use -e \
                 instructions, which a timer stands in for (exactly, with --icount on)"
            ))),
        }
    }

    /// Returns the mutant that the user's own words ask for.
    fn mutant(&self) -> Option<&str> {
        let words = self.machine.append.as_deref()?.split_ascii_whitespace();
        words.filter_map(|word| word.strip_prefix("mutant=")).next_back().filter(|name| !name.is_empty())
    }

    /// Returns the kernel command line, with the user's words last so that they win.
    pub(super) fn kernel_command_line(&self) -> String {
        let workloads = self.sampling.workloads.join(",");
        let options = self.sampling.options(&workloads).to_string();
        match &self.machine.append {
            Some(words) => format!("{options} {words}"),
            None => options,
        }
    }

    /// Returns the wall time after which the machine is ended.
    pub(super) fn limit(&self) -> Duration {
        const BASE: Duration = Duration::from_secs(60);
        const PER_SECOND: u32 = 30;
        let command_line = self.kernel_command_line();
        // The words of the user may be wrong: the kernel says so, and it says so soon.
        let asked = Options::parse(&command_line)
            .map_or(self.sampling.duration(), |options| Duration::from_nanos(options.duration_ns));
        self.timeout.unwrap_or_else(|| BASE.saturating_add(asked.saturating_mul(PER_SECOND)))
    }

    pub(super) fn noise(&self) -> Noise {
        match (self.quiet, self.verbose) {
            (true, _) => Noise::Quiet,
            (false, true) => Noise::Verbose,
            (false, false) => Noise::Normal,
        }
    }
}

/// Flags that describe a machine.
#[derive(Clone, Debug, clap::Args)]
pub struct MachineArgs {
    /// CPUs of the machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub cpus: u16,

    /// Memory of the machine
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub memory: Size,

    /// Let the machine's clock count instructions: exact events, and runs that repeat exactly
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = on_off(), action = clap::ArgAction::Set)]
    pub icount: bool,

    /// QEMU argument, passed verbatim after all others (repeatable)
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_args: Vec<String>,

    /// Words for the kernel command line, after all others
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub append: Option<String>,

    /// Agree to install QEMU where it is missing
    #[arg(long)]
    pub yes: bool,
}

impl MachineArgs {
    /// Returns the machine that boots `image`.
    #[must_use]
    pub fn config(&self, image: &'static [u8], line: PathBuf) -> MachineConfig<'static> {
        MachineConfig {
            memory: self.memory,
            icount: self.icount,
            extra_args: self.qemu_args.clone(),
            ..MachineConfig::new(image, line)
        }
    }
}

/// Flags that say what is sampled, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct SamplingArgs {
    /// Length of the sampled part in target time; with --icount on a second is 10^9 instructions [default: 1; with
    /// programs, until all have ended, or 10]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// User program to run: a static ELF file, or example:NAME, and its arguments (repeatable)
    #[arg(long = "program", value_name = "COMMAND")]
    pub programs: Vec<String>,

    /// Ticks of the scheduler per second, where programs run
    #[arg(long, value_name = "HZ", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(19..=100_000))]
    pub tick_hz: u32,

    /// Workloads to run in turn [default: all, or none beside programs]
    #[arg(short, long = "workload", value_name = "WORKLOAD", value_delimiter = ',', value_parser = word)]
    pub workloads: Vec<String>,

    /// Event to sample: `instructions`, `instructions:u` (of user code) or `instructions:k` (of the kernel)
    #[arg(short, long, value_name = "EVENT")]
    pub event: Option<String>,

    /// One sample every so many events [default: 100003]
    #[arg(short = 'c', long = "count", value_name = "PERIOD", value_parser = clap::value_parser!(u64).range(1..))]
    pub period: Option<u64>,

    /// So many samples per second instead
    #[arg(short = 'F', long = "freq", value_name = "FREQ", conflicts_with = "period",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub frequency: Option<u64>,

    /// Record call chains
    #[arg(short = 'g', long = "call-graph")]
    pub chains: bool,

    /// How ring pages are mapped: at first touch, all at once in every address space, or in the direct map
    #[arg(long, value_name = "MODE", default_value = "lazy", value_parser = choice(RingMode::ALL, RingMode::name))]
    pub ring: RingMode,

    /// Address space of each CPU's ring [default: 4M]
    #[arg(long, value_name = "SIZE")]
    pub ring_size: Option<Size>,

    /// Give ring pages back once so many were drained, so that their next touch is a first one again (--ring lazy)
    #[arg(long, value_name = "PAGES", value_parser = clap::value_parser!(u32).range(1..))]
    pub decommit: Option<u32>,

    /// Warn about the first page fault inside an NMI
    #[arg(long)]
    pub warn_fault: bool,

    /// Entry strategy at the NMI vector
    #[arg(long, value_name = "NAME", default_value = "rostedt", value_parser = choice(NmiEntry::ALL, NmiEntry::name))]
    pub nmi_entry: NmiEntry,

    /// How a fault inside an NMI returns
    #[arg(long, value_name = "HOW", default_value = "iret", value_parser = choice(FaultReturn::ALL, FaultReturn::name))]
    pub fault_return: FaultReturn,

    /// How a nested NMI returns into its outer one (rostedt, latched)
    #[arg(long, value_name = "HOW", default_value = "iret", value_parser = choice(NestedReturn::ALL, NestedReturn::name))]
    pub nested_return: NestedReturn,

    /// When NMIs are unmasked inside an NMI; `early` is for tests
    #[arg(long, value_name = "WHEN", default_value = "fault", value_parser = choice(Unmask::ALL, Unmask::name))]
    pub unmask: Unmask,

    /// How the dispatcher asks its handlers
    #[arg(long, value_name = "HOW", default_value = "walk-all", value_parser = choice(Dispatch::ALL, Dispatch::name))]
    pub dispatch: Dispatch,

    /// What an unknown NMI means
    #[arg(long, value_name = "POLICY", default_value = "count",
          value_parser = choice(UnknownPolicy::ALL, UnknownPolicy::name))]
    pub unknown: UnknownPolicy,

    /// What to provoke on purpose
    #[arg(long, value_name = "WHAT", default_value = "none", value_parser = choice(Stress::ALL, Stress::name))]
    pub stress: Stress,

    /// Allow combinations that are known to be unsound
    #[arg(long)]
    pub unsafe_nmi: bool,
}

impl SamplingArgs {
    /// Refuses what no ring can do.
    fn check(&self) -> Result<(), Error> {
        let options = self.options("");
        if options.decommit_is_possible() {
            return Ok(());
        }
        let (pages, ring, bytes) = (options.decommit, options.ring, options.ring_bytes);
        Err(Error::Usage(format!(
            "--decommit {pages}: this needs --ring lazy and more than {pages} pages, not --ring {ring} of {bytes} bytes; \
             leave --decommit out, or choose a larger --ring-size"
        )))
    }

    fn options<'a>(&'a self, workloads: &'a str) -> Options<'a> {
        let defaults = Options::default();
        Options {
            workloads,
            duration_ns: u64::try_from(self.duration().as_nanos()).unwrap_or(u64::MAX),
            sampling: self.sampling(defaults.sampling),
            chains: self.chains,
            ring: self.ring,
            ring_bytes: self.ring_size.map_or(defaults.ring_bytes, Size::bytes),
            decommit: self.decommit.unwrap_or(defaults.decommit),
            warn_fault: self.warn_fault,
            nmi_entry: self.nmi_entry,
            fault_return: self.fault_return,
            nested_return: self.nested_return,
            unmask: self.unmask,
            dispatch: self.dispatch,
            unknown: self.unknown,
            stress: self.stress,
            events: self.event.as_deref().unwrap_or_default(),
            tick_hz: self.tick_hz,
            line: Line::File,
            unsafe_nmi: self.unsafe_nmi,
            ..defaults
        }
    }

    /// Returns the length of the sampled part: of a run of programs, at most so much.
    fn duration(&self) -> Duration {
        const WORKLOADS: Duration = Duration::from_secs(1);
        const PROGRAMS: Duration = Duration::from_secs(10);
        self.duration.unwrap_or(if self.programs.is_empty() { WORKLOADS } else { PROGRAMS })
    }

    fn sampling(&self, default: Sampling) -> Sampling {
        let frequency = self.frequency.map(Sampling::Frequency);
        frequency.or(self.period.map(Sampling::Period)).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    fn args(words: &[&str]) -> Args {
        parse(words).expect("sound flags")
    }

    #[test]
    fn flags_become_the_kernel_command_line() {
        let args = args(&[
            "--duration",
            "2.5",
            "-w",
            "sort,hash",
            "-F",
            "999",
            "-g",
            "--stress",
            "nest",
            "--ring-size",
            "64K",
            "--decommit",
            "2",
            "--warn-fault",
        ]);
        let text = args.kernel_command_line();
        let options = Options::parse(&text).expect("our own words");
        assert_eq!(options.duration_ns, 2_500_000_000);
        assert_eq!(options.workloads, "sort,hash");
        assert_eq!(options.sampling, Sampling::Frequency(999));
        assert_eq!((options.chains, options.stress), (true, Stress::Nest));
        assert_eq!((options.ring_bytes, options.line), (65536, Line::File));
        assert_eq!((options.decommit, options.warn_fault), (2, true));
    }

    #[test]
    fn appended_words_win() {
        let args = args(&["-c", "7", "--append", "period=9 duration_ns=1"]);
        let text = args.kernel_command_line();
        let options = Options::parse(&text).expect("sound words");
        assert_eq!((options.sampling, options.duration_ns), (Sampling::Period(9), 1));
    }

    #[test]
    fn the_time_limit_grows_with_what_the_kernel_is_asked_for() {
        assert_eq!(args(&["--duration", "2"]).limit(), Duration::from_secs(120));
        assert_eq!(args(&["--append", "duration_ns=10000000000"]).limit(), Duration::from_secs(360));
        assert_eq!(args(&["--timeout", "0.5"]).limit(), Duration::from_millis(500));
        assert!(args(&["--append", "nonsense"]).limit() > Duration::from_secs(60));
    }

    #[test]
    fn what_the_target_can_not_do_is_refused_with_the_way_out() {
        let error = args(&["--cpus", "2"]).check().expect_err("one CPU only").to_string();
        assert!(error.contains("leave --cpus out"), "{error}");
        let error = args(&["-e", "cache-misses"]).check().expect_err("no PMU").to_string();
        assert!(error.contains("use -e instructions"), "{error}");
        for words in [["--ring", "direct", "--decommit", "1"], ["--ring-size", "64K", "--decommit", "16"]] {
            let error = args(&words).check().expect_err("no such ring").to_string();
            assert!(error.contains("--ring lazy"), "{error}");
        }
        args(&["--ring-size", "64K", "--decommit", "15"]).check().expect("fine");
        args(&["-e", "instructions", "--cpus", "1"]).check().expect("both are fine");
    }

    #[test]
    fn mutants_are_refused() {
        let error = args(&["--append", "mutant=no-gap-check"]).check().expect_err("a mutant").to_string();
        assert!(error.contains("mutant=no-gap-check") && error.contains("selftest nmi"), "{error}");
        args(&["--append", "mutant="]).check().expect("none is none");
    }

    #[test]
    fn qemu_arguments_are_taken_verbatim_and_in_order() {
        let args = args(&["--qemu-arg", "-d", "--qemu-arg", "int,cpu_reset", "--qemu-arg=-m"]);
        assert_eq!(args.machine.qemu_args, ["-d", "int,cpu_reset", "-m"]);
    }

    #[test]
    fn senseless_values_are_refused() {
        for words in [
            ["--duration", "0"],
            ["--duration", "-1"],
            ["--duration", "nan"],
            ["--duration", "1e300"],
            ["--ring", "eager"],
            ["--decommit", "0"],
            ["--nmi-entry", "none"],
            ["-c", "0"],
            ["-w", "a b"],
            ["--icount", "yes"],
            ["--memory", "lots"],
        ] {
            assert!(parse::<Args>(&words).is_err(), "{words:?}");
        }
        assert!(parse::<Args>(&["-c", "7", "-F", "7"]).is_err(), "both at once");
    }
}
