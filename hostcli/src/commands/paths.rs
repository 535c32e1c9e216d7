//! From a place to the functions that were active there.

use std::rc::Rc;

use crate::capture::{ChainId, ChainTree, Histogram, Place};
use crate::symbols::{Resolved, SourceFrame, Symbolizer, UNKNOWN};

/// Expands places to functions.
pub(super) struct Paths<'a, 'elf> {
    symbolizer: &'a mut Symbolizer<'elf>,
    chains: &'a ChainTree,
    /// Whether inlined functions are told apart from those that they were inlined into.
    has_inlines: bool,
}

impl<'a, 'elf> Paths<'a, 'elf> {
    pub(super) fn new(
        symbolizer: &'a mut Symbolizer<'elf>,
        chains: &'a ChainTree,
        has_inlines: bool,
    ) -> Self {
        Self {
            symbolizer,
            chains,
            has_inlines,
        }
    }

    /// Returns the functions active at `place`, innermost first; never empty.
    pub(super) fn of(&mut self, place: &Place) -> Vec<SourceFrame> {
        let mut path = Vec::new();
        let here = self.symbolizer.instruction(place.ip);
        self.expand(&here, &mut path);
        for ip in self.chains.callers(place.chain) {
            let call = self.symbolizer.call(ip);
            self.expand(&call, &mut path);
        }
        path
    }

    /// Returns what stands in for callers that are not known, if any are not.
    pub(super) fn missing_callers(&self, place: &Place) -> Option<&'static str> {
        match self.chains.root(place.chain) {
            ChainId::TRUNCATED => Some("[truncated]"),
            ChainId::UNKNOWN => Some("[lost callers]"),
            _ => None,
        }
    }

    fn expand(&self, resolved: &Resolved, path: &mut Vec<SourceFrame>) {
        match resolved.frames.last() {
            None => path.push(unknown_frame()),
            Some(outermost) if !self.has_inlines => path.push(outermost.clone()),
            Some(_) => path.extend_from_slice(&resolved.frames),
        }
    }
}

fn unknown_frame() -> SourceFrame {
    SourceFrame {
        function: Rc::from(UNKNOWN),
        file: None,
        line: 0,
        is_inlined: false,
    }
}

/// Returns the share of samples whose address has no symbol; `None` without samples.
pub(super) fn unresolved_pct(histogram: &Histogram, symbolizer: &mut Symbolizer<'_>) -> Option<f64> {
    let (mut samples, mut unresolved) = (0_u64, 0_u64);
    for (place, count) in histogram.sorted() {
        samples += count;
        if symbolizer.instruction(place.ip).is_unknown() {
            unresolved += count;
        }
    }
    (samples > 0).then(|| 100.0 * unresolved as f64 / samples as f64)
}
