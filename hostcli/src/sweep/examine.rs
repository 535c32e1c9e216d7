//! One combination from end to end: reference trace, sweep, pairs, storm, the dispatcher's situations, mutants.

use std::collections::BTreeMap;
use std::io;

use nmiprof_wire::{Dispatch, FatalCause, Placement};

use super::boundary::Boundaries;
use super::code::{Code, CodeError, Window};
use super::combination::{Combination, Request, STORM_NESTINGS};
use super::dispatch::{self, Staging};
use super::fate::{self, ExitWindow};
use super::judge::Judge;
use super::mutant::{Mutant, ShownBy};
use super::outcome::{Mutants, Outcome};
use super::pairs::{Demand, PairJudge, Pairs, PairsPlan, Rows, Scope, align, plan::ranges};
use super::placer::{Chunk, ChunkEnd, PlaceError, Placer};
use super::run::{Plan, Sweep, SweepError};
use super::tracer::{Tracer, TracerError};
use crate::capture::Record;
use crate::machine::{Program, StartError};

/// A second NMI so many ticks after the first never comes: the clock runs while the machine is stepped, but not
/// for a second.
const FAR_TICKS: u32 = 1 << 30;
/// NMIs of a placement whose second one never comes.
const REFERENCE_ARRIVALS: u16 = 1;
/// Ticks beyond the trace that are swept in any case: the way from arming the timer to the first NMI.
const LEAD_TICKS: u32 = 128;
/// A nested NMI and the run that it causes take at most this many times the trace.
const STRETCH_MAX: u32 = 4;
/// Deaths after which a sound combination has been shown not to be.
const SOUND_DEATHS_MAX: usize = 20;
/// Deaths after which an unsound combination has been shown to be so.
const UNSOUND_DEATHS_MAX: usize = 2;

/// Examines combinations.
#[derive(Clone, Copy)]
pub struct Examiner<'a> {
    /// The QEMU for reference traces.
    pub program: &'a Program,
    /// The image.
    pub image: &'static [u8],
    /// Its code.
    pub code: &'a Code,
    /// What does the placements.
    pub placer: &'a dyn Placer,
    /// Most mutants of each combination.
    pub mutants_max: usize,
    /// Which pairs of a sound combination are done.
    pub scope: Scope,
}

/// What a combination does without a second NMI.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Its boundaries.
    pub boundaries: Boundaries,
    /// Labelled stretches of its entry.
    pub windows: Vec<Window>,
}

