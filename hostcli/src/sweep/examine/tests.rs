//! Tests with a stand-in for the machines: it knows the boundaries, and lands where the masking says.

use super::*;
use crate::capture::writer::{Writer, hello};
use crate::capture::{CaptureError, Stream};
use crate::images;
use crate::sweep::boundary::Class;
use crate::sweep::combination::PairRequest;
use crate::sweep::dispatch::{CASES, Staged};
use crate::sweep::placer::{Chunk, ChunkEnd, PairChunk};
use crate::sweep::trace::{Step, StepKind, Trace};
use nmiprof_wire::{CaseReport, Failure, Fatal, FaultReturn, Frame, NestedReturn, NmiEntry, Pair, Unmask};

/// Ticks from arming the timer to the first boundary.
const OFFSET: u32 = 30;

/// Mutants that take a third NMI.
const SHOW_IN_PAIRS: [&str; 1] = ["save-again"];

/// A machine that lands each NMI where it belongs.
struct StandIn {
    reference: Reference,
    /// Mutants that show; others run without a failure, but `no-gap-check` is unknown.
    caught: &'static [&'static str],
    /// Whether every NMI inside kills it.
    dies_inside: bool,
    /// Whether the storm ends before its time.
    calms_down: bool,
    /// Whether no situation of the dispatcher comes out right.
    breaks_dispatch: bool,
}

impl Default for StandIn {
    fn default() -> Self {
        Self {
            reference: reference(),
            caught: &[],
            dies_inside: false,
            calms_down: false,
            breaks_dispatch: false,
        }
    }
}

impl StandIn {
    fn storm_end(&self) -> ChunkEnd {
        if self.calms_down { ChunkEnd::Died("calm".to_owned()) } else { ChunkEnd::Complete }
    }

    fn placement(&self, ticks: u32) -> Placement {
        let mut open = self.reference.boundaries.all().iter().filter(|one| one.class != Class::Masked);
        let landed = open.find(|one| one.tick + OFFSET >= ticks);
        let last_rip = landed.map_or(0x1000 + u64::from(ticks), |one| one.address);
        Placement { ticks, last_rip, arrivals: 2, runs: 2, nested: 1, failures: 0 }
    }
}

impl Placer for StandIn {
    fn place(&self, _: &Combination, request: &Request<'_>) -> Result<Chunk, PlaceError> {
        if request.mutant == "no-gap-check" {
            let end = ChunkEnd::Refused("no such mutant".to_owned());
            return Ok(Chunk { placements: Vec::new(), end });
        }
        let dies = self.dies_inside || self.caught.contains(&request.mutant);
        let lives = |ticks: &u32| !dies || *ticks < OFFSET;
        let placements: Vec<_> =
            (request.first..=request.last).take_while(lives).map(|ticks| self.placement(ticks)).collect();
        let end = if dies { ChunkEnd::Died("a reset".to_owned()) } else { ChunkEnd::Complete };
        Ok(Chunk { placements, end })
    }

    fn storm(&self, _: &Combination, mutant: &str) -> Result<Chunk, PlaceError> {
        let failures = u32::from(self.caught.contains(&mutant));
        let nested = u16::MAX;
        let report = Placement { nested, failures, ..Placement::default() };
        Ok(Chunk {
            placements: vec![report; STORM_NESTINGS.div_ceil(nested.into()) as usize],
            end: self.storm_end(),
        })
    }

    /// Fails in the first pair of the mutants that show in pairs, and says no more.
    fn pairs(&self, _: &Combination, request: &PairRequest<'_>) -> Result<PairChunk, PlaceError> {
        let failures = u32::from(SHOW_IN_PAIRS.contains(&request.mutant));
        let first = Pair { ticks: request.first, failures, ..Pair::default() };
        let every = (request.first..=request.last)
            .flat_map(|ticks| (request.gaps.0..=request.gaps.1).map(move |gap| Pair { ticks, gap, ..first }));
        Ok(PairChunk { pairs: every.collect(), end: ChunkEnd::Complete })
    }

    fn stage(&self, _: &Combination, staging: &Staging<'_>) -> Result<Staged, PlaceError> {
        let is_broken = self.breaks_dispatch || self.caught.contains(&staging.mutant);
        let failures = if is_broken { Failure::Dispatch.bit() } else { 0 };
        let report = |case: &u16| CaseReport { case: *case, hits: 1, failures, ..CaseReport::default() };
        Ok(Staged { cases: CASES.iter().map(report).collect(), end: ChunkEnd::Complete })
    }
}

