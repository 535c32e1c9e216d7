//! The per-CPU area, reached through GS.
//!
//! Everything that an NMI touches is in the area of its own CPU, or reached from it. `gs:[0]` holds the
//! area's own address, so finding it is one load.

#![expect(unsafe_code, reason = "sets and reads the GS base")]

use alloc::boxed::Box;
use core::arch::asm;
use core::mem::offset_of;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

use super::apic::LocalApic;
use crate::memory::reserve::FrameReserve;
use crate::memory::stack::StackRange;
use crate::nmi;

/// Most CPUs that the kernel has room for.
pub const CPUS_MAX: u16 = 256;

/// What one CPU owns.
///
/// Aligned to two cache lines, so that no two CPUs share one (adjacent-line prefetch works in pairs).
#[repr(C, align(128))]
pub struct PerCpu {
    this: *const Self,
    /// Number of this CPU, from 0.
    pub index: u16,
    /// Its local APIC.
    pub apic: LocalApic,
    /// The stack of the code that is profiled here.
    pub thread_stack: StackRange,
    /// What the NMI path of this CPU owns and counts.
    pub nmi: nmi::PerCpu,
    /// Frames for first touches of ring pages.
    pub reserve: FrameReserve,
}

const _: () = assert!(offset_of!(PerCpu, this) == 0, "`current` loads gs:[0]");
const _: () = assert!(align_of::<PerCpu>() == 128, "soundness of the layout: no shared cache line");

impl PerCpu {
    /// Makes the area of this CPU and installs it, for good.
    ///
    /// # Panics
    /// If the kernel has no room for the CPU.
    pub fn install(
        index: u16,
        apic: LocalApic,
        thread_stack: StackRange,
        nmi: nmi::PerCpu,
        reserve: FrameReserve,
    ) -> &'static Self {
        assert!(index < CPUS_MAX, "CPU {index} is one too many");
        let area =
            Box::leak(Box::new(Self { this: core::ptr::null(), index, apic, thread_stack, nmi, reserve }));
        area.this = &raw const *area;
        GsBase::write(VirtAddr::from_ptr(area.this));
        area
    }
}

/// Returns the area of the CPU that runs this.
///
/// # Context
/// Any, after [`PerCpu::install`] on this CPU.
#[inline]
pub fn current() -> &'static PerCpu {
    let area: *const PerCpu;
    // SAFETY: every CPU installs its area before anything calls this; word 0 is the area's address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) area, options(pure, readonly, nostack, preserves_flags));
    }
    // SAFETY: (1) `install` leaked the area, so it lives for ever; (2) all of its mutable parts are atomics
    // or cells whose owner is named by their type.
    unsafe { &*area }
}
