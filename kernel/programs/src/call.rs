//! The system calls, as functions.

#![expect(unsafe_code, reason = "executes SYSCALL")]

use core::arch::asm;
use core::fmt;

use nmiprof_program::abi::{Call, CallError};

/// Executes a system call: its number, and two arguments of which most calls take fewer.
///
/// The kernel reads memory that a call names and writes none, so no call can do harm.
pub fn raw(number: u64, first: u64, second: u64) -> u64 {
    let result: u64;
    // SAFETY: the kernel changes RAX, RCX and R11, and nothing else.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

fn call(call: Call, first: u64, second: u64) -> Result<u64, CallError> {
    let result = raw(call as u64, first, second);
    CallError::from_result(result).map_or(Ok(result), Err)
}

/// Ends the program.
pub fn exit(status: u64) -> ! {
    loop {
        raw(Call::Exit as u64, status, 0);
    }
}

/// Sends bytes, and returns how many were taken.
///
/// # Errors
/// [`CallError`].
pub fn write(bytes: &[u8]) -> Result<usize, CallError> {
    let taken = call(Call::Write, bytes.as_ptr() as u64, bytes.len() as u64)?;
    Ok(usize::try_from(taken).unwrap_or_default())
}

/// Gets new memory, all zeros, of whole pages, and returns its address.
///
/// # Errors
/// [`CallError`].
pub fn map(len_bytes: u64) -> Result<u64, CallError> {
    call(Call::Map, len_bytes, 0)
}

/// Reads the kernel's clock.
pub fn clock() -> u64 {
    raw(Call::Clock as u64, 0, 0)
}

/// Lets others run.
pub fn yield_now() {
    raw(Call::Yield as u64, 0, 0);
}

/// Sends one line of text; what the kernel refuses is lost.
pub fn print(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; Line::BYTES], len: 0 };
    // An error means that the text was cut: what there is, is sent.
    let _ = fmt::Write::write_fmt(&mut line, text);
    let _ = write(&line.bytes[..line.len]);
}

/// Text of bounded length.
struct Line {
    bytes: [u8; Self::BYTES],
    len: usize,
}

impl Line {
    const BYTES: usize = 256;
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(Self::BYTES - self.len);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
