//! Where Unicorn 2.1.5 keeps the state of an x86 CPU in a saved context.
//!
//! A context is a header, whose first word says how many bytes follow, and a copy of the emulator's `CPUX86State`
//! (Unicorn 2.1.5, qemu/target/i386/cpu.h and include/uc_priv.h). With a smaller number in the header fewer bytes are
//! copied: so reading the head of the state costs nanoseconds, and writing it back leaves the rest alone.

use std::ptr;

use unicorn_engine::{uc_context, uc_context_restore, uc_context_save, uc_engine, uc_error};

/// Offset of the error code of the last exception.
pub(super) const ERROR_CODE: usize = 5384;
/// Offset of the mark that the last exception was an INT instruction.
pub(super) const EXCEPTION_IS_INT: usize = 5388;
/// Offset of the vector of the exception that is being delivered; -1 for none.
pub(super) const OLD_EXCEPTION: usize = 5496;
/// Bytes of a context before the state.
const HEADER_BYTES: usize = 40;

/// A segment register with what the CPU keeps of its descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u32,
    /// First address.
    pub base: u64,
    /// Last offset.
    pub limit: u32,
    /// Attributes, as in the descriptor's second word.
    pub attributes: u32,
}

/// The head of the state.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuState {
    /// General registers, in the order of their numbers.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS without the arithmetic flags and DF.
    pub rflags_rest: u64,
    arithmetic: [u64; 3],
    arithmetic_kind: u32,
    direction: i32,
    /// The emulator's mode bits; the lowest two are the privilege level.
    pub mode: u32,
    mode_2: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [Segment; 6],
    local_table: Segment,
    /// Task register.
    pub task: Segment,
    /// GDTR.
    pub gdt: Segment,
    /// IDTR.
    pub idt: Segment,
    /// CR0 to CR4, and CR8 as the last.
    pub control: [u64; 9],
}

impl CpuState {
    /// Position of CS in [`CpuState::segments`].
    pub const CS: usize = 1;
    /// Position of SS in [`CpuState::segments`].
    pub const SS: usize = 2;
    /// Position of RSP in [`CpuState::general`].
    pub const RSP: usize = 4;

    /// Returns the privilege level.
    #[must_use]
    pub const fn privilege(&self) -> u32 {
        self.mode & 3
    }
}

/// What Unicorn takes for a model-specific register.
#[repr(C)]
pub(super) struct Msr {
    pub(super) number: u32,
    pub(super) value: u64,
}

/// Returns how many bytes of state the context holds.
///
/// # Safety
/// The context is a live one.
pub(super) unsafe fn context_bytes(context: *mut uc_context) -> usize {
    // SAFETY: (caller); the first word is the number of bytes.
    unsafe { context.cast::<usize>().read() }
}

/// Copies the first `bytes` bytes of the state, and returns them as a `T`.
///
/// # Safety
/// Both are live; `T` is plain data of so many bytes, no more than the context holds.
pub(super) unsafe fn save_head<T: Copy>(uc: *mut uc_engine, context: *mut uc_context, bytes: usize) -> T {
    debug_assert_eq!(bytes, size_of::<T>());
    // SAFETY: (caller).
    unsafe { context.cast::<usize>().write(bytes) };
    // SAFETY: (caller).
    check(unsafe { uc_context_save(uc, context) });
    // SAFETY: (caller) the context holds so many bytes.
    let state = unsafe { context.cast::<u8>().add(HEADER_BYTES) };
    // SAFETY: (caller) any bytes are a `T`.
    unsafe { state.cast::<T>().read_unaligned() }
}

/// Writes the head of the state back.
///
/// # Safety
/// Both are live.
pub(super) unsafe fn restore_head(uc: *mut uc_engine, context: *mut uc_context, head: &CpuState) {
    // SAFETY: (caller).
    unsafe { context.cast::<usize>().write(size_of::<CpuState>()) };
    // SAFETY: (caller) the context holds that many bytes.
    let state = unsafe { context.cast::<u8>().add(HEADER_BYTES) };
    // SAFETY: as above.
    unsafe { state.cast::<CpuState>().write_unaligned(*head) };
    // SAFETY: (caller).
    check(unsafe { uc_context_restore(uc, context) });
}

/// Copies the whole state.
///
/// # Safety
/// Both are live; the context holds so many bytes.
pub(super) unsafe fn save_all(uc: *mut uc_engine, context: *mut uc_context, bytes: usize) -> Vec<u8> {
    // SAFETY: (caller).
    unsafe { context.cast::<usize>().write(bytes) };
    // SAFETY: (caller).
    check(unsafe { uc_context_save(uc, context) });
    // SAFETY: (caller).
    let state = unsafe { context.cast::<u8>().add(HEADER_BYTES) };
    let mut copy = vec![0; bytes];
    // SAFETY: (caller) both have so many bytes.
    unsafe { ptr::copy_nonoverlapping(state, copy.as_mut_ptr(), bytes) };
    copy
}

/// Writes the whole state back.
///
/// # Safety
/// Both are live; the context holds as many bytes as the copy has.
pub(super) unsafe fn restore_all(uc: *mut uc_engine, context: *mut uc_context, copy: &[u8]) {
    // SAFETY: (caller).
    unsafe { context.cast::<usize>().write(copy.len()) };
    // SAFETY: (caller).
    let state = unsafe { context.cast::<u8>().add(HEADER_BYTES) };
    // SAFETY: (caller) both have so many bytes.
    unsafe { ptr::copy_nonoverlapping(copy.as_ptr(), state, copy.len()) };
    // SAFETY: (caller).
    check(unsafe { uc_context_restore(uc, context) });
}

fn check(error: uc_error) {
    assert_eq!(error, uc_error::OK, "Unicorn refuses: {error}");
}
