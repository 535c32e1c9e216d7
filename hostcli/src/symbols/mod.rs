//! Addresses to functions and source lines.
//!
//! - [`Image`]: the ELF of the kernel that made a capture, found by build-id and never another one;
//! - [`Programs`]: the ELF files of user programs that are at hand;
//! - [`Symbols`]: looks addresses up in whichever of them they belong to;
//! - [`Symbolizer`]: one of them; looks each address up once: inlined functions and lines from DWARF, else the
//!   ELF symbol table, else nothing.

mod image;
mod lookup;
mod programs;
mod symbolizer;
mod table;

pub use image::{Image, SymbolError};
pub use lookup::Symbols;
pub use programs::{Programs, keep};
pub use symbolizer::{Resolved, SourceFrame, Symbolizer};

/// Name of what has no name.
pub const UNKNOWN: &str = "[unknown]";
