//! What an NMI costs, in instructions, phase by phase.
//!
//! - [`Scenario`]: what is measured: a flat sample, one that faults, one with a nested NMI, one with its chain;
//! - [`Phase`]: what an instruction is for, by its address: labels of the entry's assembly, and elsewhere the
//!   inlined functions that the debug information names;
//! - [`measure`]: a reference trace of the scenario, split into phases: a [`Cost`];
//! - [`crowd`]: what becomes of it where other CPUs sample, too.
//!
//! Nothing in the kernel counts for this: the main image is stepped through from outside, by QEMU's debug
//! stub. What the kernel itself measures at every start is the independent second way to the same number.

pub mod crowd;
mod phase;
mod scenario;
mod split;

use std::collections::BTreeMap;
use std::io;

use nmiprof_wire::NmiEntry;
use serde_json::{Value, json};

use crate::images::Image;
use crate::machine::{BootError, Program};
use crate::sweep::trace::Seen;
use crate::sweep::tracer::{Arrival, Tracer, TracerError};
use crate::sweep::{Code, CodeError};
use crate::symbols::{self, SymbolError, Symbolizer};
pub use phase::Phase;
pub use scenario::{CHAIN_CALLERS, Scenario};
use split::Splitter;

/// Most candidates that are traced until one shows its scenario.
const CANDIDATES_MAX: usize = 8;

/// What one NMI costs with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The entry strategy.
    pub entry: NmiEntry,
    /// What the NMI does.
    pub scenario: Scenario,
    /// Retired instructions of each phase; a phase without any is missing.
    pub phases: BTreeMap<Phase, u32>,
    /// Retired instructions, from the first of the entry to the last of the exit.
    pub total: u32,
    /// Functions of the instructions in no phase: empty, or the rules of [`Phase`] are out of date.
    pub unattributed: Vec<String>,
}

impl Cost {
    /// Returns the instructions of a phase.
    #[must_use]
    pub fn of(&self, phase: Phase) -> u32 {
        self.phases.get(&phase).copied().unwrap_or_default()
    }

    /// Returns the cost as JSON, with what it is over `naive`.
    #[must_use]
    pub fn to_json(&self, naive: Option<&Self>) -> Value {
        let phases: serde_json::Map<_, _> =
            Phase::ALL.iter().map(|phase| (phase.name().to_owned(), json!(self.of(*phase)))).collect();
        json!({
            "entry": self.entry.name(),
            "scenario": self.scenario.name(),
            "phases": phases,
            "total": self.total,
            "over_naive": naive.map(|naive| i64::from(self.total) - i64::from(naive.total)),
            "unattributed": self.unattributed,
        })
    }
}

/// Measures what an NMI of `scenario` costs with `entry`; nothing where the entry does not survive it.
///
/// # Errors
/// [`CostError`] where the machine can't be followed, or never shows the scenario.
pub fn measure(program: &Program, entry: NmiEntry, scenario: Scenario) -> Result<Option<Cost>, CostError> {
    if !scenario.is_survived_by(entry) {
        return Ok(None);
    }
    follow(program, entry, scenario, 1).map(|(cost, _)| Some(cost))
}

/// Returns the addresses of all instructions of an NMI of `scenario`, of a machine with so many CPUs that all sample.
///
/// # Errors
/// As [`measure`].
pub fn trace(
    program: &Program,
    entry: NmiEntry,
    scenario: Scenario,
    cpus: u16,
) -> Result<Vec<u64>, CostError> {
    let (_, mut stops) = follow(program, entry, scenario, cpus)?;
    // The last one is the interrupted instruction.
    stops.pop();
    Ok(stops.into_iter().map(|stop| stop.rip).collect())
}

/// Follows NMIs until one shows the scenario.
fn follow(
    program: &Program,
    entry: NmiEntry,
    scenario: Scenario,
    cpus: u16,
) -> Result<(Cost, Vec<Seen>), CostError> {
    let code = Code::parse(Image::Main.elf())?;
    let build_id = Image::Main.build_id().ok_or(CostError::NoBuildId)?;
    let image = symbols::Image::find(&build_id, None)?;
    let mut splitter = Splitter::new(&code, Symbolizer::new(&image)?, entry)?;
    let tracer = Tracer {
        program,
        image: Image::Main.elf(),
        code: &code,
        kernel_command_line: &scenario.command_line(entry),
        label: &format!("nmi_{entry}"),
        cpus,
    };
    for candidate in 0..CANDIDATES_MAX {
        let mut passed = 0;
        let mut is_it = |arrival: &mut Arrival<'_>| {
            let fits = scenario.may_be(arrival)?;
            passed += usize::from(fits);
            Ok(fits && passed > candidate)
        };
        let stops = tracer.stops(scenario.nmis(), &mut is_it)?;
        let cost = splitter.split(&stops, entry, scenario);
        if scenario.is_shown_by(&cost) {
            return Ok((cost, stops));
        }
    }
    Err(CostError::NotShown { entry, scenario })
}

/// Why a cost could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// The image can't be read.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The image has no debug information.
    #[error(transparent)]
    Symbols(#[from] SymbolError),
    /// The image can't be told from others.
    #[error("the kernel image has no build-id; build again")]
    NoBuildId,
    /// There is no trace.
    #[error(transparent)]
    Tracer(#[from] TracerError),
    /// A machine did not start or could not be followed.
    #[error(transparent)]
    Boot(Box<BootError>),
    /// A machine with several CPUs failed.
    #[error("the machine with {cpus} CPUs failed: {reason}; report it")]
    Died {
        /// Its CPUs.
        cpus: u16,
        /// How it ended.
        reason: String,
    },
    /// There is no place for temporary files.
    #[error("can't use a temporary file: {0}; make room, or name another directory by TMPDIR")]
    Io(#[from] io::Error),
    /// No NMI did what the scenario is about.
    #[error("with the entry `{entry}` no NMI was seen that shows `{scenario}`; report it")]
    NotShown {
        /// The entry.
        entry: NmiEntry,
        /// The scenario.
        scenario: Scenario,
    },
}
