//! ACPI's tables: which CPUs there are, where the I/O APICs and the HPET are, and how interrupts reach them.
//!
//! - [`find`]: from the root pointer to [`Tables`];
//! - [`madt`]: CPUs, I/O APICs, interrupt source overrides, NMI sources and pins;
//! - [`hpet`]: the HPET's table;
//! - [`PhysicalMemory`]: all that is needed of the machine.
//!
//! Tables are firmware's, and firmware is input like any other: an address may lead anywhere, a length may be 0 or 4 GiB,
//! an entry may be cut, a table may name itself. So nothing is followed further than from the root pointer to the
//! root table to a table, every loop has a bound (tables in a root table, bytes in a table), a table is believed after
//! its checksum, and what could not be used says why ([`TableError`]) or is counted ([`Madt::entries_refused`]).
//! What comes out is copied: the firmware's memory is not needed after that.
//!
//! Why no crate: `acpi` (6.1.1) reads through `unsafe` mappings that can't fail, and believes lengths: an entry of the MADT
//! that says to be 0 bytes long is walked for ever, and one that says 2 is read as its type's whole structure. No AML is
//! needed here, and what is needed fits into four small files.
//!
//! Source: ACPI specification 6.5, "ACPI Software Programming Model".

pub mod hpet;
mod list;
pub mod madt;
mod search;
mod table;

use core::fmt;

use crate::Rsdp;
pub use hpet::HpetTable;
pub use list::List;
pub use madt::Madt;
use table::{Header, Root, Table};

/// Physical memory, as far as it can be read.
pub trait PhysicalMemory {
    /// Fills `bytes` from a physical address.
    ///
    /// # Errors
    /// [`Unreachable`] where not all of them can be read; `bytes` is then anything.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Unreachable>;
}

/// Memory that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable;

/// What the tables say, as far as the kernel wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// CPUs and interrupts.
    pub madt: Result<Madt, TableError>,
    /// The HPET.
    pub hpet: Result<HpetTable, TableError>,
}

/// Why there are no tables at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// The loader named no root pointer, and none was found.
    NoRootPointer,
    /// Neither root table can be used: why not the newer one, or the only one.
    NoRootTable(TableError),
}

/// Why a table can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// There is none.
    Absent,
    /// It lies where memory can't be read.
    Unreachable,
    /// It is another table than it should be.
    Signature,
    /// It is shorter than its fields, or longer than any such table.
    Length,
    /// Its bytes don't sum up to 0.
    Checksum,
    /// Its fields make no sense.
    Content,
}

/// Reads the tables. Where the loader named no root pointer, it is looked for where a BIOS puts it.
///
/// Of several tables of a kind the first one that can be used counts.
///
/// # Errors
/// [`AcpiError`] where there is no root table.
pub fn find(rsdp: Option<Rsdp>, memory: &impl PhysicalMemory) -> Result<Tables, AcpiError> {
    let rsdp = rsdp.or_else(|| search::root_pointer(memory)).ok_or(AcpiError::NoRootPointer)?;
    let root = Root::open(rsdp, memory).map_err(AcpiError::NoRootTable)?;
    let mut tables = Tables { madt: Err(TableError::Absent), hpet: Err(TableError::Absent) };
    for address in root.tables(memory) {
        let Ok(header) = Header::read(address, memory) else { continue };
        match &header.signature {
            b"APIC" => take_first(&mut tables.madt, || Madt::read(&Table::check(header, memory)?)),
            b"HPET" => take_first(&mut tables.hpet, || HpetTable::read(&Table::check(header, memory)?)),
            _ => {}
        }
    }
    Ok(tables)
}

/// Reads a table into its place, unless one that can be used is there.
fn take_first<T>(place: &mut Result<T, TableError>, read: impl FnOnce() -> Result<T, TableError>) {
    if place.is_err() {
        *place = read();
    }
}

impl From<Unreachable> for TableError {
    fn from(_: Unreachable) -> Self {
        Self::Unreachable
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "there is none",
            Self::Unreachable => "it lies where memory can't be read",
            Self::Signature => "its signature is wrong",
            Self::Length => "its length is wrong",
            Self::Checksum => "its checksum is wrong",
            Self::Content => "its fields make no sense",
        })
    }
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRootPointer => f.write_str("no ACPI root pointer"),
            Self::NoRootTable(error) => write!(f, "no ACPI root table: {error}"),
        }
    }
}

impl core::error::Error for TableError {}
impl core::error::Error for AcpiError {}
