//! The state of x87, MMX and SSE, for the self-test image: the kernel uses none of it, and must not change it.

#![expect(unsafe_code, reason = "loads and stores registers that the compiler does not use")]

use core::arch::asm;

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};

use super::fallible::AccessError;

/// Where the 4-byte MXCSR is in the state (SDM volume 1, "FXSAVE Area").
const MXCSR: usize = 24;
const CONTROL_WORD: usize = 0;
const REGISTERS: core::ops::Range<usize> = 32..416;
const X87_REGISTERS_END: usize = 160;
/// Bytes of an x87 register in its place of 16.
const X87_REGISTER_BYTES: usize = 10;
const DEFAULT_CONTROL_WORD: u16 = 0x037f;
/// All exceptions masked, so that no pattern raises one.
const DEFAULT_MXCSR: u32 = 0x1f80;

/// What `fxsave` stores.
#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State([u8; 512]);

impl State {
    /// Makes a state in which the bytes of all registers differ from each other.
    pub fn pattern(seed: u8) -> Self {
        let mut bytes = [0; 512];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let is_place = REGISTERS.contains(&index);
            let is_x87_gap = index < X87_REGISTERS_END && index % 16 >= X87_REGISTER_BYTES;
            if is_place && !is_x87_gap {
                *byte = seed.wrapping_add(index.to_le_bytes()[0].wrapping_mul(37));
            }
        }
        bytes[CONTROL_WORD..CONTROL_WORD + 2].copy_from_slice(&DEFAULT_CONTROL_WORD.to_le_bytes());
        bytes[MXCSR..MXCSR + 4].copy_from_slice(&DEFAULT_MXCSR.to_le_bytes());
        Self(bytes)
    }

    /// Returns the same state with another MXCSR.
    pub fn with_mxcsr(mut self, value: u32) -> Self {
        self.0[MXCSR..MXCSR + 4].copy_from_slice(&value.to_le_bytes());
        self
    }
}

/// Lets the CPU have such a state.
pub fn enable() {
    let cr0 = Cr0::read() - Cr0Flags::EMULATE_COPROCESSOR - Cr0Flags::TASK_SWITCHED;
    // SAFETY: instructions of the coprocessor are executed instead of raising an exception.
    unsafe { Cr0::write(cr0 | Cr0Flags::MONITOR_COPROCESSOR) };
    // SAFETY: `fxsave` and `fxrstor` take MXCSR and the XMM registers in, too.
    unsafe { Cr4::update(|flags| flags.insert(Cr4Flags::OSFXSR)) };
}

/// Loads a state.
#[inline(never)]
pub fn load(state: &State) {
    // SAFETY: (1) the state has 512 aligned bytes, with a sound MXCSR; (2) compiled code uses none of the
    // registers: the target is soft-float.
    unsafe { asm!("fxrstor64 [{}]", in(reg) state, options(nostack, readonly)) };
}

/// Reads the state.
#[inline(never)]
pub fn save() -> State {
    let mut state = State([0; 512]);
    // SAFETY: the state has 512 aligned bytes.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut state, options(nostack)) };
    state
}

/// Stores the state where it may fault half-way.
///
/// # Safety
/// The 512 bytes at `address`, which is aligned to 16, belong to nobody, or to a device that the state's words may be
/// written to.
///
/// # Errors
/// [`AccessError`] where one of the bytes is not mapped.
#[inline(never)]
pub unsafe fn save_at(address: u64) -> Result<(), AccessError> {
    let code: u64;
    // SAFETY: (1) (caller); (2) a fault at label 2 continues at label 3 with RAX set, by the table entry that
    // stands beside it.
    unsafe {
        asm!(
            "2: fxsave64 [{address}]",
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
