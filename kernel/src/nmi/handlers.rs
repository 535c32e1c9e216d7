//! Who is asked about an NMI: four lists of handlers, constant in each image.
//!
//! A handler says how many events of its source it handled. The lists are Linux's (`NMI_LOCAL`,
//! `NMI_UNKNOWN`, `NMI_SERR`, `NMI_IO_CHECK`); there a driver registers at run time and is called through a
//! pointer, here a list is known when the kernel is built, and the local handlers are inlined.
//!
//! | list | asked | sources |
//! |---|---|---|
//! | [local](ask_local) | on every run | PMU overflow, NMI IPI; in the self-test image also a deadline and what is staged |
//! | [`UNKNOWN`] | when nothing explains an NMI; its first handler only | none; what is staged |
//! | [`SERR`] | when system control port B says so | none; what is staged |
//! | [`IO_CHECK`] | when system control port B says so | none; what is staged |

use super::{PerCpu, Run};
use crate::arch::frame::IretFrame;

/// A handler of what no local handler claimed: says how many events of its source it handled.
pub type Handler = fn(&mut Unclaimed<'_>) -> u32;

/// A run in which no local handler found anything.
#[derive(Clone, Copy)]
pub struct Unclaimed<'a> {
    /// The NMI path of this CPU.
    pub nmi: &'a PerCpu,
    /// The outermost interrupted code.
    pub frame: &'a IretFrame,
}

/// Defines [`ask_local`] from its list. All but the first are told how many events were handled before them.
///
/// A macro, so that every call is direct and inlined: a loop over a list of pointers is unrolled only where the
/// compiler feels like it, and these calls are the sample path.
macro_rules! local_handlers {
    [$first:ident, $($(#[$only:meta])? $ask:path),+ $(,)?] => {
        /// Asks the handlers of this CPU's own events in turn, the most frequent source first, until `enough`
        /// events are handled; returns how many were.
        ///
        /// # Context
        /// NMI.
        #[inline(always)]
        pub fn ask_local<const USUAL: bool>(run: &mut Run<'_>, enough: u32) -> u32 {
            let mut handled = $first::<USUAL>(run);
            $(
                $(#[$only])?
                if handled < enough {
                    handled += $ask(run, handled);
                }
            )+
            handled
        }
    };
}

local_handlers![
    overflow,
    ipi,
    #[cfg(feature = "selftest")]
    deadline,
    #[cfg(feature = "selftest")]
    experiment,
    #[cfg(feature = "selftest")]
    staged::local,
];

/// Handlers that may claim what nobody else explains. The first one is asked, and no other: such a handler
/// can't know whether an NMI is its own, and takes all of them.
pub const UNKNOWN: &[Handler] = &[
    #[cfg(feature = "selftest")]
    staged::unknown,
];

/// Handlers of system errors (SERR).
pub const SERR: &[Handler] = &[
    #[cfg(feature = "selftest")]
    staged::serr,
];

/// Handlers of errors on an expansion card (IOCHK).
pub const IO_CHECK: &[Handler] = &[
    #[cfg(feature = "selftest")]
    staged::io_check,
];

/// Asks every handler of a list, and returns how many events they handled.
///
/// # Context
/// NMI.
pub fn ask_all(list: &[Handler], run: &mut Unclaimed<'_>) -> u32 {
    list.iter().map(|ask| ask(run)).sum()
}

#[inline(always)]
fn overflow<const USUAL: bool>(run: &mut Run<'_>) -> u32 {
    let Some(sampler) = &mut run.sampler else { return 0 };
    if USUAL { sampler.handle_usual(&run.interrupted) } else { sampler.handle_any(&run.interrupted) }
}

#[inline(always)]
fn ipi(run: &mut Run<'_>, handled: u32) -> u32 {
    run.interrupted.nmi.mailbox.claim(handled)
}

#[cfg(feature = "selftest")]
fn deadline(run: &mut Run<'_>, _: u32) -> u32 {
    run.interrupted.nmi.deadline.claim()
}

#[cfg(feature = "selftest")]
fn experiment(run: &mut Run<'_>, _: u32) -> u32 {
    run.interrupted.nmi.experiment.handle(run.interrupted.frame.rip)
}

/// The source that the self-test stages: it has a handler in each list.
#[cfg(feature = "selftest")]
mod staged {
    use super::{Run, Unclaimed};

    pub(super) fn local(run: &mut Run<'_>, _: u32) -> u32 {
        run.interrupted.nmi.staging.claim_events()
    }

    pub(super) fn unknown(run: &mut Unclaimed<'_>) -> u32 {
        run.nmi.staging.asked_unknown()
    }

    pub(super) fn serr(run: &mut Unclaimed<'_>) -> u32 {
        run.nmi.staging.asked_serr()
    }

    pub(super) fn io_check(run: &mut Unclaimed<'_>) -> u32 {
        run.nmi.staging.asked_io_check()
    }
}
