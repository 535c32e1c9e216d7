//! How long a lost line is waited for.
//!
//! The wait begins when the line is lost, and is over when bytes come again: a far end that takes every
//! connection and closes it at once is waited for no longer than one that is not there.

use std::time::{Duration, Instant};

/// Time between two attempts, and before the first one.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);

/// The clock of a lost line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    bound: Duration,
    lost_at: Option<Instant>,
}

impl Retry {
    /// Creates a clock that stands.
    pub(super) const fn new(bound: Duration) -> Self {
        Self { bound, lost_at: None }
    }

    /// Learns that the line is lost; tells whether that is news.
    pub(super) fn lost(&mut self, now: Instant) -> bool {
        let is_news = self.lost_at.is_none();
        self.lost_at.get_or_insert(now);
        is_news
    }

    /// Learns that bytes came; returns how long the line was lost, if it was.
    pub(super) fn heard(&mut self, now: Instant) -> Option<Duration> {
        self.lost_at.take().map(|lost_at| now.duration_since(lost_at))
    }

    /// Tells whether another attempt is allowed.
    pub(super) fn is_allowed(&self, now: Instant) -> bool {
        self.lost_at.is_none_or(|lost_at| now.duration_since(lost_at) < self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(3);

    #[test]
    fn attempts_end_at_the_bound() {
        let (mut retry, start) = (Retry::new(BOUND), Instant::now());
        assert!(retry.is_allowed(start) && retry.lost(start));
        assert!(retry.is_allowed(start + BOUND - INTERVAL));
        assert!(!retry.is_allowed(start + BOUND));
    }

    #[test]
    fn a_line_that_opens_and_closes_without_a_byte_stays_lost() {
        let (mut retry, start) = (Retry::new(BOUND), Instant::now());
        assert!(retry.lost(start));
        assert!(!retry.lost(start + BOUND), "no news");
        assert!(!retry.is_allowed(start + BOUND));
    }

    #[test]
    fn bytes_begin_a_new_bound() {
        let (mut retry, start) = (Retry::new(BOUND), Instant::now());
        retry.lost(start);
        assert_eq!(retry.heard(start + INTERVAL), Some(INTERVAL));
        assert_eq!(retry.heard(start + BOUND), None);
        assert!(retry.lost(start + BOUND) && retry.is_allowed(start + BOUND + INTERVAL));
    }

    #[test]
    fn a_bound_of_nothing_allows_nothing() {
        let (mut retry, start) = (Retry::new(Duration::ZERO), Instant::now());
        retry.lost(start);
        assert!(!retry.is_allowed(start));
    }
}
