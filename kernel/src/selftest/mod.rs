//! Triggers and mutants: what the self-test image does on request and the main image never does.
//!
//! A mutant is the kernel broken in one known way, to show that the checks notice.

#[cfg(feature = "selftest")]
pub mod acts;
#[cfg(feature = "selftest")]
mod cases;
#[cfg(feature = "selftest")]
mod dispatch;
#[cfg(feature = "selftest")]
pub mod exceptions;
#[cfg(feature = "selftest")]
pub mod exit_window;
#[cfg(feature = "selftest")]
mod falling;
#[cfg(feature = "selftest")]
mod first_touch;
#[cfg(feature = "selftest")]
mod frameless;
#[cfg(feature = "selftest")]
pub mod gap;
#[cfg(feature = "selftest")]
pub mod handler_times;
#[cfg(feature = "selftest")]
mod image;
#[cfg(feature = "selftest")]
mod pairs;
#[cfg(feature = "selftest")]
mod parked;
#[cfg(feature = "selftest")]
mod placement;
#[cfg(feature = "selftest")]
mod race;
#[cfg(feature = "selftest")]
pub mod rain;
#[cfg(feature = "selftest")]
mod rival;
#[cfg(feature = "selftest")]
pub mod spaces;
#[cfg(feature = "selftest")]
pub mod starting;
#[cfg(feature = "selftest")]
mod storm;
#[cfg(feature = "selftest")]
mod sweep;
#[cfg(feature = "selftest")]
mod switch;
#[cfg_attr(not(feature = "selftest"), path = "open_turnstile.rs")]
pub mod turnstile;
#[cfg(feature = "selftest")]
mod user;
#[cfg(feature = "selftest")]
pub mod windows;
#[cfg(feature = "selftest")]
pub use image::{
    clock_skew, experiment, finish, mutant_loses_writes, mutant_skips_this_write, mutant_syncs_current,
    prepare, trigger,
};

/// Says what a self-test found: nothing, in an image without any.
#[cfg(not(feature = "selftest"))]
pub const fn finish() {}

/// Notes a step of a CPU that starts.
#[inline]
pub fn started() {
    #[cfg(feature = "selftest")]
    starting::step();
}

/// May send an NMI to a CPU that starts.
#[inline]
pub fn while_starting(_index: u16) {
    #[cfg(feature = "selftest")]
    starting::disturb(_index);
}

/// Refuses to be anything but the kernel.
#[cfg(not(feature = "selftest"))]
pub fn trigger(name: &str) {
    if !name.is_empty() {
        crate::report::configuration(format_args!("selftest={name}: only the self-test image does that"));
    }
}

/// What an experiment needs from before the ring was made: nothing.
#[cfg(not(feature = "selftest"))]
pub struct Prepared;

/// Prepares an experiment: this image knows none.
#[cfg(not(feature = "selftest"))]
pub const fn prepare(_: &nmiprof_wire::Options<'_>) -> Prepared {
    Prepared
}

/// Does an experiment in place of sampling: this image knows none.
#[cfg(not(feature = "selftest"))]
pub const fn experiment(
    _: &nmiprof_wire::Options<'_>,
    _: &crate::arch::percpu::PerCpu,
    _: &mut crate::session::Session,
    _: Prepared,
) -> bool {
    false
}
