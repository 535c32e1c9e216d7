//! The local APIC: its timer as a source of NMIs, the self-NMI, and what one CPU sends to another.
//!
//! The timer's delivery mode is set to NMI. Hardware reserves those bits in the timer's entry (x2APIC mode
//! raises #GP, xAPIC mode may ignore them), QEMU's TCG honours them; so whether NMIs really come is found
//! out by a self-test and never assumed.
//!
//! Source: SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".

#![expect(unsafe_code, reason = "reads and writes APIC registers")]

use core::hint::spin_loop;
use core::ptr;

use nmiprof_pmu::CountdownTimer;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use super::cpu;
use super::fallible::{self, AccessError};
use super::layout::direct;

/// Physical address of the xAPIC registers, where every CPU starts with them.
pub const MMIO_ADDRESS: u64 = 0xfee0_0000;

/// The message by which a device sends an NMI to one CPU: where it writes, and what.
///
/// Source: SDM volume 3, "Message Signalled Interrupts"; physical destination, edge triggered.
#[cfg(feature = "selftest")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NmiMessage {
    /// Physical address.
    pub address: u32,
    /// The word that is written there.
    pub data: u32,
}

/// Register offsets of the xAPIC; the x2APIC's MSR is 0x800 + offset / 16.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x20,
    SpuriousVector = 0xf0,
    CommandLow = 0x300,
    CommandHigh = 0x310,
    LvtTimer = 0x320,
    LvtPerformance = 0x340,
    LvtLint0 = 0x350,
    LvtLint1 = 0x360,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    DivideConfiguration = 0x3e0,
}

const X2APIC_MSR_BASE: u32 = 0x800;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const SPURIOUS_VECTOR: u32 = 0xff;
const LVT_MASKED: u32 = 1 << 16;
const DELIVERY_NMI: u32 = 0b100 << 8;
const DELIVERY_INIT: u32 = 0b101 << 8;
const DELIVERY_STARTUP: u32 = 0b110 << 8;
const DELIVERY_EXTERNAL: u32 = 0b111 << 8;
const DELIVERY_PENDING: u32 = 1 << 12;
const LEVEL_ASSERT: u32 = 1 << 14;
const DIVIDE_BY_1: u32 = 0b1011;
const XAPIC_ID_SHIFT: u32 = 24;
/// Reads of the command register, of about a microsecond each, until a command has left. It takes a few.
const PENDING_READS_MAX: u32 = 10_000;

/// What the assembly of an experiment stores to the xAPIC, so that no call stands between its stores.
#[cfg(feature = "selftest")]
pub mod experiment {
    use super::{DELIVERY_NMI, LEVEL_ASSERT, MMIO_ADDRESS, Register};
    use crate::arch::layout::DIRECT_MAP;

    /// Address of the registers.
    pub const REGISTERS: u64 = DIRECT_MAP + MMIO_ADDRESS;
    /// Offset of the register that arms the timer.
    pub const INITIAL_COUNT: u32 = Register::InitialCount as u32;
    /// Offset of the register that sends a command.
    pub const COMMAND: u32 = Register::CommandLow as u32;
    /// The command that sends an NMI.
    pub const SELF_NMI: u32 = DELIVERY_NMI | LEVEL_ASSERT;
    /// A page to which QEMU lets even the CPU write message-signalled interrupts, here to every APIC. (On hardware
    /// such writes reach nobody.)
    pub const MESSAGES_TO_ALL: u64 = MMIO_ADDRESS + 0xf_f000;
    /// The data of a message that raises an NMI.
    pub const NMI_MESSAGE: u32 = DELIVERY_NMI;
}

/// A local APIC that looks as if it refused timers that raise NMIs, as hardware may do.
#[cfg(feature = "selftest")]
pub mod refusal {
    use core::sync::atomic::{AtomicBool, Ordering};

    /// Written by the thread before anything asks for a timer.
    static ON: AtomicBool = AtomicBool::new(false);

    /// Refuses from now on.
    pub fn begin() {
        ON.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_on() -> bool {
        ON.load(Ordering::Relaxed)
    }
}

/// The local APIC of the CPU that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalApic {
    /// Registers in memory.
    XApic,
    /// Registers as MSRs.
    X2Apic,
}

