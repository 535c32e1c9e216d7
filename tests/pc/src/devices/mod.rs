//! What is around the CPU: each device has a file; this one has their ports, their registers in memory, their deadlines,
//! and the lines between them.
//!
//! | line | legacy controllers | I/O APIC |
//! |---|---|---|
//! | interval timer, channel 0 | 0 | 2 |
//! | real-time clock | 8 | 8 |
//! | HPET | | 20 to 23, as it is told |

pub mod hpet;
pub mod ioapic;
pub mod lapic;
pub mod pic;
pub mod pit;
pub mod rtc;
pub mod uart;

use nmiprof_wire::ExitCode;

use hpet::{HPET_BASE, Hpet};
use ioapic::{IO_APIC_BASE, IoApic};
use lapic::{LocalApic, Sent};
use pic::{Pic, Which};
use pit::Pit;
use rtc::Rtc;
use uart::{COM1, Uart};

const PIT_CHANNEL_0: u16 = 0x40;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const PORT_B: u16 = 0x61;
const PORT_B_CHANNEL_2_OUTPUT: u8 = 1 << 5;
const PORT_B_WRITABLE: u8 = 0xf;
const RTC_SELECT: u16 = 0x70;
const RTC_DATA: u16 = 0x71;
const UNCONNECTED: u32 = u32::MAX;

/// Lines of the legacy controllers.
const TIMER_LINE: u8 = 0;
const RTC_LINE: u8 = 8;
/// The I/O APIC's input of the interval timer: its line of old is the legacy controllers' output on a PC.
pub const TIMER_INPUT: usize = 2;
const RTC_INPUT: usize = 8;

/// Which devices there are that a PC may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The I/O APIC.
    pub io_apic: bool,
    /// The HPET.
    pub hpet: bool,
}

/// The devices.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The serial line.
    pub uart: Uart,
    /// The interval timer.
    pub pit: Pit,
    /// The real-time clock.
    pub rtc: Rtc,
    /// The HPET, if there is one.
    pub hpet: Option<Hpet>,
    /// The legacy interrupt controllers.
    pub pic: Pic,
    /// The I/O APIC, if there is one.
    pub io_apic: Option<IoApic>,
    /// The local APIC.
    pub apic: LocalApic,
    /// What was written to the debug-exit device.
    pub exit: Option<u32>,
    port_b: u8,
    /// When the I/O APIC has sent NMIs, and how many of them nobody has taken yet.
    line_nmis: Vec<u64>,
    untaken_nmis: u32,
}

impl Devices {
    /// Creates the devices of a machine with this clock.
    #[must_use]
    pub fn new(clock_hz: u64, fitted: Fitted) -> Self {
        Self {
            uart: Uart::default(),
            pit: Pit::new(clock_hz),
            rtc: Rtc::new(clock_hz),
            hpet: fitted.hpet.then(|| Hpet::new(clock_hz)),
            pic: Pic::default(),
            io_apic: fitted.io_apic.then(IoApic::default),
            apic: LocalApic::default(),
            exit: None,
            port_b: 0,
            line_nmis: Vec::new(),
            untaken_nmis: 0,
        }
    }

    /// Reads a port.
    pub fn read(&mut self, port: u16, now: u64) -> u32 {
        match port {
            PIT_CHANNEL_0..=PIT_CHANNEL_2 => u32::from(self.pit.read(usize::from(port - PIT_CHANNEL_0), now)),
            PORT_B => u32::from(
                self.port_b | if self.pit.is_channel_2_done(now) { PORT_B_CHANNEL_2_OUTPUT } else { 0 },
            ),
            0x21 => u32::from(self.pic.mask(Which::Primary)),
            0xa1 => u32::from(self.pic.mask(Which::Secondary)),
            RTC_DATA => u32::from(self.rtc.read(now)),
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
            0x20 => self.pic.command(Which::Primary, byte),
            0x21 => self.pic.data(Which::Primary, byte),
            0xa0 => self.pic.command(Which::Secondary, byte),
            0xa1 => self.pic.data(Which::Secondary, byte),
            RTC_SELECT => self.rtc.select(byte),
            RTC_DATA => self.rtc.write(byte),
            ExitCode::PORT => self.exit = Some(value),
            _ if port.wrapping_sub(COM1) < 8 => self.uart.write(port - COM1, byte),
            _ => (),
        }
    }

    /// Reads a register in memory, but for the local APIC's.
    #[must_use]
    pub fn read_memory(&self, address: u64, now: u64) -> u32 {
        let offset = offset_in_page(address);
        match (page_of(address), &self.io_apic, &self.hpet) {
            (IO_APIC_BASE, Some(io_apic), _) => io_apic.read(offset),
            (HPET_BASE, _, Some(hpet)) => hpet.read(offset, now),
            _ => UNCONNECTED,
        }
    }

    /// Writes a register in memory, but for the local APIC's.
    pub fn write_memory(&mut self, address: u64, value: u32, now: u64) {
        let offset = offset_in_page(address);
        match (page_of(address), &mut self.io_apic, &mut self.hpet) {
            (IO_APIC_BASE, Some(io_apic), _) => io_apic.write(offset, value),
            (HPET_BASE, _, Some(hpet)) => hpet.write(offset, value, now),
            _ => (),
        }
    }

    /// Returns when something happens by itself next; `u64::MAX` for never.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        let hpet = self.hpet.as_ref().and_then(Hpet::next_due);
        let all = [self.pit.next_pulse(), self.rtc.next_edge(), hpet, self.apic.timer_end()];
        all.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Lets happen what is due.
    pub fn advance(&mut self, now: u64) {
        let is_due = |due: &u64| *due <= now;
        while let Some(due) = self.pit.next_pulse().filter(is_due) {
            self.pit.pulse();
            self.pic.pulse(TIMER_LINE);
            self.raise_input(TIMER_INPUT, due);
        }
        if let Some(due) = self.rtc.next_edge().filter(is_due) {
            self.rtc.rise();
            self.pic.pulse(RTC_LINE);
            self.raise_input(RTC_INPUT, due);
        }
        while let Some((input, due)) = self.hpet.as_mut().and_then(|hpet| hpet.raise_due(now)) {
            self.raise_input(input, due);
        }
        if self.apic.timer_end().is_some_and(|due| due <= now) {
            self.apic.end_timer(now);
        }
    }

    /// Takes the NMIs that the I/O APIC has sent: their number.
    pub const fn take_nmis(&mut self) -> u32 {
        std::mem::replace(&mut self.untaken_nmis, 0)
    }

    /// Returns when the I/O APIC has sent NMIs: machine time, of all since the machine was built.
    #[must_use]
    pub fn line_nmis(&self) -> &[u64] {
        &self.line_nmis
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

    /// Lets the I/O APIC see an edge, which was due then.
    fn raise_input(&mut self, input: usize, due: u64) {
        match self.io_apic.as_ref().map_or(Sent::Nothing, |io_apic| io_apic.edge(input)) {
            Sent::Nothing => (),
            Sent::Vector(vector) => self.apic.request(vector),
            Sent::Nmi => {
                self.line_nmis.push(due);
                self.untaken_nmis += 1;
            }
        }
    }
}

const PAGE_MASK: u64 = 0xfff;

const fn page_of(address: u64) -> u64 {
    address & !PAGE_MASK
}

fn offset_in_page(address: u64) -> u32 {
    u32::try_from(address & PAGE_MASK).unwrap_or(0)
}
