//! Accesses that return an error where the CPU raises an exception.
//!
//! Each is one instruction with an entry in the *exception table*: the address of the instruction and
//! where to continue. The exception path looks the interrupted address up and, if it is listed, puts an
//! [`AccessError`] code into RAX and continues there. The method is Linux's `__ex_table`.

#![expect(unsafe_code, reason = "makes accesses that may fault")]

use core::arch::asm;

use super::frame::WORD;
use super::layout::is_user;

/// Why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// The page is mapped lazily and no frame is left for it.
    NoFrame,
    /// Anything else: no such mapping, no such register.
    Fault,
}

impl AccessError {
    const NO_FRAME_CODE: u64 = 1;
    const FAULT_CODE: u64 = 2;

    /// Returns the code that the exception path puts into RAX.
    pub const fn code(self) -> u64 {
        match self {
            Self::NoFrame => Self::NO_FRAME_CODE,
            Self::Fault => Self::FAULT_CODE,
        }
    }

    pub(super) const fn check(code: u64) -> Result<(), Self> {
        match code {
            0 => Ok(()),
            Self::NO_FRAME_CODE => Err(Self::NoFrame),
            _ => Err(Self::Fault),
        }
    }
}

/// One entry of the exception table.
#[repr(C)]
struct Entry {
    instruction: u64,
    continuation: u64,
}

unsafe extern "C" {
    static __extable_start: Entry;
    static __extable_end: Entry;
}

/// Finds where to continue after an exception at `rip`, if the instruction there is fallible.
pub fn fixup(rip: u64) -> Option<u64> {
    table().iter().find(|entry| entry.instruction == rip).map(|entry| entry.continuation)
}

fn table() -> &'static [Entry] {
    let (start, end) = (&raw const __extable_start, &raw const __extable_end);
    let len = (end.addr() - start.addr()) / size_of::<Entry>();
    // SAFETY: the linker script puts nothing but entries between the two symbols, in read-only data.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// Touches a word for writing, without changing it.
///
/// # Context
/// Any, the NMI included: it may fault, and then returns by way of the exception path.
///
/// # Safety
/// No other CPU writes the word: it is read and written back in one instruction that is not locked.
///
/// # Errors
/// [`AccessError`] where the page is not mapped and can't be.
#[inline]
pub unsafe fn touch_word(address: u64) -> Result<(), AccessError> {
    let code: u64;
    // SAFETY: (1) (caller); (2) a fault at label 2 continues at label 3 with RAX set, by the table entry
    // that stands beside it.
    unsafe {
        asm!(
            "2: or qword ptr [{address}], 0",
            "3:",
            ".pushsection .extable, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            address = in(reg) address,
            inout("rax") 0_u64 => code,
            options(nostack),
        );
    }
    AccessError::check(code)
}

/// Reads bytes from an address that may be no memory.
///
/// # Context
/// Thread.
///
/// # Errors
/// [`AccessError`] at the first byte that can't be read; those before it are in `bytes`.
pub fn read_bytes(address: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
    let code: u64;
    // SAFETY: (1) the copy writes to `bytes` alone; (2) whatever it reads is a byte, and nothing relies on its
    // value; (3) a fault at label 2 continues at label 3 with RAX set; DF is clear in kernel code.
    unsafe {
        asm!(
            "2: rep movsb",
            "3:",
            ".pushsection .extable, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            inout("rsi") address => _,
            inout("rdi") bytes.as_mut_ptr() => _,
            inout("rcx") bytes.len() => _,
            inout("rax") 0_u64 => code,
            options(nostack, preserves_flags),
        );
    }
    AccessError::check(code)
}