impl LocalApic {
    /// Enables the local APIC of this CPU with every local source masked; x2APIC mode where there is one.
    pub fn enable() -> Self {
        let (frame, flags) = ApicBase::read();
        let mode = if cpu::has_x2apic() { Self::X2Apic } else { Self::XApic };
        let mut flags = flags | ApicBaseFlags::LAPIC_ENABLE;
        if mode == Self::X2Apic {
            flags |= ApicBaseFlags::X2APIC_ENABLE;
        }
        // SAFETY: (1) the base is unchanged, and mapped uncached; (2) x2APIC mode only where CPUID has it.
        unsafe { ApicBase::write(frame, flags) };
        mode.write(Register::LvtTimer, LVT_MASKED);
        mode.write(Register::LvtLint0, LVT_MASKED);
        mode.write(Register::LvtLint1, LVT_MASKED);
        mode.write(Register::DivideConfiguration, DIVIDE_BY_1);
        mode.write(Register::SpuriousVector, SOFTWARE_ENABLE | SPURIOUS_VECTOR);
        mode
    }

    /// Returns the ID of this APIC.
    pub fn id(self) -> u32 {
        let id = self.read(Register::Id);
        if self == Self::XApic { id >> XAPIC_ID_SHIFT } else { id }
    }

    /// Sends an NMI to this CPU. While NMIs are masked it is latched, once.
    ///
    /// The own ID is the destination: some local APICs reject an NMI with the self shorthand.
    ///
    /// # Context
    /// Any, the NMI included. It may interrupt another sender between its two writes, so it gives that one's
    /// destination back.
    #[inline]
    pub fn send_self_nmi(self) {
        match self {
            Self::XApic => {
                let destination = self.read(Register::CommandHigh);
                self.write(Register::CommandHigh, self.id() << XAPIC_ID_SHIFT);
                self.write(Register::CommandLow, DELIVERY_NMI | LEVEL_ASSERT);
                self.write(Register::CommandHigh, destination);
            }
            Self::X2Apic => self.command(self.id(), DELIVERY_NMI),
        }
    }

    /// Sends an NMI to the CPU whose APIC has this ID.
    ///
    /// # Context
    /// Thread, or the last words of any context.
    pub fn send_nmi(self, destination: u32) {
        self.command(destination, DELIVERY_NMI);
    }

    /// Sends INIT: that CPU then waits for a [startup](Self::send_startup) message.
    ///
    /// # Context
    /// Thread.
    pub fn send_init(self, destination: u32) {
        self.command(destination, DELIVERY_INIT);
    }

    /// Lets a CPU start, in real mode, at the first byte of a page below 1 MiB.
    ///
    /// # Context
    /// Thread.
    pub fn send_startup(self, destination: u32, page: u8) {
        self.command(destination, DELIVERY_STARTUP | u32::from(page));
    }

    /// Sends a command to one CPU.
    fn command(self, destination: u32, command: u32) {
        let command = command | LEVEL_ASSERT;
        match self {
            Self::XApic => without_interrupts(|| {
                self.await_command_register();
                self.write(Register::CommandHigh, destination << XAPIC_ID_SHIFT);
                self.write(Register::CommandLow, command);
            }),
            Self::X2Apic => {
                let mut msr = Msr::new(msr_of(Register::CommandLow));
                let value = u64::from(destination) << 32 | u64::from(command);
                // SAFETY: an NMI is what every CPU's NMI entry is for; INIT and startup go to CPUs that have not
                // started.
                unsafe { msr.write(value) };
            }
        }
    }

    /// Waits until the command before has left (SDM volume 3, "Interrupt Command Register"); it always does.
    fn await_command_register(self) {
        for _ in 0..PENDING_READS_MAX {
            if self.read(Register::CommandLow) & DELIVERY_PENDING == 0 {
                break;
            }
            spin_loop();
        }
    }

    /// Returns the message by which a device sends an NMI to this CPU; none where the ID does not fit into one.
    #[cfg(feature = "selftest")]
    pub fn nmi_message(self) -> Option<NmiMessage> {
        const DESTINATION_SHIFT: u32 = 12;
        const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
        let id = u8::try_from(self.id()).ok()?;
        let address = MESSAGE_ADDRESS | u32::from(id) << DESTINATION_SHIFT;
        Some(NmiMessage { address, data: DELIVERY_NMI })
    }

