//! The throttle: a bound on the share of time that passes in the NMI handler.
//!
//! The hard case first: a period that is shorter than the handler. Each overflow then waits for the end of the NMI
//! before it, and the interrupted code gets an instruction or two between NMIs. The tick's interrupt, which could
//! change that, waits behind the NMIs as well; so the throttle trips by itself, in the handler, and only its *end*
//! needs the tick.
//!
//! It is a bucket. Each NMI fills it with the time that it took; once in a window (the nominal time between two ticks),
//! at a tick or else at the next NMI, what the limit allows for the time since then is drained. It is full when it
//! holds the allowance of one window; then it trips: the caller stops all counters, and the next tick at which it is
//! no longer full lets them go on.
//! What is left in it counts against the next window, so that in any time `t` the handler has at most
//! `percent * (t + window)` and one NMI, however the ticks fall. An NMI that took many windows would be paid for by many
//! more; what it leaves in the bucket is bounded by `DEBT_WINDOWS_MAX`, for a handler that took 100 ms was most
//! likely not running: its virtual CPU was not.
//!
//! The limit is perf's `perf_cpu_time_max_percent` in name and range. Linux (6.x, `kernel/events/core.c`) lowers a
//! bound on the samples per tick from the average time of a sample; here the time itself is bounded, which follows a
//! changing cost at once.

/// The most windows whose allowance the bucket can hold.
const DEBT_WINDOWS_MAX: u64 = 16;

/// A bound on the share of time that passes in a handler.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    window_ticks: u64,
    /// 0: no limit.
    percent: u64,
    overhead_ticks: u64,
    /// What is in the bucket.
    busy_ticks: u64,
    drained_at: u64,
    tripped_at: Option<u64>,
    episodes: u64,
    throttled_ticks: u64,
}

impl Throttle {
    /// Creates a throttle that lets a handler have so many percent of each window; 0, and 100 or more, are no limit.
    #[must_use]
    pub const fn new(window_ticks: u64, percent: u8) -> Self {
        Self {
            window_ticks,
            percent: if percent >= 100 { 0 } else { percent as u64 },
            overhead_ticks: 0,
            busy_ticks: 0,
            drained_at: 0,
            tripped_at: None,
            episodes: 0,
            throttled_ticks: 0,
        }
    }

    /// No limit.
    pub const OFF: Self = Self::new(0, 0);

    /// Returns the length of a window, as far as a timer of 32 bits can count it.
    #[must_use]
    pub fn window_ticks(&self) -> u32 {
        u32::try_from(self.window_ticks).unwrap_or(u32::MAX)
    }

    /// Sets what an interrupt costs outside of the times that [`Throttle::note`] is told.
    pub const fn set_overhead(&mut self, ticks: u64) {
        self.overhead_ticks = ticks;
    }

