//! A period that follows the workload, so that samples come at a given frequency.
//!
//! perf takes a share of the difference between the period and the one that the last interval would have needed
//! (Linux 6.x, `kernel/events/core.c`). On a workload whose rate swings as fast as the samples come that is biased:
//! long periods follow from fast phases and are spent in slow ones, and far too few samples come. What is held here is
//! the *number of samples*: with `K` the gain, every sample makes the period longer by a factor of `exp(1/K)`, and time
//! makes it shorter, by the same factor in each interval that a sample should take. So at any time
//!
//! ```text
//! period = first period * exp((samples taken - samples due) / K)
//! ```
//!
//! which, read backwards, says that after any workload whatever the samples differ from those due by
//! `K * ln(period / first period)`: for K = 8 and a workload that became 100 times faster, by 37. Nothing is
//! estimated. Both exponentials are taken to the second order, which makes them exact inverses at the right frequency.
//!
//! Three departures from this:
//!
//! - *Seeking*. The first period is a guess. Until the measured rate confirms it within a factor of 2, each interval or
//!   tick with events sets it to what was measured, by a factor of [`STEP_MAX`] at most.
//! - *Blind time*. Between two ticks without a sample the period only shrinks, past what the workload needs if the
//!   tick is coarse. It shrinks by a factor of `STEP_MAX` at most, and what else was due is left out: a frequency of
//!   many samples per tick loses the samples of a tick or two where a workload slows down.
//! - *Idle time*. A time without events is no reason for a shorter period, or every phase of work would begin with a
//!   burst. Time is looked at when there are events again, and then counts as four intervals or two ticks at most.
//!
//! Integers only: the period has 16 fractional bits, for an eighth of a short one is less than 1.

/// The most that a period changes by at once, as a factor.
const STEP_MAX: u64 = 8;
/// Position of the binary point of a period, and of a ratio.
const POINT: u32 = 16;
/// 1, as such a number.
const ONE: u64 = 1 << POINT;
/// Longest period: counters have 48 bits at most, and the product with [`STEP_MAX`] fits.
const PERIOD_MAX: u64 = 1 << (44 + POINT);
/// The most of `samples due / K` that counts at once, so that its square fits: exp(3) is above [`STEP_MAX`] anyway.
const DUE_MAX: u64 = 3 * ONE;

/// A period that is adjusted for a frequency.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frequency {
    /// Clock ticks from one sample to the next.
    interval_ticks: u64,
    /// Most clock ticks that count at once.
    blind_ticks_max: u64,
    /// K is 2 to this.
    gain_log2: u32,
    period: u64,
    is_seeking: bool,
    /// When it was last adjusted, and what had been counted by then.
    since: u64,
    since_count: u64,
}

impl Frequency {
    /// Starts with a guess: a 64th of the clock ticks of an interval, short for cycles and tiny for nothing.
    pub(super) fn new(frequency_hz: u64, clock_hz: u64, tick_hz: u32) -> Self {
        let interval_ticks = (clock_hz / frequency_hz.max(1)).max(1);
        Self::starting_at(interval_ticks / 64, interval_ticks, clock_hz / u64::from(tick_hz.max(1)))
            .with_gain_for(frequency_hz)
    }

    /// Starts with a given period.
    fn starting_at(period: u64, interval_ticks: u64, window_ticks: u64) -> Self {
        Self {
            interval_ticks,
            blind_ticks_max: interval_ticks.saturating_mul(4).max(window_ticks.saturating_mul(2)),
            gain_log2: 3,
            period: period.saturating_mul(ONE).clamp(ONE, PERIOD_MAX),
            is_seeking: true,
            since: 0,
            since_count: 0,
        }
    }

    /// Chooses the gain: the more samples, the more of them the period may take to follow.
    const fn with_gain_for(mut self, frequency_hz: u64) -> Self {
        self.gain_log2 = match frequency_hz {
            0..32 => 1,
            32..128 => 2,
            _ => 3,
        };
        self
    }

    /// Returns the period, in events.
    pub(super) const fn period(&self) -> u64 {
        self.period >> POINT
    }

    /// Goes on after a time in which nothing was counted.
    pub(super) fn resume(&mut self, now: u64, count: u64) {
        (self.since, self.since_count) = (now, count);
    }

    /// Adjusts the period at the end of one; returns the next one.
    pub(super) fn overflow(&mut self, now: u64, count: u64) -> u64 {
        let was_seeking = self.is_seeking;
        self.update(now, count);
        if !was_seeking {
            let grown =
                self.period + (self.period >> self.gain_log2) + (self.period >> (2 * self.gain_log2 + 1));
            self.period = grown.min(PERIOD_MAX);
        }
        self.period()
    }

