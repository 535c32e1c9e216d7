//! Loading the descriptor tables again, so that NMIs can come in between.
//!
//! The code is that of bring-up: GDT, code segment, stack and data segments, task register, IDT. Each call moves to a
//! copy of the tables that this CPU uses, so an NMI in the middle sees new tables beside old ones.

#![expect(unsafe_code, reason = "copies descriptor tables and loads them")]

use alloc::boxed::Box;
use core::arch::global_asm;
use core::ops::Range;
use core::{ptr, slice};

use x86_64::VirtAddr;
use x86_64::instructions::tables::{sgdt, sidt};
use x86_64::structures::DescriptorTablePointer;

use super::frame::WORD;
use super::gdt::{KERNEL_CODE, KERNEL_DATA};

/// Type bit of a task-state descriptor that says that a task register refers to it.
const BUSY: u64 = 1 << 41;

// One label at each end; the selector of the task state is in EDX.
global_asm!(
    ".global reload_tables",
    "reload_tables:",
    "lgdt [rdi]",
    "push {KERNEL_CODE}",
    "push offset reload_code_segment",
    "retfq",
    "reload_code_segment:",
    "mov eax, {KERNEL_DATA}",
    "mov ss, eax",
    "mov ds, eax",
    "mov es, eax",
    "ltr dx",
    "lidt [rsi]",
    ".global reload_tables_end",
    "reload_tables_end:",
    "ret",
    ".global read_task_register",
    "read_task_register:",
    "str eax",
    "ret",
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
);

/// Instructions from the first load to the last.
pub const INSTRUCTIONS: u64 = 10;

unsafe extern "C" {
    fn reload_tables(gdt: *const DescriptorTablePointer, idt: *const DescriptorTablePointer, task: u64);
    safe static reload_tables_end: u8;
    fn read_task_register() -> u32;
}

/// Two sets of tables: the one in use, and the one to move to.
pub struct Tables([Set; 2]);

struct Set {
    gdt: DescriptorTablePointer,
    idt: DescriptorTablePointer,
}

impl Tables {
    /// Copies the tables that this CPU uses.
    pub fn copy() -> Self {
        let used = Set { gdt: sgdt(), idt: sidt() };
        let copied = Set { gdt: copy(&used.gdt), idt: copy(&used.idt) };
        Self([used, copied])
    }

    /// Loads the set that is not in use.
    pub fn reload(&mut self) {
        self.0.swap(0, 1);
        let set = &self.0[0];
        // SAFETY: there is always a task register.
        let task = unsafe { read_task_register() } & 0xffff;
        let descriptor = (set.gdt.base.as_ptr::<u64>()).wrapping_add(task as usize / WORD).cast_mut();
        // SAFETY: the table is this set's own, mapped for writing, and not in use now.
        let value = unsafe { ptr::read_volatile(descriptor) };
        // SAFETY: as above; `ltr` faults on a busy descriptor.
        unsafe { ptr::write_volatile(descriptor, value & !BUSY) };
        // SAFETY: both sets hold the same descriptors, which live for ever.
        unsafe { reload_tables(&raw const set.gdt, &raw const set.idt, u64::from(task)) };
    }

    /// Returns the addresses of the code that loads.
    pub fn code() -> Range<u64> {
        reload_tables as *const () as u64..(&raw const reload_tables_end).addr() as u64
    }
}

/// Copies a table, for good.
fn copy(table: &DescriptorTablePointer) -> DescriptorTablePointer {
    let words = (usize::from(table.limit) + 1) / WORD;
    // SAFETY: the CPU uses the table, so that many words are there; only `reload` writes, to a set not in use.
    let used = unsafe { slice::from_raw_parts(table.base.as_ptr::<u64>(), words) };
    let copied: &'static mut [u64] = Box::leak(Box::from(used));
    DescriptorTablePointer { limit: table.limit, base: VirtAddr::from_ptr(copied.as_ptr()) }
}
