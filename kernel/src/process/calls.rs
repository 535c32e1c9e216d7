//! The system calls: `nmiprof_program::abi` describes them.
//!
//! # Context
//! The kernel stack of the process that calls, interrupts disabled. The address space is that of the process, and
//! its memory is read by accesses that fail where the user's would.

use nmiprof_program::abi::{Call, CallError, WRITE_BYTES_MAX};
use nmiprof_wire::{Frame, Output, ProcessOutcome};

use crate::arch::syscall::SyscallFrame;
use crate::arch::{cpu, fallible, switch};
use crate::memory::space::USER_END;
use crate::{stream, thread};

/// Does what a process asks for.
///
/// # Context
/// Called by the entry only.
pub extern "C" fn handle_syscall(frame: &mut SyscallFrame) {
    let result = Call::from_number(frame.saved.rax).ok_or(CallError::NoSuchCall).and_then(|call| {
        let [first, second] = [frame.saved.rdi, frame.saved.rsi];
        dispatch(call, first, second)
    });
    frame.saved.rax = result.unwrap_or_else(CallError::code);
}

fn dispatch(call: Call, first: u64, second: u64) -> Result<u64, CallError> {
    match call {
        Call::Exit => thread::end(ProcessOutcome::Exited(first)),
        Call::Write => write(first, second),
        Call::Map => map(first),
        Call::Clock => Ok(cpu::timestamp()),
        Call::Yield => {
            thread::yield_now();
            Ok(0)
        }
    }
}

fn write(address: u64, len: u64) -> Result<u64, CallError> {
    let mut buffer = [0; WRITE_BYTES_MAX];
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(WRITE_BYTES_MAX);
    let bytes = &mut buffer[..len];
    read_user(address, bytes)?;
    let output = Output { process: switch::current(), time: cpu::timestamp(), bytes };
    stream::send(&Frame::Output(output));
    Ok(len as u64)
}

/// Reads the caller's memory.
fn read_user(address: u64, bytes: &mut [u8]) -> Result<(), CallError> {
    let end = address.checked_add(bytes.len() as u64).ok_or(CallError::BadAddress)?;
    if end > USER_END {
        return Err(CallError::BadAddress);
    }
    fallible::read_bytes(address, bytes).map_err(|_| CallError::BadAddress)
}

fn map(len_bytes: u64) -> Result<u64, CallError> {
    if len_bytes == 0 {
        return Err(CallError::Empty);
    }
    let mapped = thread::with_process(|process| process.map(len_bytes));
    mapped.and_then(Result::ok).ok_or(CallError::NoMemory)
}
