//! ACPI's tables, read while the boot page tables show the first 4 GiB.
//!
//! Before memory is taken over nothing else of this kernel is there to be read by mistake, and no page has to be mapped for
//! a table that lies wherever firmware likes. A table above 4 GiB is refused: firmware puts its tables where 32-bit
//! code finds them.

use nmiprof_boot::BootInfo;
use nmiprof_boot::acpi::{self, AcpiError, PhysicalMemory, Tables, Unreachable};
use spin::Once;

use super::bytes;

/// What the tables say. Written once, while the boot page tables are loaded.
static TABLES: Once<Result<Tables, AcpiError>> = Once::new();

/// Reads the tables, for [`tables`].
///
/// # Context
/// Boot code, before the kernel's own address space is built.
pub fn read(boot: &BootInfo) {
    TABLES.call_once(|| acpi::find(boot.rsdp(), &BootMap));
}

/// Returns the tables.
///
/// # Errors
/// [`AcpiError`] where there are none.
pub fn tables() -> Result<&'static Tables, AcpiError> {
    TABLES.get().map_or(Err(AcpiError::NoRootPointer), |tables| tables.as_ref().map_err(|error| *error))
}

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
