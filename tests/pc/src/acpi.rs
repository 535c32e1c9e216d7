//! The tables that firmware leaves: what the machine has besides its CPU, for those who can't probe. Data, no AML.
//!
//! They lie in the BIOS's memory, where a kernel finds them whose loader does not tell; under PVH the start information
//! names the root pointer.
//!
//! | table | says |
//! |---|---|
//! | RSDP, RSDT, XSDT | where the others are, for both widths of addresses |
//! | MADT | CPU 0, the I/O APIC, the interval timer at its input 2, LINT1 is the NMI pin |
//! | HPET | where it is |
//!
//! Sources: ACPI specification 6.5, "ACPI Software Programming Model"; "IA-PC HPET (High Precision Event Timers)
//! Specification", revision 1.0a, "The HPET Description Table".

use crate::devices::TIMER_INPUT;
use crate::devices::hpet::{CAPABILITIES_VALUE, HPET_BASE};
use crate::devices::ioapic::IO_APIC_BASE;
use crate::engine::APIC_BASE;
use crate::ram::Ram;

/// Physical address of the root pointer; the tables follow.
pub const ROOT_POINTER: u64 = 0xf_0000;
const TABLES: u64 = ROOT_POINTER + 0x40;
const TABLE_ALIGN: u64 = 16;
const MAKER: &[u8; 6] = b"NMIPRO";
const HEADER_CHECKSUM_AT: usize = 9;
/// End of what the first version of the root pointer has.
const ROOT_POINTER_1_BYTES: usize = 20;

/// Writes the tables, and returns the address of the root pointer.
///
/// # Panics
/// If RAM does not suffice.
pub fn place(ram: &mut Ram, has_hpet: bool) -> u64 {
    let mut next = TABLES;
    let mut put = |bytes: &[u8]| {
        let at = next;
        ram.write_physical(at, bytes).expect("the BIOS's memory is RAM here");
        next = (at + bytes.len() as u64).next_multiple_of(TABLE_ALIGN);
        at
    };
    let mut tables = vec![put(&madt())];
    if has_hpet {
        tables.push(put(&hpet()));
    }
    let rsdt =
        put(&table(b"RSDT", 1, &tables.iter().flat_map(|at| low(*at).to_le_bytes()).collect::<Vec<_>>()));
    let xsdt = put(&table(b"XSDT", 1, &tables.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<_>>()));
    ram.write_physical(ROOT_POINTER, &root_pointer(rsdt, xsdt)).expect("the BIOS's memory is RAM here");
    ROOT_POINTER
}

fn root_pointer(rsdt: u64, xsdt: u64) -> Vec<u8> {
    const REVISION: u8 = 2;
    const BYTES: u32 = 36;
    const CHECKSUM_AT: usize = 8;
    const SECOND_CHECKSUM_AT: usize = 32;
    let mut bytes = [b"RSD PTR \0", &MAKER[..], &[REVISION]].concat();
    bytes.extend(low(rsdt).to_le_bytes());
    bytes.extend(BYTES.to_le_bytes());
    bytes.extend(xsdt.to_le_bytes());
    bytes.extend([0; 4]);
    bytes[CHECKSUM_AT] = missing_to_0(&bytes[..ROOT_POINTER_1_BYTES]);
    bytes[SECOND_CHECKSUM_AT] = missing_to_0(&bytes);
    bytes
}

fn madt() -> Vec<u8> {
    const LEGACY_CONTROLLERS: u32 = 1;
    const CPU: [u8; 8] = [0, 8, 0, 0, 1, 0, 0, 0];
    const NMI_PIN: [u8; 6] = [4, 6, 0xff, 0, 0, 1];
    let mut body = [low(APIC_BASE), LEGACY_CONTROLLERS].map(u32::to_le_bytes).concat();
    body.extend(CPU);
    body.extend([1, 12, 0, 0]);
    body.extend([low(IO_APIC_BASE), 0].map(u32::to_le_bytes).as_flattened());
    body.extend([2, 10, 0, 0]);
    body.extend(low(TIMER_INPUT as u64).to_le_bytes());
    body.extend([0; 2]);
    body.extend(NMI_PIN);
    table(b"APIC", 3, &body)
}

