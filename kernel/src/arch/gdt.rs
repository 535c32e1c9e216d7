//! Segments, and the task state with the interrupt stacks.
//!
//! **IST: NMI, #DF, #MC and #DB each have a stack of their own; #PF, #GP, #BP and #SS never do.** An
//! interrupt-stack entry always starts at the same address: were #PF on one, a page fault in an NMI that
//! interrupted the page-fault handler would overwrite the frame below it.
//!
//! The order of the descriptors is that of SYSCALL and SYSRET (SDM volume 2, "SYSRET"): kernel code and data, user
//! data and code. One more segment has the CPU's number as its limit, for [`cpu_number`]. There is no local
//! table, and no 16-bit stack segment that a user could load (case 32), so no `iret` loses half of an RSP.

#![expect(unsafe_code, reason = "loads segment registers and the task register")]

use core::arch::asm;
use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, DescriptorFlags, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Kernel code selector: the first descriptor of every table made here.
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data selector: the second one.
pub const KERNEL_DATA: u16 = 0x10;
/// User data selector, with its privilege level.
pub const USER_DATA: u16 = 0x18 | RING_3;
/// User code selector, with its privilege level.
pub const USER_CODE: u16 = 0x20 | RING_3;
/// The segment whose limit is the CPU's number.
const CPU_NUMBER: u16 = 0x28;

/// The privilege level in a selector: that of user code.
pub const RING_3: u16 = 3;

const _: () = assert!(KERNEL_DATA == KERNEL_CODE + 8, "SYSCALL takes SS from the descriptor after CS");
const _: () = assert!(USER_CODE == USER_DATA + 8, "SYSRET takes CS from the descriptor after SS");
const _: () = assert!(
    DescriptorFlags::USER_DATA.contains(DescriptorFlags::DEFAULT_SIZE),
    "case 32: the only stack segment that a user can load is not a 16-bit one"
);

/// Index into the interrupt stack table.
#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Ist {
    /// Vector 2.
    Nmi = 0,
    /// Vector 8.
    DoubleFault = 1,
    /// Vector 18.
    MachineCheck = 2,
    /// Vector 1.
    Debug = 3,
}

/// The segment tables of one CPU.
pub struct Segments {
    gdt: GlobalDescriptorTable,
    /// Read by the CPU; written by whoever has its [`RingZeroStack`].
    tss: UnsafeCell<TaskStateSegment>,
}

/// Where interrupts from ring 3 start on one CPU.
pub struct RingZeroStack(*mut [VirtAddr; 3]);

// SAFETY: the word is written by its own CPU only, and read by the CPU itself.
unsafe impl Send for RingZeroStack {}
// SAFETY: as for `Send`.
unsafe impl Sync for RingZeroStack {}

impl RingZeroStack {
    /// Sets the top of the stack.
    ///
    /// # Context
    /// Interrupts disabled, on the CPU that owns it.
    pub fn set(&self, top: VirtAddr) {
        let first = self.0.cast::<VirtAddr>();
        // SAFETY: (1) it points into a task state that lives for ever; (2) (caller) nothing else on this CPU
        // writes it now; unaligned, because the table has words of 4 bytes.
        unsafe { first.write_unaligned(top) };
    }
}

impl Segments {
    /// Creates tables in which each interrupt stack starts at its given top.
    pub fn new(stack_tops: &[(Ist, VirtAddr)]) -> Self {
        let mut tss = TaskStateSegment::new();
        for (ist, top) in stack_tops {
            tss.interrupt_stack_table[usize::from(*ist as u16)] = *top;
        }
        Self { gdt: GlobalDescriptorTable::new(), tss: UnsafeCell::new(tss) }
    }

    /// Loads the tables into this CPU, for good.
    ///
    /// # Panics
    /// If the descriptors did not come out in the order that the assembly relies on.
    pub fn load(&'static mut self, cpu_number: u16) -> RingZeroStack {
        let code = self.gdt.append(Descriptor::kernel_code_segment());
        let data = self.gdt.append(Descriptor::kernel_data_segment());
        let user_data = self.gdt.append(Descriptor::user_data_segment());
        let user_code = self.gdt.append(Descriptor::user_code_segment());
        let number = self.gdt.append(Descriptor::UserSegment(number_segment(cpu_number)));
        // SAFETY: the task state lives for ever.
        let descriptor = unsafe { Descriptor::tss_segment_unchecked(self.tss.get()) };
        let tss = self.gdt.append(descriptor);
        let order = [code, data, user_data, user_code, number].map(|selector| selector.0);
        assert!(
            order == [KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE, CPU_NUMBER],
            "the assembly knows these selectors"
        );
        let ring_zero = self.tss.get();
        self.gdt.load();
        set_segments(code, data);
        // SAFETY: the descriptor is that of `self.tss`, which lives for ever.
        unsafe { load_tss(tss) };
        // SAFETY: the pointer is that of a live task state; no reference is made.
        RingZeroStack(unsafe { &raw mut (*ring_zero).privilege_stack_table })
    }
}

/// A data segment that only the kernel may look at, and whose limit, in bytes, is the CPU's number.
fn number_segment(number: u16) -> u64 {
    let kind = DescriptorFlags::PRESENT | DescriptorFlags::USER_SEGMENT | DescriptorFlags::ACCESSED;
    // No stack segment, for it can't be written; and of 32 bits, so that nobody need know that (case 32).
    let flags = kind | DescriptorFlags::DEFAULT_SIZE;
    flags.bits() | u64::from(number)
}

/// Returns the number of the CPU that runs this.
///
/// # Context
/// Any, after the CPU has loaded its segments: what it reads is the CPU's own, whatever the registers hold.
#[inline]
pub fn cpu_number() -> u32 {
    let limit: u32;
    // SAFETY: reads the limit of a segment in the loaded table; before that table there is no such segment,
    // and the result is out of range.
    unsafe {
        asm!(
            "lsl {limit:e}, {selector:e}",
            limit = inout(reg) u32::MAX => limit,
            selector = in(reg) u32::from(CPU_NUMBER),
            options(nomem, nostack),
        );
    }
    limit
}

fn set_segments(code: SegmentSelector, data: SegmentSelector) {
    // SAFETY: the selector is that of a 64-bit code segment in the table just loaded.
    unsafe { CS::set_reg(code) };
    // SAFETY: the selector is that of a data segment in the table just loaded.
    unsafe { SS::set_reg(data) };
    // SAFETY: as for SS.
    unsafe { DS::set_reg(data) };
    // SAFETY: as for SS.
    unsafe { ES::set_reg(data) };
}
