//! The machine under the driver: the model, its NMIs, and what happens between two accesses.
//!
//! It is the bus that the driver gets, so it sees every access. Before some of them it lets events happen, often just
//! as many as a counter needs to overflow: the worst moments are inside of the driver, where no operation of a program
//! can reach. Who counts then is asked of the model; everywhere else the truth knows it, and the two are compared.
//!
//! A stop may also take effect late. On hardware an overflow can be in flight while the global control register is
//! cleared, and its status bit comes after the write (the driver's prose promises to bear that up to its last look
//! at the status). So now and then the write is held back until the status was acknowledged, or is about to be read
//! without an overflow to report, which makes it the last look.

use nmiprof_pmu::model::{Model, Privilege, Signal};
use nmiprof_pmu::profiles::Registers;
use nmiprof_pmu::{CounterSet, GeneralProtection, MsrBus};

use super::log::{Entry, Log};
use super::random::Random;
use super::truth::Truth;

/// The most events that happen between two accesses.
const INSIDE_MAX: u64 = 10_000;

/// The model, and what is around it.
#[derive(Clone, Debug)]
pub(crate) struct Cpu {
    pub(crate) model: Model,
    pub(crate) truth: Truth,
    pub(crate) random: Random,
    pub(crate) log: Log,
    /// Whether an NMI waits for the end of the one that is handled. A CPU keeps one.
    pub(crate) is_nmi_pending: bool,
    /// Whether NMIs are blocked.
    pub(crate) in_nmi: bool,
    /// Whether a call of the driver is under way.
    pub(crate) in_call: bool,
    /// Whether events happen between accesses: before one in so many; 0 for never.
    pub(crate) inside_one_in: u64,
    /// Whether the next stop is late.
    pub(crate) is_stop_late: bool,
    held_back: Option<u32>,
    pub(crate) counts: Counts,
}

/// What a run met, so that a run that met nothing is seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) faults: u64,
    pub(crate) nmis: u64,
    /// NMIs that found no overflow.
    pub(crate) empty_nmis: u64,
    /// NMIs that found several.
    pub(crate) several: u64,
    pub(crate) reported: u64,
    /// Overflows between two accesses of the driver.
    pub(crate) inside: u64,
    /// Stops that took effect late: only where there is a global register.
    pub(crate) late_stops: u64,
}

impl Counts {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.nmis += other.nmis;
        self.empty_nmis += other.empty_nmis;
        self.several += other.several;
        self.reported += other.reported;
        self.inside += other.inside;
        self.late_stops += other.late_stops;
    }

    /// Asserts that nothing that is worth a test was never met.
    pub(crate) fn assert_met(&self, profile: &str) {
        let met = [self.nmis / 50, self.empty_nmis / 50, self.reported / 50, self.several, self.inside];
        assert!(met.iter().all(|count| *count > 50), "{profile}: {self:?}");
    }
}

impl Cpu {
    pub(crate) fn new(model: Model, truth: Truth, random: Random) -> Self {
        Self {
            model,
            truth,
            random,
            log: Log::default(),
            is_nmi_pending: false,
            in_nmi: false,
            in_call: false,
            inside_one_in: 0,
            is_stop_late: false,
            held_back: None,
            counts: Counts::default(),
        }
    }

    /// Sets status bits that are no counter's, where they can be set: they stay, and have no effect.
    // case 55
    pub(crate) fn set_foreign_status(&mut self) {
        let (msr, bits) = match &self.model.profile().registers {
            Registers::Intel(facts) if facts.version >= 4 => (0x391, 1 << 61 | 1 << 58 | 1 << 55),
            Registers::Amd(facts) if facts.global => (0xc000_0303, 1 << 58),
            _ => return,
        };
        let _ = self.count_faults(|model| model.write(msr, bits));
    }

    /// Returns who counts now.
    pub(crate) fn running(&self) -> CounterSet {
        if self.in_call || self.held_back.is_some() { self.model.running() } else { self.truth.running() }
    }

    /// Tells whether truth and model agree on who counts; while a stop is late there is nothing to agree on.
    pub(crate) fn is_agreed(&self) -> bool {
        self.model.running() == self.running()
    }

    /// Lets events happen until an NMI comes that is not blocked; returns the events left.
    pub(crate) fn happen(&mut self, signal: Signal, count: u64, privilege: Privilege) -> u64 {
        let mut left = count;
        while left > 0 && (self.in_nmi || !self.is_nmi_pending) {
            let running = self.running();
            let wanted = left.min(self.truth.even(running, signal, privilege));
            let undone = self.model.happen_until_nmi(signal, wanted, privilege);
            self.truth.pass(wanted - undone, running, signal, privilege);
            left -= wanted - undone;
            self.collect_nmis();
        }
        left
    }

