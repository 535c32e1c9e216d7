//! An emulated PC that has a PMU, in a process of its own and under the tests' control.
//!
//! QEMU's TCG has no PMU, and hardware can't be stopped at an instruction. Here Unicorn executes instructions, and
//! this package is everything around them: how interrupts and exceptions arrive, how NMIs are masked and latched, the
//! local APIC, the serial line, the timers, CPUID and model-specific registers, with the PMU model of `nmiprof-pmu`
//! behind them. What that model counts are events of the instructions that were really executed, and the machine keeps
//! the same counts per address: the truth that a profile is compared with.
//!
//! | file | what |
//! |---|---|
//! | `machine.rs` | [`Machine`]: what tests use, and the loop around the engine |
//! | `config.rs` | [`Config`]: what a machine is |
//! | `snapshot.rs` | going back, and going on twice |
//! | `watch.rs`, `watch/` | what happens at each instruction boundary: the hot path |
//! | `engine.rs`, `engine/`, `ram.rs` | Unicorn, memory; all unsafe code |
//! | `cpu/` | decoding, delivery, NMIs, MSRs, CPUID, instructions that the machine executes |
//! | `devices/` | around the CPU |
//! | `events/` | what is counted, what it costs, and where it was counted |
//! | `pmu.rs` | the PMU model, fed with events |
//! | `nest.rs`, `nest/` | an NMI, and further ones inside it, judged from outside |
//! | `harness.rs` | a run from boot to end, decoded |
//! | `boot.rs`, `multiboot.rs` | a kernel's image, and the handover to it |
//! | `acpi.rs` | the tables that firmware leaves |
//!
//! It is a model of the manuals, by people who wrote the driver's model too, and not silicon; the README says what it
//! can prove.

pub mod acpi;
pub mod boot;
pub mod config;
pub mod cpu;
pub mod devices;
pub mod engine;
pub mod events;
pub mod harness;
pub mod machine;
pub mod multiboot;
pub mod nest;
pub mod pmu;
pub mod ram;
pub mod snapshot;
pub mod watch;

pub use config::Config;
pub use cpu::nmi::IretFault;
pub use machine::{Access, Machine, Stopped};
pub use pmu::Latency;
pub use watch::Attribution;
