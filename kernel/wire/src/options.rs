//! The kernel command line: typed options, their one text form, and the parser.
//!
//! The host writes [`Options`] with `Display`, QEMU or a boot loader hands the text to the kernel, and
//! the kernel parses it with [`Options::parse`]. Words are `key=value` separated by spaces; a later word
//! overrides an earlier one, so text appended by a user wins. What is unknown is an error that names the
//! word and what would have been understood.

use core::fmt;
use core::str::FromStr;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::choices::{
    Aggregate, Dispatch, FaultReturn, Job, Line, LvtpcUnmask, NestedReturn, NmiEntry, PmuChoice, RingMode,
    SourceChoice, Stress, UnknownPolicy, Unmask,
};
use crate::line::UART_HZ;
use crate::{CpuList, Rate, RateError, Sampling};

/// Everything that a run can be asked for.
///
/// | word | unit | meaning |
/// |---|---|---|
/// | `workload=a,b` | | workloads to run in turn; empty means all but those that run on request only |
/// | `cpu_list=0,2-3` | | CPUs that work and sample; empty means all |
/// | `duration_ns=N` | ns | length of the sampled part |
/// | `period=N` | events | one sample every N events |
/// | `freq=N` | samples/s | instead of `period` |
/// | `chains=on\|off` | | record call chains |
/// | `aggregate=off\|on` | | count samples by where they fell instead of sending each |
/// | `ring=lazy\|sync\|direct` | | how ring pages are mapped |
/// | `ring_bytes=N` | bytes | address space of each CPU's ring: a power of two, at least 4096 |
/// | `decommit=N` | pages | give ring pages back once N of them were drained, so that their next touch is a first one again; 0 keeps them; `ring=lazy` only |
/// | `warn_fault=on\|off` | | report the first page fault inside an NMI |
/// | `reserve_frames=N` | frames | size of each CPU's NMI-safe reserve |
/// | `nmi=NAME` | | NMI entry, one of [`NmiEntry`] |
/// | `fault_return=iret\|ret` | | how faults inside an NMI return |
/// | `nested_return=iret\|ret` | | how a nested NMI returns (`rostedt`, `latched`) |
/// | `unmask=fault\|early` | | when NMIs are unmasked inside an NMI |
/// | `dispatch=walk-all\|stop-early` | | how the dispatcher asks its handlers |
/// | `unknown=count\|stop` | | what an unknown NMI means |
/// | `stress=none\|nest` | | provoke nested NMIs |
/// | `job=record\|stat\|list\|pmu-test` | | what the run is for |
/// | `pmu=auto\|hardware\|timer\|model-intel\|model-amd` | | what counts |
/// | `source=auto\|pmu\|lapic\|hpet\|pit` | | whose interrupt is the NMI of a timer |
/// | `profile=NAME` | | the processor that a model is of; empty means one of its vendor |
/// | `events=a,b,{c,d}` | | what is counted, in perf's language (`nmiprof_pmu::event`); empty means the PMU's first choice |
/// | `lvtpc=late\|early` | | when the handler unmasks the local APIC's entry for performance counters |
/// | `cpu_percent_max=N` | % | of a CPU's time that sampling may take; 0 and 100 mean all of it |
/// | `tick_hz=N` | 1/s | how often the scheduler may take the CPU away, where programs run |
/// | `line=live\|file` | | whether the far end of the serial line can block |
/// | `baud=N` | baud | rate of the serial line; refused where its UART comes no nearer than 2 % |
/// | `uart_hz=N` | Hz | clock of the UART: 16 times its fastest rate |
/// | `rts_cts=on\|off` | | send only while the far end says that it listens (CTS) |
/// | `unsafe_nmi=on\|off` | | allow combinations that are known to be unsound |
/// | `sweep_first=N` `sweep_last=N` | timer ticks | placements of the NMI sweep (`selftest=sweep`, `sweep-redirected`, `pairs`); seed and number of nestings of a storm (`selftest=storm`) |
/// | `third_first=N` `third_last=N` | timer ticks | gaps from the second NMI to the third, for each placement (`selftest=pairs`) |
/// | `mutant=NAME` | | which known defect the NMI entry or the dispatcher has; known to the self-test image only |
/// | `selftest=NAME` | | mutant or trigger; known to the self-test image only |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Options<'a> {
    /// Comma-separated workload names; empty means all.
    pub workloads: &'a str,
    /// CPUs that work and sample, as a [`CpuList`]; empty means all.
    pub cpu_list: &'a str,
    /// Length of the sampled part, in nanoseconds of the kernel's clock.
    pub duration_ns: u64,
    /// How often to sample.
    pub sampling: Sampling,
    /// Whether samples carry call chains.
    pub chains: bool,
    /// Whether samples are counted by where they fell instead of being sent one by one.
    pub aggregate: Aggregate,
    /// How ring pages are mapped.
    pub ring: RingMode,
    /// Address space of each CPU's ring.
    pub ring_bytes: u64,
    /// Ring pages whose frames the drain gives back at once, at least; 0 for never. See
    /// [`Options::decommit_is_possible`].
    pub decommit: u32,
    /// Whether the first page fault inside an NMI is reported.
    pub warn_fault: bool,
    /// Frames in each CPU's NMI-safe reserve.
    pub reserve_frames: u32,
    /// Entry strategy at vector 2.
    pub nmi_entry: NmiEntry,
    /// How faults inside an NMI return.
    pub fault_return: FaultReturn,
    /// How a nested NMI returns into its outer one.
    pub nested_return: NestedReturn,
    /// When NMIs are unmasked inside an NMI.
    pub unmask: Unmask,
    /// How the dispatcher asks its handlers.
    pub dispatch: Dispatch,
    /// What an unknown NMI means.
    pub unknown: UnknownPolicy,
    /// What is provoked.
    pub stress: Stress,
    /// What the run is for.
    pub job: Job,
    /// What counts.
    pub pmu: PmuChoice,
    /// Whose interrupt is the NMI of a timer.
    pub source: SourceChoice,
    /// The processor that a model is of; empty means one of its vendor.
    pub profile: &'a str,
    /// What is counted, in perf's language; empty means the PMU's first choice.
    pub events: &'a str,
    /// When the handler unmasks the local APIC's entry for performance counters.
    pub lvtpc: LvtpcUnmask,
    /// Percentage of a CPU's time that sampling may take; 0 and 100 mean all of it.
    pub cpu_percent_max: u8,
    /// Ticks of the scheduler per second, where programs run.
    pub tick_hz: u32,
    /// What is at the far end of the serial line.
    pub line: Line,
    /// Rate of the serial line. See [`Options::rate`].
    pub baud: u32,
    /// Clock of the line's UART, in hertz.
    pub uart_hz: u32,
    /// Whether the far end can stop the line (RTS/CTS).
    pub rts_cts: bool,
    /// Whether unsound combinations are allowed.
    pub unsafe_nmi: bool,
    /// First placement of the NMI sweep, in timer ticks.
    pub sweep_first: u32,
    /// Last placement of the NMI sweep, in timer ticks.
    pub sweep_last: u32,
    /// First gap from the second NMI to the third, in timer ticks.
    pub third_first: u32,
    /// Last gap from the second NMI to the third, in timer ticks.
    pub third_last: u32,
    /// Known defect of the NMI entry or the dispatcher; empty means none.
    pub mutant: &'a str,
    /// Trigger of the self-test image; empty means none.
    pub selftest: &'a str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            workloads: "",
            cpu_list: "",
            duration_ns: 1_000_000_000,
            sampling: Sampling::Period(100_003),
            chains: false,
            aggregate: Aggregate::Off,
            ring: RingMode::Lazy,
            ring_bytes: 4 << 20,
            decommit: 0,
            warn_fault: false,
            reserve_frames: 256,
            nmi_entry: NmiEntry::Rostedt,
            fault_return: FaultReturn::Iret,
            nested_return: NestedReturn::Iret,
            unmask: Unmask::Fault,
            dispatch: Dispatch::WalkAll,
            unknown: UnknownPolicy::Count,
            stress: Stress::None,
            job: Job::Record,
            pmu: PmuChoice::Auto,
            source: SourceChoice::Auto,
            profile: "",
            events: "",
            lvtpc: LvtpcUnmask::Late,
            cpu_percent_max: 25,
            tick_hz: 1000,
            line: Line::Live,
            baud: Rate::DEFAULT.baud,
            uart_hz: UART_HZ,
            rts_cts: false,
            unsafe_nmi: false,
            sweep_first: 1,
            sweep_last: 1,
            third_first: 0,
            third_last: 0,
            mutant: "",
            selftest: "",
        }
    }
}

