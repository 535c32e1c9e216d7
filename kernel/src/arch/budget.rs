//! A budget of instructions: what ends a machine that goes round in circles and takes no NMI any more.
//!
//! The budget is QEMU's ISA watchdog (`-device ib700`), which resets the machine when it was not renewed for two
//! seconds of the virtual clock. Under `-icount shift=0` that is two billion instructions, however fast the host is;
//! `-no-reboot` makes it the end. Without the device the ports are nobody's, and nothing happens.
//!
//! Source: QEMU, `hw/watchdog/wdt_ib700.c`.

#![expect(unsafe_code, reason = "writes to I/O ports")]

use x86_64::instructions::port::PortWriteOnly;

const DISABLE: u16 = 0x441;
const ENABLE: u16 = 0x443;
/// Seconds, as `30 - 2 * value`: the shortest time that is not 0.
const TWO_SECONDS: u8 = 14;

/// Starts the budget anew.
pub fn renew() {
    write(ENABLE, TWO_SECONDS);
}

/// Ends the budget.
pub fn lift() {
    write(DISABLE, 0);
}

fn write(port: u16, value: u8) {
    // SAFETY: the port belongs to the watchdog, or to nothing.
    unsafe { PortWriteOnly::<u8>::new(port).write(value) };
}