/// An NMI with a fault in its middle.
fn reference() -> Reference {
    let step = |address, kind| Step { address, kind };
    let mut steps: Vec<_> = (100..150).map(|address| step(address, StepKind::Retired)).collect();
    steps.push(step(150, StepKind::Faulted));
    steps.push(step(400, StepKind::Iret));
    steps.extend((150..190).map(|address| step(address, StepKind::Retired)));
    steps.push(step(190, StepKind::Iret));
    steps.push(step(7, StepKind::Retired));
    let boundaries = Boundaries::of(&Trace::new(steps), &(100..200), Unmask::Fault);
    Reference { boundaries, windows: Vec::new() }
}

fn combination(entry: NmiEntry) -> Combination {
    Combination {
        entry,
        fault_return: FaultReturn::Iret,
        nested_return: NestedReturn::Iret,
        unmask: Unmask::Early,
    }
}

fn examine(stand_in: &StandIn, entry: NmiEntry) -> Outcome {
    let code = Code::parse(images::SELFTEST).expect("an ELF file");
    let program = Program::at("/nowhere/qemu");
    let examiner = Examiner {
        program: &program,
        image: images::SELFTEST,
        code: &code,
        placer: stand_in,
        mutants_max: usize::MAX,
        scope: Scope::Windows,
    };
    examiner.examine_with(&combination(entry), &stand_in.reference, &|_| {}).expect("no host fails")
}

#[test]
fn a_sound_machine_has_nothing_missed_and_its_mutants_are_told_apart() {
    let caught =
        &["no-window-check", "clear-early", "no-cr2-restore", "window-late", "dispatch-keep-swallow"];
    let stand_in = StandIn { caught, ..StandIn::default() };
    let outcome = examine(&stand_in, NmiEntry::Rostedt);
    assert_eq!((outcome.masked, outcome.reachable, outcome.hit), (52, 42, 42));
    assert!(outcome.missed.is_empty() && outcome.failures == 0 && outcome.complete);
    let mutants = &outcome.mutants;
    let entry_mutants = combination(NmiEntry::Rostedt).mutants().len();
    assert_eq!((mutants.total, mutants.caught), (entry_mutants + 3, 4 + 1));
    for name in ["save-again", "repeat-not-executing", "dispatch-wrong-rip", "dispatch-always-b2b"] {
        assert!(mutants.survived.contains(&name), "{name}");
    }
    assert_eq!(mutants.not_built, ["no-gap-check"]);
    assert!(!outcome.is_as_claimed(), "some mutants were not caught");
    assert_eq!(outcome.situations, 2 * CASES.len() as u64, "with either way to ask the handlers");
}

#[test]
fn a_storm_that_the_sound_entry_does_not_survive_is_a_failure_of_it() {
    let stand_in = StandIn { calms_down: true, ..StandIn::default() };
    let outcome = examine(&stand_in, NmiEntry::Rostedt);
    assert_eq!(outcome.failures_by_kind, [("storm", 1)].into());
}

#[test]
fn a_sound_entry_under_a_broken_dispatcher_is_a_failure() {
    let stand_in = StandIn { breaks_dispatch: true, ..StandIn::default() };
    let outcome = examine(&stand_in, NmiEntry::Tristate);
    assert_eq!(outcome.failures_by_kind["dispatch"], 2 * CASES.len() as u64);
    assert!(!outcome.is_as_claimed());
}

/// The code of an entry in a row, and one instruction elsewhere in place of the handler.
fn reference_of(combination: &Combination, code: &Code) -> Reference {
    let entry = code.entry(&combination.label()).expect("it is built in");
    let call = code.address(&format!("{}_iretq", combination.label())).expect("a label") - 1;
    let retired = |address| Step { address, kind: StepKind::Retired };
    let mut steps: Vec<_> = (entry.start..call).map(retired).collect();
    steps.push(Step { kind: StepKind::Iret, ..retired(7) });
    steps.extend((call..entry.end).map(retired));
    steps.push(retired(8));
    let boundaries = Boundaries::of(&Trace::new(steps), &entry, combination.unmask);
    Reference { boundaries, windows: Vec::new() }
}