    fn collect_nmis(&mut self) {
        let nmis = self.model.take_nmis();
        self.counts.nmis += u64::from(nmis);
        self.is_nmi_pending |= nmis > 0;
    }

    /// Lets something happen between two accesses.
    fn happen_inside(&mut self) {
        if self.inside_one_in == 0 || !self.random.one_in(self.inside_one_in) {
            return;
        }
        let (signal, count, privilege) = self.something();
        let count = count.min(INSIDE_MAX);
        self.log.push(Entry::HappenedInside(signal, count));
        let before = self.truth.overflows;
        let in_nmi = std::mem::replace(&mut self.in_nmi, true);
        self.happen(signal, count, privilege);
        self.in_nmi = in_nmi;
        self.counts.inside += self.truth.overflows - before;
    }

    /// Chooses what happens: mostly something that is counted, and mostly around an overflow.
    pub(crate) fn something(&mut self) -> (Signal, u64, Privilege) {
        let privilege = if self.random.one_in(2) { Privilege::User } else { Privilege::Kernel };
        let running: Vec<_> = self.running().iter().collect();
        if running.is_empty() || self.random.one_in(10) {
            return (Signal::Instructions, self.random.below(20) + 1, privilege);
        }
        let counter = self.random.pick(&running);
        let what = self.truth.what(counter).expect("what runs is programmed");
        let privilege = match (what.user, what.kernel) {
            (true, false) if !self.random.one_in(8) => Privilege::User,
            (false, true) if !self.random.one_in(8) => Privilege::Kernel,
            _ => privilege,
        };
        let room = self.truth.room(counter);
        let count = match self.random.below(8) {
            0 => 1,
            1 => self.random.below(50) + 1,
            2 => room.saturating_sub(1).max(1),
            3 => room + 1,
            4 => room + self.random.below(30),
            5 => self.random.magnitude(room),
            _ => room,
        };
        (what.signal, count, privilege)
    }

    /// Lets a stop that was held back take effect.
    fn release(&mut self) {
        if let Some(msr) = self.held_back.take() {
            // What fails is counted.
            let _ = self.count_faults(|model| model.write(msr, 0));
        }
    }

    /// Tells whether this is the status, and shows an overflow that will be reported: then it is read again.
    fn shows_overflow(&mut self, msr: u32) -> bool {
        let due = self.truth.due().0;
        STATUS.contains(&msr) && self.model.read(msr).is_ok_and(|status| status & due != 0)
    }

    fn count_faults<T>(
        &mut self,
        access: impl FnOnce(&mut Model) -> Result<T, GeneralProtection>,
    ) -> Result<T, GeneralProtection> {
        let result = access(&mut self.model);
        if result.is_err() {
            self.log.push(Entry::Faulted);
            self.counts.faults += 1;
        }
        result
    }

    fn is_global_control(&self, msr: u32) -> bool {
        match &self.model.profile().registers {
            Registers::Intel(facts) => facts.version >= 2 && msr == 0x38f,
            Registers::Amd(facts) => facts.global && msr == 0xc000_0301,
            Registers::Forgotten => false,
        }
    }
}

const STATUS: [u32; 2] = [0x38e, 0xc000_0300];
const ACKNOWLEDGE: [u32; 2] = [0x390, 0xc000_0302];

impl MsrBus for Cpu {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        if self.held_back.is_some() && !self.shows_overflow(msr) {
            self.release();
        }
        self.happen_inside();
        let result = self.count_faults(|model| model.read(msr));
        self.log.push(Entry::Read(msr, result.unwrap_or(0)));
        self.happen_inside();
        result
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        self.happen_inside();
        self.log.push(Entry::Wrote(msr, value));
        if value == 0 && self.is_global_control(msr) && std::mem::take(&mut self.is_stop_late) {
            self.held_back = Some(msr);
            self.counts.late_stops += 1;
            return Ok(());
        }
        if !ACKNOWLEDGE.contains(&msr) {
            self.release();
        }
        let result = self.count_faults(|model| model.write(msr, value));
        self.release();
        result
    }

    fn read_lvtpc(&mut self) -> u32 {
        self.model.read_lvtpc()
    }

    fn write_lvtpc(&mut self, value: u32) {
        self.happen_inside();
        self.log.push(Entry::WroteLvt(value));
        self.model.write_lvtpc(value);
        self.collect_nmis();
    }
}
