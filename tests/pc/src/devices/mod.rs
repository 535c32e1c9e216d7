//! What is around the CPU, by I/O port: each device has a file; this one has their ports and their deadlines.

pub mod lapic;
pub mod pic;
pub mod pit;
pub mod uart;

use nmiprof_wire::ExitCode;

use lapic::LocalApic;
use pic::Pic;
use pit::Pit;
use uart::{COM1, Uart};

const PIT_CHANNEL_0: u16 = 0x40;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const PORT_B: u16 = 0x61;
const PORT_B_CHANNEL_2_OUTPUT: u8 = 1 << 5;
const PORT_B_WRITABLE: u8 = 0xf;
const UNCONNECTED: u32 = u32::MAX;

/// The devices.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The serial line.
    pub uart: Uart,
    /// The interval timer.
    pub pit: Pit,
    /// The legacy interrupt controller.
    pub pic: Pic,
    /// The local APIC.
    pub apic: LocalApic,
    /// What was written to the debug-exit device.
    pub exit: Option<u32>,
    port_b: u8,
}

impl Devices {
    /// Creates the devices of a machine with this clock.
    #[must_use]
    pub fn new(clock_hz: u64) -> Self {
        Self {
            uart: Uart::default(),
            pit: Pit::new(clock_hz),
            pic: Pic::default(),
            apic: LocalApic::default(),
            exit: None,
            port_b: 0,
        }
    }

    /// Reads a port.
    pub fn read(&mut self, port: u16, now: u64) -> u32 {
        match port {
            PIT_CHANNEL_0..=PIT_CHANNEL_2 => u32::from(self.pit.read(usize::from(port - PIT_CHANNEL_0), now)),
            PORT_B => u32::from(
                self.port_b | if self.pit.is_channel_2_done(now) { PORT_B_CHANNEL_2_OUTPUT } else { 0 },
            ),
            0x21 => u32::from(self.pic.mask()),
            _ if port.wrapping_sub(COM1) < 8 => u32::from(self.uart.read(port - COM1)),
            _ => UNCONNECTED,
        }
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u32, now: u64) {
        let byte = value.to_le_bytes()[0];
        match port {
            PIT_CHANNEL_0..=PIT_CHANNEL_2 => self.pit.write(usize::from(port - PIT_CHANNEL_0), byte, now),
            PIT_COMMAND => self.pit.command(byte, now),
            PORT_B => self.port_b = byte & PORT_B_WRITABLE,
            0x20 => self.pic.command(byte),
            0x21 => self.pic.data(byte),
            ExitCode::PORT => self.exit = Some(value),
            _ if port.wrapping_sub(COM1) < 8 => self.uart.write(port - COM1, byte),
            _ => (),
        }
    }

    /// Returns when something happens by itself next; `u64::MAX` for never.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        let all = [self.pit.next_pulse(), self.apic.timer_end()];
        all.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Lets happen what is due.
    pub fn advance(&mut self, now: u64) {
        while self.pit.next_pulse().is_some_and(|due| due <= now) {
            self.pit.pulse();
            self.pic.pulse(0);
        }
        if self.apic.timer_end().is_some_and(|due| due <= now) {
            self.apic.end_timer(now);
        }
    }

    /// Returns whether an interrupt is asked for.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.apic.asking().is_some() || (self.pic.is_asking() && self.apic.lets_legacy_through())
    }

    /// Accepts an interrupt, and returns its vector.
    pub fn accept(&mut self) -> u8 {
        match self.apic.asking() {
            Some(vector) => {
                self.apic.accept(vector);
                vector
            }
            None => self.pic.accept(),
        }
    }
}
