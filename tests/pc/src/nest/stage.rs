//! A machine at the first instruction of an NMI: one experiment after another begins there.

use super::interrupted::{Interrupted, dress, read};
use super::touch::{Touch, Words};
use super::{Broken, INSTRUCTIONS_MAX, PAGE_FAULT, Plan, RUN, gate};
use crate::engine::CpuState;
use crate::harness::{Run, finish};
use crate::machine::{Machine, Stopped};
use crate::snapshot::Snapshot;

const DR7_ENABLED: u64 = 0xff;
/// CR2 in the handler, plus the number of the run.
const CR2_IN_HANDLER: u64 = 0x6666_0000_0000;

/// A machine at the first instruction of an NMI, and what is known of it.
#[derive(Debug)]
pub struct Stage<'a> {
    machine: &'a mut Machine,
    snapshot: Snapshot,
    /// The same before anything was dressed.
    plain: Snapshot,
    expected: Interrupted,
    /// Address of the entry's counts: arrivals, nested ones, re-runs.
    counts: u64,
    counts_before: [u64; 3],
    run: u64,
    /// The NMI alone.
    trace: Trace,
    /// What its first touch of a page has left.
    touch: Option<Touch>,
    nested: u64,
}

/// An NMI that nothing interrupts, from the stage to its return.
#[derive(Debug, Default)]
struct Trace {
    /// Address of each instruction, in order.
    addresses: Vec<u64>,
    /// The places at which NMIs are not masked.
    unmasked: Vec<u64>,
    /// The first instruction of a page fault's handler, and the address that was accessed.
    fault: Option<(u64, u64)>,
}

/// What is known while an experiment is on.
#[derive(Clone, Copy, Debug)]
struct Play {
    /// Progress and NMIs before it.
    progress_before: u64,
    taken_before: u64,
    runs: u64,
    /// NMIs taken when the last run started.
    taken_at_run: u64,
    /// Where the present run returns to, and RSP then.
    inside: Option<(u64, u64)>,
}

impl<'a> Stage<'a> {
    /// Dresses what the NMI has interrupted at whose first instruction the machine is, and follows that NMI alone.
    pub(super) fn new(machine: &'a mut Machine) -> Self {
        let plain = machine.snapshot();
        let expected = dress(machine);
        let counts = machine.registers().general[CpuState::RSP] + 5 * 8;
        let counts_before = read_counts(machine, counts);
        let (snapshot, run) = (machine.snapshot(), machine.symbol(RUN).start);
        let (trace, touch, nested) = (Trace::default(), None, 0);
        let mut stage =
            Self { machine, snapshot, plain, expected, counts, counts_before, run, trace, touch, nested };
        stage.read_trace();
        stage
    }

    /// Returns the address of each instruction from the stage to the return.
    #[must_use]
    pub fn trace(&self) -> &[u64] {
        &self.trace.addresses
    }

    /// Returns the places at which NMIs are not masked.
    #[must_use]
    pub fn unmasked(&self) -> &[u64] {
        &self.trace.unmasked
    }

    /// Returns the place of the first instruction of the page fault's handler.
    #[must_use]
    pub fn fault(&self) -> Option<u64> {
        self.trace.fault.map(|(place, _)| place)
    }

    /// Returns how many NMIs were nested in all experiments so far.
    #[must_use]
    pub const fn nested(&self) -> u64 {
        self.nested
    }

    /// Returns the places at which the next instruction is one of the entry itself, and not of Rust code.
    #[must_use]
    pub fn places_in_assembly(&self) -> Vec<u64> {
        let kernel = self.machine.kernel();
        let functions: Vec<_> = kernel
            .symbols()
            .map(|(_, range)| range.clone())
            .filter(|range| range.end - range.start > 1)
            .collect();
        let is_assembly = |address: &u64| !functions.iter().any(|range| range.contains(address));
        (0..).zip(self.trace()).filter(|(_, address)| is_assembly(address)).map(|(place, _)| place).collect()
    }

    /// Does an experiment.
    ///
    /// # Errors
    /// What did not hold.
    pub fn play(&mut self, plan: Plan) -> Result<(), Broken> {
        let mut play = self.begin();
        if !self.advance(&mut play, plan.second)? {
            self.machine.inject_nmis_in_a_row(plan.more);
            let has_returned = match plan.third {
                Some(gap) => self.advance(&mut play, plan.second + gap)?,
                None => false,
            };
            if plan.third.is_some() && !has_returned {
                self.machine.inject_nmi();
            }
            if !has_returned && !self.advance(&mut play, INSTRUCTIONS_MAX)? {
                return Err(Broken::Hangs);
            }
        }
        self.judge(&play)?;
        self.start_again(&mut play)
    }

    /// Lets the whole run come to its end, with a second NMI at this place; nothing is dressed.
    ///
    /// # Panics
    /// If the run ends before that place.
    pub fn finish(&mut self, place: u64) -> Run {
        self.machine.go_back(&self.plain);
        let end = progress(self.machine) + place;
        while progress(self.machine) < end {
            let left = end - progress(self.machine);
            assert_eq!(self.machine.run(left), Stopped::Limit, "it goes on");
        }
        let mut machine = self.machine.fork();
        machine.inject_nmi();
        finish(machine)
    }

    /// Follows the first NMI alone, instruction by instruction, and checks that nothing is wrong with it or with the
    /// checks; an entry whose defect shows even so is found at the first experiment.
    fn read_trace(&mut self) {
        let page_fault = gate::target(self.machine, PAGE_FAULT);
        let mut play = self.begin();
        let mut trace = Trace::default();
        loop {
            let (place, state) = (trace.addresses.len() as u64, self.machine.registers());
            assert!(place < INSTRUCTIONS_MAX, "a single NMI returns");
            if state.rip == page_fault {
                trace.fault = Some((place, state.control[2]));
            }
            trace.addresses.push(state.rip);
            if !self.machine.watch().nmi.is_masked() {
                trace.unmasked.push(place);
            }
            if self.advance(&mut play, place + 1) != Ok(false) {
                break;
            }
        }
        self.trace = trace;
    }

