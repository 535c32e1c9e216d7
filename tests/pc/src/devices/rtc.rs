//! The real-time clock (MC146818), as far as it ticks: its periodic interrupt.
//!
//! The divider runs all the time, so a tick is due at each multiple of its period of the machine's clock. A tick that was
//! not acknowledged, by a read of register C, keeps the line up, and there is no further edge. Time of day and memory are
//! left out: their registers keep what is written.
//!
//! Source: "MC146818A Real-Time Clock Plus RAM (RTC)" (Motorola).

/// Frequency of the divider's clock.
const CLOCK_HZ: u64 = 32_768;
const REGISTERS: usize = 128;
const REGISTER_A: usize = 0x0a;
const REGISTER_B: usize = 0x0b;
const REGISTER_C: usize = 0x0c;
const RATE: u8 = 0x0f;
const PERIODIC: u8 = 1 << 6;
const REQUEST: u8 = 1 << 7;
/// The two fastest rates are those of 8 and 9 (with a crystal of 32,768 Hz).
const ALIASES: u8 = 2;

/// The clock.
#[derive(Clone, Debug)]
pub struct Rtc {
    clock_hz: u64,
    selected: usize,
    registers: [u8; REGISTERS],
    /// Ticks of the divider's clock up to which periods were acknowledged.
    seen: u64,
    /// The line is up.
    is_up: bool,
}

impl Rtc {
    /// Creates the clock in a machine with this one.
    #[must_use]
    pub fn new(clock_hz: u64) -> Self {
        let mut registers = [0; REGISTERS];
        // What firmware leaves: the divider runs, 1024 Hz, no interrupt, 24 hours.
        (registers[REGISTER_A], registers[REGISTER_B]) = (0x26, 0x02);
        Self { clock_hz, selected: 0, registers, seen: 0, is_up: false }
    }

    /// Selects a register.
    pub fn select(&mut self, value: u8) {
        self.selected = usize::from(value) % REGISTERS;
    }

    /// Reads the selected register; register C is acknowledged by it.
    pub fn read(&mut self, now: u64) -> u8 {
        if self.selected != REGISTER_C {
            return self.registers[self.selected];
        }
        let has_ticked = self.end_of_period(self.seen).is_some_and(|end| end <= self.ticks(now));
        let request = if self.is_up { REQUEST } else { 0 };
        self.seen = self.ticks(now);
        self.is_up = false;
        request | if has_ticked { PERIODIC } else { 0 }
    }

    /// Writes the selected register.
    pub fn write(&mut self, value: u8) {
        if self.selected != REGISTER_C {
            self.registers[self.selected] = value;
        }
    }

    /// Returns when the line rises next.
    #[must_use]
    pub fn next_edge(&self) -> Option<u64> {
        if self.is_up || self.registers[REGISTER_B] & PERIODIC == 0 {
            return None;
        }
        let cycles = u128::from(self.end_of_period(self.seen)?) * u128::from(self.clock_hz);
        u64::try_from(cycles.div_ceil(u128::from(CLOCK_HZ))).ok()
    }

    /// Lets the line rise.
    pub fn rise(&mut self) {
        self.is_up = true;
    }

    /// Returns the end of the period that a tick of the divider's clock lies in; `None` where there are no periods.
    fn end_of_period(&self, tick: u64) -> Option<u64> {
        let rate = match self.registers[REGISTER_A] & RATE {
            0 => return None,
            rate if rate <= ALIASES => rate + 7,
            rate => rate,
        };
        let period = 1 << (rate - 1);
        Some((tick / period + 1) * period)
    }

    fn ticks(&self, now: u64) -> u64 {
        u64::try_from(u128::from(now) * u128::from(CLOCK_HZ) / u128::from(self.clock_hz)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{CLOCK_HZ, PERIODIC, REGISTER_A, REGISTER_B, REGISTER_C, REQUEST, Rtc};

    /// A clock that ticks at this rate, in a machine whose clock is a thousand times the divider's.
    fn ticking(rate: u8) -> Rtc {
        let mut rtc = Rtc::new(1000 * CLOCK_HZ);
        for (register, value) in [(REGISTER_A, rate), (REGISTER_B, PERIODIC)] {
            rtc.select(register.to_le_bytes()[0]);
            rtc.write(value);
        }
        rtc.select(REGISTER_C.to_le_bytes()[0]);
        rtc
    }

    #[test]
    fn it_ticks_at_a_power_of_two_and_only_when_the_last_tick_was_acknowledged() {
        let mut rtc = ticking(3);
        assert_eq!(rtc.next_edge(), Some(4000), "8192 Hz");
        rtc.rise();
        assert_eq!(rtc.next_edge(), None, "the line is up");
        assert_eq!(rtc.read(9_000), REQUEST | PERIODIC);
        assert_eq!(rtc.next_edge(), Some(12_000), "what was missed is lost");
        assert_eq!(rtc.read(10_000), 0, "nothing new");
    }

    #[test]
    fn a_tick_without_its_interrupt_is_a_flag_alone() {
        let mut rtc = ticking(15);
        rtc.select(REGISTER_B.to_le_bytes()[0]);
        rtc.write(0);
        rtc.select(REGISTER_C.to_le_bytes()[0]);
        assert_eq!(rtc.next_edge(), None);
        assert_eq!(rtc.read(16_384_000), PERIODIC, "2 Hz");
    }
}
