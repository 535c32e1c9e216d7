//! What a PMU driver reaches of its CPU: model-specific registers, and one register of the local APIC.
//!
//! The hardware is one implementation, the register model another. The driver can't tell which one it has.

/// The registers of one CPU, as code that runs there reaches them.
///
/// # Context
/// Any, on that CPU; no access blocks or allocates.
pub trait MsrBus {
    /// Reads a model-specific register.
    ///
    /// # Errors
    /// [`GeneralProtection`] where there is no such register.
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection>;

    /// Writes a model-specific register.
    ///
    /// # Errors
    /// [`GeneralProtection`] where there is no such register, or the value has a reserved bit set.
    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection>;

    /// Reads the local APIC's LVT entry for performance counters.
    fn read_lvtpc(&mut self) -> u32;

    /// Writes the local APIC's LVT entry for performance counters.
    fn write_lvtpc(&mut self, value: u32);
}

/// The exception that an access raised (#GP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

impl<B: MsrBus + ?Sized> MsrBus for &mut B {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        (**self).read(msr)
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        (**self).write(msr, value)
    }

    fn read_lvtpc(&mut self) -> u32 {
        (**self).read_lvtpc()
    }

    fn write_lvtpc(&mut self, value: u32) {
        (**self).write_lvtpc(value);
    }
}