    /// Finds out what the first NMI alone leaves in the ring.
    pub(super) fn read_touch(&mut self) {
        const PAGE: u64 = !0xfff;
        let (_, address) = self.trace.fault.expect("a page fault in this NMI");
        let mut play = self.begin();
        let before = Words::read(self.machine, address & PAGE);
        let returned = self.advance(&mut play, INSTRUCTIONS_MAX);
        assert_eq!(returned, Ok(true), "a single NMI returns");
        let after = Words::read(self.machine, address & PAGE);
        self.touch = Some(Touch::new(address & PAGE, before, after, self.expected.rip));
    }

    fn begin(&mut self) -> Play {
        self.machine.go_back(&self.snapshot);
        let taken = self.machine.watch().nmi.taken;
        Play {
            progress_before: progress(self.machine),
            // The NMI at whose first instruction the CPU is.
            taken_before: taken - 1,
            runs: 0,
            taken_at_run: taken - 1,
            inside: None,
        }
    }

    /// Runs until so many instructions have passed since the stage; tells whether the interrupted code was reached
    /// before.
    fn advance(&mut self, play: &mut Play, place: u64) -> Result<bool, Broken> {
        loop {
            let passed = progress(self.machine) - play.progress_before;
            if passed >= place {
                return Ok(false);
            }
            let mut labels = vec![self.expected.rip, self.run];
            labels.extend(play.inside.map(|(address, _)| address));
            // A limit may fall on a label, which the next run then passes.
            match self.machine.run_to_any(&labels, place - passed) {
                Stopped::Limit | Stopped::Label if self.look(play)? => return Ok(true),
                Stopped::Limit | Stopped::Label => {}
                _ => return Err(Broken::Died),
            }
        }
    }

    /// Looks at where the run has stopped; tells whether it is in the interrupted code.
    fn look(&mut self, play: &mut Play) -> Result<bool, Broken> {
        let state = self.machine.registers();
        let sp = state.general[CpuState::RSP];
        if state.rip == self.run {
            self.enter_run(play, sp)?;
        } else if play.inside == Some((state.rip, sp)) {
            play.inside = None;
        }
        // Elsewhere the instruction may be executed by the handler's own use of that code.
        Ok(state.rip == self.expected.rip && sp == self.expected.general[CpuState::RSP])
    }

    fn enter_run(&mut self, play: &mut Play, sp: u64) -> Result<(), Broken> {
        if play.inside.is_some() {
            return Err(Broken::Once);
        }
        let taken = self.machine.watch().nmi.taken;
        if play.runs + 1 > taken - play.taken_before {
            return Err(Broken::Doubled);
        }
        if self.machine.debug_control() & DR7_ENABLED != 0 {
            return Err(Broken::Breakpoints);
        }
        play.runs += 1;
        play.taken_at_run = taken;
        play.inside = self.machine.read_word(sp).map(|address| (address, sp + 8));
        self.machine.set_fault_address(CR2_IN_HANDLER + play.runs);
        Ok(())
    }

    /// Lets one more NMI arrive in the interrupted code: whatever state the entry keeps has to be free.
    fn start_again(&mut self, play: &mut Play) -> Result<(), Broken> {
        /// More instructions than there are from an NMI to its run.
        const ENTRY_INSTRUCTIONS_MAX: u64 = 100;
        let (runs, passed) = (play.runs, progress(self.machine) - play.progress_before);
        self.machine.inject_nmi();
        let has_returned = self.advance(play, passed + ENTRY_INSTRUCTIONS_MAX)?;
        if has_returned || play.runs == runs { Err(Broken::Deaf) } else { Ok(()) }
    }

    /// Judges what the interrupted code has got.
    fn judge(&mut self, play: &Play) -> Result<(), Broken> {
        let got = read(self.machine);
        let expected = &self.expected;
        let [arrivals, nested, reruns] = {
            let now = read_counts(self.machine, self.counts);
            [0, 1, 2].map(|index| now[index].wrapping_sub(self.counts_before[index]))
        };
        self.nested += nested;
        let touch = self.touch.as_ref().map_or(Ok(()), |touch| {
            let machine = &mut *self.machine;
            touch.judge(|address| machine.read_word(address))
        });
        let nmi = &self.machine.watch().nmi;
        let taken = nmi.taken - play.taken_before;
        let holds = [
            (Broken::Registers, got.general == expected.general && got.rip == expected.rip),
            (Broken::Flags, got.rflags == expected.rflags),
            (Broken::Stack, got.stack == expected.stack),
            (Broken::Cr2, got.cr2 == expected.cr2),
            (Broken::Dr7, got.dr7 == expected.dr7),
            (Broken::Masked, !nmi.is_masked() && !nmi.is_pending()),
            (Broken::Lost, play.taken_at_run == nmi.taken),
            (Broken::Counts, arrivals == taken && play.runs + nested == arrivals + reruns),
        ];
        holds.into_iter().find(|(_, holds)| !holds).map_or(touch, |(broken, _)| Err(broken))
    }
}

/// Returns how many instructions have retired or raised an exception.
fn progress(machine: &Machine) -> u64 {
    machine.instructions() + machine.watch().exceptions
}

fn read_counts(machine: &mut Machine, counts: u64) -> [u64; 3] {
    [0, 8, 16].map(|offset| machine.read_word(counts + offset).expect("the top of the NMI stack"))
}
