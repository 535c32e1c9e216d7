//! What all tables have in common: a header, a length, a checksum; and the root table, which names the others.
//!
//! Source: ACPI specification 6.5, "System Description Table Header", "Root System Description Table (RSDT)",
//! "Extended System Description Table (XSDT)".

use super::{PhysicalMemory, TableError};
use crate::Rsdp;

/// More bytes than a table has that is read here: a MADT of 256 CPUs has some 4 KiB.
const TABLE_BYTES_MAX: u32 = 64 << 10;
/// More tables than any root table names.
const TABLES_MAX: u64 = 256;

/// Where a table is, and what it says to be.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) signature: [u8; 4],
    address: u64,
    len_bytes: u32,
}

impl Header {
    pub(super) const BYTES: u32 = 36;
    const LEN_AT: usize = 4;

    pub(super) fn read(address: u64, memory: &impl PhysicalMemory) -> Result<Self, TableError> {
        let mut bytes = [0; Self::LEN_AT + 4];
        memory.read(address, &mut bytes)?;
        let [a, b, c, d, len @ ..] = bytes;
        Ok(Self { signature: [a, b, c, d], address, len_bytes: u32::from_le_bytes(len) })
    }
}

/// A table whose length is plausible and whose checksum is right: all of its bytes were read once.
pub(super) struct Table<'a, M> {
    address: u64,
    len_bytes: u32,
    memory: &'a M,
}

impl<'a, M: PhysicalMemory> Table<'a, M> {
    pub(super) fn check(header: Header, memory: &'a M) -> Result<Self, TableError> {
        if !(Header::BYTES..=TABLE_BYTES_MAX).contains(&header.len_bytes) {
            return Err(TableError::Length);
        }
        let table = Self { address: header.address, len_bytes: header.len_bytes, memory };
        if table.checksum()? != 0 {
            return Err(TableError::Checksum);
        }
        Ok(table)
    }

    pub(super) const fn len_bytes(&self) -> u32 {
        self.len_bytes
    }

    /// Reads `N` bytes of the table.
    pub(super) fn bytes<const N: usize>(&self, offset: u32) -> Result<[u8; N], TableError> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads bytes of the table, and nothing behind it.
    pub(super) fn read(&self, offset: u32, bytes: &mut [u8]) -> Result<(), TableError> {
        let end = u64::from(offset) + bytes.len() as u64;
        if end > u64::from(self.len_bytes) {
            return Err(TableError::Length);
        }
        let address = self.address.checked_add(offset.into()).ok_or(TableError::Unreachable)?;
        Ok(self.memory.read(address, bytes)?)
    }

    fn checksum(&self) -> Result<u8, TableError> {
        const CHUNK: usize = 64;
        let mut sum = 0_u8;
        for offset in (0..self.len_bytes).step_by(CHUNK) {
            let left = usize::try_from(self.len_bytes - offset).unwrap_or(CHUNK);
            let mut chunk = [0; CHUNK];
            let part = chunk.get_mut(..left.min(CHUNK)).unwrap_or_default();
            self.read(offset, part)?;
            sum = part.iter().fold(sum, |sum, byte| sum.wrapping_add(*byte));
        }
        Ok(sum)
    }
}

/// The root table: a list of addresses, of 4 bytes each in an RSDT, of 8 in an XSDT.
pub(super) struct Root {
    header: Header,
    entry_bytes: u32,
}

impl Root {
    /// Opens the newer of the root tables that there are, or the older one where the newer can't be used.
    pub(super) fn open(rsdp: Rsdp, memory: &impl PhysicalMemory) -> Result<Self, TableError> {
        let newer = Self::check(rsdp.xsdt, *b"XSDT", 8, memory);
        newer.or_else(|error| {
            let older = Self::check(rsdp.rsdt.into(), *b"RSDT", 4, memory);
            older.map_err(|older| if error == TableError::Absent { older } else { error })
        })
    }

    /// Returns the addresses of the tables.
    pub(super) fn tables(&self, memory: &impl PhysicalMemory) -> impl Iterator<Item = u64> {
        let Self { header, entry_bytes } = *self;
        let entries = u64::from((header.len_bytes - Header::BYTES) / entry_bytes).min(TABLES_MAX);
        let first = header.address.saturating_add(Header::BYTES.into());
        let addresses = (0..entries).filter_map(move |index| {
            let mut bytes = [0; 8];
            let entry = bytes.get_mut(..usize::try_from(entry_bytes).ok()?)?;
            memory.read(first.checked_add(index * u64::from(entry_bytes))?, entry).ok()?;
            Some(u64::from_le_bytes(bytes))
        });
        addresses.filter(|address| *address != 0)
    }

    fn check(
        address: u64,
        signature: [u8; 4],
        entry_bytes: u32,
        memory: &impl PhysicalMemory,
    ) -> Result<Self, TableError> {
        if address == 0 {
            return Err(TableError::Absent);
        }
        let header = Header::read(address, memory)?;
        if header.signature != signature {
            return Err(TableError::Signature);
        }
        Table::check(header, memory)?;
        Ok(Self { header, entry_bytes })
    }
}
