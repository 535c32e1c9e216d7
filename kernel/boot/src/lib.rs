//! What a boot loader hands over, read into one form whatever the protocol, and a screen to complain on.
//!
//! - [`acpi`]: CPUs, I/O APICs and the HPET, from ACPI's tables;
//! - [`info`]: [`BootInfo`], the one form: RAM, modules, command line, ACPI root, screen;
//! - [`memory_map`]: sorted, disjoint runs of RAM, from which anything can be taken away;
//! - [`multiboot2`]: GRUB's protocol, from the bytes of its information;
//! - [`rsdp`]: the ACPI root pointer;
//! - [`screen`]: text on a VGA text screen or on a framebuffer.
//!
//! PVH, the other protocol, is a handful of structures at physical addresses: the kernel reads those itself.
//!
//! A loader's information is input like any other: whatever the bytes are, there is a value or an error, nothing is
//! read beyond the bytes, and nothing in the value points into them. The kernel can then use all memory again.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod acpi;
pub mod info;
pub mod memory_map;
pub mod multiboot2;
pub mod rsdp;
pub mod screen;

pub use info::BootInfo;
pub use memory_map::{MemoryMap, MemoryRange};
pub use rsdp::Rsdp;
pub use screen::Screen;
