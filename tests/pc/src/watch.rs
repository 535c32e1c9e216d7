//! What happens at each instruction boundary: the instruction before it retires and is counted, and the one after it
//! is looked at. This is the hot path: it runs for every instruction.
//!
//! The engine stops where something has to be done that changes registers; [`Watch::stop`] says what, and the machine
//! does it. An instruction that raises an exception does not retire: its boundary has no successor.

mod instruction;

use nmiprof_pmu::model::Model;

use crate::cpu::decode::{Kind, Special};
use crate::cpu::msr::{self, Msrs};
use crate::cpu::nmi::{IretFault, NmiLine};
use crate::devices::Devices;
use crate::devices::lapic::Sent;
use crate::engine::{APIC_BASE, Flow, Guest, Registers};
use crate::events::Counts;
use crate::events::branches::Predictor;
use crate::events::cache::Cache;
use crate::events::sites::{SiteIndex, Sites};
use crate::pmu::{ByLevel, KERNEL, Pmu, USER};

const INTERRUPT_FLAG: u64 = 1 << 9;

/// Why the engine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An exception.
    Raised(u8),
    /// An NMI is to be taken.
    Nmi,
    /// An interrupt is to be taken.
    Interrupt,
    /// An instruction is the machine's to execute.
    Special(Special, SiteIndex),
    /// A label was reached.
    Label,
    /// As many boundaries as were allowed have passed.
    Limit,
    /// The guest asked for the end.
    Exit,
}

/// Where the truth is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attribution {
    /// At the instruction that caused the event.
    #[default]
    Own,
    /// At the one after it, which is where a sample without skid falls.
    Next,
}

/// An instruction that is being executed.
#[derive(Clone, Copy, Debug)]
struct Current {
    site: SiteIndex,
    address: u64,
    /// What its accesses to memory added.
    extra: Counts,
}

/// The machine around the CPU, as its instructions see it.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Instructions and what was counted there.
    pub sites: Sites,
    /// What was counted in all.
    pub totals: ByLevel,
    /// The PMU.
    pub pmu: Pmu,
    /// The NMI input.
    pub nmi: NmiLine,
    /// The devices.
    pub devices: Devices,
    /// Other registers.
    pub msrs: Msrs,
    /// Machine time, in cycles; it passes while the CPU is halted, too.
    pub clock: u64,
    /// Why the engine stopped last.
    pub stop: Option<Stop>,
    /// Boundaries that have passed.
    pub boundaries: u64,
    /// Boundary at which the engine stops.
    pub limit: u64,
    /// The label at which it does not stop now, for it is there already.
    pub passed_label: Option<u64>,
    /// What an `iret` that faults does.
    pub iret_fault: IretFault,
    /// How often `iret` faulted.
    pub iret_faults: u64,
    /// Instructions that raised an exception, and did not retire.
    pub exceptions: u64,
    /// Boundaries for which the next NMI of the PMU is held up, between the local APIC and the CPU.
    pub hold_next_pmi: Option<u64>,
    /// NMIs of the PMU.
    pub pmis: u64,
    /// NMIs that the CPU sent to itself.
    pub own_nmis: u64,
    /// Boundary at which an NMI arrives that is held up; `u64::MAX` if none is.
    held_until: u64,
    current: Option<Current>,
    /// What was counted last, where it is attributed to the next instruction.
    carried: Option<Counts>,
    attribution: Attribution,
    level: usize,
    /// Root of the address space, as user addresses are looked up; 0 in the kernel.
    root: u64,
    is_shadowed: bool,
    deadline: u64,
    needs_attention: bool,
    cache: Option<Cache>,
    predictor: Predictor,
}

impl Watch {
    /// Surrounds a CPU with these.
    #[must_use]
    pub fn new(
        sites: Sites,
        pmu: Pmu,
        devices: Devices,
        iret_fault: IretFault,
        has_cache: bool,
        attribution: Attribution,
    ) -> Self {
        Self {
            sites,
            totals: ByLevel::default(),
            pmu,
            nmi: NmiLine::default(),
            devices,
            msrs: Msrs::default(),
            clock: 0,
            stop: None,
            boundaries: 0,
            limit: u64::MAX,
            passed_label: None,
            iret_fault,
            iret_faults: 0,
            exceptions: 0,
            hold_next_pmi: None,
            pmis: 0,
            own_nmis: 0,
            held_until: u64::MAX,
            current: None,
            carried: None,
            attribution,
            level: KERNEL,
            root: 0,
            is_shadowed: false,
            deadline: u64::MAX,
            needs_attention: false,
            cache: has_cache.then(Cache::default),
            predictor: Predictor::default(),
        }
    }
}

impl Guest for Watch {
    #[inline]
    fn boundary(&mut self, registers: &mut Registers, address: u64) -> Flow {
        self.boundaries += 1;
        if let Some(current) = self.current.take() {
            self.finish(registers, &current, address);
        }
        let is_due = self.boundaries >= self.limit
            || self.boundaries >= self.pmu.due_boundaries()
            || self.boundaries >= self.held_until
            || self.clock >= self.deadline;
        if (is_due || self.needs_attention) && self.attend(registers) == Flow::Stop {
            return Flow::Stop;
        }
        self.begin(registers, address)
    }

    fn raised(&mut self, vector: u8) {
        self.stop = Some(Stop::Raised(vector));
    }

    fn port_read(&mut self, port: u16, _bytes: u8) -> u32 {
        self.devices.read(port, self.clock)
    }

