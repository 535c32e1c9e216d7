//! Reports of the NMI sweep: what came of NMIs at known distances from each other.
//!
//! The kernel says where each NMI landed and which invariants did not hold ([`Failure`]). What should have been
//! possible there is the host's to derive.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// One placement of the NMI sweep: a first NMI, and a second one so many ticks later.
///
/// With 8 ticks (`ENTRY_TICKS` in the kernel's `arch/experiment.rs`, which has the details) the second one is raised before the first instruction of the
/// first one's entry, with `8 + n` when `n` instructions of the first one have retired. With fewer it comes before the self-NMI, which is the last arrival
/// then. The first arrival's accounts are in the counts; a further, third NMI that checks NMI-live is not.
///
/// `arrivals` above 2 and NMI-live failed: the entry went in circles until the watchdog's NMI. If NMI-once or NMI-live failed inside, the NMI was abandoned: its
/// run may have no outcome in the final totals, whose equations don't hold then.
///
/// A sweep of the switch between two address spaces (`selftest=switch`) sends these as well: `ticks` is the period
/// after which the one overflow comes, and `last_rip` the address of its sample.
///
/// A storm (`selftest=storm`) sends these as reports: `ticks` are the nested arrivals so far, the other counts are those since the report before.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `ticks` | u32 | timer ticks | what the timer of the second NMI was armed with |
/// | `last_rip` | u64 | address | instruction that the last arrival interrupted, from the frame that the CPU pushed |
/// | `arrivals` | u16 | NMIs | arrivals at vector 2 |
/// | `runs` | u16 | runs | of the handler |
/// | `nested` | u16 | NMIs | arrivals that found an NMI in progress |
/// | `failures` | u32 | bits | what did not hold: [`Failure`] |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Placement {
    /// What the timer of the second NMI was armed with.
    pub ticks: u32,
    /// The instruction that the last arrival interrupted.
    pub last_rip: u64,
    /// Arrivals at vector 2.
    pub arrivals: u16,
    /// Runs of the handler.
    pub runs: u16,
    /// Arrivals that found an NMI in progress.
    pub nested: u16,
    /// What did not hold, as bits of [`Failure`].
    pub failures: u32,
}

/// One pair of the NMI sweep: a first NMI, a second one so many ticks later, and a third one after that.
///
/// `ticks` are those of a [`Placement`]. The third one is raised `gap` ticks after the second, by another device; with a gap of 0 the two are raised at once and
/// are one NMI. NMI-live is checked by a further, fourth NMI that is in no count.
///
/// There are hundreds of thousands of these on one line, so addresses are offsets: about 22 bytes on the line, where two full addresses alone would take 20.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `ticks` | u32 | timer ticks | what the timer of the second NMI was armed with |
/// | `gap` | u32 | timer ticks | from the second NMI to the third |
/// | `second` | [`Landing`] | | what the second arrival interrupted |
/// | `third` | [`Landing`] | | what the third arrival interrupted; if there was none, the default |
/// | `arrivals` | u16 | NMIs | arrivals at vector 2 |
/// | `runs` | u16 | runs | of the handler |
/// | `nested` | u16 | NMIs | arrivals that found an NMI in progress |
/// | `failures` | u32 | bits | what did not hold: [`Failure`] |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Pair {
    /// What the timer of the second NMI was armed with.
    pub ticks: u32,
    /// Ticks from the second NMI to the third.
    pub gap: u32,
    /// What the second arrival interrupted.
    pub second: Landing,
    /// What the third arrival interrupted.
    pub third: Landing,
    /// Arrivals at vector 2.
    pub arrivals: u16,
    /// Runs of the handler.
    pub runs: u16,
    /// Arrivals that found an NMI in progress.
    pub nested: u16,
    /// What did not hold, as bits of [`Failure`].
    pub failures: u32,
}

/// What an arrival of an NMI interrupted.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `offset` | u32 | bytes | the interrupted instruction, from [`Landing::BASE`] on; [`Landing::ELSEWHERE`] if it is not in the image |
/// | `runs` | u16 | runs | of the handler that had begun by then |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub struct Landing {
    /// The interrupted instruction, as an offset.
    pub offset: u32,
    /// Runs of the handler that had begun by then.
    pub runs: u16,
}

impl Landing {
    /// The address of offset 0: the image lies in the 2 GiB from here on.
    pub const BASE: u64 = 0xffff_ffff_8000_0000;
    /// The offset of everything that is not in the image.
    pub const ELSEWHERE: u32 = u32::MAX;

    /// Creates a landing at an address.
    #[must_use]
    pub fn at(address: u64, runs: u16) -> Self {
        let offset = address.checked_sub(Self::BASE).and_then(|offset| u32::try_from(offset).ok());
        Self { offset: offset.unwrap_or(Self::ELSEWHERE), runs }
    }

    /// Returns the address.
    #[must_use]
    pub const fn address(self) -> u64 {
        Self::BASE + self.offset as u64
    }
}

/// What can fail in a placement or a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Failure {
    /// NMI-once: the handler was entered while it was running.
    Once = 1 << 0,
    /// NMI-latch: an NMI was lost, or caused more than one run.
    Latch = 1 << 1,
    /// NMI-transparent: a general-purpose register changed.
    Registers = 1 << 2,
    /// NMI-transparent: a flag changed.
    Flags = 1 << 3,
    /// NMI-transparent: the stack pointer, or a word on the stack, changed.
    Stack = 1 << 4,
    /// NMI-transparent: CR2 changed.
    Cr2 = 1 << 5,
    /// NMI-transparent: DR7 changed.
    Dr7 = 1 << 6,
    /// The lowest words of the NMI stack, which nothing may reach, changed.
    Canary = 1 << 7,
    /// NMI-live: NMIs were still masked after the return.
    Live = 1 << 8,
    /// Invariant Dispatch: an NMI had another outcome than the situation allows, or the situation did not arise.
    Dispatch = 1 << 9,
    /// The address space that was loaded did not get the ring's area, or another one did, or CR3 changed.
    Space = 1 << 10,
}

impl Failure {
    /// Every failure, with its name.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Once, "NMI-once"),
        (Self::Latch, "NMI-latch"),
        (Self::Registers, "registers"),
        (Self::Flags, "flags"),
        (Self::Stack, "stack"),
        (Self::Cr2, "CR2"),
        (Self::Dr7, "DR7"),
        (Self::Canary, "canary"),
        (Self::Live, "NMI-live"),
        (Self::Dispatch, "dispatch"),
        (Self::Space, "address space"),
    ];

    /// Returns the bit.
    #[must_use]
    pub const fn bit(self) -> u32 {
        self as u32
    }
}
