//! The system calls.
//!
//! A program executes SYSCALL with the number of the call in RAX and its arguments in RDI and RSI. The result is in
//! RAX; RCX and R11 are lost, as SYSCALL wants it; every other register and the stack stay as they are. A result
//! from -4095 to -1 is a [`CallError`].
//!
//! | number | call | RDI | RSI | result |
//! |---|---|---|---|---|
//! | 0 | `exit` | status | | does not return |
//! | 1 | `write` | address of bytes | their number | how many were taken: at most [`WRITE_BYTES_MAX`] |
//! | 2 | `map` | length in bytes | | address of that much new memory, all zeros, in whole pages |
//! | 3 | `clock` | | | ticks of the kernel's clock: instructions, where the emulator counts them |
//! | 4 | `yield` | | | 0, when it is the program's turn again |
//!
//! A program starts at its entry with RSP at `argc`, then the addresses of the arguments, a zero, and another zero
//! for its empty environment, as the System V ABI has it; all other registers are zero. There is no floating
//! point: neither x87 nor SSE instructions may be used, and one of them ends the program (#NM or #UD). An
//! exception ends it, too.

/// Number of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Call {
    /// Ends the program.
    Exit = 0,
    /// Sends bytes to whoever watches.
    Write = 1,
    /// Gets more memory.
    Map = 2,
    /// Reads the clock.
    Clock = 3,
    /// Lets others run.
    Yield = 4,
}

impl Call {
    /// Every call.
    pub const ALL: [Self; 5] = [Self::Exit, Self::Write, Self::Map, Self::Clock, Self::Yield];

    /// Finds the call with a number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|call| *call as u64 == number)
    }
}

/// Why a system call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum CallError {
    /// There is no call with this number.
    NoSuchCall = -1,
    /// Bytes are not the program's to read.
    BadAddress = -2,
    /// There is no memory, or no room, for so much.
    NoMemory = -3,
    /// A length of zero.
    Empty = -4,
}

impl CallError {
    const ALL: [Self; 4] = [Self::NoSuchCall, Self::BadAddress, Self::NoMemory, Self::Empty];

    /// Returns what RAX holds.
    #[must_use]
    pub const fn code(self) -> u64 {
        (self as i64).cast_unsigned()
    }

    /// Finds the error that a result stands for; `None` for a result that is none.
    #[must_use]
    pub fn from_result(result: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.code() == result)
    }
}

/// Most bytes that one `write` takes.
pub const WRITE_BYTES_MAX: usize = 1024;

/// Lowest address that a program may be linked to: what is below stays unmapped.
pub const PROGRAM_START: u64 = 0x1_0000;
/// First address that no program may have: the last page below the canonical boundary is left out, so that the
/// address after a SYSCALL is canonical.
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// First address of memory from `map`.
pub const MAP_START: u64 = 0x6000_0000_0000;
/// End of memory from `map`. The stack's guard is above.
pub const MAP_END: u64 = STACK_TOP - 2 * STACK_BYTES;
/// One past the highest address of the stack.
pub const STACK_TOP: u64 = 0x7000_0000_0000;
/// Bytes of the stack.
pub const STACK_BYTES: u64 = 256 << 10;
/// Most bytes of all arguments, their zeros included.
pub const ARGUMENTS_BYTES_MAX: usize = 4096;
/// Most arguments, the program's name included.
pub const ARGUMENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_and_error_survives_the_trip_through_a_register() {
        for call in Call::ALL {
            assert_eq!(Call::from_number(call as u64), Some(call));
        }
        assert_eq!(Call::from_number(5), None);
        for error in CallError::ALL {
            assert_eq!(CallError::from_result(error.code()), Some(error));
        }
        assert_eq!(CallError::from_result(0), None);
    }
}
