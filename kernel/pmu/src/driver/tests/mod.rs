//! Goal: the driver does what the manuals ask for, access by access, on each interface.
//!
//! Method: a bus that writes down every access, over a plain register file that knows one thing only: a write to the
//! acknowledging register clears bits of the status. The expected sequences are written out from the manuals, not
//! taken from the driver.

mod amd;
mod defects;
mod hostile;
mod intel;

use std::collections::BTreeMap;

use super::{Driver, Handling, Unmask};
use crate::bus::{GeneralProtection, MsrBus};
use crate::capabilities::{Capabilities, Extras, Interface};
use crate::counter::{Counter, CounterSet};
use crate::unit::Encoding;

/// One access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read(u32),
    Write(u32, u64),
    Lvt(u32),
}
use Access::{Lvt, Read, Write};

const NMI: u32 = 0x400;
const NMI_MASKED: u32 = 0x1_0400;

/// A register file with a diary.
#[derive(Debug, Default)]
struct Script {
    registers: BTreeMap<u32, u64>,
    /// The acknowledging register, and the status that it clears.
    acknowledge: Option<(u32, u32)>,
    /// Registers that are not there.
    missing: Vec<u32>,
    log: Vec<Access>,
}

impl Script {
    fn acknowledging(acknowledge: u32, status: u32) -> Self {
        Self { acknowledge: Some((acknowledge, status)), ..Self::default() }
    }

    fn set(&mut self, msr: u32, value: u64) {
        self.registers.insert(msr, value);
    }

    fn take_log(&mut self) -> Vec<Access> {
        core::mem::take(&mut self.log)
    }
}

impl MsrBus for Script {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        self.log.push(Read(msr));
        if self.missing.contains(&msr) {
            return Err(GeneralProtection);
        }
        Ok(self.registers.get(&msr).copied().unwrap_or(0))
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        self.log.push(Write(msr, value));
        if self.missing.contains(&msr) {
            return Err(GeneralProtection);
        }
        match self.acknowledge {
            Some((acknowledge, status)) if msr == acknowledge => {
                *self.registers.entry(status).or_default() &= !value;
            }
            _ => self.set(msr, value),
        }
        Ok(())
    }

    fn read_lvtpc(&mut self) -> u32 {
        panic!("the driver knows what it wrote there")
    }

    fn write_lvtpc(&mut self, value: u32) {
        self.log.push(Lvt(value));
    }
}

const EARLY: Handling = Handling { unmask: Unmask::Early, freeze: false };
const LATE: Handling = Handling { unmask: Unmask::Late, freeze: false };

fn general(index: u8) -> Counter {
    Counter::general(index).expect("below 32")
}

fn fixed(index: u8) -> Counter {
    Counter::fixed(index).expect("below 32")
}

/// A small PMU: two general counters of 48 bits, and two fixed ones where there can be any.
fn capabilities(interface: Interface) -> Capabilities {
    let version = if let Interface::Intel { version } = interface { version } else { 0 };
    Capabilities {
        interface,
        family: 6,
        model: 0,
        core_kind: None,
        general: CounterSet::first_general(2),
        general_width_bits: 48,
        fixed: if version >= 2 { CounterSet(0b11 << 32) } else { CounterSet::EMPTY },
        fixed_width_bits: 48,
        full_width_writes: version >= 3,
        freeze_on_pmi: version >= 2,
        missing_events: 0,
        extras: Extras::default(),
    }
}

/// Cycles at all levels, on any counter.
fn cycles() -> Encoding {
    Encoding { select: 0x3c, counters: CounterSet(u64::MAX), user: true, kernel: true }
}

/// What [`cycles`] is in an event select, without EN.
const CYCLES: u64 = 0x13_003c;
const EN: u64 = 1 << 22;

/// Minus so many events, in 48 bits.
fn minus(events: u64) -> u64 {
    events.wrapping_neg() & 0xffff_ffff_ffff
}

/// A driver on an empty diary: reset, and what it did for that is forgotten.
fn driver(bus: Script, capabilities: Capabilities, handling: Handling) -> Driver<Script> {
    use crate::unit::CounterUnit;
    let mut driver = Driver::new(bus, capabilities, handling);
    driver.reset();
    driver.bus().take_log();
    driver
}
