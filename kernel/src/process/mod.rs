//! Processes: user programs, each in an address space of its own.
//!
//! [`load`] makes one from an ELF file; [`calls`] is what it can ask for. Whatever it does, it can only end: an
//! exception that user code raises ends the process and is reported with the instruction that raised it.
//!
//! There is no floating-point state to keep: the kernel and its programs are compiled without any use of it, and
//! an instruction that would need it raises #NM or #UD (see [`crate::arch::cpu::forbid_floating_point`]).

pub mod calls;
mod load;

use nmiprof_program::abi::{MAP_END, MAP_START};
use nmiprof_wire::{BuildId, Frame, ProcessOutcome};

use crate::arch::frame::IretFrame;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::paging::MapError;
use crate::memory::space::{AddressSpace, UserRights};
use crate::text::FixedText;
use crate::{stream, thread};
pub use load::load_all;

/// Longest name, in bytes: more is cut.
const NAME_BYTES: usize = 64;
/// Vector of what a bad return to user code raises.
const GENERAL_PROTECTION: u8 = 13;

/// A user program.
pub struct Process {
    /// Its number: what samples call it.
    pub number: u32,
    name: FixedText<NAME_BYTES>,
    build_id: Option<BuildId>,
    space: AddressSpace,
    /// Where the next memory goes that it asks for.
    next_map: u64,
}

impl Process {
    /// Returns its address space, as CR3 has it.
    pub fn root(&self) -> u64 {
        self.space.root().start_address().as_u64()
    }

    /// Introduces it to the host.
    pub fn introduce(&self) {
        let Self { number, name, build_id, .. } = self;
        let process = nmiprof_wire::Process { number: *number, name: name.as_str(), build_id: *build_id };
        stream::send(&Frame::Process(process));
    }

    /// Maps so many bytes more, all zeros, and returns their address.
    fn map(&mut self, len_bytes: u64) -> Result<u64, MapError> {
        let room = MAP_END - self.next_map;
        let len = len_bytes.checked_next_multiple_of(PAGE_BYTES).filter(|len| *len <= room);
        let (start, len) = (self.next_map, len.ok_or(MapError::OutOfFrames)?);
        // Not used again, even if mapping fails half-way: some of it is mapped then.
        self.next_map += len;
        self.space.map_user(start, len, UserRights::ReadWrite)?;
        Ok(start)
    }
}

const _: () = assert!(MAP_START < MAP_END, "there is room for memory");

/// Ends the process that raised an exception.
///
/// # Context
/// The exception path, from user code: nothing of the kernel was interrupted.
pub fn raised(vector: u64, error: u64, address: u64, interrupted: &IretFrame) -> ! {
    let vector = u8::try_from(vector).unwrap_or(u8::MAX);
    thread::end(ProcessOutcome::Killed { vector, error, address, rip: interrupted.rip })
}

/// Ends the process that can't be returned to.
///
/// # Context
/// The kernel stack of the process, interrupts disabled.
pub fn return_failed() -> ! {
    thread::end(ProcessOutcome::Killed { vector: GENERAL_PROTECTION, error: 0, address: 0, rip: 0 })
}
