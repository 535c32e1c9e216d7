//! A memory for tests: real words, touches that can be told to fail, and a diary of the touches that
//! succeeded.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use nmiprof_ring::sync::AtomicU64;
use nmiprof_ring::{Memory, PAGE_WORDS, PageIndex, Pages as RingPages, TouchError, WordIndex, WordRange};

/// What is found in a page that was released: no header has a length of 0.
const RELEASED: u64 = 0;

/// Pages that panic when a word is used before its page was touched.
pub(crate) struct Pages {
    pub(crate) words: Vec<AtomicU64>,
    /// Page indices in the order of their successful touches, but for those released since.
    pub(crate) touched: Mutex<Vec<usize>>,
    /// Page indices in the order of their releases.
    pub(crate) released: Mutex<Vec<usize>>,
    /// The next touches fail with these, first one first; then they succeed.
    pub(crate) failures: Mutex<VecDeque<TouchError>>,
}

impl Pages {
    pub(crate) fn new(pages: usize) -> Self {
        let words = (0..pages * PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { words, touched: Mutex::default(), released: Mutex::default(), failures: Mutex::default() }
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

    fn release(&self, pages: RingPages) {
        for page in pages {
            let page = page.get();
            // An access to memory, as taking a frame away is: a nested producer may come right before it.
            self.words[page * PAGE_WORDS].store(RELEASED, Ordering::Relaxed);
            let mut touched = self.touched.lock().unwrap();
            assert!(touched.contains(&page), "page {page} was released twice");
            touched.retain(|touched| *touched != page);
            self.released.lock().unwrap().push(page);
        }
    }
}
