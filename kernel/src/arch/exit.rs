//! The way out of the machine.

#![expect(unsafe_code, reason = "writes to an I/O port")]

use nmiprof_wire::ExitCode;
use x86_64::instructions::port::PortWriteOnly;
use x86_64::instructions::{hlt, interrupts};

/// Ends the machine through the debug-exit device; where there is none, stops this CPU for good.
pub fn exit(code: ExitCode) -> ! {
    let mut port = PortWriteOnly::<u32>::new(ExitCode::PORT);
    // SAFETY: the port belongs to the debug-exit device, or to nothing.
    unsafe { port.write(code as u32) };
    halt()
}

/// Stops this CPU for good: NMIs wake it and find nothing to do.
pub fn halt() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}
