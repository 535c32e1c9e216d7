//! The Multiboot 1 handover: so that kernels which know nothing of this project can be run on its PC.
//!
//! What QEMU's `-kernel` gives such a kernel, it gets here: memory, a map of it, a command line, and one module.
//! Images that want a video mode, or to be loaded by addresses in the header, are refused.
//!
//! Source: "Multiboot Specification" version 0.6.96 (Free Software Foundation).

use std::ops::Range;

use crate::boot::{COMMAND_LINE, HIGH_START, LOW_END, MEMORY_MAP, MODULE_LIST, START_INFO};
use crate::ram::Ram;

const HEADER_MAGIC: u32 = 0x1bad_b002;
/// The header is within the first bytes of the file.
const HEADER_END_MAX: usize = 8192;
/// Modules at page boundaries; memory information.
const KNOWN_FLAGS: u32 = 0b11;
/// What EAX says at the entry.
const LOADER_MAGIC: u32 = 0x2bad_b002;

const HAS_MEMORY: u32 = 1;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
/// Bytes of the information, as far as it is filled.
const INFO_WORDS: usize = 13;
const MAP_ENTRY_BYTES: u32 = 24;

/// Finds the header; returns its offset where this loader can do all that it asks for.
#[must_use]
pub fn find_header(image: &[u8]) -> Option<usize> {
    let (words, _) = image[..image.len().min(HEADER_END_MAX)].as_chunks::<4>();
    let word = |index: usize| words.get(index).copied().map(u32::from_le_bytes);
    let is_header = |index: &usize| {
        let (Some(magic), Some(flags), Some(sum)) = (word(*index), word(*index + 1), word(*index + 2)) else {
            return false;
        };
        magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(sum) == 0
    };
    let index = (0..words.len()).find(is_header)?;
    (word(index + 1)? & !KNOWN_FLAGS == 0).then_some(index * 4)
}

/// Writes what the kernel is told, at the address that EBX gets, and returns what EAX gets.
///
/// # Panics
/// If RAM does not suffice.
pub fn hand_over(ram: &mut Ram, command_line: &str, module: Range<u64>) -> u32 {
    let low = |value: u64| u32::try_from(value).expect("below 4 GiB");
    let ranges = [0..LOW_END, HIGH_START..ram.len()];
    let mut info = [0; INFO_WORDS];
    info[0] = HAS_MEMORY | HAS_COMMAND_LINE | HAS_MEMORY_MAP;
    info[1] = low(LOW_END >> 10);
    info[2] = low((ram.len() - HIGH_START) >> 10);
    info[4] = low(COMMAND_LINE);
    info[11] = MAP_ENTRY_BYTES * 2;
    info[12] = low(MEMORY_MAP);
    if !module.is_empty() {
        info[0] |= HAS_MODULES;
        [info[5], info[6]] = [1, low(MODULE_LIST)];
    }
    let mut put = |address, bytes: &[u8]| ram.write_physical(address, bytes).expect("low memory is RAM");
    put(START_INFO, info.map(u32::to_le_bytes).as_flattened());
    put(MODULE_LIST, [low(module.start), low(module.end), 0, 0].map(u32::to_le_bytes).as_flattened());
    put(MEMORY_MAP, &ranges.map(map_entry).concat());
    // The first word is the name of the image, as from other loaders.
    put(COMMAND_LINE, format!("kernel {command_line}\0").as_bytes());
    LOADER_MAGIC
}

/// Describes a range of RAM; the length of an entry does not count its own first word.
fn map_entry(range: Range<u64>) -> Vec<u8> {
    const RAM_KIND: u32 = 1;
    let mut entry = (MAP_ENTRY_BYTES - 4).to_le_bytes().to_vec();
    entry.extend(range.start.to_le_bytes());
    entry.extend((range.end - range.start).to_le_bytes());
    entry.extend(RAM_KIND.to_le_bytes());
    entry
}
