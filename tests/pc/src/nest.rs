//! One NMI, and further ones inside it: the experiment of the window sweeps.
//!
//! A [`Stage`] is a machine at the first instruction of an NMI. What that NMI has interrupted is dressed from outside:
//! every register has a pattern of its own, flags are set that a handler needs clear, breakpoints are on in DR7, CR2
//! has an address. Then [`Stage::play`] goes back to there, lets further NMIs arrive where a [`Plan`] says, and watches
//! from outside until the interrupted code goes on. Nothing in the guest takes part, so the same code of the entry is
//! judged that samples in earnest:
//!
//! - the handler is not entered while it runs, nor with breakpoints on;
//! - every NMI that is taken has a run that starts after it, and there are no more runs than NMIs;
//! - all registers, flags, CR2, DR7, and the words above RSP are the interrupted ones, and NMIs are not masked;
//! - the entry's own counts add up to what was seen;
//! - one more NMI in the interrupted code has a run at once.
//!
//! Places are numbers of retired instructions since the stage: they do not depend on where the run was stopped on the
//! way. At each run CR2 is overwritten, as a page fault of the handler would do.

use nmiprof::images::Image;
use nmiprof_pmu::profiles::Profile;

use crate::config::Config;
use crate::cpu::nmi::IretFault;
use crate::engine::CpuState;
use crate::harness::{LIMIT, config};
use crate::machine::{Machine, Stopped};
use crate::snapshot::Snapshot;

const WORKLOAD: &str = "nmiprof_kernel::workloads::sort::insertion_sort";
const RUN: &str = "nmiprof_kernel::nmi::run";
/// Going back is cheaper the less memory there is to describe.
const MEMORY_MIB: usize = 24;
/// More instructions than a nest of four NMIs has.
const INSTRUCTIONS_MAX: u64 = 40_000;
/// Words of the interrupted stack that are compared.
const STACK_WORDS: u64 = 32;
/// CF, AF, AC, DF, OF and ID: flags that an NMI may interrupt and a handler must not keep or lose.
const FLAGS: u64 = 1 | 1 << 4 | 1 << 10 | 1 << 11 | 1 << 18 | 1 << 21;
/// RF can't be given back by `popfq`, and nothing here can see it.
const RESUME_FLAG: u64 = 1 << 16;
/// Breakpoint 0, locally, on accesses to I/O port 0, which nothing does.
const DR7: u64 = 1 << 17 | 1 << 10 | 1;
const DR7_ENABLED: u64 = 0xff;
const CR2: u64 = 0x1234_5678_9000;
/// CR2 in the handler, plus the number of the run.
const CR2_IN_HANDLER: u64 = 0x6666_0000_0000;
const RBP: usize = 5;
const NMI: u64 = 2;
const GENERAL_PROTECTION: u64 = 13;

/// What the interrupted code has to find again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// General registers, in the order of their numbers.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS but for RF.
    pub rflags: u64,
    /// CR2.
    pub cr2: u64,
    /// DR7.
    pub dr7: u64,
    /// Words from RSP upwards.
    pub stack: Vec<Option<u64>>,
}

/// What did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// The machine ended: a report of the kernel, a triple fault, a halt.
    Died,
    /// The interrupted code was not reached.
    Hangs,
    /// The handler was entered while it was running.
    Once,
    /// An NMI was taken, and no run came after it.
    Lost,
    /// More runs than NMIs.
    Doubled,
    /// Breakpoints were on in the handler.
    Breakpoints,
    /// RIP or another register, RSP included.
    Registers,
    /// RFLAGS.
    Flags,
    /// The interrupted stack.
    Stack,
    /// CR2.
    Cr2,
    /// DR7.
    Dr7,
    /// NMIs were masked in the interrupted code.
    Masked,
    /// The entry's counts of arrivals, nested ones and re-runs contradict what was seen.
    Counts,
    /// An NMI afterwards has no run.
    Deaf,
}

/// When further NMIs arrive, in instructions after the first instruction of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The second one.
    pub second: u64,
    /// NMIs that follow it in a row, each right after the one before was taken.
    pub more: u32,
    /// One more, so many instructions after the second one.
    pub third: Option<u64>,
}

/// A machine that samples a workload, on which stages are set for one NMI entry after the other.
#[derive(Debug)]
pub struct Bench {
    machine: Machine,
    snapshot: Snapshot,
    name: String,
}

/// A machine at the first instruction of an NMI, and what is known of it.
#[derive(Debug)]
pub struct Stage<'a> {
    machine: &'a mut Machine,
    snapshot: Snapshot,
    expected: Interrupted,
    /// Address of the entry's counts: arrivals, nested ones, re-runs.
    counts: u64,
    counts_before: [u64; 3],
    run: u64,
    /// Address of each instruction up to the return, in order.
    trace: Vec<u64>,
}

/// What is known while an experiment is on.
#[derive(Clone, Copy, Debug)]
struct Play {
    /// Instructions and NMIs before it.
    instructions_before: u64,
    taken_before: u64,
    runs: u64,
    /// NMIs taken when the last run started.
    taken_at_run: u64,
    /// Where the present run returns to, and RSP then.
    inside: Option<(u64, u64)>,
}

impl Bench {
    /// Boots a machine, with words that choose the NMI entry, and runs it to its workload.
    ///
    /// # Panics
    /// If it does not come there.
    #[must_use]
    pub fn boot(profile: &'static Profile, image: Image, words: &str) -> Self {
        let base = "duration_ns=3000000 period=5003 workload=sort events=instructions unsafe_nmi=on";
        let config = config(profile, &format!("{base} {words}"));
        let mut machine = Machine::new(&Config { image, memory_mib: MEMORY_MIB, ..config });
        assert_eq!(machine.run_to_symbol(WORKLOAD, LIMIT), Stopped::Label, "{words}");
        let snapshot = machine.snapshot();
        Self { machine, snapshot, name: words.to_owned() }
    }

