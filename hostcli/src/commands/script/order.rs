//! Samples of several events in the order of time.
//!
//! The stream has them in blocks of one CPU and one event each, so a block of a rare event comes long after samples of
//! others that are younger than its first one. Sorting needs to wait for it, and a capture may be larger than memory or
//! come from a live line: so a window of [`WINDOW_SAMPLES`] is sorted, and its older half handed on whenever it is full.
//! The kernel sends what waits about every second; a window holds more than that at any rate that a CPU can sample at.
//! Where it does not, samples come out of order, and are counted.

use crate::capture::Sample;

/// Most samples that wait: about 60 MB.
const WINDOW_SAMPLES: usize = 1 << 20;

/// A sample that waits, and what its block said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The sample.
    pub(super) sample: Sample,
    /// The CPU that took it.
    pub(super) cpu: u16,
    /// Index of its event.
    pub(super) event: u8,
    /// Whether it carries a call chain.
    pub(super) has_chain: bool,
}

impl Waiting {
    /// Returns the time of the sample.
    const fn time(&self) -> u64 {
        self.sample.time.span().0
    }
}

/// Samples that wait for older ones.
#[derive(Debug)]
pub(super) struct Window {
    waiting: Vec<Waiting>,
    samples_max: usize,
    last_time: u64,
    disordered: u64,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self::of(WINDOW_SAMPLES)
    }

    const fn of(samples_max: usize) -> Self {
        Self { waiting: Vec::new(), samples_max, last_time: 0, disordered: 0 }
    }

    /// Returns how many samples were handed on after younger ones.
    pub(super) const fn disordered(&self) -> u64 {
        self.disordered
    }

    /// Takes a sample, and hands the oldest ones to `show` if there are too many.
    ///
    /// # Errors
    /// What `show` returns.
    pub(super) fn push<E>(
        &mut self,
        waiting: Waiting,
        show: impl FnMut(&Waiting) -> Result<(), E>,
    ) -> Result<(), E> {
        debug_assert!(waiting.sample.time.exact().is_some(), "what has no time has no place in its order");
        self.waiting.push(waiting);
        if self.waiting.len() < self.samples_max {
            return Ok(());
        }
        self.hand_on(self.samples_max / 2, show)
    }

    /// Hands all samples to `show`.
    ///
    /// # Errors
    /// What `show` returns.
    pub(super) fn finish<E>(&mut self, show: impl FnMut(&Waiting) -> Result<(), E>) -> Result<(), E> {
        self.hand_on(self.waiting.len(), show)
    }

    /// Hands the `count` oldest samples on. Those of one moment keep the order in which they came.
    fn hand_on<E>(&mut self, count: usize, mut show: impl FnMut(&Waiting) -> Result<(), E>) -> Result<(), E> {
        self.waiting.sort_by_key(Waiting::time);
        for waiting in self.waiting.drain(..count) {
            self.disordered += u64::from(waiting.time() < self.last_time);
            self.last_time = waiting.time();
            show(&waiting)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{ChainId, SampleTime};

    fn order(samples_max: usize, times: &[u64]) -> (Vec<u64>, u64) {
        let (mut window, mut shown) = (Window::of(samples_max), Vec::new());
        let mut show = |waiting: &Waiting| {
            shown.push(waiting.time());
            Ok::<(), ()>(())
        };
        for time in times {
            let time = SampleTime::At(*time);
            let sample = Sample { time, ip: 0, chain: ChainId::COMPLETE, process: 0, count: 1 };
            let waiting = Waiting { sample, cpu: 0, event: 0, has_chain: false };
            window.push(waiting, &mut show).expect("nothing fails");
        }
        window.finish(&mut show).expect("as above");
        (shown, window.disordered())
    }

    #[test]
    fn samples_come_in_the_order_of_time() {
        assert_eq!(order(100, &[5, 6, 7, 1, 2, 3, 6]), (vec![1, 2, 3, 5, 6, 6, 7], 0));
        assert_eq!(order(4, &[5, 6, 1, 2, 7, 8, 9]), (vec![1, 2, 5, 6, 7, 8, 9], 0));
    }

    #[test]
    fn what_comes_too_late_is_counted_and_not_lost() {
        let (shown, disordered) = order(4, &[5, 6, 7, 8, 1, 9]);
        assert_eq!((shown.len(), disordered), (6, 1));
    }
}
