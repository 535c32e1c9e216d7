//! A kernel's image in memory, and the PVH handover: what QEMU's `-kernel` does. `multiboot.rs` has the other one.
//!
//! Sources: Xen, "x86/HVM direct boot ABI"; System V ABI, "Program Loading".

use std::collections::HashMap;
use std::ops::Range;

use object::elf::{FileHeader32, FileHeader64, NoteType, PF_X, PT_LOAD, PT_NOTE};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _, SymbolKind};
use unicorn_engine::RegisterX86;

use crate::acpi;
use crate::config::Config;
use crate::engine::{CpuState, Engine, Segment};
use crate::multiboot;
use crate::ram::Ram;
use crate::watch::Watch;

const XEN_ELFNOTE_PHYS32_ENTRY: NoteType = NoteType(18);
const START_MAGIC: u32 = 0x336e_c578;
/// Where the information is for which a protocol has a structure.
pub const START_INFO: u64 = 0x1000;
/// Where modules are listed.
pub const MODULE_LIST: u64 = 0x1100;
/// Where memory is described.
pub const MEMORY_MAP: u64 = 0x1200;
/// Where the command line is.
pub const COMMAND_LINE: u64 = 0x2000;
const PAGE_BYTES: u64 = 4096;
/// End of the memory below the devices' addresses of old.
pub const LOW_END: u64 = 0x9_fc00;
/// Start of the memory above them.
pub const HIGH_START: u64 = 0x10_0000;
const RAX: usize = 0;
const RBX: usize = 3;

/// An image, as far as the machine needs it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Physical address of the first instruction.
    pub entry: u32,
    /// Addresses of its instructions.
    pub text: Range<u64>,
    protocol: Protocol,
    segments: Vec<(u64, &'static [u8])>,
    symbols: HashMap<String, Range<u64>>,
}

/// How the machine is handed over to a kernel; both ways start in protected mode of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PVH, the usual way.
    Pvh,
    /// Multiboot 1, the way of foreign images.
    Multiboot,
}

impl Kernel {
    /// Reads an image with a PVH entry.
    ///
    /// # Panics
    /// If it is none that a PVH loader could start.
    #[must_use]
    pub fn parse(elf: &'static [u8]) -> Self {
        let kernel = Self::parse_as::<FileHeader64<Endianness>>(elf, Protocol::Pvh);
        kernel.expect("a kernel with a PVH entry")
    }

    /// Reads an image with a Multiboot 1 header, of 32 or 64 bits; `None` where it is no such image.
    #[must_use]
    pub fn parse_multiboot(elf: &'static [u8]) -> Option<Self> {
        multiboot::find_header(elf)?;
        Self::parse_as::<FileHeader32<Endianness>>(elf, Protocol::Multiboot)
            .or_else(|| Self::parse_as::<FileHeader64<Endianness>>(elf, Protocol::Multiboot))
    }

    fn parse_as<Header: FileHeader<Endian = Endianness>>(
        elf: &'static [u8],
        protocol: Protocol,
    ) -> Option<Self> {
        let file = ElfFile::<Header>::parse(elf).ok()?;
        let endian = file.endian();
        let headers = file.elf_header().program_headers(endian, elf).ok()?;
        let loaded = || headers.iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let segments = loaded()
            .map(|header| Some((header.p_paddr(endian).into(), header.data(endian, elf).ok()?)))
            .collect::<Option<_>>()?;
        let text = loaded().find(|header| header.p_flags(endian).contains(PF_X))?;
        let start = text.p_vaddr(endian).into();
        let entry = match protocol {
            Protocol::Pvh => pvh_entry(headers, endian, elf)?,
            Protocol::Multiboot => u32::try_from(file.entry()).ok()?,
        };
        Some(Self {
            entry,
            text: start..start + text.p_memsz(endian).into(),
            protocol,
            segments,
            symbols: symbols(&file),
        })
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

/// Finds the entry that a note of the image names.
fn pvh_entry<Header: object::read::elf::ProgramHeader<Endian = Endianness>>(
    headers: &[Header],
    endian: Endianness,
    elf: &'static [u8],
) -> Option<u32> {
    let notes = headers.iter().filter(|header| header.p_type(endian) == PT_NOTE);
    let notes = notes.filter_map(|header| header.notes(endian, elf).ok().flatten());
    let mut notes = notes.flat_map(|mut notes| std::iter::from_fn(move || notes.next().ok().flatten()));
    let entry =
        notes.find(|note| note.name() == b"Xen" && note.n_type(endian) == XEN_ELFNOTE_PHYS32_ENTRY)?;
    Some(u32::from_le_bytes(entry.desc().get(..4)?.try_into().ok()?))
}

fn symbols<Header: FileHeader>(file: &ElfFile<'_, Header>) -> HashMap<String, Range<u64>> {
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

/// Loads the kernel, its command line, a module and the firmware's tables, and puts the CPU where its protocol says.
///
/// # Panics
/// If RAM does not suffice.
pub fn start(engine: &mut Engine<Watch>, kernel: &Kernel, config: &Config) {
    let (command_line, module) = (&config.command_line, &config.module);
    let ram = engine.ram_mut();
    kernel.load(ram);
    let rsdp = if config.has_io_apic { acpi::place(ram, config.has_hpet) } else { 0 };
    let module_start = (ram.len() - module.len() as u64) & !(PAGE_BYTES - 1);
    ram.write_physical(module_start, module).expect("the module fits into RAM");
    let module = module_start..module_start + module.len() as u64;
    let magic = match kernel.protocol {
        Protocol::Pvh => {
            hand_over(ram, command_line, module, rsdp);
            0
        }
        Protocol::Multiboot => multiboot::hand_over(ram, command_line, module),
    };
    set_registers(engine, kernel.entry, magic);
}

fn hand_over(ram: &mut Ram, command_line: &str, module: Range<u64>, rsdp: u64) {
    let (module_start, module_bytes) = (module.start, module.end - module.start);
    let modules = u32::from(module_bytes > 0);
    let mut info = Vec::new();
    for word in [START_MAGIC, 1, 0, modules] {
        info.extend(word.to_le_bytes());
    }
    let ranges = [(0, LOW_END), (HIGH_START, ram.len() - HIGH_START)];
    for word in [MODULE_LIST, COMMAND_LINE, rsdp, MEMORY_MAP, ranges.len() as u64] {
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
fn set_registers(engine: &mut Engine<Watch>, entry: u32, magic: u32) {
    const PROTECTED: u64 = 1;
    const MODE_LONG: u32 = 1 << 14 | 1 << 15;
    const FLAT_CODE: u32 = 0x00cf_9b00;
    const FLAT_DATA: u32 = 0x00cf_9300;
    const EFER: u32 = 0xc000_0080;
    engine.set_control(RegisterX86::CR4, 0);
    engine.set_control(RegisterX86::CR0, PROTECTED);
    engine.set_msr(EFER, 0);
    let mut state = engine.state();
    state.mode &= !MODE_LONG;
    let flat = |selector, attributes| Segment { selector, base: 0, limit: u32::MAX, attributes };
    state.segments = [flat(0x10, FLAT_DATA); 6];
    state.segments[CpuState::CS] = flat(0x08, FLAT_CODE);
    state.general[RAX] = u64::from(magic);
    state.general[RBX] = START_INFO;
    state.rip = u64::from(entry);
    engine.set_state(&state);
}
