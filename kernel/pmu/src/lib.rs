//! Performance-monitoring units: what counts events on one CPU, and says when enough of them have happened.
//!
//! From the registers up:
//!
//! | module | what it is | knows |
//! |---|---|---|
//! | [`bus`] | the registers of a CPU, real or modelled | |
//! | [`cpuid`] | which PMU this CPU has | [`capabilities`] |
//! | [`driver`] | Intel's and AMD's registers behind one seam, [`unit`] | the bus |
//! | [`engine`] | events to counters, periods, turns, frequencies, throttle, late NMIs | the seam |
//! | [`event`] | perf's names and language, and the code of each event on each CPU | capabilities |
//! | [`selftest`] | does a counter count? | the seam |
//! | [`model`], [`profiles`] | what the registers of real parts do, written apart from the driver: its judge in tests, and the virtual PMU where there is no other | the bus |
//! | [`timer`] | a PMU that is nothing but a countdown timer | |
//! | [`ticks`] | a PMU that is nothing but a periodic line to all CPUs | |
//!
//! Most of it runs in an NMI: no lock, no allocation, no panic, no float, no loop without a bound.

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
pub mod ticks;
pub mod timer;
pub mod unit;

pub use bus::{GeneralProtection, MsrBus};
pub use capabilities::{Capabilities, CoreKind, Extras, Interface};
pub use counter::{Counter, CounterSet};
pub use cpuid::{NoPmu, detect};
pub use driver::{Defect, Driver, Handling, Sound, Unmask};
pub use engine::{Engine, EngineCounts, Rate, Request, Settings};
pub use ticks::{TickClock, TickPmu};
pub use timer::{CountdownTimer, TimerPmu};
pub use unit::{CounterUnit, Encoding};
