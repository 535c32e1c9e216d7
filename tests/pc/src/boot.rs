//! The kernel's image in memory, and the PVH handover: what QEMU's `-kernel` does.
//!
//! Sources: Xen, "x86/HVM direct boot ABI"; System V ABI, "Program Loading".

use std::collections::HashMap;
use std::ops::Range;

use object::elf::{NoteType, PF_X, PT_LOAD, PT_NOTE};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _, SymbolKind};
use unicorn_engine::RegisterX86;

use crate::engine::{CpuState, Engine, Segment};
use crate::ram::Ram;
use crate::watch::Watch;

const XEN_ELFNOTE_PHYS32_ENTRY: NoteType = NoteType(18);
const START_MAGIC: u32 = 0x336e_c578;
const START_INFO: u64 = 0x1000;
const MODULE_LIST: u64 = 0x1100;
const MEMORY_MAP: u64 = 0x1200;
const COMMAND_LINE: u64 = 0x2000;
const PAGE_BYTES: u64 = 4096;
/// End of the memory below the devices' addresses of old.
const LOW_END: u64 = 0x9_fc00;
const HIGH_START: u64 = 0x10_0000;

/// An image, as far as the machine needs it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Physical address of the first instruction.
    pub entry: u32,
    /// Addresses of its instructions.
    pub text: Range<u64>,
    segments: Vec<(u64, &'static [u8])>,
    symbols: HashMap<String, Range<u64>>,
}

impl Kernel {
    /// Reads the image.
    ///
    /// # Panics
    /// If it is none that a PVH loader could start.
    #[must_use]
    pub fn parse(elf: &'static [u8]) -> Self {
        let file = ElfFile64::<Endianness>::parse(elf).expect("an ELF file of 64 bits");
        let endian = file.endian();
        let headers = file.elf_header().program_headers(endian, elf).expect("program headers");
        let loaded = || headers.iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let segments = loaded()
            .map(|header| (header.p_paddr(endian), header.data(endian, elf).expect("inside the file")))
            .collect();
        let text = loaded().find(|header| header.p_flags(endian).contains(PF_X)).expect("a segment of code");
        let start = text.p_vaddr(endian);
        let notes = headers.iter().filter(|header| header.p_type(endian) == PT_NOTE);
        let notes = notes.filter_map(|header| header.notes(endian, elf).ok().flatten());
        let entry = notes.flat_map(|mut notes| std::iter::from_fn(move || notes.next().ok().flatten()));
        let entry =
            entry.filter(|note| note.name() == b"Xen" && note.n_type(endian) == XEN_ELFNOTE_PHYS32_ENTRY);
        let entry = entry.map(|note| note.desc()[..4].try_into().expect("four bytes")).next();
        Self {
            entry: u32::from_le_bytes(entry.expect("a PVH entry")),
            text: start..start + text.p_memsz(endian),
            segments,
            symbols: symbols(&file),
        }
    }

    /// Finds a symbol by its demangled name.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Range<u64>> {
        self.symbols.get(name).cloned()
    }

    /// Returns all symbols.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, &Range<u64>)> {
        self.symbols.iter().map(|(name, range)| (name.as_str(), range))
    }

    fn load(&self, ram: &mut Ram) {
        for (address, bytes) in &self.segments {
            ram.write_physical(*address, bytes).expect("the image fits into RAM");
        }
    }
}

fn symbols(file: &ElfFile64<'_>) -> HashMap<String, Range<u64>> {
    let code = file
        .symbols()
        .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown));
    let named = code.filter_map(|symbol| {
        let name = symbol.name().ok().filter(|name| !name.is_empty())?;
        let name = format!("{:#}", rustc_demangle::demangle(name));
        Some((name, symbol.address()..symbol.address() + symbol.size().max(1)))
    });
    named.collect()
}

/// Loads the kernel, its command line and a module, and puts the CPU where PVH says.
///
/// # Panics
/// If RAM does not suffice.
pub fn start(engine: &mut Engine<Watch>, kernel: &Kernel, command_line: &str, module: &[u8]) {
    let ram = engine.ram_mut();
    kernel.load(ram);
    let module_start = (ram.len() - module.len() as u64) & !(PAGE_BYTES - 1);
    ram.write_physical(module_start, module).expect("the module fits into RAM");
    hand_over(ram, command_line, module_start, module.len() as u64);
    set_registers(engine, kernel.entry);
}

fn hand_over(ram: &mut Ram, command_line: &str, module_start: u64, module_bytes: u64) {
    let modules = u32::from(module_bytes > 0);
    let mut info = Vec::new();
    for word in [START_MAGIC, 1, 0, modules] {
        info.extend(word.to_le_bytes());
    }
    let ranges = [(0, LOW_END), (HIGH_START, ram.len() - HIGH_START)];
    for word in [MODULE_LIST, COMMAND_LINE, 0, MEMORY_MAP, ranges.len() as u64] {
        info.extend(word.to_le_bytes());
    }
    let mut put = |address, bytes: &[u8]| ram.write_physical(address, bytes).expect("low memory is RAM");
    put(START_INFO, &info);
    put(MODULE_LIST, [module_start, module_bytes, 0, 0].map(u64::to_le_bytes).as_flattened());
    for (index, (start, len)) in (0..).zip(ranges) {
        const RAM_KIND: u64 = 1;
        put(MEMORY_MAP + index * 24, [start, len, RAM_KIND].map(u64::to_le_bytes).as_flattened());
    }
    put(COMMAND_LINE, &[command_line.as_bytes(), &[0]].concat());
}

/// Sets protected mode of 32 bits with flat segments and no paging.
fn set_registers(engine: &mut Engine<Watch>, entry: u32) {
    const PROTECTED: u64 = 1;
    const MODE_LONG: u32 = 1 << 14 | 1 << 15;
    const FLAT_CODE: u32 = 0x00cf_9b00;
    const FLAT_DATA: u32 = 0x00cf_9300;
    const RBX: usize = 3;
    const EFER: u32 = 0xc000_0080;
    engine.set_control(RegisterX86::CR4, 0);
    engine.set_control(RegisterX86::CR0, PROTECTED);
    engine.set_msr(EFER, 0);
    let mut state = engine.state();
    state.mode &= !MODE_LONG;
    let flat = |selector, attributes| Segment { selector, base: 0, limit: u32::MAX, attributes };
    state.segments = [flat(0x10, FLAT_DATA); 6];
    state.segments[CpuState::CS] = flat(0x08, FLAT_CODE);
    state.general[RBX] = START_INFO;
    state.rip = u64::from(entry);
    engine.set_state(&state);
}
