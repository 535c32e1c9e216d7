//! A checksum computed with interrupts disabled: only a profiler that samples by NMI sees where.
//!
//! A profiler driven by timer interrupts would charge all of it to the instruction that enables
//! interrupts again. Checked against the CRC-32 of "123456789", 0xcbf43926.

use x86_64::instructions::interrupts::without_interrupts;

use super::Workload;

const CHECKSUMS_PER_STEP: usize = 6_500;
const MESSAGE: &[u8] = b"123456789";
const CHECK: u32 = 0xcbf4_3926;
/// The polynomial of CRC-32/ISO-HDLC, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The checksums; there is no state between steps.
pub(super) struct IrqsOff;

impl Workload for IrqsOff {
    #[inline(never)]
    fn step(&mut self) -> bool {
        without_interrupts(checksums)
    }
}

#[inline(never)]
fn checksums() -> bool {
    (0..CHECKSUMS_PER_STEP).all(|_| crc32(core::hint::black_box(MESSAGE)) == CHECK)
}

#[inline(never)]
fn crc32(message: &[u8]) -> u32 {
    !message.iter().fold(u32::MAX, |crc, byte| add_byte(crc, *byte))
}

#[inline(never)]
fn add_byte(crc: u32, byte: u8) -> u32 {
    (0..u8::BITS).fold(crc ^ u32::from(byte), |crc, _| add_bit(crc))
}

#[inline]
fn add_bit(crc: u32) -> u32 {
    let shifted = crc >> 1;
    if crc & 1 == 0 { shifted } else { shifted ^ POLYNOMIAL }
}