impl Examiner<'_> {
    /// Examines a combination. `on_progress` is told numbers of placements that were done.
    ///
    /// # Errors
    /// [`ExamineError`] where the host fails. What the kernel does wrong is in the outcome.
    pub fn examine(
        &self,
        combination: &Combination,
        on_progress: &dyn Fn(u64),
    ) -> Result<Outcome, ExamineError> {
        match self.reference(combination) {
            Ok(reference) => self.examine_with(combination, &reference, on_progress),
            Err(ReferenceError::Tracer(TracerError::Start(error))) => Err(error.into()),
            Err(ReferenceError::Tracer(TracerError::Io(error))) => Err(error.into()),
            Err(error) => Ok(self.without_result(combination, error.to_string())),
        }
    }

    /// Takes the reference trace: the first NMI of the second of two placements, so that what a machine
    /// does only once is not in it.
    ///
    /// # Errors
    /// [`ReferenceError`] where there is none.
    pub fn reference(&self, combination: &Combination) -> Result<Reference, ReferenceError> {
        let label = combination.label();
        let windows = self.code.windows(&label)?;
        let request = Request { mutant: "", first: FAR_TICKS, last: FAR_TICKS + 1 };
        let tracer = Tracer {
            program: self.program,
            image: self.image,
            code: self.code,
            kernel_command_line: &combination.command_line(&request),
            label: &label,
            cpus: 1,
        };
        let (arrivals, record) = tracer.count()?;
        let traced = tracer.trace(first_of_last_placement(arrivals, &record)?)?;
        let entry = self.code.entry(&label)?;
        Ok(Reference { boundaries: Boundaries::of(&traced.trace, &entry, combination.unmask), windows })
    }

    /// Sweeps a combination whose reference is known.
    ///
    /// # Errors
    /// [`ExamineError`] where the host fails.
    pub fn examine_with(
        &self,
        combination: &Combination,
        reference: &Reference,
        on_progress: &dyn Fn(u64),
    ) -> Result<Outcome, ExamineError> {
        let judge = Judge::new(&reference.boundaries);
        let has_returned = |placements: &[Placement]| judge.has_returned(placements);
        let plan = plan(combination, &reference.boundaries);
        let sweep = match plan.sweep(self.placer, &has_returned, on_progress) {
            Ok(sweep) => sweep,
            Err(SweepError::Refused(why)) => return Ok(self.without_result(combination, why)),
            Err(SweepError::Place(error)) => return Err(error.into()),
        };
        let mut outcome = Outcome::new(combination);
        outcome.take_boundaries(&reference.boundaries, &reference.windows);
        outcome.take_judgement(&judge.judge(&sweep), self.code);
        let exit = ExitWindow::of(combination, &reference.windows);
        outcome.sites = fate::sites(&reference.boundaries, &exit, &sweep);
        outcome.complete = sweep.is_whole && has_returned(&sweep.placements);
        if self.mutants_of(combination).any(|mutant| mutant.shown_by == ShownBy::Storm) {
            outcome.take_storm(storm_failures(&self.placer.storm(combination, "")?));
        }
        let mut pairing = Pairing::new(combination, reference, self.code);
        if let (Some(pairing), true) = (&mut pairing, combination.is_sound()) {
            match self.pairs(pairing, on_progress) {
                Ok(pairs) => outcome.pairs = pairs,
                Err(SweepError::Refused(why)) => return Ok(self.without_result(combination, why)),
                Err(SweepError::Place(error)) => return Err(error.into()),
            }
        }
        outcome.mutants = self.mutants(&plan, &sweep, pairing.as_ref(), on_progress)?;
        self.stage(combination, &mut outcome)?;
        Ok(outcome)
    }

    /// Does the pairs of a combination.
    fn pairs(&self, pairing: &mut Pairing<'_>, on_progress: &dyn Fn(u64)) -> Result<Pairs, SweepError> {
        if self.scope == Scope::Nothing {
            return Ok(Pairs { complete: true, ..Pairs::default() });
        }
        let mut tried = Vec::new();
        let trial = pairing.trial().run(&[pairing.all_rows()], self.placer, &mut |pairs| {
            tried.extend_from_slice(pairs);
        })?;
        pairing.aligned = align(&tried, &pairing.demand);
        let rows = pairing.rows(self.scope);
        let ranges = ranges(rows.keys().copied());
        let mut judge = PairJudge::new(&pairing.demand, self.scope, rows);
        tried.retain(|pair| pair.failures != 0);
        judge.take(&tried);
        let mut end = pairing.plan().run(&ranges, self.placer, &mut |pairs| {
            judge.take(pairs);
            on_progress(pairs.len() as u64);
        })?;
        end.deaths.extend(trial.deaths);
        Ok(Pairs::new(&judge.finish(&end), &pairing.demand, self.code))
    }

    /// Stages the dispatcher's situations where the entry is sound, and tries the dispatcher's known defects.
    fn stage(&self, combination: &Combination, outcome: &mut Outcome) -> Result<(), PlaceError> {
        if !combination.is_sound() {
            return Ok(());
        }
        for &dispatch in Dispatch::ALL {
            let staged = self.placer.stage(combination, &Staging { dispatch, mutant: "" })?;
            outcome.take_staged(dispatch, &staged);
        }
        for mutant in self.dispatch_mutants(combination) {
            let staging = Staging { dispatch: Dispatch::WalkAll, mutant };
            let staged = self.placer.stage(combination, &staging)?;
            outcome.mutants.total += 1;
            match staged.end {
                ChunkEnd::Refused(_) => outcome.mutants.not_built.push(mutant),
                _ if staged.failures().is_empty() => outcome.mutants.survived.push(mutant),
                _ => outcome.mutants.caught += 1,
            }
        }
        Ok(())
    }

    fn dispatch_mutants(&self, combination: &Combination) -> impl Iterator<Item = &'static str> {
        dispatch::mutants(combination).iter().copied().take(self.mutants_max)
    }

    /// Says why there is no result: nothing was swept, and no mutant was caught.
    fn without_result(&self, combination: &Combination, why: String) -> Outcome {
        let total = self.mutants_of(combination).count() + self.dispatch_mutants(combination).count();
        let mutants = Mutants { total, ..Mutants::default() };
        Outcome { no_result: Some(why), mutants, ..Outcome::new(combination) }
    }

    fn mutants_of(&self, combination: &Combination) -> impl Iterator<Item = &'static Mutant> {
        combination.mutants().iter().take(self.mutants_max)
    }

    /// Does the sweep again over the same placements, and the pairs of the windows if that does not show it, or
    /// the storm, with each known defect.
    fn mutants(
        &self,
        plan: &Plan<'_>,
        sweep: &Sweep,
        pairing: Option<&Pairing<'_>>,
        on_progress: &dyn Fn(u64),
    ) -> Result<Mutants, ExamineError> {
        let last = sweep.placements.last().map_or(plan.ticks, |placement| placement.ticks);
        let mut mutants = Mutants::default();
        for mutant in self.mutants_of(plan.combination) {
            mutants.total += 1;
            let trial = match mutant.shown_by {
                ShownBy::Sweep => self.sweep_mutant(plan, last, mutant.name, on_progress)?,
                ShownBy::Storm => Trial::of_storm(&self.placer.storm(plan.combination, mutant.name)?),
            };
            match trial {
                Trial::Caught => mutants.caught += 1,
                Trial::Survived if self.pairs_show(mutant.name, pairing, on_progress)? => {
                    mutants.caught += 1;
                    mutants.caught_by_pairs.push(mutant.name);
                }
                Trial::Survived => mutants.survived.push(mutant.name),
                Trial::NotBuilt => mutants.not_built.push(mutant.name),
            }
        }
        Ok(mutants)
    }

    fn sweep_mutant(
        &self,
        plan: &Plan<'_>,
        last: u32,
        mutant: &str,
        on_progress: &dyn Fn(u64),
    ) -> Result<Trial, PlaceError> {
        let plan =
            Plan { mutant, ticks: last, ticks_max: last, deaths_max: 1, stops_at_failure: true, ..*plan };
        match plan.sweep(self.placer, &|_| true, on_progress) {
            Ok(sweep) if sweep.has_failed() => Ok(Trial::Caught),
            Ok(_) => Ok(Trial::Survived),
            Err(SweepError::Refused(_)) => Ok(Trial::NotBuilt),
            Err(SweepError::Place(error)) => Err(error),
        }
    }

    /// Tells whether a known defect shows in the pairs of the windows.
    fn pairs_show(
        &self,
        mutant: &str,
        pairing: Option<&Pairing<'_>>,
        on_progress: &dyn Fn(u64),
    ) -> Result<bool, ExamineError> {
        let Some(pairing) = pairing else { return Ok(false) };
        let plan = PairsPlan { mutant, deaths_max: 1, stops_at_failure: true, ..pairing.plan() };
        let ranges = ranges(pairing.rows(Scope::Windows).into_keys());
        match plan.run(&ranges, self.placer, &mut |pairs| on_progress(pairs.len() as u64)) {
            Ok(end) => Ok(end.has_failed),
            Err(SweepError::Refused(_)) => Ok(false),
            Err(SweepError::Place(error)) => Err(error.into()),
        }
    }
}

