//! The flags of `nmiprof record`, and the machine and kernel command line that they ask for.

use std::path::PathBuf;
use std::time::Duration;

use nmiprof_wire::{
    Aggregate, Dispatch, FaultReturn, Line, NestedReturn, NmiEntry, Options, PmuChoice, RingMode, Sampling,
    SourceChoice, Stress, UnknownPolicy, Unmask,
};

use super::attached;
use super::display::Noise;
use crate::commands::Error;
use crate::commands::flags::values::choice;
use crate::commands::flags::{AttachArgs, EventArgs, Given, MachineArgs, PmuArgs, WorkArgs};
use crate::machine::Size;

/// Flags of `nmiprof record`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which flags were given; it comes first.
    #[command(flatten)]
    pub given: Given,

    /// The line of a target that runs already.
    #[command(flatten)]
    pub attach: AttachArgs,

    /// The machine.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// What runs on it.
    #[command(flatten)]
    pub work: WorkArgs,

    /// What counts.
    #[command(flatten)]
    pub pmu: PmuArgs,

    /// What is sampled.
    #[command(flatten)]
    pub events: EventArgs,

    /// How it is sampled.
    #[command(flatten)]
    pub sampling: SamplingArgs,

    /// Capture file; an existing one becomes FILE.old; `-` is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "nmiprof.data")]
    pub output: PathBuf,

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
        if let Some(address) = self.attach.address() {
            return attached::check(self, address);
        }
        if self.given.has("reconnect") {
            return Err(Error::Usage(
                "--reconnect: there is no line to lose; name one by --port or -i".to_owned(),
            ));
        }
        self.machine.check()?;
        self.machine.check_list(self.work.cpu_list())?;
        self.sampling.check()?;
        self.events.check()
    }

    /// Returns the kernel command line, with the user's words last so that they win.
    pub(super) fn kernel_command_line(&self) -> String {
        let (workloads, events) = (self.work.workloads_word(), self.events.word());
        let options = self.pmu.apply(self.work.apply(&workloads, self.sampling.options()));
        self.machine.with_appended(&Options { events: &events, ..options }.to_string())
    }

    /// Tells whether the user asked for events or for what counts them, and so will want to know what did.
    pub(super) fn chooses_pmu(&self) -> bool {
        let chosen = self.pmu.pmu != PmuChoice::Auto || self.pmu.source != SourceChoice::Auto;
        chosen || !self.events.events.is_empty()
    }

    /// Returns the wall time after which the machine is ended.
    pub(super) fn limit(&self) -> Duration {
        self.work.limit(&self.kernel_command_line())
    }

    pub(super) fn noise(&self) -> Noise {
        Noise::new(self.quiet, self.verbose)
    }
}

/// Flags that say how events are sampled.
#[derive(Clone, Debug, clap::Args)]
pub struct SamplingArgs {
    /// One sample every so many events, for events that don't say it themselves [default: 100003]
    #[arg(short = 'c', long = "count", value_name = "PERIOD", value_parser = clap::value_parser!(u64).range(1..))]
    pub period: Option<u64>,

    /// So many samples per second instead
    #[arg(short = 'F', long = "freq", value_name = "FREQ", conflicts_with = "period",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub frequency: Option<u64>,

    /// Most of a CPU's time that sampling may take, in percent; beyond it sampling pauses. 0 is no limit
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub cpu_percent_max: u8,

    /// Record call chains
    #[arg(short = 'g', long = "call-graph")]
    pub chains: bool,

    /// Count samples by where they fall and send the totals, for slow lines: report and exports are the same, but no
    /// sample has a time
    #[arg(long)]
    pub aggregate: bool,

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
        let options = self.options();
        if options.decommit_is_possible() {
            return Ok(());
        }
        let (pages, ring, bytes) = (options.decommit, options.ring, options.ring_bytes);
        Err(Error::Usage(format!(
            "--decommit {pages}: this needs --ring lazy and more than {pages} pages, not --ring {ring} of {bytes} bytes; \
             leave --decommit out, or choose a larger --ring-size"
        )))
    }

    fn options(&self) -> Options<'static> {
        let defaults = Options::default();
        Options {
            sampling: self.sampling(defaults.sampling),
            chains: self.chains,
            aggregate: if self.aggregate { Aggregate::On } else { Aggregate::Off },
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
            cpu_percent_max: self.cpu_percent_max,
            line: Line::File,
            unsafe_nmi: self.unsafe_nmi,
            ..defaults
        }
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
            "--aggregate",
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
        assert_eq!((options.chains, options.aggregate), (true, Aggregate::On));
        assert_eq!(options.stress, Stress::Nest);
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
    fn events_and_what_counts_them_become_words_of_the_kernel() {
        let args = args(&[
            "-e",
            "{cycles,instructions}",
            "-e",
            "rC0",
            "--pmu",
            "model-intel",
            "--cpu-percent-max",
            "0",
            "-F",
            "99",
        ]);
        let text = args.kernel_command_line();
        let options = Options::parse(&text).expect("our own words");
        assert_eq!(options.events, "{cycles,instructions},rC0");
        assert_eq!((options.pmu, options.cpu_percent_max), (PmuChoice::ModelIntel, 0));
        assert_eq!(options.sampling, Sampling::Frequency(99));
    }

    #[test]
    fn appended_words_count_for_the_time_limit() {
        assert_eq!(args(&["--append", "duration_ns=10000000000"]).limit(), Duration::from_secs(360));
        assert!(args(&["--append", "nonsense"]).limit() > Duration::from_secs(60));
    }

    #[test]
    fn what_the_target_can_not_do_is_refused_with_the_way_out() {
        for words in [["--ring", "direct", "--decommit", "1"], ["--ring-size", "64K", "--decommit", "16"]] {
            let error = args(&words).check().expect_err("no such ring").to_string();
            assert!(error.contains("--ring lazy"), "{error}");
        }
        args(&["--ring-size", "64K", "--decommit", "15"]).check().expect("fine");
        let error = args(&["-e", "cycels"]).check().expect_err("a typing error").to_string();
        assert!(error.starts_with("-e cycels: "), "{error}");
        args(&["-e", "cache-misses", "--cpus", "4"]).check().expect("both are fine");
        let error = args(&["--cpus", "2", "-C", "1-2"]).check().expect_err("no CPU 2").to_string();
        assert!(error.contains("--cpus 3"), "{error}");
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
            ["--cpu-percent-max", "101"],
            ["-e", "a b"],
            ["-w", "a b"],
            ["--icount", "yes"],
            ["--memory", "lots"],
        ] {
            assert!(parse::<Args>(&words).is_err(), "{words:?}");
        }
        assert!(parse::<Args>(&["-c", "7", "-F", "7"]).is_err(), "both at once");
    }
}