    /// Makes this CPU the destination of the next command.
    ///
    /// # Errors
    /// [`AccessError`] in x2APIC mode, where a command carries its destination.
    #[cfg(feature = "selftest")]
    pub fn aim_at_self(self) -> Result<(), AccessError> {
        match self {
            Self::XApic => self.write(Register::CommandHigh, self.id() << XAPIC_ID_SHIFT),
            Self::X2Apic => return Err(AccessError::Fault),
        }
        Ok(())
    }

    /// Sets the timer to one-shot NMIs, not counting yet.
    ///
    /// # Errors
    /// [`AccessError`] where the CPU refuses that delivery mode.
    pub fn route_timer_to_nmi(self) -> Result<(), AccessError> {
        #[cfg(feature = "selftest")]
        if refusal::is_on() {
            return Err(AccessError::Fault);
        }
        self.write(Register::InitialCount, 0);
        match self {
            Self::XApic => self.write(Register::LvtTimer, DELIVERY_NMI),
            // SAFETY: the register exists in x2APIC mode; reserved bits raise #GP, which is an error here.
            Self::X2Apic => unsafe {
                fallible::write_msr(msr_of(Register::LvtTimer), u64::from(DELIVERY_NMI))?;
            },
        }
        Ok(())
    }

    /// Reads the entry for performance counters (LVTPC).
    #[inline]
    pub fn read_lvtpc(self) -> u32 {
        self.read(Register::LvtPerformance)
    }

    /// Writes the entry for performance counters (LVTPC); a value with reserved bits has no effect in x2APIC mode.
    #[inline]
    pub fn write_lvtpc(self, value: u32) {
        match self {
            Self::XApic => self.write(Register::LvtPerformance, value),
            Self::X2Apic => {
                // SAFETY: the register exists in x2APIC mode and raises nothing but interrupts; NMIs and vectors
                // have handlers.
                let written =
                    unsafe { fallible::write_msr(msr_of(Register::LvtPerformance), u64::from(value)) };
                debug_assert!(written.is_ok(), "LVTPC takes a delivery mode and a mask");
            }
        }
    }

    /// Lets the legacy interrupt controller through: on a PC it is at LINT0.
    pub fn enable_legacy_interrupts(self) {
        self.write(Register::LvtLint0, DELIVERY_EXTERNAL);
    }

    /// Lets the CPU's external NMI pin through: on a PC it is LINT1.
    pub fn enable_nmi_pin(self) {
        self.write(Register::LvtLint1, DELIVERY_NMI);
    }

    /// Masks the timer: it raises nothing any more, armed or not.
    pub fn mask_timer(self) {
        self.write(Register::LvtTimer, LVT_MASKED);
    }

    #[inline]
    fn read(self, register: Register) -> u32 {
        match self {
            // SAFETY: the page is mapped uncached for the life of the kernel.
            Self::XApic => unsafe { ptr::read_volatile(mmio(register)) },
            #[expect(clippy::cast_possible_truncation, reason = "the registers have 32 bits")]
            // SAFETY: the register exists in x2APIC mode.
            Self::X2Apic => unsafe { Msr::new(msr_of(register)).read() as u32 },
        }
    }

    #[inline]
    fn write(self, register: Register, value: u32) {
        match self {
            // SAFETY: the page is mapped uncached for the life of the kernel, and no register of the
            // local APIC reaches memory.
            Self::XApic => unsafe { ptr::write_volatile(mmio(register), value) },
            // SAFETY: as for the xAPIC.
            Self::X2Apic => unsafe { Msr::new(msr_of(register)).write(u64::from(value)) },
        }
    }
}

impl CountdownTimer for LocalApic {
    #[inline]
    fn arm(&self, ticks: u32) {
        self.write(Register::InitialCount, ticks);
    }

    #[inline]
    fn disarm(&self) {
        self.write(Register::InitialCount, 0);
    }

    #[inline]
    fn remaining(&self) -> u32 {
        self.read(Register::CurrentCount)
    }
}

const fn msr_of(register: Register) -> u32 {
    X2APIC_MSR_BASE + register as u32 / 16
}

const fn mmio(register: Register) -> *mut u32 {
    direct(MMIO_ADDRESS + register as u64)
}
