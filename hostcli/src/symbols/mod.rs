//! Addresses to functions and source lines.
//!
//! - [`Image`]: the ELF of the kernel that made a capture, found by build-id and never another one;
//! - [`Symbolizer`]: looks each address up once: inlined functions and lines from DWARF, else the
//!   ELF symbol table, else nothing.

mod image;
mod symbolizer;
mod table;

pub use image::{Image, SymbolError};
pub use symbolizer::{Resolved, SourceFrame, Symbolizer};

/// Name of what has no name.
pub const UNKNOWN: &str = "[unknown]";
