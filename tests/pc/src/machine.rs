//! The machine: what tests use, and the loop around the engine.
//!
//! The engine runs until something has to be done that changes registers; then the loop does it and lets the engine
//! run on. Limits are in boundaries, of which an instruction has one (a repeated one has one for each iteration): no
//! run depends on how fast the host is.

use std::ops::Range;

use unicorn_engine::RegisterX86;

use crate::boot::{self, Kernel};
use crate::config::Config;
use crate::cpu::cpuid;
use crate::cpu::decode::Special;
use crate::cpu::delivery::{Event, Origin, TripleFault, deliver};
use crate::cpu::special::{Outcome, execute};
use crate::devices::Devices;
use crate::engine::{CpuState, Engine};
use crate::events::Counts;
use crate::events::sites::Sites;
use crate::pmu::Pmu;
use crate::ram::Ram;
use crate::watch::{Stop, Watch};

const NMI: u8 = 2;
const INVALID_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
/// Exceptions with an error code.
const WITH_ERROR: [u8; 9] = [8, 10, 11, 12, 13, 14, 17, 21, 29];

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// As many boundaries as were allowed have passed.
    Limit,
    /// The label was reached; its instruction is the next one.
    Label,
    /// The access to a register was reached; its instruction is the next one.
    Access(Access),
    /// The guest wrote this to the debug-exit device.
    Exit(u32),
    /// The CPU is halted, and nothing will wake it.
    Halted,
    /// The CPU could not deliver a double fault.
    TripleFault,
    /// The engine can't go on.
    Broken(String),
}

/// An access to a model-specific register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// RDMSR of this register.
    Read(u32),
    /// WRMSR to this register.
    Write(u32),
}

/// An emulated PC.
#[derive(Debug)]
pub struct Machine {
    pub(crate) engine: Engine<Watch>,
    pub(crate) kernel: Kernel,
    pub(crate) labels: Vec<u64>,
    /// The accesses to stop at.
    pub(crate) watched: Vec<Access>,
    /// Where the access is that was stopped at, and that may be done now.
    pub(crate) passed_access: Option<u64>,
    pub(crate) is_halted: bool,
    pub(crate) ended: Option<Stopped>,
}

