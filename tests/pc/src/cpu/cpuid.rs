//! CPUID: what the profile says, with a name for the machine where the profile lists none, and without transactions,
//! which the engine can't execute (nor do CPUs whose microcode turns them off).

use nmiprof_pmu::profiles::Profile;

const FEATURES: u32 = 1;
const EXTENDED_FEATURES: u32 = 7;
/// HLE and RTM.
const TRANSACTIONS: u32 = 1 << 4 | 1 << 11;
const BRAND_FIRST: u32 = 0x8000_0002;
const BRAND_LAST: u32 = 0x8000_0004;
const BRAND_BYTES: usize = 48;
/// x2APIC, in ECX of the leaf of features.
const X2APIC: u32 = 1 << 21;
const APIC_ID: u32 = 0xff00_0000;

/// Tells whether a profile has x2APIC.
#[must_use]
pub fn offers_x2apic(profile: &Profile) -> bool {
    profile.leaf(FEATURES, 0)[2] & X2APIC != 0
}

/// Returns what CPUID answers: EAX, EBX, ECX, EDX.
#[must_use]
pub fn answer(profile: &Profile, leaf: u32, sub: u32, offers_x2apic: bool) -> [u32; 4] {
    let mut registers = profile.leaf(leaf, sub);
    match leaf {
        FEATURES => {
            registers[1] &= !APIC_ID;
            registers[2] = registers[2] & !X2APIC | if offers_x2apic { X2APIC } else { 0 };
        }
        EXTENDED_FEATURES if sub == 0 => registers[1] &= !TRANSACTIONS,
        BRAND_FIRST..=BRAND_LAST => return brand(profile.name, leaf - BRAND_FIRST),
        _ => (),
    }
    registers
}

/// Returns a third of the name.
fn brand(name: &str, part: u32) -> [u32; 4] {
    let mut bytes = [0; BRAND_BYTES];
    let len = name.len().min(BRAND_BYTES - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    let (words, _) = bytes.as_chunks::<4>();
    let first = part as usize * 4;
    [0, 1, 2, 3].map(|index| u32::from_le_bytes(words[first + index]))
}