/// What came of one mutant.
enum Trial {
    /// It failed.
    Caught,
    /// It did not.
    Survived,
    /// The kernel does not know it.
    NotBuilt,
}

impl Trial {
    fn of_storm(storm: &Chunk) -> Self {
        match storm.end {
            ChunkEnd::Refused(_) => Self::NotBuilt,
            _ if storm_failures(storm) > 0 => Self::Caught,
            _ => Self::Survived,
        }
    }
}

/// Counts what failed in a storm: reports with failures, and the storm itself where it ended too early.
fn storm_failures(storm: &Chunk) -> u64 {
    let failed = storm.placements.iter().filter(|report| report.failures != 0).count() as u64;
    let nestings: u64 = storm.placements.iter().map(|report| u64::from(report.nested)).sum();
    let is_whole = storm.end == ChunkEnd::Complete && nestings >= u64::from(STORM_NESTINGS);
    failed + u64::from(!is_whole)
}

/// What the pairs of a combination are made from.
struct Pairing<'a> {
    combination: &'a Combination,
    demand: Demand<'a>,
    /// Ticks of the reference, and those that nested NMIs and their runs take at most.
    ticks: u32,
    gap_max: u32,
    /// The position at which the second NMI lands, by its ticks.
    aligned: BTreeMap<u32, usize>,
}

