//! Holding NMIs back, and letting them go at a known instruction.
//!
//! With the global interrupt flag (GIF) clear the CPU holds NMIs: any number that are raised meanwhile become one,
//! which is taken after `stgi`. So two sources can be made to share one NMI that is not back-to-back to any other,
//! which nothing inside an NMI can do.
//!
//! Source: AMD64 Architecture Programmer's Manual volume 2, "Global Interrupt Flag, STGI and CLGI Instructions".

#![expect(unsafe_code, reason = "clears and sets the global interrupt flag")]

use core::arch::{asm, global_asm};

use x86_64::registers::model_specific::{Efer, EferFlags};

use super::cpu;

/// Where NMIs are let go: two places, so that one can be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The one.
    Here,
    /// The other.
    There,
}

// A one-instruction loop at each place: after the `stgi` RIP stays where it is for as many turns as RDI says.
global_asm!(
    ".irp place, here, there",
    ".global hold_release_\\place",
    "hold_release_\\place:",
    "mov rcx, rdi",
    "stgi",
    ".global hold_\\place",
    "hold_\\place:",
    "loop hold_\\place",
    "ret",
    ".endr",
);

unsafe extern "C" {
    fn hold_release_here(turns: u64);
    fn hold_release_there(turns: u64);
    safe static hold_here: u8;
    safe static hold_there: u8;
}

/// NMIs are being held on this CPU.
pub struct Hold(());

impl Hold {
    /// Begins to hold NMIs; `None` where the CPU has no global interrupt flag.
    pub fn begin() -> Option<Self> {
        if !cpu::has_svm() {
            return None;
        }
        // SAFETY: the CPU has the extension, and the bit only makes its instructions available.
        unsafe { Efer::update(|flags| flags.insert(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE)) };
        // SAFETY: the flag is set again by `release`; nothing in between waits for an interrupt.
        unsafe { asm!("clgi", options(nomem, nostack)) };
        Some(Self(()))
    }

    /// Lets go: what was held is taken at the [place's address](Place::address), where the code stays for so many
    /// turns, at least one.
    pub fn release(self, place: Place, turns: u64) {
        let release = match place {
            Place::Here => hold_release_here,
            Place::There => hold_release_there,
        };
        // SAFETY: NMIs were taken before `begin`; the function changes nothing else but RCX.
        unsafe { release(turns.max(1)) };
    }
}

impl Place {
    /// Returns the address of the instruction that an NMI interrupts there.
    pub fn address(self) -> u64 {
        match self {
            Self::Here => (&raw const hold_here).addr() as u64,
            Self::There => (&raw const hold_there).addr() as u64,
        }
    }
}
