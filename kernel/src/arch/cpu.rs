//! What CPUID and a few registers tell about this CPU.

#![expect(unsafe_code, reason = "reads the time-stamp counter and spins a counted loop")]

use core::arch::x86_64::_rdtsc;
use core::arch::{asm, global_asm};

use raw_cpuid::{CpuId, CpuIdReaderNative, ProcessorBrandString};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};

/// The CPU's brand string.
pub struct BrandString(Option<ProcessorBrandString>);

impl BrandString {
    /// Reads it.
    pub fn read() -> Self {
        Self(cpuid().get_processor_brand_string())
    }

    /// Returns the text, or a stand-in where the CPU has none.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("unnamed x86-64", |brand| brand.as_str().trim())
    }
}

/// Tells whether the CPU has an x2APIC.
pub fn has_x2apic() -> bool {
    cpuid().get_feature_info().is_some_and(|features| features.has_x2apic())
}

/// Tells whether the CPU has AMD's virtualization extension, and with it the global interrupt flag.
#[cfg(feature = "selftest")]
pub fn has_svm() -> bool {
    cpuid().get_extended_processor_and_feature_identifiers().is_some_and(|features| features.has_svm())
}

fn cpuid() -> CpuId<CpuIdReaderNative> {
    CpuId::new()
}

/// Reads the time-stamp counter.
#[inline]
pub fn timestamp() -> u64 {
    // SAFETY: RDTSC is allowed at CPL 0.
    unsafe { _rdtsc() }
}

/// Instructions in the [`nop_sled`].
pub const SLED_INSTRUCTIONS: u64 = 8192;

global_asm!(
    ".balign 4096",
    ".global nop_sled_start",
    "nop_sled_start:",
    ".fill {SLED_INSTRUCTIONS}, 1, 0x90", // one-byte NOPs: address and instruction count advance together
    ".global nop_sled_end",
    "nop_sled_end:",
    "ret",
    SLED_INSTRUCTIONS = const SLED_INSTRUCTIONS,
);

unsafe extern "C" {
    safe static nop_sled_end: u8;
    fn nop_sled_start();
}

/// Runs a straight line of one-byte instructions, the last `instructions` of [`SLED_INSTRUCTIONS`].
#[inline(never)]
pub fn nop_sled(instructions: u64) {
    let target = (&raw const nop_sled_end) as u64 - instructions.min(SLED_INSTRUCTIONS);
    // SAFETY: the target is an instruction of the sled, which changes nothing and returns. A call may
    // change the flags and no register; the stack is the caller's (no red zone in kernel code).
    unsafe { asm!("call {}", in(reg) target) };
}

/// Returns how far into the whole sled an address is, if it is one of its instructions.
pub fn sled_offset(address: u64) -> Option<u64> {
    let start = nop_sled_start as *const () as u64;
    let offset = address.checked_sub(start)?;
    (offset < SLED_INSTRUCTIONS).then_some(offset)
}

/// Halts until an interrupt or an NMI comes, takes it, and returns with interrupts disabled again.
///
/// # Context
/// Interrupts disabled, while there is a tick. No interrupt can come between enabling and halting; an NMI that
/// does is over when the CPU halts, and then the tick ends it (case 40).
pub fn wait_for_interrupt() {
    // SAFETY: the code changes no register but the interrupt flag; handlers give everything back.
    unsafe { halt_until_interrupted() };
}

global_asm!(
    ".global halt_until_interrupted",
    "halt_until_interrupted:",
    "sti", // interrupts wait until the next instruction has begun
    "hlt",
    ".global halt_ended",
    "halt_ended:",
    "cli",
    "ret",
);

unsafe extern "C" {
    fn halt_until_interrupted();
    #[cfg(feature = "selftest")]
    safe static halt_ended: u8;
}

/// Halts until an NMI comes, and returns after it. One that comes right before is over when the CPU halts: who waits
/// for something that another CPU does is woken until it has noticed.
///
/// # Context
/// Thread, on a CPU that gets no interrupts.
pub fn wait_for_nmi() {
    x86_64::instructions::hlt();
}

/// Returns the address of the instruction after the one that halts the CPU: where NMIs find it then.
#[cfg(feature = "selftest")]
pub fn address_after_halt() -> u64 {
    (&raw const halt_ended) as u64
}

/// Lets every floating-point and SIMD instruction raise #NM or #UD. Nothing in the kernel uses one.
pub fn forbid_floating_point() {
    // SAFETY: no code of this kernel has floating-point state.
    unsafe {
        Cr0::update(|flags| {
            flags.insert(
                Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED | Cr0Flags::MONITOR_COPROCESSOR,
            );
        });
    }
    // SAFETY: as above.
    unsafe { Cr4::update(|flags| flags.remove(Cr4Flags::OSFXSR | Cr4Flags::OSXSAVE)) };
}

/// Continues on another stack, for good.
///
/// # Safety
/// `top` is the top of an unused stack. Nothing on the present one is needed any more.
pub unsafe fn continue_on(top: u64, entry: extern "C" fn() -> !) -> ! {
    // SAFETY: (1) (caller); (2) the entry never returns, so its return address may be 0: that, and RBP = 0
    // above it, ends the call chains of everything that runs there.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "push rbp",
            "jmp {entry}",
            top = in(reg) top,
            entry = in(reg) entry,
            options(noreturn),
        );
    }
}
