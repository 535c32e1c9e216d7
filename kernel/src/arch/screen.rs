//! The screen, for a last message.
//!
//! It may be shown from anywhere, an NMI included: no lock, no allocation, and nothing is read back.

#![expect(unsafe_code, reason = "writes to the screen's memory")]

use nmiprof_boot::Screen;
use nmiprof_boot::screen::Memory;
use spin::Once;

use super::layout::direct;

/// The screen that the loader left. Written once, before anything can go wrong; read by fatal reports.
static SCREEN: Once<Screen> = Once::new();

/// Takes over the screen that the loader left, if there is one that the direct map shows.
pub fn init(screen: Option<Screen>) {
    if let Some(screen) = screen {
        SCREEN.call_once(|| screen);
    }
}

/// Replaces what is on the screen by this text, if there is a screen.
pub fn show(text: &str) {
    if let Some(screen) = SCREEN.get() {
        screen.show(text, &mut Mapped { start: screen.range().start });
    }
}

/// The screen's memory in the direct map.
struct Mapped {
    start: u64,
}

impl Memory for Mapped {
    fn write(&mut self, offset: u64, byte: u8) {
        let address = direct::<u8>(self.start + offset);
        // SAFETY: (1) the direct map shows the screen: `space::build` maps it, and before that the boot tables do,
        // or `init` was not called; (2) a screen is no RAM of anybody's: `BootInfo` takes it out of the memory map;
        // (3) the offset lies on the screen, as `Screen` promises.
        unsafe { address.write_volatile(byte) };
    }
}
