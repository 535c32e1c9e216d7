//! NMIs all the time while the kernel gives its last report.

use core::sync::atomic::{AtomicBool, Ordering};

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::ExitCode;

use crate::arch::exit::exit;
use crate::arch::percpu;
use crate::report;

/// Ticks from the start of one run of the handler to the next NMI: about twice as long as a run.
const TICKS: u32 = 499;
/// NMIs during a report, at least.
const NMIS_MIN: u32 = 10;

/// Whether there is to be rain: else a report may come before this CPU has its area. Written by the trigger.
static RAINING: AtomicBool = AtomicBool::new(false);

/// Lets NMIs come from now on.
pub fn start() {
    let cpu = percpu::current();
    if cpu.apic.route_timer_to_nmi().is_err() {
        report::configuration(format_args!("this needs an APIC timer that raises NMIs; run QEMU's TCG"));
    }
    RAINING.store(true, Ordering::Relaxed);
    cpu.nmi.staging.begin(&[]);
    cpu.nmi.staging.set_rain(TICKS);
    cpu.apic.arm(TICKS);
}

/// Ends the machine with [`ExitCode::Invariant`] if there was to be rain and hardly any came: the report that was
/// just sent shows nothing then.
///
/// # Context
/// Any, after a fatal report.
pub fn check() {
    if RAINING.load(Ordering::Relaxed) && percpu::current().nmi.staging.runs() < NMIS_MIN {
        exit(ExitCode::Invariant);
    }
}
