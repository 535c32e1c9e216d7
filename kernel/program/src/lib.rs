//! User programs: what the host packs, the kernel loads, and the program itself calls.
//!
//! - [`abi`]: the system calls, for the kernel and for programs;
//! - [`archive`]: how the host hands several programs over as the one module that a boot protocol offers;
//! - [`image`]: from an ELF file to what has to be mapped.
//!
//! The kernel trusts nothing of an archive or an ELF file: any byte string gives a value or an error.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod abi;
pub mod archive;
pub mod image;

pub use abi::{Call, CallError};
pub use archive::{ArchiveError, Program};
pub use image::{Image, ImageError, Rights, Segment};