impl<'a> Pairing<'a> {
    fn new(combination: &'a Combination, reference: &'a Reference, code: &Code) -> Option<Self> {
        let demand = Demand::of(combination, &reference.boundaries, code)?;
        let ticks = reference.boundaries.ticks().saturating_add(LEAD_TICKS);
        let gap_max = ticks.saturating_mul(STRETCH_MAX);
        Some(Self { combination, demand, ticks, gap_max, aligned: BTreeMap::new() })
    }

    /// Returns every number of ticks that may put the second NMI on a boundary.
    const fn all_rows(&self) -> Rows {
        Rows { first: 1, last: self.ticks }
    }

    /// Returns the rows to be done: ticks of the second NMI, and the position where it lands.
    fn rows(&self, scope: Scope) -> BTreeMap<u32, usize> {
        let is_chosen = |position: &usize| scope.holds(self.demand.side(*position));
        let all = self.aligned.iter().filter(|(_, position)| is_chosen(position));
        all.map(|(ticks, position)| (*ticks, *position)).collect()
    }

    fn plan(&self) -> PairsPlan<'_> {
        PairsPlan {
            combination: self.combination,
            mutant: "",
            gap_first: 0,
            gap_max: self.gap_max,
            return_address: self.demand.return_address(),
            deaths_max: SOUND_DEATHS_MAX,
            stops_at_failure: false,
        }
    }

    /// Each row with one third NMI only, well after everything.
    fn trial(&self) -> PairsPlan<'_> {
        PairsPlan { gap_first: self.gap_max, ..self.plan() }
    }
}

fn plan<'a>(combination: &'a Combination, boundaries: &Boundaries) -> Plan<'a> {
    let ticks = boundaries.ticks().saturating_add(LEAD_TICKS);
    let deaths_max = if combination.is_sound() { SOUND_DEATHS_MAX } else { UNSOUND_DEATHS_MAX };
    let ticks_max = ticks.saturating_mul(STRETCH_MAX);
    Plan { combination, mutant: "", ticks, ticks_max, deaths_max, stops_at_failure: false }
}

/// Finds the number of the arrival at which the last placement began.
fn first_of_last_placement(arrivals: u64, record: &Record) -> Result<u64, ReferenceError> {
    if let Some(fatal) = record.messages().fatal() {
        let message = fatal.message.clone();
        return Err(match fatal.cause {
            FatalCause::Configuration => ReferenceError::Refused(message),
            _ => ReferenceError::Died(message),
        });
    }
    let last = record.messages().placements().last().ok_or(ReferenceError::Silent)?;
    if last.arrivals < REFERENCE_ARRIVALS {
        return Err(ReferenceError::Arrivals(last.arrivals));
    }
    // The placement's own NMIs come before the control NMI that checks NMI-live.
    arrivals.checked_sub(u64::from(last.arrivals)).ok_or(ReferenceError::Silent)
}

/// Why a combination has no reference.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The image has no such entry.
    #[error("not built: {0}")]
    Code(#[from] CodeError),
    /// There is no trace.
    #[error(transparent)]
    Tracer(#[from] TracerError),
    /// The kernel refuses the combination.
    #[error("not built: the kernel refuses it: {0}")]
    Refused(String),
    /// The kernel gave up although no NMI came into the way of another.
    #[error("the kernel gave up in the reference run: {0}; report it")]
    Died(String),
    /// No placement was reported.
    #[error("the reference run reports no placement; the image has no sweep, so build again")]
    Silent,
    /// The far second NMI was not the second one.
    #[error("the reference run reports {0} NMIs where there are two; report it")]
    Arrivals(u16),
}

/// Why a combination could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The image can't be read.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The machine of the reference trace did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There was no machine to judge by.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is no place for temporary files.
    #[error("can't use a temporary file: {0}; make room, or name another directory by TMPDIR")]
    Io(#[from] io::Error),
    /// A thread that examines could not report.
    #[error("a thread of the self-test ended early; report it")]
    Thread,
}

#[cfg(test)]
mod tests;
