//! A branch predictor: one two-bit counter and one target per place, by address.

const PLACES: usize = 4096;

/// What is remembered of the branches that share a place.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// 0 and 1 say not taken, 2 and 3 taken.
    state: u8,
    target: u64,
}

/// The predictor.
#[derive(Clone, Debug)]
pub struct Predictor(Vec<Place>);

impl Default for Predictor {
    fn default() -> Self {
        Self(vec![Place::default(); PLACES])
    }
}

impl Predictor {
    /// Tells whether the predictor was wrong about a branch, and learns.
    #[inline]
    pub fn misses(&mut self, address: u64, taken: bool, target: u64) -> bool {
        let index = usize::try_from(address ^ address >> 12).unwrap_or(0) & (PLACES - 1);
        let place = &mut self.0[index];
        let said_taken = place.state >= 2;
        let wrong = said_taken != taken || (taken && place.target != target);
        if taken {
            place.state = (place.state + 1).min(3);
            place.target = target;
        } else {
            place.state = place.state.saturating_sub(1);
        }
        wrong
    }

    /// Forgets everything, as at an indirect branch prediction barrier.
    pub fn forget(&mut self) {
        self.0.fill(Place::default());
    }
}

#[cfg(test)]
mod tests {
    use super::Predictor;

    #[test]
    fn a_loop_is_learned_and_missed_at_its_end() {
        let mut predictor = Predictor::default();
        let misses = (0..100).filter(|turn| predictor.misses(0x1000, *turn < 99, 0x0ff0)).count();
        assert_eq!(misses, 3, "twice at the beginning, and at the end");
    }

    #[test]
    fn what_was_learned_is_forgotten_at_a_barrier() {
        let mut predictor = Predictor::default();
        let mut miss = || predictor.misses(0x1000, true, 0x0ff0);
        assert_eq!([miss(), miss(), miss()], [true, true, false]);
        predictor.forget();
        assert!(predictor.misses(0x1000, true, 0x0ff0));
    }
}
