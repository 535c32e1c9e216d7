//! The nmiprof kernel: boot, init, sample, stream.
//!
//! It profiles from inside non-maskable interrupts and writes each sample to a ring that is mapped lazily,
//! so the first touch of a ring page faults inside the NMI. Read this file from the top down; the README
//! beside the sources has the map and the invariants.
//!
//! For any other target than its own this is an empty program, so that host tools can build the workspace.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(unreachable_pub, reason = "a binary: `pub` marks what other modules may use")
)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod arch;
#[cfg(target_os = "none")]
mod calibrate;
#[cfg(target_os = "none")]
mod callchain;
#[cfg(target_os = "none")]
mod drain;
#[cfg(target_os = "none")]
mod init;
#[cfg(target_os = "none")]
mod lock;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod nmi;
#[cfg(target_os = "none")]
mod pmu;
#[cfg(target_os = "none")]
mod process;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod sampler;
#[cfg(target_os = "none")]
mod selftest;
#[cfg(target_os = "none")]
mod session;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod stream;
#[cfg(target_os = "none")]
mod text;
#[cfg(target_os = "none")]
mod thread;
#[cfg(target_os = "none")]
mod workloads;

#[cfg(target_os = "none")]
pub(crate) use run::kernel_main;

/// The kernel exists for its own target only; on a host this stands in for it.
#[cfg(not(target_os = "none"))]
fn main() {}
