//! What a user program of nmiprof stands on: its start, the system calls, and a heap.
//!
//! ```ignore
//! #![cfg_attr(target_os = "none", no_std, no_main)]
//! nmiprof_programs::program!(main);
//!
//! fn main(arguments: nmiprof_programs::Arguments) -> u64 {
//!     nmiprof_programs::print!("{} arguments", arguments.len());
//!     0
//! }
//! ```
//!
//! The calls are described in `nmiprof_program::abi`. For any other target than its own this is empty, and a program
//! is an empty `main`, so that host tools can build the workspace.

#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
pub mod call;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
pub mod start;

#[cfg(target_os = "none")]
pub use start::Arguments;

/// Makes a function `fn(Arguments) -> u64` the program; what it returns is the exit status.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! program {
    ($main:path) => {
        extern "C" fn program_start(stack: usize) -> ! {
            $crate::start::run(stack, $main)
        }

        core::arch::global_asm!(
            ".global _start",
            "_start:",
            "xor ebp, ebp", // ends every call chain
            "mov rdi, rsp",
            "and rsp, -16",
            "call {start}",
            "ud2",
            start = sym program_start,
        );
    };
}

/// Stands in for a program on a host.
#[cfg(not(target_os = "none"))]
#[macro_export]
macro_rules! program {
    ($main:path) => {
        fn main() {}
    };
}

/// Sends one line of text, formatted, to whoever watches.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => {
        $crate::call::print(format_args!($($text)*))
    };
}
