//! The host side of nmiprof as a library: boot a kernel or attach to one, follow its line, decode, symbolize, report.
//!
//! The binary `nmiprof` is a thin layer of argument parsing over [`commands`].

pub mod attach;
pub mod capture;
pub mod commands;
pub mod cost;
pub mod images;
pub mod iso;
pub mod machine;
pub mod storm;
pub mod sweep;
pub mod symbols;
