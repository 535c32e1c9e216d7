//! PVH: `hvm_start_info` and what it points to.
//!
//! Source: Xen, "x86/HVM direct boot ABI" and the header `arch-x86/hvm/start_info.h` that it cites.

use nmiprof_boot::{BootInfo, MemoryRange, Rsdp};

use super::{bytes, read, with_text_screen};

/// Type of the ELF note that names the entry.
pub(super) const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// First word of the information.
pub(super) const START_MAGIC: u32 = 0x336e_c578;
const MEMORY_TYPE_RAM: u32 = 1;
/// More entries than any machine has: a larger number is no number of entries.
const MEMORY_MAP_ENTRIES_MAX: u32 = 4096;

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

/// Copies what the loader left.
///
/// # Safety
/// The address is what a PVH loader put into EBX; the boot page tables are loaded.
pub(super) unsafe fn copy(address: u64) -> BootInfo {
    let mut info = BootInfo::new();
    // SAFETY: (caller).
    if let Some(start) = unsafe { read::<StartInfo>(address) }.filter(|start| start.magic == START_MAGIC) {
        // SAFETY: (1) the magic says that the fields are those of the protocol; (2) (caller).
        unsafe { copy_memory_map(&start, &mut info) };
        // SAFETY: as above.
        unsafe { copy_modules(&start, &mut info) };
        // SAFETY: as above; the line ends with a zero.
        let line = unsafe { bytes(start.command_line, BootInfo::COMMAND_LINE_MAX) };
        if start.command_line != 0 {
            info.set_command_line(line.iter().copied());
        }
        // SAFETY: as above.
        info.set_rsdp(Rsdp::parse(unsafe { bytes(start.rsdp, Rsdp::BYTES) }));
    }
    with_text_screen(info)
}

/// # Safety
/// `start` is what the loader left.
unsafe fn copy_memory_map(start: &StartInfo, info: &mut BootInfo) {
    // The first version has no map.
    let entries = if start.version >= 1 { start.memory_map_entries.min(MEMORY_MAP_ENTRIES_MAX) } else { 0 };
    let list = start.memory_map;
    info.set_memory((0..u64::from(entries)).filter_map(|index| {
        let address = list.saturating_add(index * size_of::<MemoryMapEntry>() as u64);
        // SAFETY: (caller) the loader placed so many entries there.
        let entry = unsafe { read::<MemoryMapEntry>(address) }?;
        Some((MemoryRange::with_len(entry.start, entry.len), entry.kind == MEMORY_TYPE_RAM))
    }));
}

/// # Safety
/// As for [`copy_memory_map`].
unsafe fn copy_modules(start: &StartInfo, info: &mut BootInfo) {
    for index in 0..u64::from(start.modules).min(BootInfo::MODULES_MAX as u64) {
        let address = start.module_list.saturating_add(index * size_of::<Module>() as u64);
        // SAFETY: (caller) the list has so many entries.
        if let Some(module) = unsafe { read::<Module>(address) } {
            info.add_module(MemoryRange::with_len(module.start, module.len));
        }
    }
}
