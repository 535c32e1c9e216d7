//! From the boot loader to Rust: the PVH entry and what the loader hands over.
//!
//! [`BootInfo`] is a bounded copy: the loader's structures lie in RAM that the frame allocator may
//! hand out, so nothing may point into them once memory is in use.
//!
//! Source: the PVH boot protocol (Xen, "x86/HVM direct boot ABI"; `hvm_start_info`).

#![expect(unsafe_code, reason = "reads the loader's structures at physical addresses")]

use core::arch::global_asm;
use core::{ptr, slice, str};

use super::layout::{DIRECT_MAP, KERNEL_BASE, direct};

const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const START_MAGIC: u32 = 0x336e_c578;
const MEMORY_TYPE_RAM: u32 = 1;
const BOOT_STACK_LEN: usize = 32 << 10;

global_asm!(
    include_str!("boot.S"),
    XEN_ELFNOTE_PHYS32_ENTRY = const XEN_ELFNOTE_PHYS32_ENTRY,
    KERNEL_BASE = const KERNEL_BASE,
    DIRECT_MAP_SLOT = const (DIRECT_MAP >> 39) & 511,
    KERNEL_SLOT = const (KERNEL_BASE >> 39) & 511,
    CR4_PAE = const 1 << 5,
    IA32_EFER = const 0xc000_0080_u32,
    EFER_LME_NXE = const (1 << 8) | (1 << 11),
    CR0_PG_WP = const (1_u32 << 31) | (1 << 16),
    BOOT_CODE_SELECTOR = const 8,
    // Present, code, readable, long mode: the only bits that 64-bit mode looks at.
    BOOT_CODE_DESCRIPTOR = const 0x00af_9a00_0000_ffff_u64,
    TABLE = const 0b11,
    HUGE_PAGE = const 0b1000_0011,
    BOOT_STACK_LEN = const BOOT_STACK_LEN,
    boot_entry = sym boot_entry,
);

/// What the boot loader handed over.
pub struct BootInfo {
    memory: [MemoryRange; Self::RANGES_MAX],
    memory_len: usize,
    command_line: [u8; Self::COMMAND_LINE_MAX],
    command_line_len: usize,
    module: MemoryRange,
}

/// A run of usable RAM.
#[derive(Clone, Copy)]
pub struct MemoryRange {
    /// First byte, as a physical address.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl BootInfo {
    const RANGES_MAX: usize = 64;
    const COMMAND_LINE_MAX: usize = 2048;

    /// Returns the usable RAM, as the loader described it.
    pub fn memory(&self) -> &[MemoryRange] {
        &self.memory[..self.memory_len]
    }

    /// Returns where the boot module is; an empty range where there is none.
    pub const fn module_range(&self) -> MemoryRange {
        self.module
    }

    /// Returns the boot module. It lies in RAM that nobody else gets.
    ///
    /// # Context
    /// After the kernel's address space was built.
    pub fn module(&self) -> &'static [u8] {
        let MemoryRange { start, end } = self.module;
        let len = usize::try_from(end - start).unwrap_or_default();
        if len == 0 {
            return &[];
        }
        // SAFETY: (1) the loader put the module there, in RAM (checked when it was found), which the direct map
        // covers; (2) the frame allocator leaves that range out, so nobody writes it.
        unsafe { slice::from_raw_parts(direct::<u8>(start), len) }
    }

    /// Returns the command line; text that is not UTF-8 ends it.
    pub fn command_line(&self) -> &str {
        let bytes = &self.command_line[..self.command_line_len];
        str::from_utf8(bytes)
            .unwrap_or_else(|error| str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default())
    }
}

/// `hvm_start_info`, version 1.
#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// `hvm_modlist_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    start: u64,
    len: u64,
    command_line: u64,
    reserved: u64,
}

/// `hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MemoryMapEntry {
    start: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

/// Continues from the assembly: copies the loader's information and enters `main`.
///
/// # Safety
/// `start_info` is the physical address of an `hvm_start_info`, and the boot page tables are loaded.
unsafe extern "C" fn boot_entry(start_info: u64) -> ! {
    // SAFETY: (1) (caller) the address is what the loader put into EBX; (2) the boot tables map the
    // first 4 GiB at DIRECT_MAP, which holds every structure of a 32-bit loader.
    let info = unsafe { copy_boot_info(start_info) };
    crate::kernel_main(info)
}

/// # Safety
/// As for [`boot_entry`].
unsafe fn copy_boot_info(start_info: u64) -> BootInfo {
    let mut info = BootInfo {
        memory: [MemoryRange { start: 0, end: 0 }; BootInfo::RANGES_MAX],
        memory_len: 0,
        command_line: [0; BootInfo::COMMAND_LINE_MAX],
        command_line_len: 0,
        module: MemoryRange { start: 0, end: 0 },
    };
    // SAFETY: (caller) the structure is there and mapped.
    let start = unsafe { ptr::read_unaligned(direct::<StartInfo>(start_info)) };
    if start.magic == START_MAGIC {
        // SAFETY: (1) the magic says that the fields are those of the protocol; (2) (caller).
        unsafe { copy_command_line(start.command_line, &mut info) };
        if start.version >= 1 {
            // SAFETY: (1) version 1 has a memory map; (2) (caller).
            unsafe { copy_memory_map(&start, &mut info) };
        }
        // SAFETY: (1) as for the command line; (2) (caller).
        unsafe { find_module(&start, &mut info) };
    }
    info
}

/// # Safety
/// `address` is 0 or the physical address of a mapped, zero-terminated string.
unsafe fn copy_command_line(address: u64, info: &mut BootInfo) {
    if address == 0 {
        return;
    }
    for slot in &mut info.command_line {
        let offset = info.command_line_len as u64;
        // SAFETY: (caller) every byte up to the zero is mapped, and the loop ends at the zero.
        let byte = unsafe { ptr::read(direct::<u8>(address + offset)) };
        if byte == 0 {
            break;
        }
        *slot = byte;
        info.command_line_len += 1;
    }
}

/// Notes where the first module is, if it lies in RAM.
///
/// # Safety
/// `start` describes a mapped list of modules.
unsafe fn find_module(start: &StartInfo, info: &mut BootInfo) {
    if start.modules == 0 {
        return;
    }
    // SAFETY: (caller) the list has at least one entry.
    let module = unsafe { ptr::read_unaligned(direct::<Module>(start.module_list)) };
    let end = module.start.saturating_add(module.len);
    let holds = |ram: &MemoryRange| ram.start <= module.start && end <= ram.end;
    if info.memory().iter().any(holds) {
        info.module = MemoryRange { start: module.start, end };
    }
}

/// # Safety
/// `start` describes a mapped memory map.
unsafe fn copy_memory_map(start: &StartInfo, info: &mut BootInfo) {
    let entries = direct::<MemoryMapEntry>(start.memory_map);
    // SAFETY: (caller) the loader placed `memory_map_entries` entries there.
    let entries = unsafe { slice::from_raw_parts(entries, start.memory_map_entries as usize) };
    let ram = entries.iter().filter(|entry| entry.kind == MEMORY_TYPE_RAM && entry.len > 0);
    for (slot, entry) in info.memory.iter_mut().zip(ram) {
        *slot = MemoryRange { start: entry.start, end: entry.start.saturating_add(entry.len) };
        info.memory_len += 1;
    }
}
