//! What a page fault means.
//!
//! The one fault that this kernel takes on purpose is the first touch of a ring page, inside an NMI. It is
//! resolved with a frame from the CPU's reserve and one compare-exchange; then the exception entry returns
//! by `iret`, which unmasks NMIs although the outer NMI is still being handled.

use super::vmalloc;
use crate::arch::paging::{self, Installed};
use crate::arch::percpu;

/// Error code bit: the page was present, so this is a violation of its rights.
const ERROR_PRESENT: u64 = 1 << 0;

/// Outcome of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The page is mapped now: run the instruction again.
    Mapped,
    /// The page is lazily mapped, and no frame is left.
    NoFrame,
    /// The access is wrong.
    BadAddress,
}

/// Resolves a page fault at `address`.
///
/// # Context
/// Any; lazily mapped pages are resolved inside the NMI only, because nothing else touches them first.
pub fn resolve(address: u64, error: u64) -> Resolution {
    let Some((cpu, nmi)) = percpu::find().and_then(|cpu| Some((cpu, cpu.nmi.in_progress()?))) else {
        return Resolution::BadAddress;
    };
    nmi.count_page_fault();
    if error & ERROR_PRESENT != 0 || !vmalloc::contains(address) {
        return Resolution::BadAddress;
    }
    let Some(frame) = cpu.reserve.take() else {
        return Resolution::NoFrame;
    };
    match paging::install_leaf(address, frame) {
        Installed::New => {
            nmi.first_touch(cpu.apic);
            Resolution::Mapped
        }
        // The frame is lost to the reserve: with one CPU nobody else installs, and a page without a
        // table is no ring page.
        Installed::AlreadyPresent => Resolution::Mapped,
        Installed::NoTable => Resolution::BadAddress,
    }
}
