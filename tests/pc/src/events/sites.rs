//! Sites: what the machine knows of each instruction, and what it counted there. The latter is the truth that a
//! profile is compared with.
//!
//! The kernel's text has a table by address, which is what the hot path looks at; everything else (the boot code at
//! its load address, user programs, whose addresses mean something in one address space only) is looked up by address
//! and address space.

use std::collections::HashMap;
use std::ops::Range;

use super::Counts;
use crate::cpu::decode::Decoded;

/// Memory operands of an instruction that the cache model looks at.
pub const OPERANDS_MAX: usize = 2;

/// An instruction at an address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Site {
    /// The instruction, once it was executed.
    pub decoded: Decoded,
    /// What was counted here.
    pub counts: Counts,
}

/// Number of a site.
pub type SiteIndex = usize;

/// All sites.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    text: Range<u64>,
    sites: Vec<Site>,
    /// Sites beyond the text, by address space and address.
    others: HashMap<(u64, u64), SiteIndex>,
}

impl Sites {
    /// Makes room for the kernel's text.
    ///
    /// # Panics
    /// If that does not fit into memory.
    #[must_use]
    pub fn new(text: Range<u64>) -> Self {
        let len = usize::try_from(text.end - text.start).expect("fits into memory");
        Self { text, sites: vec![Site::default(); len], others: HashMap::new() }
    }

    /// Finds the site of an address in the address space with this root.
    #[inline]
    pub fn index(&mut self, root: u64, address: u64) -> SiteIndex {
        let offset = address.wrapping_sub(self.text.start);
        if address < self.text.end && address >= self.text.start {
            return usize::try_from(offset).unwrap_or(0);
        }
        let next = self.sites.len();
        let index = *self.others.entry((root, address)).or_insert(next);
        if index == next {
            self.sites.push(Site::default());
        }
        index
    }

    /// Returns a site.
    #[inline]
    #[must_use]
    pub fn get(&self, index: SiteIndex) -> &Site {
        &self.sites[index]
    }

    /// Returns a site, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: SiteIndex) -> &mut Site {
        &mut self.sites[index]
    }

    /// Forgets what was counted, but not the instructions.
    pub fn clear_counts(&mut self) {
        self.sites.iter_mut().for_each(|site| site.counts = Counts::default());
    }

    /// Returns what was counted at the kernel's addresses of a range.
    #[must_use]
    pub fn counted_in(&self, range: Range<u64>) -> Counts {
        let place = |address: u64| {
            let offset = address.clamp(self.text.start, self.text.end) - self.text.start;
            usize::try_from(offset).unwrap_or(0)
        };
        let sites = &self.sites[place(range.start)..place(range.end).max(place(range.start))];
        sites.iter().fold(Counts::default(), |sum, site| sum + site.counts)
    }

    /// Returns every counted address with its address space; 0 stands for the kernel.
    pub fn counted(&self) -> impl Iterator<Item = (u64, u64, Counts)> + '_ {
        let text = self.sites.iter().zip(self.text.clone()).map(|(site, address)| (0, address, site.counts));
        let others =
            self.others.iter().map(|((root, address), index)| (*root, *address, self.sites[*index].counts));
        text.chain(others).filter(|(_, _, counts)| counts.instructions > 0)
    }
}
