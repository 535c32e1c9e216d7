//! Another CPU that installs the same entry at the worst moment: between the look at the entry and its
//! compare-exchange.
//!
//! A fault asks its reserve for a frame just then. So the rival is a reserve that maps the page itself, behind the
//! fault's back, when it is asked.

#![expect(unsafe_code, reason = "gives frames back")]

use core::cell::Cell;

use x86_64::structures::paging::PhysFrame;

use crate::arch::layout::PAGE_BYTES;
use crate::arch::paging::lazy::{self, FrameSource, FramesTaken};
use crate::info;
use crate::memory::frames;
use crate::memory::space::master_root;
use crate::memory::vmalloc::LazyArea;

/// Pages behind one leaf table.
const TABLE_PAGES: u64 = 512;

/// Races for a page whose table is there, and for one whose table is missing too.
///
/// # Panics
/// If either side does not go on with what the winner installed.
pub fn run() {
    let area = LazyArea::new(2 * TABLE_PAGES * PAGE_BYTES).expect("there is memory");
    for page in [0, TABLE_PAGES] {
        let address = area.start() + page * PAGE_BYTES;
        let rival = Rival { address, spare: one_frame(), won: Cell::new(None), taken: Cell::new(false) };
        let lost = lazy::install_leaf(master_root(), address, &rival);
        assert_eq!(lost, Ok(FramesTaken::default()), "the loser takes nothing and goes on");
        assert!(!rival.taken.get(), "its frame stays in the reserve");
        let mapped = area.remove(page);
        assert!(mapped.is_some() && mapped == rival.won.get(), "the winner's frame is mapped");
        for frame in mapped.into_iter().chain([rival.spare]) {
            // SAFETY: the one was just unmapped, the other one was never used.
            unsafe { frames::free(frame) };
        }
    }
    info!("rival: the loser of a race goes on with the winner's page, and with the winner's table");
}

/// A reserve of one frame that loses the race.
struct Rival {
    address: u64,
    spare: PhysFrame,
    /// The frame of the page that the other side mapped.
    won: Cell<Option<PhysFrame>>,
    taken: Cell<bool>,
}

impl FrameSource for Rival {
    fn peek(&self) -> Option<PhysFrame> {
        let winner = Winner { next: Cell::new(one_frame()), last: Cell::new(None) };
        lazy::install_leaf(master_root(), self.address, &winner).expect("the other side maps the page");
        self.won.set(winner.last.get());
        // SAFETY: it was not taken.
        unsafe { frames::free(winner.next.get()) };
        Some(self.spare)
    }

    fn take(&self) {
        self.taken.set(true);
    }
}

/// The other CPU's reserve.
struct Winner {
    next: Cell<PhysFrame>,
    /// The frame taken last: the page's, as tables come before it.
    last: Cell<Option<PhysFrame>>,
}

impl FrameSource for Winner {
    fn peek(&self) -> Option<PhysFrame> {
        Some(self.next.get())
    }

    fn take(&self) {
        self.last.set(Some(self.next.replace(one_frame())));
    }
}

fn one_frame() -> PhysFrame {
    frames::allocate_zeroed().expect("there is memory")
}
