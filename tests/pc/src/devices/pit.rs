//! The interval timer (8254): channel 0 raises the tick, channel 2 is what clocks are measured against.
//!
//! Time is the machine's clock. A channel is a function of it: the count that was loaded, and when. The output of channel
//! 0 rises once in each period of mode 2, and once in mode 0, one tick after the end of the count.
//!
//! Source: "8254 Programmable Interval Timer" (Intel).

/// Frequency of the timer's clock.
pub const PIT_HZ: u64 = 1_193_182;

const MODE_ONCE: u8 = 0;
const MODE_RATE: u8 = 2;

/// A channel.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    mode: u8,
    reload: u64,
    /// Machine time at which counting began; `None` while nothing counts.
    started: Option<u64>,
    latched: Option<u16>,
    next_byte_is_high: bool,
    low: u8,
}

/// The timer.
#[derive(Clone, Debug)]
pub struct Pit {
    clock_hz: u64,
    channels: [Channel; 3],
    /// Pulses of channel 0 that were raised.
    pulses: u64,
}

impl Pit {
    /// Creates the timer in a machine with this clock.
    #[must_use]
    pub fn new(clock_hz: u64) -> Self {
        Self { clock_hz, channels: [Channel::default(); 3], pulses: 0 }
    }

    /// Writes the command register.
    pub fn command(&mut self, value: u8, now: u64) {
        let Some(number) = self.channels.get(usize::from(value >> 6)).map(|_| usize::from(value >> 6)) else {
            return;
        };
        if value & 0b11_0000 == 0 {
            let count = self.count(number, now);
            self.channels[number].latched.get_or_insert(count);
            return;
        }
        self.channels[number] = Channel { mode: value >> 1 & 7, ..Channel::default() };
    }

    /// Writes a channel: the low half first, and the high one starts it.
    pub fn write(&mut self, number: usize, value: u8, now: u64) {
        let channel = &mut self.channels[number];
        if !std::mem::replace(&mut channel.next_byte_is_high, true) {
            channel.low = value;
            return;
        }
        channel.next_byte_is_high = false;
        let reload = u64::from(u16::from_le_bytes([channel.low, value]));
        channel.reload = if reload == 0 { 0x1_0000 } else { reload };
        channel.started = Some(now);
        if number == 0 {
            self.pulses = 0;
        }
    }

    /// Reads a channel: the latched count, or the present one.
    pub fn read(&mut self, number: usize, now: u64) -> u8 {
        let count = self.channels[number].latched.unwrap_or_else(|| self.count(number, now));
        let channel = &mut self.channels[number];
        let [low, high] = count.to_le_bytes();
        channel.next_byte_is_high ^= true;
        if !channel.next_byte_is_high {
            channel.latched = None;
            high
        } else {
            low
        }
    }

    /// Tells whether the output of channel 2 is high: the end of its count.
    #[must_use]
    pub fn is_channel_2_done(&self, now: u64) -> bool {
        let channel = &self.channels[2];
        channel.started.is_some_and(|start| self.ticks(now - start) >= channel.reload)
    }

    /// Returns when channel 0 pulses next.
    #[must_use]
    pub fn next_pulse(&self) -> Option<u64> {
        let channel = &self.channels[0];
        let start = channel.started?;
        let ticks = match channel.mode {
            MODE_ONCE if self.pulses == 0 => u128::from(channel.reload) + 1,
            mode if mode & 3 == MODE_RATE => u128::from(self.pulses + 1) * u128::from(channel.reload),
            _ => return None,
        };
        let cycles = (ticks * u128::from(self.clock_hz)).div_ceil(u128::from(PIT_HZ));
        Some(start.saturating_add(u64::try_from(cycles).unwrap_or(u64::MAX)))
    }

    /// Notes that a pulse was raised.
    pub fn pulse(&mut self) {
        self.pulses += 1;
    }

    fn count(&self, number: usize, now: u64) -> u16 {
        let channel = &self.channels[number];
        let Some(start) = channel.started else { return 0 };
        let ticks = self.ticks(now.saturating_sub(start));
        let passed = if channel.mode & 3 == MODE_RATE { ticks % channel.reload.max(1) } else { ticks };
        u16::try_from(channel.reload.wrapping_sub(passed) & 0xffff).unwrap_or(0)
    }

    fn ticks(&self, cycles: u64) -> u64 {
        u64::try_from(u128::from(cycles) * u128::from(PIT_HZ) / u128::from(self.clock_hz)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{PIT_HZ, Pit};

    #[test]
    fn channel_2_counts_down_past_0_with_the_machines_clock() {
        let mut pit = Pit::new(2 * PIT_HZ);
        pit.command(0b1011_0000, 0);
        pit.write(2, 0xff, 0);
        pit.write(2, 0xff, 10);
        pit.command(0b1000_0000, 10 + 2 * 0x1_0005);
        assert_eq!([pit.read(2, 0), pit.read(2, 0)], [0xfa, 0xff]);
    }

    #[test]
    fn channel_0_pulses_at_the_rate_that_it_was_given() {
        let mut pit = Pit::new(PIT_HZ);
        pit.command(0b0011_0100, 0);
        pit.write(0, 100, 0);
        pit.write(0, 0, 7);
        assert_eq!(pit.next_pulse(), Some(107));
        pit.pulse();
        assert_eq!(pit.next_pulse(), Some(207));
    }

    #[test]
    fn channel_0_pulses_once_where_it_counts_once() {
        let mut pit = Pit::new(PIT_HZ);
        pit.command(0b0011_0000, 0);
        pit.write(0, 1, 0);
        assert_eq!(pit.next_pulse(), None, "half a count starts nothing");
        pit.write(0, 0, 7);
        assert_eq!(pit.next_pulse(), Some(9));
        pit.pulse();
        assert_eq!(pit.next_pulse(), None);
    }
}