fn hpet() -> Vec<u8> {
    const REGISTER_BITS: u8 = 64;
    const PERIOD_TICKS_MIN: u16 = 128;
    let mut body = CAPABILITIES_VALUE.to_le_bytes().to_vec();
    // In memory, from bit 0 on, of no particular width of access.
    body.extend([0, REGISTER_BITS, 0, 0]);
    body.extend(HPET_BASE.to_le_bytes());
    body.push(0);
    body.extend(PERIOD_TICKS_MIN.to_le_bytes());
    body.push(0);
    table(b"HPET", 1, &body)
}

/// Puts the header before a table's own fields.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    const HEADER_BYTES: usize = 36;
    const MAKER_REVISION: u32 = 1;
    let len = u32::try_from(HEADER_BYTES + body.len()).expect("a small table");
    let mut bytes = signature.to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.extend(MAKER);
    bytes.extend(b"EMULATED");
    bytes.extend(MAKER_REVISION.to_le_bytes());
    bytes.extend(b"NMIP");
    bytes.extend(MAKER_REVISION.to_le_bytes());
    bytes.extend(body);
    bytes[HEADER_CHECKSUM_AT] = missing_to_0(&bytes);
    bytes
}

/// Returns the byte that lets all of them sum up to 0.
fn missing_to_0(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

fn low(address: u64) -> u32 {
    u32::try_from(address).expect("below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::{ROOT_POINTER, ROOT_POINTER_1_BYTES, place};
    use crate::ram::Ram;

    const RSDT_AT: u64 = 16;
    const XSDT_AT: u64 = 24;
    const HEADER_BYTES: usize = 36;

    fn is_sound(bytes: &[u8]) -> bool {
        bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    /// Returns the bytes of a table: as many as it says to have.
    fn table(ram: &Ram, address: u64) -> &[u8] {
        let len = ram.physical(address + 4, 4).expect("RAM");
        let len = u32::from_le_bytes(len.try_into().expect("4 bytes"));
        ram.physical(address, len as usize).expect("RAM")
    }

    fn address(bytes: &[u8]) -> u64 {
        bytes.iter().rev().fold(0, |address, byte| address << 8 | u64::from(*byte))
    }

    #[test]
    fn both_root_tables_name_the_same_tables_and_all_sums_are_right() {
        for (has_hpet, signatures) in [(true, &[b"APIC", b"HPET"][..]), (false, &[b"APIC"])] {
            let mut ram = Ram::new(1 << 20);
            assert_eq!(place(&mut ram, has_hpet), ROOT_POINTER);
            let root = ram.physical(ROOT_POINTER, 36).expect("RAM");
            assert!(
                root.starts_with(b"RSD PTR ") && is_sound(&root[..ROOT_POINTER_1_BYTES]) && is_sound(root)
            );
            for (at, bytes) in [(RSDT_AT, 4), (XSDT_AT, 8)] {
                let list = table(&ram, address(ram.physical(ROOT_POINTER + at, bytes).expect("RAM")));
                assert!(is_sound(list));
                let tables: Vec<_> =
                    list[HEADER_BYTES..].chunks(bytes).map(|entry| table(&ram, address(entry))).collect();
                assert!(tables.iter().all(|table| is_sound(table)));
                let found: Vec<_> = tables.iter().map(|table| &table[..4]).collect();
                assert_eq!(found, signatures.iter().map(|signature| &signature[..]).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn entries_of_the_table_of_cpus_fill_it_exactly() {
        let madt = super::madt();
        let (mut at, mut kinds) = (HEADER_BYTES + 8, Vec::new());
        while at < madt.len() {
            kinds.push(madt[at]);
            at += usize::from(madt[at + 1]);
        }
        assert_eq!((at, kinds), (madt.len(), vec![0, 1, 2, 4]));
    }
}