    /// Adjusts the period between samples; returns the adjusted one.
    pub(super) fn tick(&mut self, now: u64, count: u64) -> u64 {
        if count != self.since_count {
            self.update(now, count);
        }
        self.period()
    }

    /// Lets the time since the last adjustment make the period shorter, or sets it to what was measured.
    fn update(&mut self, now: u64, count: u64) {
        let ticks = now.saturating_sub(self.since).min(self.blind_ticks_max).max(1);
        let events = count.saturating_sub(self.since_count);
        self.resume(now, count);
        self.period = if self.is_seeking { self.seek(events, ticks) } else { self.shrink(ticks) };
    }

    fn seek(&mut self, events: u64, ticks: u64) -> u64 {
        let measured = self.measured(events, ticks);
        self.is_seeking = measured > self.period.saturating_mul(2) || measured < self.period / 2;
        // Not `clamp`, which panics where its bounds are not in order.
        measured.min(self.period * STEP_MAX).max(self.period / STEP_MAX).clamp(ONE, PERIOD_MAX)
    }

    fn shrink(&self, ticks: u64) -> u64 {
        let due = (ratio(ticks, self.interval_ticks) >> self.gain_log2).min(DUE_MAX);
        let factor = ONE + due + ((due * due) >> (POINT + 1));
        ratio(self.period, factor).max(self.period / STEP_MAX).max(ONE)
    }

    /// Returns the period that would have been right for these events in this time.
    fn measured(&self, events: u64, ticks: u64) -> u64 {
        let product = u128::from(events).saturating_mul(u128::from(self.interval_ticks) * u128::from(ONE));
        let exact = product / u128::from(ticks.max(1));
        u64::try_from(exact).unwrap_or(PERIOD_MAX).min(PERIOD_MAX)
    }
}