    /// Tells whether there is a limit.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.percent != 0
    }

    /// Begins a window with an empty bucket, not tripped.
    pub fn start(&mut self, now: u64) {
        self.end_episode(now);
        self.busy_ticks = 0;
        self.drained_at = now;
    }

    /// Ends an episode that lasts.
    pub fn stop(&mut self, now: u64) {
        self.end_episode(now);
    }

    /// Notes that the handler ran; returns whether this trips the throttle.
    #[inline]
    pub fn note(&mut self, begin: u64, end: u64) -> bool {
        if !self.is_on() {
            return false;
        }
        if end.saturating_sub(self.drained_at) >= self.window_ticks {
            self.drain(end);
        }
        let ticks = end.saturating_sub(begin).saturating_add(self.overhead_ticks);
        self.busy_ticks = self.busy_ticks.saturating_add(ticks);
        if self.is_throttled() || self.busy_ticks <= self.allowance(self.window_ticks) {
            return false;
        }
        self.trip(end);
        true
    }

    /// Ends a window; returns whether this lets the counters go on.
    pub fn tick(&mut self, now: u64) -> bool {
        self.drain(now);
        self.busy_ticks <= self.allowance(self.window_ticks) && self.end_episode(now)
    }

    /// Forgets how often it tripped, and for how long.
    pub const fn forget_account(&mut self) {
        (self.episodes, self.throttled_ticks) = (0, 0);
    }

    /// Tells whether the counters are to be stopped.
    #[must_use]
    pub const fn is_throttled(&self) -> bool {
        self.tripped_at.is_some()
    }

    /// Returns how often it tripped.
    #[must_use]
    pub const fn episodes(&self) -> u64 {
        self.episodes
    }

    /// Returns how long the episodes that are over lasted.
    #[must_use]
    pub const fn throttled_ticks(&self) -> u64 {
        self.throttled_ticks
    }

    /// Drains what the limit allows for the time since this was done last.
    fn drain(&mut self, now: u64) {
        let allowed = self.allowance(now.saturating_sub(self.drained_at));
        self.busy_ticks = self.busy_ticks.saturating_sub(allowed);
        self.drained_at = now;
    }

    #[cold]
    fn trip(&mut self, now: u64) {
        let debt_max = self.allowance(self.window_ticks).saturating_mul(DEBT_WINDOWS_MAX);
        self.busy_ticks = self.busy_ticks.min(debt_max);
        self.tripped_at = Some(now);
        self.episodes = self.episodes.saturating_add(1);
    }

    fn end_episode(&mut self, now: u64) -> bool {
        let Some(begin) = self.tripped_at.take() else { return false };
        self.throttled_ticks = self.throttled_ticks.saturating_add(now.saturating_sub(begin));
        true
    }

    /// Returns how much of such a time the handler may have.
    const fn allowance(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(self.percent) / 100
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the handler's share stays below the limit, whatever it does, and the interrupted code always gets on.
    //! Method: a CPU that does nothing but take NMIs, with ticks of 1000 that come late or bunched; examples
    //! besides.
    use super::*;

    const WINDOW: u64 = 1000;

    /// Runs a CPU whose every `progress` ticks of other code end in a handler; returns the times of both.
    fn storm(throttle: &mut Throttle, handler: u64, progress: u64, ticks: impl Fn(u64) -> u64) -> (u64, u64) {
        let (mut now, mut handlers, mut code, mut tick) = (0, 0, 0, 0);
        throttle.start(0);
        while now < 1000 * WINDOW {
            if throttle.is_throttled() {
                // Nothing interrupts but the tick, which may be pending already.
                let at = ticks(tick).max(now);
                code += at - now;
                now = at;
            } else {
                now += progress + handler;
                code += progress;
                handlers += handler;
                throttle.note(now - handler, now);
            }
            // A storm starves the tick: it gets in only where no NMI is pending.
            if throttle.is_throttled() || progress > handler {
                while ticks(tick) <= now {
                    throttle.tick(now);
                    tick += 1;
                }
            }
        }
        (handlers, code)
    }

    #[test]
    fn a_share_below_the_limit_never_trips() {
        let mut throttle = Throttle::new(WINDOW, 25);
        storm(&mut throttle, 10, 40, |n| n * WINDOW);
        assert_eq!((throttle.episodes(), throttle.throttled_ticks()), (0, 0));
    }

    #[test]
    fn a_period_shorter_than_the_handler_leaves_the_code_its_share() {
        for percent in [1, 25, 50, 99] {
            for handler in [1, 10, 240, 900, 2500, 10_000] {
                let mut throttle = Throttle::new(WINDOW, percent);
                let (busy, code) = storm(&mut throttle, handler, 1, |n| n * WINDOW);
                let share = busy * 100 / (busy + code);
                let debt_is_bounded = handler > DEBT_WINDOWS_MAX * WINDOW * u64::from(percent) / 100;
                assert!(code > 1000 * WINDOW / 200, "{percent} % of {handler}: {code} ticks of code");
                assert!(
                    debt_is_bounded || share <= u64::from(percent) + 1,
                    "{percent} % of {handler}: {share} %"
                );
                assert_eq!(throttle.episodes() > 0, handler * 100 > u64::from(percent) * (handler + 1));
            }
        }
    }

    #[test]
    fn ticks_that_come_in_pairs_give_no_second_allowance() {
        let mut throttle = Throttle::new(WINDOW, 25);
        let (busy, code) = storm(&mut throttle, 10, 1, |n| (n / 2) * 2 * WINDOW + n % 2);
        assert!(busy * 100 / (busy + code) <= 25, "{busy} of {}", busy + code);
    }

    #[test]
    fn a_tick_that_is_late_makes_the_window_longer() {
        let mut throttle = Throttle::new(WINDOW, 25);
        throttle.start(0);
        assert!((1..=100).all(|n| !throttle.note(n * 100, n * 100 + 20)), "20 % over ten windows");
    }

    #[test]
    fn an_episode_lasts_until_the_tick() {
        let mut throttle = Throttle::new(WINDOW, 25);
        throttle.start(0);
        assert!(!throttle.note(0, 250));
        assert!(throttle.note(300, 301), "one tick too many");
        assert!(!throttle.note(310, 320), "it has tripped already");
        assert!(throttle.is_throttled());
        assert!(throttle.tick(1000));
        assert!(!throttle.is_throttled());
        assert_eq!((throttle.episodes(), throttle.throttled_ticks()), (1, 699));
        assert!(!throttle.tick(2000), "nothing to end");
    }

    #[test]
    fn a_stolen_cpu_does_not_stop_the_counters_for_long() {
        let mut throttle = Throttle::new(WINDOW, 25);
        throttle.start(0);
        assert!(throttle.note(0, 1_000_000));
        let ticks = (1001..).position(|n| throttle.tick(n * WINDOW)).expect("it ends");
        assert!(ticks < 16, "{ticks} ticks");
    }

    #[test]
    fn what_an_interrupt_costs_besides_is_part_of_the_share() {
        let mut throttle = Throttle::new(WINDOW, 25);
        throttle.set_overhead(100);
        throttle.start(0);
        assert!(!throttle.note(0, 25) && !throttle.note(200, 225));
        assert!(throttle.note(400, 425));
    }

    #[test]
    fn no_limit_is_no_limit() {
        for percent in [0, 100, 255] {
            let mut throttle = Throttle::new(WINDOW, percent);
            assert!(!throttle.is_on());
            assert!(!throttle.note(0, 1_000_000));
        }
    }
}
