//! Multiboot2: the header's numbers, and the information that the loader leaves.
//!
//! The information is one block: its length, then tags of a type and a length each, every one at a multiple of 8 bytes.
//! A tag that claims more than the block has left ends the reading; a field that its tag is too short for is not
//! there. Tags may come in any order, so the map is read first: modules have to lie in it.
//!
//! Source: "Multiboot2 Specification version 2.0".

use crate::{BootInfo, MemoryRange, Rsdp, Screen};

/// First word of the header.
pub const HEADER_MAGIC: u32 = 0xe852_50d6;
/// The header lies within so many bytes of the start of the file.
pub const HEADER_END_MAX: usize = 32 << 10;
/// What EAX holds when the loader enters the kernel.
pub const ENTRY_MAGIC: u32 = 0x36d7_6289;
/// Most bytes of information that are looked at: a map of 10,000 entries is shorter.
pub const INFO_BYTES_MAX: usize = 1 << 20;

/// Numbers of the header.
pub mod header {
    /// Architecture: a 32-bit entry on x86.
    pub const I386: u32 = 0;
    /// Flag of a tag: a loader that does not know it may go on.
    pub const OPTIONAL: u16 = 1;
    /// Tag: no more tags.
    pub const END: u16 = 0;
    /// Tag: the loader has to hand these over.
    pub const REQUEST: u16 = 1;
    /// Tag: where to enter, as a physical address.
    pub const ENTRY: u16 = 3;
    /// Tag: a framebuffer is wanted.
    pub const FRAMEBUFFER: u16 = 5;
    /// Tag: modules start on page boundaries.
    pub const ALIGN_MODULES: u16 = 6;
}

/// Tags of the information that this kernel understands.
pub mod tag {
    /// No more tags.
    pub const END: u32 = 0;
    /// The command line, ended by a zero.
    pub const COMMAND_LINE: u32 = 1;
    /// First byte of a module, the one past its last, and its name.
    pub const MODULE: u32 = 3;
    /// Length of an entry, version, entries.
    pub const MEMORY_MAP: u32 = 6;
    /// Address, pitch, width, height, bits, type.
    pub const FRAMEBUFFER: u32 = 8;
    /// A copy of the ACPI root pointer, as of ACPI 1.0.
    pub const RSDP_1_0: u32 = 14;
    /// A copy of the ACPI root pointer, since ACPI 2.0.
    pub const RSDP_2_0: u32 = 15;
}

const ALIGN: usize = 8;
/// What a tag starts with: type and length.
const TAG_HEAD_BYTES: usize = 8;
/// What the information starts with: its length and a reserved word.
const INFO_HEAD_BYTES: usize = 8;
const MEMORY_AVAILABLE: u32 = 1;

/// Returns how long the information says to be, cut to what is worth reading.
#[must_use]
pub fn info_len(first_word: u32) -> usize {
    usize::try_from(first_word).unwrap_or(usize::MAX).min(INFO_BYTES_MAX)
}

/// Reads the information.
#[must_use]
pub fn parse(bytes: &[u8]) -> BootInfo {
    let mut info = BootInfo::new();
    let of_type = |wanted: u32| tags(bytes).filter(move |tag| tag.kind == wanted);
    let entries = of_type(tag::MEMORY_MAP).flat_map(|tag| memory_map(tag.body));
    info.set_memory(entries);
    if let Some(screen) = of_type(tag::FRAMEBUFFER).find_map(|tag| screen(tag.body)) {
        info.set_screen(screen);
    }
    of_type(tag::MODULE).filter_map(|tag| module(tag.body)).for_each(|module| info.add_module(module));
    if let Some(line) = of_type(tag::COMMAND_LINE).next() {
        info.set_command_line(line.body.iter().copied());
    }
    let newest_first = of_type(tag::RSDP_2_0).chain(of_type(tag::RSDP_1_0));
    info.set_rsdp(newest_first.filter_map(|tag| Rsdp::parse(tag.body)).next());
    info
}

/// One tag of the information.
#[derive(Clone, Copy)]
struct Tag<'a> {
    kind: u32,
    body: &'a [u8],
}

/// Walks the tags up to the end tag, or up to one that can't be.
fn tags(bytes: &[u8]) -> impl Iterator<Item = Tag<'_>> + Clone {
    let len = word(bytes, 0).map_or(0, info_len);
    let mut rest = bytes.get(INFO_HEAD_BYTES..len.min(bytes.len())).unwrap_or_default();
    core::iter::from_fn(move || {
        let (kind, len) = (word(rest, 0)?, usize::try_from(word(rest, 4)?).ok()?);
        let body = rest.get(TAG_HEAD_BYTES..len).filter(|_| kind != tag::END)?;
        // The last tag need not be padded.
        rest = rest.get(len.checked_next_multiple_of(ALIGN)?..).unwrap_or_default();
        Some(Tag { kind, body })
    })
}

/// Walks the memory map: each entry's range, and whether it is RAM.
fn memory_map(body: &[u8]) -> impl Iterator<Item = (MemoryRange, bool)> + Clone + '_ {
    const HEAD_BYTES: usize = 8;
    const ENTRY_BYTES: usize = 20;
    let entry_len = word(body, 0).and_then(|len| usize::try_from(len).ok()).unwrap_or_default();
    let entries = body.get(HEAD_BYTES..).unwrap_or_default();
    // A later version of the protocol may have longer entries; a shorter one is none.
    entries.chunks_exact(entry_len.max(ENTRY_BYTES)).filter_map(|entry| {
        let range = MemoryRange::with_len(long(entry, 0)?, long(entry, 8)?);
        Some((range, word(entry, 16)? == MEMORY_AVAILABLE))
    })
}

fn module(body: &[u8]) -> Option<MemoryRange> {
    Some(MemoryRange { start: word(body, 0)?.into(), end: word(body, 4)?.into() })
}

fn screen(body: &[u8]) -> Option<Screen> {
    const TYPE_RGB: u8 = 1;
    const TYPE_TEXT: u8 = 2;
    let address = long(body, 0)?;
    let (pitch, width, height) = (word(body, 8)?, word(body, 12)?, word(body, 16)?);
    let (bits, kind) = (*body.get(20)?, *body.get(21)?);
    match kind {
        TYPE_RGB => Screen::pixels(address, pitch, width, height, bits),
        TYPE_TEXT => Screen::text(address, pitch, width, height),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