    fn port_write(&mut self, port: u16, _bytes: u8, value: u32) -> Flow {
        self.devices.write(port, value, self.clock);
        self.devices_changed();
        if self.devices.exit.is_none() {
            return Flow::Go;
        }
        self.stop = Some(Stop::Exit);
        Flow::Stop
    }

    fn memory_read(&mut self, address: u64) -> u32 {
        match apic_offset(address) {
            Some(offset) => msr::read_apic_memory(self, offset),
            None => self.devices.read_memory(address, self.clock),
        }
    }

    fn memory_write(&mut self, address: u64, value: u32) {
        match apic_offset(address) {
            Some(offset) => msr::write_apic_memory(self, offset, value),
            None => {
                self.devices.write_memory(address, value, self.clock);
                self.devices_changed();
            }
        }
    }
}

impl Watch {
    /// Accesses the PMU's registers, with the model up to date before and its plan after.
    pub fn with_pmu<R>(&mut self, access: impl FnOnce(&mut Model) -> R) -> R {
        self.pmu.tell(&self.totals);
        let result = access(self.pmu.model_mut());
        self.collect();
        result
    }

    /// Lets the CPU forget what it has learned of branches.
    pub fn forget_branches(&mut self) {
        self.predictor.forget();
    }

    /// Takes what the local APIC sends to this CPU.
    pub fn take_command(&mut self, sent: Sent) {
        match sent {
            Sent::Nothing => (),
            Sent::Nmi => {
                self.own_nmis += 1;
                self.nmi.raise();
            }
            Sent::Vector(vector) => self.devices.apic.request(vector),
        }
        self.devices_changed();
    }

    /// Takes note that the privilege level may have changed.
    ///
    /// `root` is the address space in which user addresses mean something.
    pub fn level_changed(&mut self, privilege: u32, root: u64) {
        let is_kernel = privilege == 0;
        self.level = if is_kernel { KERNEL } else { USER };
        self.root = if is_kernel { 0 } else { root };
    }

    /// Finds out anew what may interrupt the CPU.
    pub fn devices_changed(&mut self) {
        (0..self.devices.take_nmis()).for_each(|_| self.nmi.raise());
        self.deadline = self.devices.deadline();
        self.needs_attention = self.is_shadowed || self.nmi.is_deliverable() || self.devices.is_asking();
    }

    /// Returns the level at which the CPU is, as a position in [`Watch::totals`].
    #[must_use]
    pub const fn level(&self) -> usize {
        self.level
    }

    /// Lets an instruction retire that the machine executed, or an INT instruction that is to be delivered. It counts for
    /// the level at which it began: a SYSCALL is the program's.
    pub fn retire_special(&mut self, site: SiteIndex, level: usize) {
        self.current = None;
        let counts = self.own_counts(site);
        self.count(site, counts, level);
    }

    /// Gives the instruction up that raised an exception; tells which one it was.
    pub fn abandon(&mut self) -> Option<(SiteIndex, u64)> {
        let current = self.current.take()?;
        if self.sites.get(current.site).decoded.kind == Kind::InterruptReturn {
            self.iret_faults += 1;
            if self.iret_fault == IretFault::Unmasks {
                self.nmi.unmask();
            }
        }
        Some((current.site, current.address))
    }

    /// Lets time pass in which the CPU is halted, up to the next event of a device; `false` where there is none.
    pub fn pass_halted(&mut self) -> bool {
        if self.deadline == u64::MAX {
            return false;
        }
        self.clock = self.clock.max(self.deadline);
        self.devices.advance(self.clock);
        self.devices_changed();
        true
    }

    /// Does what is due at a boundary.
    #[cold]
    fn attend(&mut self, registers: &mut Registers) -> Flow {
        if self.boundaries >= self.pmu.due_boundaries() {
            self.pmu.tell(&self.totals);
            self.collect();
        }
        if self.boundaries >= self.held_until {
            self.held_until = u64::MAX;
            self.nmi.raise();
            self.devices_changed();
        }
        if self.clock >= self.deadline {
            self.devices.advance(self.clock);
            self.devices_changed();
        }
        if std::mem::take(&mut self.is_shadowed) {
            self.devices_changed();
            return self.until_limit();
        }
        if self.nmi.is_deliverable() {
            self.stop = Some(Stop::Nmi);
            return Flow::Stop;
        }
        if self.devices.is_asking() && registers.state().rflags_rest & INTERRUPT_FLAG != 0 {
            self.stop = Some(Stop::Interrupt);
            return Flow::Stop;
        }
        self.until_limit()
    }

    fn until_limit(&mut self) -> Flow {
        if self.boundaries < self.limit {
            return Flow::Go;
        }
        self.stop = Some(Stop::Limit);
        Flow::Stop
    }

    /// Takes what the PMU has raised, and plans ahead.
    fn collect(&mut self) {
        self.pmu.plan(self.boundaries);
        for _ in 0..self.pmu.model_mut().take_nmis() {
            self.take_pmi();
        }
        let interrupts = self.pmu.model_mut().take_interrupts();
        if interrupts.count > 0 {
            self.devices.apic.request(interrupts.vector);
        }
        self.devices_changed();
    }

    /// Lets an NMI of the PMU arrive, or holds it up.
    fn take_pmi(&mut self) {
        self.pmis += 1;
        match self.hold_next_pmi.take() {
            Some(boundaries) => self.held_until = self.boundaries.saturating_add(boundaries),
            None => self.nmi.raise(),
        }
    }
}

/// Returns the offset of a local APIC's register; `None` for another device's.
fn apic_offset(address: u64) -> Option<u32> {
    u32::try_from(address.checked_sub(APIC_BASE)?).ok()
}
