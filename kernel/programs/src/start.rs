//! From the first instruction to `main`, and what a panic does.

#![expect(unsafe_code, reason = "reads the arguments that the kernel left on the stack")]

use core::ffi::{CStr, c_char};
use core::panic::PanicInfo;
use core::ptr;

use crate::call;

/// Exit status of a program that panics.
pub const PANICKED: u64 = 101;

/// The arguments, the program's name first.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    pointers: *const *const c_char,
    len: usize,
}

impl Arguments {
    /// Returns how many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there are none, not even a name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns an argument; text that is not UTF-8 is no argument.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'static str> {
        if index >= self.len {
            return None;
        }
        // SAFETY: the kernel put so many pointers there, and the stack's start is never used for anything else.
        let text = unsafe { *self.pointers.wrapping_add(index) };
        // SAFETY: each points to a text that ends with a zero.
        unsafe { CStr::from_ptr(text) }.to_str().ok()
    }

    /// Returns an argument as a decimal number, or `default` where there is none.
    ///
    /// # Panics
    /// Where there is one and it is no number.
    #[must_use]
    pub fn number(&self, index: usize, default: u64) -> u64 {
        self.get(index).map_or(default, |text| text.parse().expect("a decimal number"))
    }
}

/// Runs the program: what [`program!`](crate::program) calls, with the first stack pointer.
#[doc(hidden)]
pub fn run(stack: usize, main: fn(Arguments) -> u64) -> ! {
    let count: *const usize = ptr::with_exposed_provenance(stack);
    // SAFETY: the kernel starts a program with RSP at the number of arguments, and their pointers follow.
    let len = unsafe { *count };
    let arguments = Arguments { pointers: count.wrapping_add(1).cast(), len };
    call::exit(main(arguments))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    call::print(format_args!("{info}"));
    call::exit(PANICKED)
}
