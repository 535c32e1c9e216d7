//! What a page fault means.
//!
//! The faults that this kernel takes on purpose are about areas, and nearly always inside an NMI:
//!
//! - The address space in CR3 is older than the area and misses its top-level entry. It is copied from the
//!   master: a *sync*. What counts is CR3, never some notion of the current process: in the middle of a
//!   switch between two address spaces these disagree.
//! - The page has no frame: its *first touch*. Frames for the page, and for tables above it that are missing,
//!   come from the CPU's reserve.
//!
//! Each fault does one of the two; an access may take one after the other. Then the exception entry returns
//! by `iret`, which unmasks NMIs although the outer NMI is still being handled.

use super::{space, vmalloc};
use crate::arch::paging;
use crate::arch::paging::lazy::{self, FramesTaken, InstallError, Synced};
use crate::arch::percpu::{self, PerCpu};

/// Error code bit: the page was present, so this is a violation of its rights.
const ERROR_PRESENT: u64 = 1 << 0;
/// Error code bit: user code made the access.
const ERROR_USER: u64 = 1 << 2;

/// What the CPU tells about a page fault.
#[derive(Clone, Copy, Debug)]
pub struct PageFault {
    /// The address that was accessed, from CR2.
    pub address: u64,
    /// The error code.
    pub error: u64,
    /// The instruction.
    pub rip: u64,
}

/// Outcome of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The address space has the area now: run the instruction again.
    Synced,
    /// The page is mapped now, by this CPU: run the instruction again.
    FirstTouch {
        /// Frames taken for tables.
        tables: u32,
    },
    /// Somebody else has just mapped it, another CPU or an NMI on top of this fault: run the instruction again.
    Raced {
        /// Frames taken for tables.
        tables: u32,
    },
    /// The page is lazily mapped, and no frame is left.
    NoFrame {
        /// Frames taken for tables before.
        tables: u32,
    },
    /// The access is wrong.
    BadAddress,
}

/// Resolves a page fault.
///
/// # Context
/// Any. First touches are resolved inside the NMI only, because nothing else makes them.
pub fn resolve(fault: &PageFault) -> Resolution {
    let Some(cpu) = percpu::find() else {
        return Resolution::BadAddress;
    };
    let nmi = cpu.nmi.in_progress();
    let resolution = find(cpu, fault, nmi.is_some());
    match nmi {
        Some(nmi) => nmi.count_page_fault(fault, resolution, cpu.apic),
        None if resolution == Resolution::Synced => cpu.nmi.counters.thread_syncs.increment(),
        None => {}
    }
    resolution
}

fn find(cpu: &PerCpu, fault: &PageFault, in_nmi: bool) -> Resolution {
    let refused = fault.error & (ERROR_PRESENT | ERROR_USER) != 0;
    if refused || !vmalloc::contains(fault.address) {
        return Resolution::BadAddress;
    }
    match sync(fault.address) {
        Synced::Copied => Resolution::Synced,
        Synced::NotInMaster => Resolution::BadAddress,
        Synced::AlreadyPresent if in_nmi => touch(cpu, fault.address),
        // Between the fault and the look at the entry it was copied.
        Synced::AlreadyPresent if lazy::is_mapped(paging::loaded(), fault.address) => {
            Resolution::Raced { tables: 0 }
        }
        Synced::AlreadyPresent => Resolution::BadAddress,
    }
}

#[cfg(feature = "selftest")]
fn sync(address: u64) -> Synced {
    let root = crate::selftest::mutant_syncs_current().unwrap_or_else(paging::loaded);
    lazy::install_top_level(root, space::master_root(), address)
}

#[cfg(not(feature = "selftest"))]
fn sync(address: u64) -> Synced {
    lazy::install_top_level(paging::loaded(), space::master_root(), address)
}

fn touch(cpu: &PerCpu, address: u64) -> Resolution {
    match lazy::install_leaf(paging::loaded(), address, &cpu.reserve) {
        Ok(FramesTaken { pages: 0, tables }) => Resolution::Raced { tables },
        Ok(FramesTaken { tables, .. }) => Resolution::FirstTouch { tables },
        Err(InstallError::NoFrame { tables }) => Resolution::NoFrame { tables },
        Err(InstallError::NoTable) => Resolution::BadAddress,
    }
}