/// Returns `a / b` with the binary point at [`POINT`].
fn ratio(a: u64, b: u64) -> u64 {
    let exact = u128::from(a) * u128::from(ONE) / u128::from(b.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    //! Goal: the requested number of samples, on any workload, from any start. Method: a simulated CPU whose rate of
    //! events is a function of time; overflows and ticks at their exact times. The tolerances are the task's:
    //! converged within a second, then within 10 %.
    use super::*;

    const CLOCK_HZ: u64 = 1_000_000_000;

    /// Runs a workload for some seconds; returns the samples of each 10 ms.
    fn run(mut frequency: Frequency, tick_hz: u32, seconds: u64, rate_hz: impl Fn(u64) -> u64) -> Vec<u64> {
        let step = 1000;
        let tick = CLOCK_HZ / u64::from(tick_hz);
        let mut samples = vec![0; usize::try_from(seconds * 100).expect("fits")];
        let (mut count, mut left, mut fraction) = (0_u64, i128::from(frequency.period()), 0);
        let mut in_use = frequency.period();
        for now in (step..seconds * CLOCK_HZ).step_by(1000) {
            fraction += rate_hz(now) * step;
            let events = fraction / CLOCK_HZ;
            fraction %= CLOCK_HZ;
            count += events;
            left -= i128::from(events);
            // One NMI per step at most: the rest is skid.
            if left <= 0 {
                in_use = frequency.overflow(now, count);
                left = i128::from(in_use) - (-left) % i128::from(in_use);
                samples[usize::try_from(now / (CLOCK_HZ / 100)).expect("fits")] += 1;
            } else if now % tick == 0 {
                let period = frequency.tick(now, count);
                if period < in_use - in_use / 8 {
                    left = (left * i128::from(period) / i128::from(in_use)).max(1);
                    in_use = period;
                }
            }
        }
        samples
    }

    fn starting(frequency_hz: u64, tick_hz: u32, period: u64) -> Frequency {
        Frequency::starting_at(period, CLOCK_HZ / frequency_hz, CLOCK_HZ / u64::from(tick_hz))
            .with_gain_for(frequency_hz)
    }

    /// Asserts that each second but the first has the samples that it should, within 10 %.
    fn assert_held(samples: &[u64], frequency_hz: u64, what: &str) {
        for (second, samples) in samples.chunks(100).enumerate().skip(1) {
            let got: u64 = samples.iter().sum();
            let off = got.abs_diff(frequency_hz) * 100;
            assert!(off <= frequency_hz * 10 + 100, "{what}: {got} of {frequency_hz} in second {second}");
        }
    }

    #[test]
    fn a_steady_workload_converges_from_any_start() {
        for frequency_hz in [50, 99, 1000, 4000, 20_000] {
            for (tick_hz, rate) in [(100, 1_000_000_000), (1000, 3_000_000_000), (250, 5_000_000)] {
                for period in [1, 1000, 1_000_000, 1 << 31, 1 << 43] {
                    let frequency = starting(frequency_hz, tick_hz, period);
                    let samples = run(frequency, tick_hz, 3, |_| rate);
                    let what = format!("{frequency_hz} Hz of {rate} Hz from {period}, ticks {tick_hz} Hz");
                    assert_held(&samples, frequency_hz, &what);
                }
            }
        }
    }

    #[test]
    fn the_first_second_has_no_burst() {
        for (frequency_hz, rate) in
            [(1000, 3_000_000_000), (1000, 1_000_000), (4000, 50_000_000), (99, 1_000_000_000)]
        {
            let samples = run(Frequency::new(frequency_hz, CLOCK_HZ, 250), 250, 1, |_| rate);
            let got: u64 = samples.iter().sum();
            assert!(got.abs_diff(frequency_hz) * 10 <= frequency_hz, "{got} of {frequency_hz} of {rate} Hz");
        }
    }

    #[test]
    fn a_step_by_100_is_followed_within_a_second() {
        for frequency_hz in [99, 1000, 4000] {
            for (before, after) in [(10_000_000, 1_000_000_000), (1_000_000_000, 10_000_000)] {
                let samples = run(Frequency::new(frequency_hz, CLOCK_HZ, 250), 250, 4, |now| {
                    if now < 2 * CLOCK_HZ { before } else { after }
                });
                let what = format!("{frequency_hz} Hz, {before} to {after}");
                assert_held(&samples[..200], frequency_hz, &what);
                let (step, held) = samples[200..].split_at(100);
                assert_held(&[&[0; 100], held].concat(), frequency_hz, &what);
                let settled: u64 = step[60..].iter().sum();
                assert!(
                    settled.abs_diff(frequency_hz * 4 / 10) * 20 <= frequency_hz,
                    "{what}: {settled} after 0.6 s"
                );
            }
        }
    }

    #[test]
    fn a_square_wave_of_any_speed_is_held() {
        for frequency_hz in [200, 1000, 4000] {
            for half_us in [20, 100, 500, 2000, 10_000, 100_000, 250_000] {
                let samples = run(Frequency::new(frequency_hz, CLOCK_HZ, 1000), 1000, 4, |now| {
                    if now / 1000 / half_us % 2 == 0 { 1_000_000_000 } else { 10_000_000 }
                });
                assert_held(&samples, frequency_hz, &format!("{frequency_hz} Hz, {half_us} us each"));
            }
        }
    }

    #[test]
    fn work_after_an_idle_phase_begins_without_a_burst() {
        // The idle time makes the period shorter once: by four intervals, or by 8 where ticks are coarser than that.
        for (frequency_hz, tick_hz, burst) in [(100, 250, 5), (1000, 1000, 5), (4000, 250, 17)] {
            let samples = run(Frequency::new(frequency_hz, CLOCK_HZ, tick_hz), tick_hz, 4, |now| {
                if (CLOCK_HZ..2 * CLOCK_HZ).contains(&now) { 0 } else { 1_000_000_000 }
            });
            assert_eq!(samples[100..200].iter().sum::<u64>(), 0, "no events, no samples");
            assert_held(&[&[0; 100], &samples[200..]].concat(), frequency_hz, "after idle");
            let first = samples[200];
            assert!(first <= frequency_hz / 100 + burst, "{frequency_hz} Hz: {first} in the first 10 ms");
        }
    }

    #[test]
    fn an_event_rarer_than_the_samples_is_sampled_each_time() {
        let samples = run(Frequency::new(1000, CLOCK_HZ, 250), 250, 3, |_| 100);
        assert!(samples[100..].chunks(100).all(|second| second.iter().sum::<u64>() >= 99), "{samples:?}");
    }

    #[test]
    fn an_event_rarer_than_the_ticks_is_sampled_at_its_frequency() {
        let samples = run(Frequency::new(10, CLOCK_HZ, 1000), 1000, 12, |_| 200);
        let got: u64 = samples[200..].iter().sum();
        assert!((90..=110).contains(&got), "{got} of 100");
    }

    #[test]
    fn no_adjustment_is_by_more_than_the_step() {
        let mut frequency = starting(1000, 250, 1 << 30);
        let (mut now, mut count, mut before) = (0, 0, frequency.period());
        for (ticks, events) in
            [(1, 1 << 40), (1 << 50, 1), (1, 1), (u64::MAX >> 2, 1 << 40), (5, 0), (1 << 40, 3)]
        {
            now += ticks;
            count += events;
            for after in [frequency.tick(now, count), frequency.overflow(now, count)] {
                assert!(after >= before / STEP_MAX && after <= before.saturating_mul(STEP_MAX) && after > 0);
                before = after;
            }
        }
    }
}
