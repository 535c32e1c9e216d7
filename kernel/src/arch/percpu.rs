//! The per-CPU area, and how each context finds it.
//!
//! Everything that an NMI touches is in the area of its own CPU, or reached from it. There are three ways to it,
//! and GS is the way of one short stretch of code only:
//!
//! | who | how |
//! |---|---|
//! | the NMI path | the top of its own stack has the address; the entries pass it on |
//! | threads and exceptions | [`current`]: the CPU's number is the limit of a segment of its own, which LSL reads |
//! | the SYSCALL entry | GS, between its two SWAPGS: it has no stack yet |
//!
//! Between a SYSCALL and its first SWAPGS the kernel runs with the user's GS base, and an NMI or an exception
//! may come right there. With this division nobody has to guess whose base it is: it is always the user's, but
//! for those few instructions, and nothing that can interrupt them looks at it. Linux's paranoid entry finds
//! its CPU by LSL, too (`arch/x86/include/asm/segment.h`, `GDT_ENTRY_CPUNODE`).

#![expect(unsafe_code, reason = "sets the GS bases and shares one area per CPU")]

use alloc::boxed::Box;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use super::apic::LocalApic;
use super::gdt::{self, RingZeroStack};
use crate::memory::reserve::FrameReserve;
use crate::nmi;
use crate::nmi::mailbox::Message;
use crate::nmi::orders::Order;

/// Most CPUs that the kernel has room for.
pub const CPUS_MAX: u16 = 256;

/// What two CPUs must not share if one of them writes there: two cache lines, for the prefetcher of adjacent lines works
/// in pairs.
pub const SHARED_BYTES: usize = 128;

/// The areas, by number. Each is written once, by its own CPU, before anything there asks for it.
static AREAS: OwnLines<[AtomicPtr<PerCpu>; CPUS_MAX as usize]> =
    OwnLines([const { AtomicPtr::new(ptr::null_mut()) }; CPUS_MAX as usize]);

/// Something on cache lines of its own: for what the NMI path reads and nobody writes any more, which must not lie
/// beside what somebody writes all the time.
#[repr(align(128))]
pub struct OwnLines<T>(pub T);

const _: () = assert!(align_of::<OwnLines<u8>>() == SHARED_BYTES, "no shared cache line");

/// What one CPU owns.
///
/// Aligned to two cache lines, so that no two CPUs share one (adjacent-line prefetch works in pairs).
#[repr(C, align(128))]
pub struct PerCpu {
    /// What the SYSCALL entry finds by GS.
    pub syscall_stack: SyscallStack,
    /// Where interrupts from ring 3 start.
    pub ring_zero_stack: RingZeroStack,
    /// Reasons not to switch to another thread now. Written by this CPU's threads.
    pub preempt_off: AtomicU32,
    /// Number of this CPU, from 0.
    pub index: u16,
    /// Its local APIC.
    pub apic: LocalApic,
    /// What others call that.
    pub apic_id: u32,
    /// What the NMI path of this CPU owns and counts.
    pub nmi: nmi::PerCpu,
    /// Frames for first touches of ring pages.
    pub reserve: FrameReserve,
}

/// The SYSCALL entry's way to a stack. Only this CPU touches it, with interrupts disabled.
#[repr(C)]
pub struct SyscallStack {
    /// Top of the running thread's kernel stack. Written by the scheduler.
    pub top: AtomicU64,
    /// RSP of the user, while the entry has no other place for it.
    pub user_rsp: AtomicU64,
}

/// Offset of the [`SyscallStack`] from the GS base, for the assembly.
pub const SYSCALL_STACK: usize = offset_of!(PerCpu, syscall_stack);

const _: () = {
    assert!(
        align_of::<PerCpu>() == SHARED_BYTES && size_of::<PerCpu>().is_multiple_of(SHARED_BYTES),
        "no shared cache line: the areas of two CPUs lie on different ones"
    );
    // All but the mailbox inside `nmi`, which sees to that itself, is written by this CPU only, so it may be together.
    assert!(
        align_of::<nmi::PerCpu>() == SHARED_BYTES && offset_of!(PerCpu, nmi).is_multiple_of(SHARED_BYTES),
        "no shared cache line: what is aligned inside the NMI's part is so in the area"
    );
};

