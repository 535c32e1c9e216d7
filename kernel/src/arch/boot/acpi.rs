//! ACPI's tables, read while the boot page tables show the first 4 GiB.
//!
//! Before memory is taken over nothing else of this kernel is there to be read by mistake, and no page has to be mapped for
//! a table that lies wherever firmware likes. A table above 4 GiB is refused: firmware puts its tables where 32-bit
//! code finds them.

use nmiprof_boot::BootInfo;
use nmiprof_boot::acpi::{self, AcpiError, PhysicalMemory, Tables, Unreachable};

use super::bytes;

/// Physical memory, as the boot page tables show it.
struct BootMap;

impl PhysicalMemory for BootMap {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreachable> {
        // SAFETY: nothing writes firmware's tables, and where there is no memory reads give some value.
        let found = unsafe { bytes(address, into.len()) };
        if found.len() != into.len() {
            return Err(Unreachable);
        }
        into.copy_from_slice(found);
        Ok(())
    }
}

/// Reads ACPI's tables.
///
/// # Errors
/// [`AcpiError`] where there are none.
///
/// # Context
/// Boot code, before the kernel's own address space is built.
pub fn read(boot: &BootInfo) -> Result<Tables, AcpiError> {
    acpi::find(boot.rsdp(), &BootMap)
}