#[test]
fn a_mutant_that_survives_the_sweep_is_tried_with_a_third_nmi() {
    let stand_in = StandIn::default();
    let (code, program) = (Code::parse(images::SELFTEST).expect("ELF"), Program::at("/nowhere/qemu"));
    let combination = combination(NmiEntry::Rostedt);
    let reference = reference_of(&combination, &code);
    let mut pairing = Pairing::new(&combination, &reference, &code).expect("the entry has its labels");
    pairing.aligned =
        pairing.demand.rows().into_iter().map(|(position, tick)| (tick + 1, position)).collect();
    assert!(!pairing.rows(Scope::Windows).is_empty());
    let examiner = Examiner {
        program: &program,
        image: images::SELFTEST,
        code: &code,
        placer: &stand_in,
        mutants_max: usize::MAX,
        scope: Scope::Windows,
    };
    let (ticks, deaths_max) = (100, SOUND_DEATHS_MAX);
    let plan = Plan {
        combination: &combination,
        mutant: "",
        ticks,
        ticks_max: ticks,
        deaths_max,
        stops_at_failure: false,
    };
    let mutants = examiner.mutants(&plan, &Sweep::default(), Some(&pairing), &|_| {}).expect("no host fails");
    assert_eq!((mutants.caught, &mutants.caught_by_pairs[..]), (1, &["save-again"][..]));
    assert_eq!(mutants.survived.len(), mutants.total - 2, "all but that and the one that is not built");
    let without = examiner.mutants(&plan, &Sweep::default(), None, &|_| {}).expect("no host fails");
    assert_eq!((without.caught, without.survived.len()), (0, mutants.total - 1), "nothing to try it with");
}

#[test]
fn an_unsound_machine_is_shown_to_fail_and_then_left_alone() {
    let stand_in = StandIn { dies_inside: true, ..StandIn::default() };
    let outcome = examine(&stand_in, NmiEntry::Naive);
    assert_eq!((outcome.failures, outcome.complete), (UNSOUND_DEATHS_MAX as u64, false));
    assert!(!outcome.sound && outcome.is_as_claimed());
}

#[test]
fn an_entry_that_the_image_does_not_hold_has_no_result() {
    let stand_in = StandIn::default();
    let (code, program) = (Code::parse(images::SELFTEST).expect("ELF"), Program::at("/nowhere/qemu"));
    let examiner = Examiner {
        program: &program,
        image: images::SELFTEST,
        code: &code,
        placer: &stand_in,
        mutants_max: 0,
        scope: Scope::Windows,
    };
    let nowhere = Combination { nested_return: NestedReturn::Ret, ..combination(NmiEntry::Naive) };
    let outcome = examiner.examine(&nowhere, &|_| {}).expect("that is the kernel's");
    let why = outcome.no_result.as_deref().expect("a reason");
    assert!(why.starts_with("not built") && why.contains("nmi_naive_early_nret"), "{why}");
}

fn record(frames: &[Frame<'_>]) -> Record {
    let mut writer = Writer::new(&hello()).expect("it fits");
    frames.iter().for_each(|frame| writer.frame(frame).expect("it fits"));
    let mut stream = Stream::new("made up");
    let bytes = writer.end().expect("it fits");
    stream.push(&bytes, |_| Ok::<(), CaptureError>(())).expect("a sound stream");
    stream.finish()
}

#[test]
fn the_reference_is_the_first_nmi_of_the_last_placement() {
    let placement = |arrivals| Frame::Placement(Placement { arrivals, ..Placement::default() });
    let found = first_of_last_placement(70, &record(&[placement(1), placement(1)]));
    assert_eq!(found.expect("two placements"), 69, "the last one of all is the control NMI");
    let none = first_of_last_placement(70, &record(&[placement(0)]));
    assert!(matches!(none, Err(ReferenceError::Arrivals(0))));
    assert!(matches!(first_of_last_placement(70, &record(&[])), Err(ReferenceError::Silent)));
    let fatal = |cause| Fatal { cause, cpu: 0, time: 0, message: "so", file: "", line: 0 };
    let refused = record(&[Frame::Fatal(fatal(FatalCause::Configuration))]);
    assert!(matches!(first_of_last_placement(0, &refused), Err(ReferenceError::Refused(_))));
    let died = record(&[Frame::Fatal(fatal(FatalCause::Invariant))]);
    assert!(matches!(first_of_last_placement(9, &died), Err(ReferenceError::Died(_))));
}