/// Reads the two words at an address.
///
/// # Context
/// Any, the NMI included: it may fault, and then returns by way of the exception path. Its `iret` unmasks
/// NMIs: inside an NMI only an entry that survives that may lead here.
///
/// # Safety
/// Reading there changes nothing: no device has registers there.
///
/// # Errors
/// [`AccessError`] where one of the words is not mapped, or the address is not canonical.
#[inline]
pub unsafe fn read_pair(address: u64) -> Result<[u64; 2], AccessError> {
    let (first, second, code): (u64, u64, u64);
    // SAFETY: (1) (caller); (2) a fault at label 2 or 3 continues at label 4 with RAX set, by the table entries
    // that stand beside them; the words are not looked at then.
    unsafe {
        asm!(
            "2: mov {first}, [{address}]",
            "3: mov {second}, [{address} + {WORD}]",
            "4:",
            ".pushsection .extable, \"a\"",
            ".quad 2b, 4b",
            ".quad 3b, 4b",
            ".popsection",
            address = in(reg) address,
            first = out(reg) first,
            second = out(reg) second,
            WORD = const WORD,
            inout("rax") 0_u64 => code,
            options(nostack),
        );
    }
    AccessError::check(code).map(|()| [first, second])
}

/// Reads the two words at a user address, in the address space that this CPU has loaded.
///
/// # Context
/// As for [`read_pair`].
///
/// # Errors
/// [`AccessError`] where the address is no user address, or one of the words is not mapped.
#[inline]
pub fn read_user_pair(address: u64) -> Result<[u64; 2], AccessError> {
    if !is_user(address, size_of::<[u64; 2]>() as u64) {
        return Err(AccessError::Fault);
    }
    // SAFETY: only RAM is ever mapped at user addresses; what its owner does to it meanwhile gives other values,
    // and any value is accepted.
    unsafe { read_pair(address) }
}

/// Touches an address that is not canonical, which raises #GP.
///
/// # Errors
/// [`AccessError::Fault`], always.
#[cfg(feature = "selftest")]
pub fn touch_non_canonical() -> Result<(), AccessError> {
    // SAFETY: there is no word at this address, so nobody else uses it.
    unsafe { touch_word(1 << 63) }
}

/// Writes a model-specific register that may not exist.
///
/// # Safety
/// The value does nothing to memory safety, whatever the register turns out to be.
///
/// # Errors
/// [`AccessError::Fault`] where the CPU raised #GP.
pub unsafe fn write_msr(register: u32, value: u64) -> Result<(), AccessError> {
    let [low, high] = halves(value);
    let code: u64;
    // SAFETY: (1) (caller); (2) a fault at label 2 continues at label 3 with RAX set. RAX holds the low
    // half of the value, so label 3 is reached with RAX cleared when nothing faulted.
    unsafe {
        asm!(
            "2: wrmsr",
            "xor eax, eax",
            "3:",
            ".pushsection .extable, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            in("ecx") register,
            in("edx") high,
            inout("rax") u64::from(low) => code,
            options(nostack),
        );
    }
    AccessError::check(code)
}

/// Reads a model-specific register that may not exist.
///
/// # Safety
/// Reading it has no side effect that memory safety depends on.
///
/// # Errors
/// [`AccessError::Fault`] where the CPU raised #GP.
#[inline]
pub unsafe fn read_msr(register: u32) -> Result<u64, AccessError> {
    let (low, high, code): (u64, u64, u64);
    // SAFETY: (1) (caller); (2) a fault at label 2 continues at label 4 with RAX set; without one RAX is moved out
    // and cleared before that.
    unsafe {
        asm!(
            "2: rdmsr",
            "mov {low}, rax",
            "xor eax, eax",
            "4:",
            ".pushsection .extable, \"a\"",
            ".quad 2b, 4b",
            ".popsection",
            in("ecx") register,
            low = lateout(reg) low,
            out("rdx") high,
            out("rax") code,
            options(nostack),
        );
    }
    AccessError::check(code).map(|()| high << 32 | low)
}

const fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

const _: () = assert!(size_of::<Entry>() == 2 * size_of::<u64>(), "the assembly writes two words");
