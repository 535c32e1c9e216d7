//! Starting and stopping: the counters, and the way of their interrupts into the CPU.
//!
//! The driver keeps what it last told the hardware, and writes what differs. Only
//! [`recover`](crate::CounterUnit::recover) does not believe the copy.

use super::{Defect, Driver};
use crate::bus::MsrBus;
use crate::counter::CounterSet;

/// Event select: count.
pub(super) const EN: u64 = 1 << 22;

/// LVT entry: NMI, not masked. The vector is not used.
pub(super) const LVT_NMI: u32 = 0b100 << 8;
pub(super) const LVT_MASKED: u32 = 1 << 16;

impl<B: MsrBus, D: Defect> Driver<B, D> {
    /// Lets exactly these counters run, with as few writes as that takes.
    #[inline]
    pub(super) fn run(&mut self, wanted: CounterSet) {
        if wanted == self.running {
            return;
        }
        match self.registers.global {
            Some(global) => self.access.write(global.control, wanted.0),
            None => self.run_by_select(wanted),
        }
        self.running = wanted;
    }

    fn run_by_select(&mut self, wanted: CounterSet) {
        for counter in self.running.without(wanted).iter() {
            self.access.write(self.select_msr(counter), self.select(counter));
        }
        for counter in wanted.without(self.running).iter() {
            self.access.write(self.select_msr(counter), self.select(counter) | EN);
        }
    }

    /// Stops all counters, whatever the copies say.
    pub(super) fn stop_for_sure(&mut self) {
        match self.registers.global {
            Some(global) => self.access.write(global.control, 0),
            None => {
                for counter in self.programmed.iter() {
                    self.access.write(self.select_msr(counter), self.select(counter));
                }
            }
        }
        self.running = CounterSet::EMPTY;
    }

    /// Makes what is enabled true at once, or leaves it to the end of the handler.
    pub(super) fn apply_enabled(&mut self) {
        if !self.in_pmi {
            self.run(self.enabled);
        }
    }

    pub(super) fn write_lvt(&mut self) {
        if !D::FORGETS_UNMASK {
            self.access.bus.write_lvtpc(LVT_NMI);
        }
    }
}
