//! The serial line's rate, and what its sender counts.
//!
//! A UART divides its clock by 16 and by a whole number, so it makes some rates and no others: [`Rate`] is one that it
//! makes. A receiver samples each bit in its middle, ten bits from one edge, and bears about 5 % between the two clocks
//! of a line; [`Rate::choose`] leaves most of that to the far end.
//!
//! Source: "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs" (National Semiconductor).

use core::fmt;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// The clock of a PC's UART, in hertz: 115200 baud is its fastest rate.
pub const UART_HZ: u32 = 1_843_200;

/// What a UART divides its clock by besides the divisor: samples of one bit.
const SAMPLES_PER_BIT: u32 = 16;
/// Most that a rate may be off, in percent.
const OFF_PERCENT_MAX: u64 = 2;

/// A rate that a UART can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What its divisor latch holds.
    pub divisor: u16,
    /// The rate that this makes, rounded down.
    pub baud: u32,
}

impl Rate {
    /// The rate where nothing else is known or wanted.
    pub const DEFAULT: Self = Self { divisor: 1, baud: UART_HZ / SAMPLES_PER_BIT };

    /// Chooses the rate nearest to `baud` that a UART with a clock of `uart_hz` makes.
    ///
    /// # Errors
    /// [`RateError`] where none is within 2 %.
    ///
    /// # Examples
    /// ```
    /// use nmiprof_wire::{Rate, UART_HZ};
    ///
    /// assert_eq!(Rate::choose(38_400, UART_HZ).expect("an old friend").divisor, 3);
    /// assert!(Rate::choose(921_600, UART_HZ).is_err(), "that takes a faster clock");
    /// ```
    pub fn choose(baud: u32, uart_hz: u32) -> Result<Self, RateError> {
        let wanted = RateError { baud, uart_hz };
        let nearest = wanted.candidates().into_iter().flatten().min_by_key(|rate| rate.baud.abs_diff(baud));
        let is_near =
            |rate: &Self| u64::from(rate.baud.abs_diff(baud)) * 100 <= OFF_PERCENT_MAX * u64::from(baud);
        nearest.filter(is_near).ok_or(wanted)
    }

    fn of_divisor(divisor: u32, uart_hz: u32) -> Option<Self> {
        let divisor = u16::try_from(divisor).ok().filter(|divisor| *divisor > 0)?;
        let baud = uart_hz / SAMPLES_PER_BIT / u32::from(divisor);
        (baud > 0).then_some(Self { divisor, baud })
    }
}

/// A rate that a UART can't make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateError {
    /// The rate that was asked for.
    pub baud: u32,
    /// The clock of the UART, in hertz.
    pub uart_hz: u32,
}

impl RateError {
    /// Returns the next rate that is not slower, and the next that is not faster.
    fn candidates(&self) -> [Option<Rate>; 2] {
        let exact = self.uart_hz / SAMPLES_PER_BIT / self.baud.max(1);
        let slowest = u32::from(u16::MAX);
        [exact.clamp(1, slowest), exact.saturating_add(1).min(slowest)]
            .map(|divisor| Rate::of_divisor(divisor, self.uart_hz))
    }
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { baud, uart_hz } = self;
        write!(f, "baud={baud}: a UART with a clock of {uart_hz} Hz comes no nearer than ")?;
        match self.candidates() {
            [Some(fast), Some(slow)] if fast != slow => write!(f, "{} or {}", fast.baud, slow.baud)?,
            [Some(rate), _] | [_, Some(rate)] => write!(f, "{}", rate.baud)?,
            [None, None] => f.write_str("nothing")?,
        }
        f.write_str("; choose such a rate, or tell its clock by uart_hz=")
    }
}

impl core::error::Error for RateError {}

/// What the sender of the line counted. All are cumulative, but for the time.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `time` | u64 | clock ticks | when the counters were read |
/// | `bytes` | u64 | bytes | what the UART took |
/// | `interrupt_bytes` | u64 | bytes | of these, those that the UART's interrupt handed to it |
/// | `stalls` | u64 | stalls | how often bytes waited and none left for a tenth of a second |
/// | `stall_ticks_max` | u64 | clock ticks | the longest of these |
/// | `frames_dropped` | u64 | frames | frames without samples that found no room while the line was behind |
///
/// Samples are no part of `frames_dropped`: they stay in their ring until the line has room, and what finds the ring
/// full is counted by the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct LineCounters {
    /// When the counters were read, in clock ticks.
    pub time: u64,
    /// Bytes that the UART took.
    pub bytes: u64,
    /// Of these, those that the UART's interrupt handed to it.
    pub interrupt_bytes: u64,
    /// How often bytes waited and none left for a tenth of a second.
    pub stalls: u64,
    /// The longest such time, in clock ticks.
    pub stall_ticks_max: u64,
    /// Frames that found no room.
    pub frames_dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn the_usual_rates_have_their_usual_divisors() {
        for (baud, divisor) in [(115_200, 1), (57_600, 2), (38_400, 3), (19_200, 6), (9_600, 12), (300, 384)]
        {
            assert_eq!(Rate::choose(baud, UART_HZ), Ok(Rate { divisor, baud }));
        }
        assert_eq!(Rate::choose(115_200, UART_HZ), Ok(Rate::DEFAULT));
    }

    #[test]
    fn a_faster_clock_makes_faster_rates() {
        assert_eq!(Rate::choose(921_600, 14_745_600), Ok(Rate { divisor: 1, baud: 921_600 }));
        assert_eq!(Rate::choose(460_800, 14_745_600), Ok(Rate { divisor: 2, baud: 460_800 }));
        assert_eq!(Rate::choose(115_200, 14_745_600), Ok(Rate { divisor: 8, baud: 115_200 }));
    }

    #[test]
    fn two_percent_off_is_accepted_and_more_is_refused() {
        let slow = |percent: u32| 115_200 - 115_200 * percent / 100;
        assert!(Rate::choose(slow(1), UART_HZ).is_ok());
        assert!(Rate::choose(slow(3), UART_HZ).is_err());
        assert!(Rate::choose(117_000, UART_HZ).is_ok(), "the far end is 1.5 % faster");
        assert!(Rate::choose(120_000, UART_HZ).is_err());
    }

    #[test]
    fn a_refusal_names_what_is_near() {
        let text = |baud, hz| Rate::choose(baud, hz).expect_err("not within 2 %").to_string();
        assert!(
            text(100_000, UART_HZ).contains("no nearer than 115200 or 57600;"),
            "{}",
            text(100_000, UART_HZ)
        );
        assert!(text(921_600, UART_HZ).contains("115200"), "{}", text(921_600, UART_HZ));
        assert!(text(7, 15).contains("nothing"), "{}", text(7, 15));
    }

    #[test]
    fn no_number_is_too_large_or_too_small() {
        for baud in [0, 1, 2, u32::MAX] {
            for uart_hz in [0, 1, 16, UART_HZ, u32::MAX] {
                if let Ok(rate) = Rate::choose(baud, uart_hz) {
                    assert!(rate.divisor > 0 && rate.baud > 0, "{baud} {uart_hz}: {rate:?}");
                }
            }
        }
    }
}
