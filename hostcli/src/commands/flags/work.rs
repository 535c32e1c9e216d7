//! Flags that say what runs on the machine, and how long.

use std::time::Duration;

use nmiprof_wire::Options;

use super::programs::Packed;
use super::values::{cpu_list, seconds, word};
use crate::commands::Error;

/// Wall time that every machine gets.
const LIMIT_BASE: Duration = Duration::from_secs(60);
/// Wall time for each second of target time.
const LIMIT_PER_SECOND: u32 = 30;

/// Flags that say what runs, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkArgs {
    /// Length of the measured part in target time; with --icount on a second is 10^9 instructions [default: 1; with
    /// programs, until all have ended, or 10]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// User program to run: a static ELF file, or example:NAME, and its arguments (repeatable)
    #[arg(long = "program", value_name = "COMMAND")]
    pub programs: Vec<String>,

    /// Ticks of the scheduler per second, where programs run or events take turns
    #[arg(long, value_name = "HZ", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(19..=100_000))]
    pub tick_hz: u32,

    /// Workloads to run in turn [default: all but shared, or none beside programs]
    #[arg(short, long = "workload", value_name = "WORKLOAD", value_delimiter = ',', value_parser = word)]
    pub workloads: Vec<String>,

    /// CPUs that work and sample, as a list such as 0,2-3 [default: all, or CPU 0 beside programs]
    #[arg(short = 'C', long, value_name = "LIST", value_parser = cpu_list)]
    pub cpu_list: Option<String>,

    /// Wall time after which the machine is ended [default: 60 s and 30 s per second of target time]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Arguments of the program, where --program names one
    #[arg(last = true, value_name = "ARG")]
    pub arguments: Vec<String>,
}

impl WorkArgs {
    /// Packs the programs for the kernel.
    ///
    /// # Errors
    /// [`Error::Usage`] says what can't be run, and why.
    pub(in crate::commands) fn pack(&self) -> Result<Packed, Error> {
        Packed::new(&self.programs, &self.arguments)
    }

    /// Returns the workloads as one word.
    pub(in crate::commands) fn workloads_word(&self) -> String {
        self.workloads.join(",")
    }

    /// Returns the CPUs that work and sample; empty for the default.
    pub(in crate::commands) fn cpu_list(&self) -> &str {
        self.cpu_list.as_deref().unwrap_or_default()
    }

    /// Adds what was asked for to `options`; `workloads` is [`WorkArgs::workloads_word`].
    pub(in crate::commands) fn apply<'a>(&'a self, workloads: &'a str, options: Options<'a>) -> Options<'a> {
        let duration_ns = u64::try_from(self.duration().as_nanos()).unwrap_or(u64::MAX);
        Options { workloads, cpu_list: self.cpu_list(), duration_ns, tick_hz: self.tick_hz, ..options }
    }

    /// Returns what runs, for a heading.
    pub(in crate::commands) fn title(&self) -> String {
        let names: Vec<&str> = self.workloads.iter().chain(&self.programs).map(String::as_str).collect();
        if names.is_empty() { "all workloads".to_owned() } else { names.join(", ") }
    }

    /// Returns the wall time after which a machine with this kernel command line is ended.
    pub(in crate::commands) fn limit(&self, command_line: &str) -> Duration {
        // The words of the user may be wrong: the kernel says so, and it says so soon.
        let asked = Options::parse(command_line)
            .map_or(self.duration(), |options| Duration::from_nanos(options.duration_ns));
        self.timeout.unwrap_or_else(|| LIMIT_BASE.saturating_add(asked.saturating_mul(LIMIT_PER_SECOND)))
    }

    /// Returns the length of the measured part: of a run of programs, at most so much.
    fn duration(&self) -> Duration {
        const WORKLOADS: Duration = Duration::from_secs(1);
        const PROGRAMS: Duration = Duration::from_secs(10);
        self.duration.unwrap_or(if self.programs.is_empty() { WORKLOADS } else { PROGRAMS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    fn args(words: &[&str]) -> WorkArgs {
        parse(words).expect("sound flags")
    }

    #[test]
    fn the_time_limit_grows_with_what_the_kernel_is_asked_for() {
        let line = "duration_ns=2000000000";
        assert_eq!(args(&[]).limit(line), Duration::from_secs(120));
        assert_eq!(args(&["--timeout", "0.5"]).limit(line), Duration::from_millis(500));
        assert_eq!(args(&["--duration", "2"]).limit("nonsense"), Duration::from_secs(120));
    }

    #[test]
    fn the_heading_says_what_runs() {
        assert_eq!(args(&[]).title(), "all workloads");
        assert_eq!(
            args(&["-w", "sort,hash", "--program", "example:sieve 5"]).title(),
            "sort, hash, example:sieve 5"
        );
    }

    #[test]
    fn programs_get_more_time_than_workloads() {
        let duration = |words| args(words).apply("", Options::default()).duration_ns;
        assert_eq!((duration(&[]), duration(&["--program", "x"])), (1_000_000_000, 10_000_000_000));
    }
}
