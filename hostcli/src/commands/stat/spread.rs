//! Mean and standard error of repeated counts.
//!
//! As perf does it (Linux 6.1, `tools/perf/util/stat.c`): the sum of squares is updated with each value (Welford, "Note on
//! a method for calculating corrected sums of squares and products", Technometrics 1962), which a sum of squares of large
//! counts would not survive, and what is shown is the standard deviation of the mean in percent of the mean.

/// Mean and spread of values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    count: u32,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
}

impl Spread {
    /// Takes a value.
    pub(super) fn push(&mut self, value: f64) {
        self.count += 1;
        let distance = value - self.mean;
        self.mean += distance / f64::from(self.count);
        self.squares += distance * (value - self.mean);
    }

    /// Returns the number of values.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the mean; 0 without values.
    pub(super) const fn mean(&self) -> f64 {
        self.mean
    }

    /// Returns the standard deviation of the mean; `None` for fewer than two values.
    pub(super) fn error(&self) -> Option<f64> {
        let variance = self.squares / f64::from(self.count.checked_sub(1).filter(|n| *n > 0)?);
        Some((variance / f64::from(self.count)).sqrt())
    }

    /// Returns the standard deviation of the mean in percent of it; 0 where the mean is 0.
    pub(super) fn error_pct(&self) -> Option<f64> {
        let error = self.error()?;
        Some(if self.mean == 0.0 { 0.0 } else { 100.0 * error / self.mean })
    }
}

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut spread = Self::default();
        values.into_iter().for_each(|value| spread.push(value));
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_deviation_of_the_sample_by_the_root_of_its_size() {
        // Variance of 2, 4, 4, 4, 5, 5, 7, 9 as a sample: 32 / 7.
        let spread: Spread = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter().collect();
        let wanted = (32.0_f64 / 7.0 / 8.0).sqrt();
        assert_eq!(spread.mean(), 5.0);
        assert!((spread.error().expect("eight values") - wanted).abs() < 1e-12);
        assert!((spread.error_pct().expect("as above") - 20.0 * wanted).abs() < 1e-9);
    }

    #[test]
    fn one_value_has_no_spread_and_equal_ones_have_none_either() {
        assert_eq!([7.0].into_iter().collect::<Spread>().error(), None);
        assert_eq!([7.0, 7.0].into_iter().collect::<Spread>().error_pct(), Some(0.0));
        assert_eq!([0.0, 0.0].into_iter().collect::<Spread>().error_pct(), Some(0.0));
    }

    #[test]
    fn small_spreads_of_large_counts_survive() {
        let spread: Spread = [1e15, 1e15 + 2.0].into_iter().collect();
        assert_eq!(spread.error(), Some(1.0));
    }
}