impl PerCpu {
    /// Makes the area of this CPU and installs it, for good.
    ///
    /// # Panics
    /// If the kernel has no room for the CPU.
    pub fn install(
        index: u16,
        apic: LocalApic,
        ring_zero_stack: RingZeroStack,
        nmi: nmi::PerCpu,
        reserve: FrameReserve,
    ) -> &'static Self {
        assert!(index < CPUS_MAX, "CPU {index} is one too many");
        let [top, user_rsp] = [const { AtomicU64::new(0) }; 2];
        let syscall_stack = SyscallStack { top, user_rsp };
        let preempt_off = AtomicU32::new(0);
        let apic_id = apic.id();
        let area = Self { syscall_stack, ring_zero_stack, preempt_off, index, apic, apic_id, nmi, reserve };
        let area: &'static Self = Box::leak(Box::new(area));
        area.nmi.stack().set_cpu(area);
        AREAS.0[usize::from(index)].store(ptr::from_ref(area).cast_mut(), Ordering::Release);
        KernelGsBase::write(VirtAddr::from_ptr(area));
        GsBase::write(VirtAddr::zero());
        area
    }

    /// Sends an NMI to this CPU, with a message that says what it is about.
    ///
    /// # Context
    /// Any CPU: thread, or the last words of any context.
    pub fn send_nmi(&self, message: Message) {
        self.nmi.mailbox.leave_from_afar(message);
        self.apic.send_nmi(self.apic_id);
    }

    /// Passes the tick on to this CPU, where its counters have something to do.
    ///
    /// # Context
    /// The tick's interrupt, on CPU 0, which alone gets it.
    pub fn tick_from_afar(&self) {
        if self.nmi.wants_tick() {
            self.nmi.mailbox.orders.give(Order::Tick);
            self.send_nmi(Message::Nudge);
        }
    }
}

/// Returns the area of a CPU, if that has one.
///
/// # Context
/// Any.
pub fn of(index: u16) -> Option<&'static PerCpu> {
    let slot = AREAS.0.get(usize::from(index))?;
    // SAFETY: as in `find`.
    unsafe { slot.load(Ordering::Acquire).as_ref() }
}

/// Returns the areas of all CPUs but the one that runs this.
///
/// # Context
/// Any.
pub fn others() -> impl Iterator<Item = &'static PerCpu> {
    let own = find().map(|cpu| cpu.index);
    // They are numbered in the order in which they started, without a gap.
    (0..CPUS_MAX).map_while(of).filter(move |cpu| Some(cpu.index) != own)
}

/// Returns the area of the CPU that runs this.
///
/// # Context
/// Any, after [`PerCpu::install`] on this CPU, with any GS base.
///
/// # Panics
/// Before that.
#[inline]
pub fn current() -> &'static PerCpu {
    find().expect("the CPU's area is installed before anything asks for it")
}

/// Tells whether more than one CPU runs.
#[inline]
pub fn has_others() -> bool {
    of(1).is_some()
}

/// Counts the CPUs that have an area: those that run.
pub fn installed() -> usize {
    // Relaxed: for their number alone.
    AREAS.0.iter().filter(|slot| !slot.load(Ordering::Relaxed).is_null()).count()
}

/// Returns the area of the CPU that runs this, if it is installed already.
///
/// # Context
/// Any, after the CPU has loaded its segments.
#[inline]
pub fn find() -> Option<&'static PerCpu> {
    let slot = AREAS.0.get(gdt::cpu_number() as usize)?;
    // SAFETY: (1) not null means that `install` has leaked the area, so it lives for ever; (2) all of its
    // mutable parts are atomics or cells whose owner is named by their type.
    unsafe { slot.load(Ordering::Acquire).as_ref() }
}
