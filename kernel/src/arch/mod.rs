//! The machine: everything that names an instruction, a register, a port or a page-table bit.
//!
//! Together with [`nmi::entry`](crate::nmi::entry) this is the only place with assembly.

pub mod apic;
pub mod boot;
pub mod build_id;
pub mod clock;
pub mod cpu;
pub mod exception;
pub mod exit;
#[cfg(feature = "selftest")]
pub mod experiment;
pub mod fallible;
pub mod frame;
pub mod gdt;
pub mod idt;
pub mod interrupt;
pub mod layout;
pub mod paging;
pub mod percpu;
pub mod pic;
#[cfg(feature = "selftest")]
pub mod raise;
pub mod serial;
pub mod switch;
#[cfg(feature = "selftest")]
pub mod switch_line;
pub mod syscall;
pub mod tick;
