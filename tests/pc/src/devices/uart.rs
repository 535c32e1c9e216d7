//! COM1: a 16550 whose far end takes every byte at once.
//!
//! Source: "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs" (National Semiconductor).

use std::collections::VecDeque;

/// First port of COM1.
pub const COM1: u16 = 0x3f8;

const DLAB: u8 = 1 << 7;
const LOOPBACK: u8 = 1 << 4;
const FIFO_ENABLED: u8 = 0xc0;
const NO_INTERRUPT: u8 = 1;
const DATA_READY: u8 = 1;
const TRANSMITTER_EMPTY: u8 = 0b0110_0000;
/// Carrier detect, data set ready, clear to send.
const MODEM_READY: u8 = 0xb0;

/// The port.
#[derive(Clone, Debug, Default)]
pub struct Uart {
    divisor: [u8; 2],
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    received: VecDeque<u8>,
    /// What was sent since it was taken.
    sent: Vec<u8>,
}

impl Uart {
    /// Takes what was sent.
    pub fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    /// Returns what was sent and not taken yet.
    #[must_use]
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// Lets bytes arrive.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend(bytes);
    }

    /// Reads a register.
    pub fn read(&mut self, register: u16) -> u8 {
        let is_divisor = self.line_control & DLAB != 0;
        match register {
            0 | 1 if is_divisor => self.divisor[usize::from(register)],
            0 => self.received.pop_front().unwrap_or(0),
            1 => self.interrupt_enable,
            2 => NO_INTERRUPT | if self.fifo_control & 1 != 0 { FIFO_ENABLED } else { 0 },
            3 => self.line_control,
            4 => self.modem_control,
            5 => TRANSMITTER_EMPTY | if self.received.is_empty() { 0 } else { DATA_READY },
            6 if self.modem_control & LOOPBACK != 0 => looped(self.modem_control),
            6 => MODEM_READY,
            _ => self.scratch,
        }
    }

    /// Writes a register.
    pub fn write(&mut self, register: u16, value: u8) {
        let is_divisor = self.line_control & DLAB != 0;
        match register {
            0 | 1 if is_divisor => self.divisor[usize::from(register)] = value,
            0 if self.modem_control & LOOPBACK != 0 => self.received.push_back(value),
            0 => self.sent.push(value),
            1 => self.interrupt_enable = value & 0xf,
            2 => self.control_fifos(value),
            3 => self.line_control = value,
            4 => self.modem_control = value & 0x1f,
            7 => self.scratch = value,
            _ => (),
        }
    }

    fn control_fifos(&mut self, value: u8) {
        self.fifo_control = value;
        if value & 1 << 1 != 0 {
            self.received.clear();
        }
    }
}

/// Returns the modem status that the modem control makes in the loop: RTS to CTS, DTR to DSR, the outputs above.
const fn looped(control: u8) -> u8 {
    (control & 0b1100) << 4 | (control & 0b10) << 3 | (control & 1) << 5
}
