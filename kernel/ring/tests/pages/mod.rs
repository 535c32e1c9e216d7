//! A memory for tests: real words, touches that can be told to fail, and a diary of the touches that
//! succeeded.

use std::collections::VecDeque;
use std::sync::Mutex;

use nmiprof_ring::sync::AtomicU64;
use nmiprof_ring::{Memory, PAGE_WORDS, PageIndex, TouchError, WordIndex, WordRange};

/// Pages that panic when a word is used before its page was touched.
pub(crate) struct Pages {
    pub(crate) words: Vec<AtomicU64>,
    /// Page indices in the order of their successful touches.
    pub(crate) touched: Mutex<Vec<usize>>,
    /// The next touches fail with these, first one first; then they succeed.
    pub(crate) failures: Mutex<VecDeque<TouchError>>,
}

impl Pages {
    pub(crate) fn new(pages: usize) -> Self {
        let words = (0..pages * PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { words, touched: Mutex::default(), failures: Mutex::default() }
    }
}

impl Pages {
    fn assert_touched(&self, index: usize) {
        let touched = self.touched.lock().unwrap();
        assert!(touched.contains(&(index / PAGE_WORDS)), "word {index} was used before its page was touched");
    }
}

impl Memory for Pages {
    fn pages(&self) -> usize {
        self.words.len() / PAGE_WORDS
    }

    fn word(&self, index: WordIndex) -> &AtomicU64 {
        let index = index.get();
        self.assert_touched(index);
        &self.words[index]
    }

    fn words(&self, range: WordRange) -> &[AtomicU64] {
        let range = range.get();
        // The first word of each page stands for the others.
        let pages = range.start / PAGE_WORDS..range.end.div_ceil(PAGE_WORDS);
        pages.for_each(|page| self.assert_touched(page * PAGE_WORDS));
        &self.words[range]
    }

    fn touch(&self, page: PageIndex) -> Result<(), TouchError> {
        if let Some(failure) = self.failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        self.touched.lock().unwrap().push(page.get());
        Ok(())
    }
}