/// The smallest ring: one page.
pub const RING_BYTES_MIN: u64 = 4096;

impl<'a> Options<'a> {
    const KEYS: &'static str = "workload, cpu_list, duration_ns, period, freq, chains, aggregate, ring, ring_bytes, \
        decommit, warn_fault, reserve_frames, nmi, fault_return, nested_return, unmask, dispatch, unknown, stress, job, pmu, source, profile, events, lvtpc, cpu_percent_max, tick_hz, line, baud, uart_hz, rts_cts, unsafe_nmi, \
        sweep_first, sweep_last, third_first, third_last, mutant, selftest";

    /// Parses a command line.
    ///
    /// # Errors
    /// [`OptionError`] for the first word that is not understood.
    pub fn parse(text: &'a str) -> Result<Self, OptionError<'a>> {
        let mut options = Self::default();
        for word in text.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                return Err(OptionError { word, expected: Self::KEYS });
            };
            options.set(key, value).map_err(|expected| OptionError { word, expected })?;
        }
        Ok(options)
    }

    /// Tells whether the ring can give back as many pages at once as `decommit` says: a lazy one, some but not
    /// all of its pages.
    #[must_use]
    pub fn decommit_is_possible(&self) -> bool {
        let pages = self.ring_bytes / RING_BYTES_MIN;
        self.decommit == 0 || (matches!(self.ring, RingMode::Lazy) && u64::from(self.decommit) < pages)
    }

    /// Returns the rate of the serial line.
    ///
    /// # Errors
    /// [`RateError`] where its UART can't make it.
    pub fn rate(&self) -> Result<Rate, RateError> {
        Rate::choose(self.baud, self.uart_hz)
    }

    fn set(&mut self, key: &str, value: &'a str) -> Result<(), &'static str> {
        match key {
            "workload" => self.workloads = value,
            "cpu_list" => self.cpu_list = CpuList::parse(value)?.text(),
            "duration_ns" => self.duration_ns = number(value, 1)?,
            "period" => self.sampling = Sampling::Period(number(value, 1)?),
            "freq" => self.sampling = Sampling::Frequency(number(value, 1)?),
            "chains" => self.chains = switch(value)?,
            "aggregate" => self.aggregate = value.parse()?,
            "ring" => self.ring = value.parse()?,
            "ring_bytes" => self.ring_bytes = ring_len(value)?,
            "decommit" => self.decommit = number(value, 0)?,
            "warn_fault" => self.warn_fault = switch(value)?,
            "reserve_frames" => self.reserve_frames = number(value, 1)?,
            "nmi" => self.nmi_entry = value.parse()?,
            "fault_return" => self.fault_return = value.parse()?,
            "nested_return" => self.nested_return = value.parse()?,
            "unmask" => self.unmask = value.parse()?,
            "dispatch" => self.dispatch = value.parse()?,
            "unknown" => self.unknown = value.parse()?,
            "stress" => self.stress = value.parse()?,
            "job" => self.job = value.parse()?,
            "pmu" => self.pmu = value.parse()?,
            "source" => self.source = value.parse()?,
            "profile" => self.profile = value,
            "events" => self.events = value,
            "lvtpc" => self.lvtpc = value.parse()?,
            "cpu_percent_max" => self.cpu_percent_max = percentage(value)?,
            "tick_hz" => self.tick_hz = number(value, 1)?,
            "line" => self.line = value.parse()?,
            "baud" => self.baud = number(value, 1)?,
            "uart_hz" => self.uart_hz = number(value, 1)?,
            "rts_cts" => self.rts_cts = switch(value)?,
            "unsafe_nmi" => self.unsafe_nmi = switch(value)?,
            "sweep_first" => self.sweep_first = number(value, 1)?,
            "sweep_last" => self.sweep_last = number(value, 1)?,
            "third_first" => self.third_first = number(value, 0)?,
            "third_last" => self.third_last = number(value, 0)?,
            "mutant" => self.mutant = value,
            "selftest" => self.selftest = value,
            _ => return Err(Self::KEYS),
        }
        Ok(())
    }
}

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sampling {
            Sampling::Period(events) => write!(f, "period={events}")?,
            Sampling::Frequency(hz) => write!(f, "freq={hz}")?,
            // Said by the job.
            Sampling::Count => {}
        }
        if !self.workloads.is_empty() {
            write!(f, " workload={}", self.workloads)?;
        }
        if !self.cpu_list.is_empty() {
            write!(f, " cpu_list={}", self.cpu_list)?;
        }
        write!(f, " duration_ns={} chains={}", self.duration_ns, on_off(self.chains))?;
        write!(f, " aggregate={}", self.aggregate)?;
        write!(
            f,
            " ring={} ring_bytes={} reserve_frames={}",
            self.ring, self.ring_bytes, self.reserve_frames
        )?;
        write!(f, " decommit={} warn_fault={}", self.decommit, on_off(self.warn_fault))?;
        write!(
            f,
            " nmi={} fault_return={} nested_return={}",
            self.nmi_entry, self.fault_return, self.nested_return
        )?;
        write!(f, " unmask={} dispatch={} unknown={}", self.unmask, self.dispatch, self.unknown)?;
        write!(f, " stress={}", self.stress)?;
        write!(f, " job={} pmu={} lvtpc={}", self.job, self.pmu, self.lvtpc)?;
        if self.source != SourceChoice::Auto {
            write!(f, " source={}", self.source)?;
        }
        if !self.profile.is_empty() {
            write!(f, " profile={}", self.profile)?;
        }
        if !self.events.is_empty() {
            write!(f, " events={}", self.events)?;
        }
        write!(f, " cpu_percent_max={} tick_hz={}", self.cpu_percent_max, self.tick_hz)?;
        write!(f, " line={} unsafe_nmi={}", self.line, on_off(self.unsafe_nmi))?;
        let default = Self::default();
        if (self.baud, self.uart_hz, self.rts_cts) != (default.baud, default.uart_hz, default.rts_cts) {
            let Self { baud, uart_hz, rts_cts, .. } = self;
            write!(f, " baud={baud} uart_hz={uart_hz} rts_cts={}", on_off(*rts_cts))?;
        }
        if (self.sweep_first, self.sweep_last) != (default.sweep_first, default.sweep_last) {
            write!(f, " sweep_first={} sweep_last={}", self.sweep_first, self.sweep_last)?;
        }
        if (self.third_first, self.third_last) != (default.third_first, default.third_last) {
            write!(f, " third_first={} third_last={}", self.third_first, self.third_last)?;
        }
        if !self.mutant.is_empty() {
            write!(f, " mutant={}", self.mutant)?;
        }
        if !self.selftest.is_empty() {
            write!(f, " selftest={}", self.selftest)?;
        }
        Ok(())
    }
}

fn number<N: FromStr + PartialOrd>(value: &str, min: N) -> Result<N, &'static str> {
    value.parse().ok().filter(|n| *n >= min).ok_or("a decimal number within the option's range")
}

/// Parses a percentage.
fn percentage(value: &str) -> Result<u8, &'static str> {
    number(value, 0).ok().filter(|percent| *percent <= 100).ok_or("a percentage, 0 to 100")
}

/// Parses the size of a ring: positions are masked, so it is a power of two of whole pages.
fn ring_len(value: &str) -> Result<u64, &'static str> {
    let bytes: u64 = number(value, RING_BYTES_MIN)?;
    if bytes.is_power_of_two() { Ok(bytes) } else { Err("a power of two, at least 4096") }
}

fn switch(value: &str) -> Result<bool, &'static str> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on, off"),
    }
}

const fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// A word of the command line that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionError<'a> {
    /// The word.
    pub word: &'a str,
    /// What would have been understood in its place.
    pub expected: &'static str,
}

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown kernel option `{}`; expected: {}", self.word, self.expected)
    }
}

impl core::error::Error for OptionError<'_> {}
