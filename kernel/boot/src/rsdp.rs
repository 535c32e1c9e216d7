//! The root pointer of ACPI's tables.
//!
//! Source: ACPI specification, "Root System Description Pointer (RSDP)".

/// Where ACPI's root tables are. A machine may have either or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rsdp {
    /// Physical address of the RSDT; 0 for none.
    pub rsdt: u32,
    /// Physical address of the XSDT; 0 for none.
    pub xsdt: u64,
}

impl Rsdp {
    /// Bytes of the structure since ACPI 2.0.
    pub const BYTES: usize = 36;
    const BYTES_1_0: usize = 20;
    const SIGNATURE: &[u8] = b"RSD PTR ";

    /// Reads the structure; `None` where signature or checksum is wrong.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let first = bytes.get(..Self::BYTES_1_0)?;
        if !first.starts_with(Self::SIGNATURE) || checksum(first) != 0 {
            return None;
        }
        let rsdt = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
        Some(Self { rsdt, xsdt: Self::xsdt(bytes).unwrap_or_default() })
    }

    fn xsdt(bytes: &[u8]) -> Option<u64> {
        let whole = bytes.get(..Self::BYTES)?;
        let revision = *whole.get(15)?;
        if revision < 2 || checksum(whole) != 0 {
            return None;
        }
        Some(u64::from_le_bytes(whole.get(24..32)?.try_into().ok()?))
    }
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsdp(revision: u8) -> [u8; Rsdp::BYTES] {
        let mut bytes = [0; Rsdp::BYTES];
        bytes[..8].copy_from_slice(Rsdp::SIGNATURE);
        bytes[15] = revision;
        bytes[16..20].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
        bytes[8] = 0_u8.wrapping_sub(checksum(&bytes[..20]));
        bytes[24..32].copy_from_slice(&0x9abc_u64.to_le_bytes());
        bytes[32] = 0_u8.wrapping_sub(checksum(&bytes));
        bytes
    }

    #[test]
    fn the_second_table_counts_from_revision_2_on() {
        assert_eq!(Rsdp::parse(&rsdp(2)), Some(Rsdp { rsdt: 0x1234_5678, xsdt: 0x9abc }));
        assert_eq!(Rsdp::parse(&rsdp(0)), Some(Rsdp { rsdt: 0x1234_5678, xsdt: 0 }));
        assert_eq!(Rsdp::parse(&rsdp(2)[..20]), Some(Rsdp { rsdt: 0x1234_5678, xsdt: 0 }), "cut");
    }

    #[test]
    fn a_wrong_byte_anywhere_is_noticed() {
        for at in 0..20 {
            let mut bytes = rsdp(0);
            bytes[at] ^= 0x40;
            assert_eq!(Rsdp::parse(&bytes), None, "byte {at}");
        }
        assert_eq!(Rsdp::parse(&rsdp(0)[..19]), None);
    }
}
