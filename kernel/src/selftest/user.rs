//! What user mode could do to the kernel's registers and frames but can't, and the idle loop.

use core::sync::atomic::{AtomicBool, Ordering};

use nmiprof_wire::Options;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use crate::arch::percpu::PerCpu;
use crate::arch::tick;
use crate::session::Session;
use crate::{info, thread};

/// Canonical, and mapped nowhere: whoever looks at GS there faults.
const NOWHERE: u64 = 0xffff_dead_beef_0000;
/// Ticks that the idle loop waits for.
const TICKS: u32 = 200;

static GS_IS_SPOILT: AtomicBool = AtomicBool::new(false);

/// Lets both GS bases point to nowhere: nothing but SYSCALL's entry may notice, and there is none without programs.
pub(super) fn spoil_gs_base() {
    GsBase::write(VirtAddr::new(NOWHERE));
    KernelGsBase::write(VirtAddr::new(NOWHERE));
    GS_IS_SPOILT.store(true, Ordering::Relaxed);
}

/// Makes the frames by which programs start such that no `iret` can use them.
pub(super) fn spoil_returns() {
    thread::spoil_returns();
}

/// Says whether the GS bases are still what they were.
pub(super) fn finish() {
    if GS_IS_SPOILT.swap(false, Ordering::Relaxed) {
        let kept = [GsBase::read(), KernelGsBase::read()] == [VirtAddr::new(NOWHERE); 2];
        info!("gs-base: both bases kept: {kept}");
    }
}

/// Waits for ticks with nothing else to run, while sampling goes on.
pub(super) fn idle(options: &Options<'_>, cpu: &PerCpu, session: &mut Session) {
    session.start();
    tick::start(cpu.apic, u64::from(options.tick_hz), tick::Source::IntervalTimer);
    for _ in 0..TICKS {
        thread::wait_for_tick();
    }
    tick::stop();
    session.stop();
    info!("idle: {TICKS} ticks came; the CPU halts before {:#x}", crate::arch::cpu::address_after_halt());
}
