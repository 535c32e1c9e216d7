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
//! - one more NMI in the interrupted code has a run at once;
//! - where the first NMI's handler touched a page of the ring that was not mapped ([`Bench::faulting_stage`]), it is
//!   mapped then, and has the sample.
//!
//! Places are numbers of instructions since the stage, retired ones and those that raised an exception: they do not
//! depend on where the run was stopped on the way. At each run CR2 is overwritten, as a page fault of the handler would
//! do.

mod gate;
mod interrupted;
mod stage;
mod touch;

use nmiprof::images::Image;
use nmiprof_pmu::profiles::Profile;

use crate::config::Config;
use crate::cpu::nmi::IretFault;
use crate::harness::{LIMIT, config};
use crate::machine::{Machine, Stopped};
use crate::snapshot::Snapshot;
pub use interrupted::Interrupted;
pub use stage::Stage;

const WORKLOAD: &str = "nmiprof_kernel::workloads::sort::insertion_sort";
const RUN: &str = "nmiprof_kernel::nmi::run";
/// Going back is cheaper the less memory there is to describe.
const MEMORY_MIB: usize = 24;
/// More instructions than a nest of four NMIs has.
const INSTRUCTIONS_MAX: u64 = 40_000;
const NMI: u64 = 2;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

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
    /// The page that the handler touched is not mapped.
    Unmapped,
    /// The ring does not have the sample, or more than that.
    Sample,
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
        let address = self.install(entry, iret_fault);
        self.stage_at(address, 1)
    }

    /// Sets a stage likewise, at the first NMI whose handler touches a page of the ring that is not mapped.
    ///
    /// # Panics
    /// As [`Bench::stage`]; and if there is no such NMI.
    pub fn faulting_stage(&mut self, entry: &str, iret_fault: IretFault) -> Stage<'_> {
        let mut stage = self.stage_from_touch(entry, iret_fault, 0);
        stage.read_touch();
        stage
    }

    /// Sets a stage at the NMI after that one, whose handler does the same with a page that is mapped.
    ///
    /// # Panics
    /// As [`Bench::faulting_stage`].
    pub fn stage_after_fault(&mut self, entry: &str, iret_fault: IretFault) -> Stage<'_> {
        self.stage_from_touch(entry, iret_fault, 1)
    }

    /// Sets a stage so many NMIs after the first one whose handler touches such a page.
    fn stage_from_touch(&mut self, entry: &str, iret_fault: IretFault, nmis: u64) -> Stage<'_> {
        let address = self.install(entry, iret_fault);
        let page_fault = gate::target(&mut self.machine, PAGE_FAULT);
        let number = touch::find(&mut self.machine, address, page_fault);
        self.install(entry, iret_fault);
        self.stage_at(address, number + nmis)
    }

    /// Goes back, and points the vectors to an entry; returns its address.
    fn install(&mut self, entry: &str, iret_fault: IretFault) -> u64 {
        let machine = &mut self.machine;
        machine.go_back(&self.snapshot);
        machine.watch_mut().iret_fault = iret_fault;
        let address = machine.symbol(entry).start;
        gate::set(machine, NMI, address);
        if let Some(fault) = machine.kernel().symbol(&format!("{entry}_return_fault")) {
            gate::set(machine, GENERAL_PROTECTION, fault.start);
        }
        address
    }

    /// Sets the stage at the NMI of this number from here on.
    fn stage_at(&mut self, entry: u64, number: u64) -> Stage<'_> {
        let machine = &mut self.machine;
        for _ in 0..number {
            assert_eq!(machine.run_to(entry, LIMIT), Stopped::Label, "{} {entry:#x}", self.name);
        }
        Stage::new(machine)
    }
}
