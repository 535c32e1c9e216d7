//! The machine: everything that names an instruction, a register, a port or a page-table bit.
//!
//! Together with [`nmi::entry`](crate::nmi::entry) this is the only place with assembly.

pub mod apic;
#[cfg(feature = "selftest")]
pub mod arrivals;
pub mod boot;
#[cfg(feature = "selftest")]
pub mod breakpoint;
#[cfg(feature = "selftest")]
pub mod budget;
pub mod build_id;
pub mod clock;
pub mod cpu;
#[cfg(feature = "selftest")]
pub mod descriptors;
pub mod exception;
pub mod exit;
#[cfg(feature = "selftest")]
pub mod experiment;
pub mod fallible;
#[cfg(feature = "selftest")]
pub mod fpu;
pub mod frame;
pub mod gdt;
#[cfg(feature = "selftest")]
pub mod hold;
#[cfg(feature = "selftest")]
pub mod hpet;
#[cfg(feature = "selftest")]
pub mod idle;
pub mod idt;
pub mod layout;
pub mod paging;
pub mod percpu;
pub mod pic;
#[cfg(feature = "selftest")]
pub mod raise;
#[cfg(feature = "selftest")]
pub mod reload;
pub mod serial;
#[cfg(feature = "selftest")]
pub mod shadow;
#[cfg(feature = "selftest")]
pub mod switch_line;
