//! The table of the HPET.
//!
//! Source: "IA-PC HPET (High Precision Event Timers) Specification", revision 1.0a, "The HPET Description Table".

use super::table::Table;
use super::{PhysicalMemory, TableError};

/// Where the HPET is, and what it says to have; its registers say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpetTable {
    /// Physical address of the registers, of which there are 1024 bytes.
    pub address: u64,
    /// Number of comparators: 1 to 32.
    pub comparators: u8,
    /// The main counter has 64 bits.
    pub is_64_bit: bool,
    /// It can take the place of the interval timer and of the real-time clock.
    pub can_replace_legacy: bool,
    /// Number of this HPET in the machine.
    pub number: u8,
    /// Shortest period that loses no interrupt, in ticks of its counter.
    pub period_ticks_min: u16,
}

impl HpetTable {
    /// Alignment that the registers need at least.
    const ALIGN: u64 = 1 << 10;

    pub(super) fn read(table: &Table<'_, impl PhysicalMemory>) -> Result<Self, TableError> {
        const MEMORY_SPACE: u8 = 0;
        const COMPARATORS_SHIFT: u32 = 8;
        const COMPARATORS_MASK: u32 = 0x1f;
        const COUNTER_64: u32 = 1 << 13;
        const LEGACY: u32 = 1 << 15;
        let block = u32::from_le_bytes(table.bytes(36)?);
        let [space] = table.bytes(40)?;
        let address = u64::from_le_bytes(table.bytes(44)?);
        let [number] = table.bytes(52)?;
        if space != MEMORY_SPACE || address == 0 || !address.is_multiple_of(Self::ALIGN) {
            return Err(TableError::Content);
        }
        let last = u8::try_from(block >> COMPARATORS_SHIFT & COMPARATORS_MASK).unwrap_or_default();
        Ok(Self {
            address,
            comparators: last + 1,
            is_64_bit: block & COUNTER_64 != 0,
            can_replace_legacy: block & LEGACY != 0,
            number,
            period_ticks_min: u16::from_le_bytes(table.bytes(53)?),
        })
    }
}
