//! Sources of overflows: what the sampler asks of a performance-monitoring unit.
//!
//! [`Pmu`] is the seam. Behind it stands, for now, one driver: [`VirtualPmu`], which counts with a
//! timer that raises an NMI when it runs out. A virtual PMU says so ([`Pmu::IS_VIRTUAL`]), so that
//! its counts are never taken for hardware counts.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod bus;
pub mod capabilities;
pub mod counter;
pub mod cpuid;
pub mod driver;
pub mod engine;
pub mod event;
pub mod model;
pub mod profiles;
pub mod selftest;
mod timer;
pub mod unit;

pub use bus::{GeneralProtection, MsrBus};
pub use capabilities::{Capabilities, CoreKind, Extras, Interface};
pub use counter::{Counter, CounterSet};
pub use cpuid::{NoPmu, detect};
pub use driver::{Defect, Driver, Handling, Sound, Unmask};
pub use unit::{CounterUnit, Encoding};

pub use engine::{Engine, EngineCounts, Overflow as CounterOverflow, Rate, Request, Settings};
pub use timer::{CountdownTimer, VirtualPmu};

/// A counter that overflows, as the sampler sees it.
///
/// # Context
/// `poll` and `rearm` are called in the NMI of the CPU that the PMU belongs to, and nowhere else.
pub trait Pmu {
    /// Name of the driver.
    const NAME: &'static str;
    /// Whether something other than a performance counter counts.
    const IS_VIRTUAL: bool;

    /// Sets the number of events between overflows, from the next [`Pmu::rearm`] on.
    fn set_period(&mut self, events: u64);

    /// Finds out whether this NMI is an overflow.
    fn poll(&mut self) -> Overflow;

    /// Starts to count, at first and after each overflow; does nothing while it counts.
    ///
    /// Called last in the handler, so that as little of it as possible is counted. The first call is in an
    /// NMI too, so that the first period is as exact as the others.
    fn rearm(&mut self);
}

/// What a PMU has to do with an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Nothing.
    NotMine,
    /// It came from this PMU, but the period is not over: the counter is narrower than the period.
    Partial,
    /// The period is over: take a sample.
    Complete,
}
