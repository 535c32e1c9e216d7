//! Segments, and the task state with the interrupt stacks.
//!
//! **IST: NMI, #DF, #MC and #DB each have a stack of their own; #PF, #GP, #BP and #SS never do.** An
//! interrupt-stack entry always starts at the same address: were #PF on one, a page fault in an NMI that
//! interrupted the page-fault handler would overwrite the frame below it.

#![expect(unsafe_code, reason = "loads segment registers and the task register")]

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Kernel code selector: the first descriptor of every table made here.
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data selector: the second one.
pub const KERNEL_DATA: u16 = 0x10;

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
    tss: TaskStateSegment,
}

impl Segments {
    /// Creates tables in which each interrupt stack starts at its given top.
    pub fn new(stack_tops: &[(Ist, VirtAddr)]) -> Self {
        let mut tss = TaskStateSegment::new();
        for (ist, top) in stack_tops {
            tss.interrupt_stack_table[usize::from(*ist as u16)] = *top;
        }
        Self { gdt: GlobalDescriptorTable::new(), tss }
    }

    /// Loads the tables into this CPU, for good.
    ///
    /// # Panics
    /// If the descriptors did not come out in the order that the assembly relies on.
    pub fn load(&'static mut self) {
        let code = self.gdt.append(Descriptor::kernel_code_segment());
        let data = self.gdt.append(Descriptor::kernel_data_segment());
        let tss = self.gdt.append(Descriptor::tss_segment(&self.tss));
        assert!(code.0 == KERNEL_CODE && data.0 == KERNEL_DATA, "the assembly knows these selectors");
        self.gdt.load();
        set_segments(code, data);
        // SAFETY: the descriptor is that of `self.tss`, which lives for ever.
        unsafe { load_tss(tss) };
    }
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
