//! QEMU's own CPU, as it is emulated without a hypervisor below.
//!
//! It calls itself AMD and names a family that has four counters (15, the K8's), and it has none: QEMU (TCG) answers a
//! read of a register that it does not know with 0 and forgets what is written, without #GP. So the family alone is no
//! proof, and a driver has to try its registers before it believes in them.
//!
//! The values are *typical* (`-cpu qemu64`; QEMU, target/i386/cpu.c): the last bits depend on QEMU's version.

use super::{Profile, Registers, authentic_amd, leaf};

/// The CPU `qemu64`.
pub static QEMU64: Profile = Profile {
    id: "qemu64",
    name: "QEMU qemu64",
    leaves: &[
        authentic_amd(0, 0xd),
        leaf(0x1, [0x0006_0fb1, 0x0000_0800, 0x8000_2001, 0x078b_fbfd]),
        authentic_amd(0x8000_0000, 0x8000_000a),
        leaf(0x8000_0001, [0x0006_0fb1, 0, 0x5, 0x2193_fbfd]),
        leaf(0x8000_0008, [0x0000_3028, 0, 0, 0]),
    ],
    registers: Registers::Forgotten,
};
