//! What the kernel writes to QEMU's `isa-debug-exit` device, and the process status that it becomes.

/// Reason for which the kernel left the machine, as the value written to the debug-exit port.
///
/// QEMU ends with status `(value << 1) | 1`, which is never 0: status 0 is left to a guest that reset
/// or powered off, so the two can't be mistaken for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The run was completed and its `End` frames were sent.
    Success = 0x10,
    /// The kernel panicked.
    Panic = 0x11,
    /// A named NMI invariant was found broken by the kernel's own markers.
    Invariant = 0x12,
    /// The command line asked for what this kernel does not know or does not allow.
    Configuration = 0x13,
    /// A CPU exception that nothing handles.
    Exception = 0x14,
}

impl ExitCode {
    /// I/O port of the device, as nmiprof configures it.
    pub const PORT: u16 = 0xf4;

    const ALL: [Self; 5] =
        [Self::Success, Self::Panic, Self::Invariant, Self::Configuration, Self::Exception];

    /// Returns the status with which QEMU ends for this code.
    #[must_use]
    pub const fn process_status(self) -> i32 {
        ((self as i32) << 1) | 1
    }

    /// Finds the code for a QEMU process status.
    #[must_use]
    pub fn from_process_status(status: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.process_status() == status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_trip_through_a_process_status() {
        for code in ExitCode::ALL {
            assert_eq!(ExitCode::from_process_status(code.process_status()), Some(code));
        }
        assert_eq!(ExitCode::from_process_status(0), None, "a reset is no exit code");
        assert_eq!(ExitCode::from_process_status(1), None, "QEMU's own failure is no exit code");
    }
}
