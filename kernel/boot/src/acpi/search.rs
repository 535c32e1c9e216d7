//! Where a BIOS leaves the root pointer: for loaders that don't say.
//!
//! Source: ACPI specification 6.5, "Finding the RSDP on IA-PC Systems".

use core::iter;

use super::PhysicalMemory;
use crate::Rsdp;

/// Where the BIOS data area has the segment of the extended BIOS data area.
const EBDA_SEGMENT: u64 = 0x40e;
/// So much of the extended BIOS data area is searched.
const EBDA_BYTES: u64 = 1 << 10;
/// Where such an area can be: behind the BIOS data area, in low memory.
const EBDA_FIRST: u64 = 0x500;
const LOW_MEMORY_END: u64 = 0xa_0000;
const BIOS_FIRST: u64 = 0xe_0000;
const BIOS_END: u64 = 0x10_0000;
const ALIGN: usize = 16;

/// Finds the root pointer: in the extended BIOS data area, else in the BIOS's read-only memory.
pub(super) fn root_pointer(memory: &impl PhysicalMemory) -> Option<Rsdp> {
    let area = extended_area(memory).map(|start| start..start + EBDA_BYTES);
    let places = area.into_iter().chain(iter::once(BIOS_FIRST..BIOS_END));
    places.flat_map(|place| place.step_by(ALIGN)).find_map(|address| root_pointer_at(address, memory))
}

fn extended_area(memory: &impl PhysicalMemory) -> Option<u64> {
    let mut segment = [0; 2];
    memory.read(EBDA_SEGMENT, &mut segment).ok()?;
    let start = u64::from(u16::from_le_bytes(segment)) << 4;
    (EBDA_FIRST..LOW_MEMORY_END).contains(&start).then_some(start)
}

fn root_pointer_at(address: u64, memory: &impl PhysicalMemory) -> Option<Rsdp> {
    let mut bytes = [0; Rsdp::BYTES];
    memory.read(address, &mut bytes).ok()?;
    Rsdp::parse(&bytes)
}