    /// Returns the machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Sets a stage for the entry with this label, which vector 2 is pointed to from now on.
    ///
    /// It has to be one of the form that was booted: what it keeps on the NMI stack is the same.
    ///
    /// # Panics
    /// If there is no such entry, or a single NMI does not return from it.
    pub fn stage(&mut self, entry: &str, iret_fault: IretFault) -> Stage<'_> {
        let machine = &mut self.machine;
        machine.go_back(&self.snapshot);
        machine.watch_mut().iret_fault = iret_fault;
        let address = machine.symbol(entry).start;
        set_gate(machine, NMI, address);
        if let Some(fault) = machine.kernel().symbol(&format!("{entry}_return_fault")) {
            set_gate(machine, GENERAL_PROTECTION, fault.start);
        }
        assert_eq!(machine.run_to(address, LIMIT), Stopped::Label, "{} {entry}", self.name);
        let expected = dress(machine);
        let counts = machine.registers().general[CpuState::RSP] + 5 * 8;
        let counts_before = read_counts(machine, counts);
        let (snapshot, run) = (machine.snapshot(), machine.symbol(RUN).start);
        let mut stage = Stage { machine, snapshot, expected, counts, counts_before, run, trace: Vec::new() };
        stage.read_trace();
        stage
    }
}

impl Stage<'_> {
    /// Returns the address of each instruction from the stage to the return.
    #[must_use]
    pub fn trace(&self) -> &[u64] {
        &self.trace
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
        (0..).zip(&self.trace).filter(|(_, address)| is_assembly(address)).map(|(place, _)| place).collect()
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

    /// Follows the first NMI alone, instruction by instruction, and checks that nothing is wrong with it or with the
    /// checks; an entry whose defect shows even so is found at the first experiment.
    fn read_trace(&mut self) {
        let mut play = self.begin();
        let mut trace = vec![self.machine.registers().rip];
        while let Ok(false) = self.advance(&mut play, trace.len() as u64) {
            assert!((trace.len() as u64) < INSTRUCTIONS_MAX, "a single NMI returns");
            trace.push(self.machine.registers().rip);
        }
        self.trace = trace;
    }

    fn begin(&mut self) -> Play {
        self.machine.go_back(&self.snapshot);
        let taken = self.machine.watch().nmi.taken;
        Play {
            instructions_before: self.machine.instructions(),
            // The NMI at whose first instruction the CPU is.
            taken_before: taken - 1,
            runs: 0,
            taken_at_run: taken - 1,
            inside: None,
        }
    }

    /// Runs until so many instructions have retired since the stage; tells whether the interrupted code was reached
    /// before.
    fn advance(&mut self, play: &mut Play, place: u64) -> Result<bool, Broken> {
        loop {
            let passed = self.machine.instructions() - play.instructions_before;
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
        let (runs, passed) = (play.runs, self.machine.instructions() - play.instructions_before);
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
        holds.into_iter().find(|(_, holds)| !holds).map_or(Ok(()), |(broken, _)| Err(broken))
    }
}

/// Points a vector to other code.
fn set_gate(machine: &mut Machine, vector: u64, address: u64) {
    const GATE_BYTES: u64 = 16;
    const LOW_OFFSET: u64 = 0xffff_0000_0000_ffff;
    let place = machine.registers().idt.base + vector * GATE_BYTES;
    let low = machine.read_word(place).expect("a gate") & !LOW_OFFSET;
    machine.write_word(place, low | address & 0xffff | (address >> 16 & 0xffff) << 48).expect("a gate");
    machine.write_word(place + 8, address >> 32).expect("a gate");
}

/// Gives the interrupted code something to lose, and returns it.
fn dress(machine: &mut Machine) -> Interrupted {
    let mut state = machine.registers();
    let frame = state.general[CpuState::RSP];
    let rflags = (machine.read_word(frame + 16).expect("a frame") | FLAGS) & !RESUME_FLAG;
    machine.write_word(frame + 16, rflags).expect("a frame");
    for (number, register) in (1..).zip(&mut state.general) {
        let is_pattern = number != CpuState::RSP as u64 + 1 && number != RBP as u64 + 1;
        *register = if is_pattern { 0x0f0f_1248_0000_0000 * number + number } else { *register };
    }
    machine.set_registers(&state);
    machine.set_fault_address(CR2);
    machine.set_debug_control(DR7);
    let [rip, rsp] = [0, 24].map(|offset| machine.read_word(frame + offset).expect("a frame"));
    let mut general = state.general;
    general[CpuState::RSP] = rsp;
    Interrupted { general, rip, rflags, cr2: CR2, dr7: DR7, stack: read_stack(machine, rsp) }
}

fn read(machine: &mut Machine) -> Interrupted {
    let state = machine.registers();
    Interrupted {
        general: state.general,
        rip: state.rip,
        rflags: machine.rflags() & !RESUME_FLAG,
        cr2: state.control[2],
        dr7: machine.debug_control(),
        stack: read_stack(machine, state.general[CpuState::RSP]),
    }
}

fn read_stack(machine: &mut Machine, sp: u64) -> Vec<Option<u64>> {
    (0..STACK_WORDS).map(|index| machine.read_word(sp + 8 * index)).collect()
}

fn read_counts(machine: &mut Machine, counts: u64) -> [u64; 3] {
    [0, 8, 16].map(|offset| machine.read_word(counts + offset).expect("the top of the NMI stack"))
}