impl Machine {
    /// Builds a machine and loads its kernel; nothing has been executed.
    ///
    /// # Panics
    /// If the foreign kernel is none that can be loaded.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let kernel = match config.foreign {
            Some(elf) => Kernel::parse_multiboot(elf).expect("an ELF image with a Multiboot 1 header"),
            None => Kernel::parse(config.image.elf()),
        };
        let pmu = Pmu::new(config.profile, config.flaw, config.latency);
        let sites = Sites::new(kernel.text.clone());
        let devices = Devices::new(config.clock_hz, config.fitted());
        let mut watch =
            Watch::new(sites, pmu, devices, config.iret_fault, config.has_cache, config.attribution);
        watch.msrs.offers_x2apic = config.x2apic.unwrap_or_else(|| cpuid::offers_x2apic(config.profile));
        let mut engine = Engine::new(Ram::new(config.memory_mib << 20), watch);
        boot::start(&mut engine, &kernel, config);
        Self {
            engine,
            kernel,
            labels: Vec::new(),
            watched: Vec::new(),
            passed_access: None,
            is_halted: false,
            ended: None,
        }
    }

    /// Runs until something ends it, at most for so many boundaries.
    pub fn run(&mut self, boundaries_max: u64) -> Stopped {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let watch = self.engine.guest_mut();
        watch.limit = watch.boundaries.saturating_add(boundaries_max).saturating_add(1);
        let stopped = loop {
            if self.is_halted && !self.wake() {
                break Stopped::Halted;
            }
            let address = self.engine.state().rip;
            if let Err(error) = self.engine.start(address) {
                break Stopped::Broken(format!("{error} at {:#x}", self.engine.state().rip));
            }
            if let Some(stopped) = self.act() {
                break stopped;
            }
        };
        if !matches!(stopped, Stopped::Limit | Stopped::Label | Stopped::Access(_)) {
            self.ended = Some(stopped.clone());
        }
        stopped
    }

    /// Runs to the next time that this address is reached.
    pub fn run_to(&mut self, address: u64, boundaries_max: u64) -> Stopped {
        self.run_to_any(&[address], boundaries_max)
    }

    /// Runs to the next time that one of these addresses is reached.
    pub fn run_to_any(&mut self, addresses: &[u64], boundaries_max: u64) -> Stopped {
        self.set_labels(addresses);
        let rip = self.engine.state().rip;
        self.engine.guest_mut().passed_label = Some(rip);
        let stopped = self.run(boundaries_max);
        self.engine.guest_mut().passed_label = None;
        self.set_labels(&[]);
        stopped
    }

    /// Runs to the next time that one of these registers is about to be accessed; an access that it stopped at is done
    /// first.
    pub fn run_to_access(&mut self, accesses: &[Access], boundaries_max: u64) -> Stopped {
        self.watched = accesses.to_vec();
        let stopped = self.run(boundaries_max);
        self.watched.clear();
        stopped
    }

    /// Runs to the next time that this function or label is reached.
    ///
    /// # Panics
    /// If the kernel has no such symbol.
    pub fn run_to_symbol(&mut self, name: &str, boundaries_max: u64) -> Stopped {
        let symbol = self.symbol(name);
        self.run_to(symbol.start, boundaries_max)
    }

    /// Executes one instruction, or one iteration of a repeated one.
    pub fn step(&mut self) -> Stopped {
        self.run(1)
    }

    /// Raises an NMI: it is taken before the next instruction, unless NMIs are masked.
    pub fn inject_nmi(&mut self) {
        let watch = self.engine.guest_mut();
        watch.nmi.raise();
        watch.devices_changed();
    }

    /// Raises one as [`Machine::inject_nmi`] does, and so many more, each right after the one before was taken.
    pub fn inject_nmis_in_a_row(&mut self, more: u32) {
        let watch = self.engine.guest_mut();
        watch.nmi.raise_in_a_row(more);
        watch.devices_changed();
    }

    /// Raises an NMI at the pin, which LINT1 lets through or not; tells which.
    pub fn pull_nmi_pin(&mut self) -> bool {
        let lets_through = self.watch().devices.apic.lets_nmi_pin_through();
        if lets_through {
            self.inject_nmi();
        }
        lets_through
    }

    /// Returns the machine around the CPU: devices, NMI input, PMU, counts.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        self.engine.guest()
    }

    /// Returns the machine around the CPU, to be changed.
    pub fn watch_mut(&mut self) -> &mut Watch {
        self.engine.guest_mut()
    }

    /// Returns the image.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Finds a symbol.
    ///
    /// # Panics
    /// If the kernel has none of that name.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Range<u64> {
        self.kernel.symbol(name).unwrap_or_else(|| panic!("the kernel has no symbol `{name}`"))
    }

    /// Reads the registers.
    pub fn registers(&mut self) -> CpuState {
        self.engine.state()
    }

    /// Writes the registers.
    pub fn set_registers(&mut self, state: &CpuState) {
        self.engine.set_state(state);
    }

    /// Reads RFLAGS.
    pub fn rflags(&mut self) -> u64 {
        self.engine.rflags()
    }

    /// Reads DR7.
    pub fn debug_control(&mut self) -> u64 {
        self.engine.control(RegisterX86::DR7)
    }

    /// Writes DR7, with no effect: breakpoints are not part of the machine.
    pub fn set_debug_control(&mut self, value: u64) {
        self.engine.set_control(RegisterX86::DR7, value);
    }

    /// Writes CR2, as a page fault does.
    pub fn set_fault_address(&mut self, value: u64) {
        self.engine.set_control(RegisterX86::CR2, value);
    }

    /// Returns how many instructions have retired, of user code and of the kernel.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.watch().totals.iter().map(|counts| counts.instructions).sum()
    }

    /// Reads a word at a virtual address of the present address space; `None` where no page is mapped.
    pub fn read_word(&mut self, address: u64) -> Option<u64> {
        let root = self.engine.state().control[3];
        self.engine.ram().read_word(root, address)
    }

    /// Writes a word at a virtual address; `None` where no page is mapped, or it can't be written.
    pub fn write_word(&mut self, address: u64, value: u64) -> Option<()> {
        let root = self.engine.state().control[3];
        self.engine.ram_mut().write_word(root, address, value)
    }

    /// Returns what was counted in a function while any counter ran.
    #[must_use]
    pub fn counted_in(&self, range: Range<u64>) -> Counts {
        self.watch().sites.counted_in(range)
    }

    /// Takes what was sent over the serial line.
    pub fn take_sent(&mut self) -> Vec<u8> {
        self.engine.guest_mut().devices.uart.take_sent()
    }

    fn set_labels(&mut self, addresses: &[u64]) {
        let old = std::mem::replace(&mut self.labels, addresses.to_vec());
        let sites = &mut self.engine.guest_mut().sites;
        for (labels, is_label) in [(&old, false), (&self.labels, true)] {
            for label in labels {
                let index = sites.index(0, *label);
                sites.get_mut(index).decoded.is_label = is_label;
            }
        }
    }

    /// Tells whether an instruction at RIP is an access that the run stops at; the second time it is not.
    fn stops_at(&mut self, special: Special) -> Option<Access> {
        const RCX: usize = 1;
        let state = self.engine.state();
        let number = u32::try_from(state.general[RCX] & 0xffff_ffff).unwrap_or(0);
        let access = match special {
            Special::ReadMsr => Access::Read(number),
            Special::WriteMsr => Access::Write(number),
            _ => return None,
        };
        let is_passed = self.passed_access.take() == Some(state.rip);
        let stops = !is_passed && self.watched.contains(&access);
        self.passed_access = stops.then_some(state.rip);
        stops.then_some(access)
    }

    /// Lets time pass while the CPU is halted; `false` where nothing will ever wake it.
    fn wake(&mut self) -> bool {
        let interrupts_enabled = self.engine.state().rflags_rest & 1 << 9 != 0;
        let watch = self.engine.guest_mut();
        while !(watch.nmi.is_deliverable() || (interrupts_enabled && watch.devices.is_asking())) {
            if !watch.pass_halted() {
                return false;
            }
        }
        self.is_halted = false;
        true
    }

    /// Does what the engine stopped for.
    fn act(&mut self) -> Option<Stopped> {
        let Some(stop) = self.engine.guest_mut().stop.take() else {
            let state = self.engine.state();
            return Some(Stopped::Broken(format!("the engine stopped without a reason at {:#x}", state.rip)));
        };
        let delivered = match stop {
            Stop::Limit => return Some(Stopped::Limit),
            Stop::Label => return Some(Stopped::Label),
            Stop::Exit => return self.engine.guest().devices.exit.map(Stopped::Exit),
            Stop::Nmi => {
                self.engine.guest_mut().nmi.take();
                self.interrupt(NMI)
            }
            Stop::Interrupt => {
                let vector = self.engine.guest_mut().devices.accept();
                self.interrupt(vector)
            }
            Stop::Raised(vector) => self.raise(vector),
            Stop::Special(special, site) => {
                if !self.watched.is_empty()
                    && let Some(access) = self.stops_at(special)
                {
                    return Some(Stopped::Access(access));
                }
                let len = self.engine.guest().sites.get(site).decoded.len;
                let level = self.engine.guest().level();
                let outcome = execute(&mut self.engine, special, len);
                if matches!(outcome, Outcome::Done | Outcome::Halted) {
                    self.engine.guest_mut().retire_special(site, level);
                }
                match outcome {
                    Outcome::Done => Ok(()),
                    Outcome::GeneralProtection => self.exception(GENERAL_PROTECTION, Some(0)),
                    Outcome::InvalidOpcode => self.exception(INVALID_OPCODE, None),
                    Outcome::Halted => {
                        self.is_halted = true;
                        Ok(())
                    }
                }
            }
        };
        self.engine.guest_mut().devices_changed();
        delivered.err().map(|TripleFault| Stopped::TripleFault)
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), TripleFault> {
        deliver(&mut self.engine, Event { vector, error: None, origin: Origin::Outside })
    }

    fn exception(&mut self, vector: u8, error: Option<u32>) -> Result<(), TripleFault> {
        self.engine.guest_mut().exceptions += 1;
        deliver(&mut self.engine, Event { vector, error, origin: Origin::Exception })
    }

    /// Delivers what the engine raised.
    fn raise(&mut self, vector: u8) -> Result<(), TripleFault> {
        let (error, is_instruction) = self.engine.take_exception();
        let abandoned = self.engine.guest_mut().abandon();
        if !is_instruction {
            let error = WITH_ERROR.contains(&vector).then_some(error);
            return self.exception(vector, error);
        }
        let address = abandoned.map_or(0, |(_, address)| address);
        if let Some((site, _)) = abandoned {
            let watch = self.engine.guest_mut();
            watch.retire_special(site, watch.level());
        }
        deliver(&mut self.engine, Event { vector, error: None, origin: Origin::Instruction(address) })
    }
}
