//! Case 21 on CPUs that run in parallel: two NMIs at a time touch the same pages in the same order, again and again.
//!
//! Both wait for each other at the start, and are held nowhere else. Who is behind finds pages that are there, takes no fault and catches up, so that the
//! two meet again and again; how often they did is counted where a compare-exchange is lost.

#![expect(unsafe_code, reason = "takes pages and tables away")]

use core::hint::spin_loop;

use nmiprof_wire::{Failure, NmiCounters};

use super::{Arena, TICKS_PER_SECOND, say, send};
use crate::arch::cpu;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::paging::lazy;
use crate::memory::frames;
use crate::memory::vmalloc::LazyArea;
use crate::selftest::turnstile::{self, RACERS};

/// Pages of a round: enough for many meetings, for a round begins with messages that take their time.
const PAGES: u64 = 2048;
/// From one of them to the next: two behind each table of the lowest level.
const STRIDE: u64 = 256;
/// Rounds, at least.
const ROUNDS_MIN: u64 = 16;
/// Meetings after which it is enough.
const MEETINGS_MIN: u64 = 500;
/// The first of them, behind tables of its own.
const FIRST: u64 = 512 * 512;
/// Pages behind a table of the second level.
const TABLE_PAGES: usize = 512 * 512;

/// Faults that another CPU had resolved, in all, since some time.
fn meetings(arena: &Arena, before: &[NmiCounters; RACERS]) -> u64 {
    let counts = arena.counts();
    counts.iter().zip(before).map(|(after, before)| after.other_faults - before.other_faults).sum()
}

/// Races until the CPUs have met often, for so long at most: a host that lends them one core at a time lets them meet
/// rarely.
pub(super) fn run(arena: &Arena, duration_ns: u64) {
    let area = LazyArea::new((FIRST + PAGES * STRIDE) * PAGE_BYTES).expect("there is memory");
    let end = cpu::timestamp() + duration_ns * (TICKS_PER_SECOND >> 20) / 1000;
    let (before, lost_before) = (arena.counts(), turnstile::lost_so_far());
    let (mut rounds, mut wrong) = (0_u64, 0_u64);
    reset(arena, &area);
    while rounds < ROUNDS_MIN || (meetings(arena, &before) < MEETINGS_MIN && cpu::timestamp() < end) {
        rounds += 1;
        wrong += u64::from(!round(arena, &area));
    }
    let lost = turnstile::lost_so_far();
    let lost: [u64; 4] = core::array::from_fn(|level| lost[level] - lost_before[level]);
    let (mut raced, mut first, mut syncs) = (0, 0, 0);
    for (after, before) in arena.counts().iter().zip(&before) {
        raced += after.other_faults - before.other_faults;
        first += after.first_touches - before.first_touches;
        syncs += after.space_syncs - before.space_syncs;
    }
    let holds = wrong == 0 && first == rounds * PAGES && (1..=2 * rounds).contains(&syncs) && raced > 0;
    let failures = if holds { 0 } else { Failure::Space.bit() };
    let text = format_args!(
        "{wrong} wrong; lost to the other CPU: {} top-level entries, {} and {} tables, {} pages; {first} first \
         touches, {raced} raced faults, {syncs} syncs",
        lost[3], lost[2], lost[1], lost[0],
    );
    say(21, "a long run", rounds, text, failures);
    send(21, raced, failures);
}

/// Races once for all pages; tells whether each is mapped once and no frame was lost.
fn round(arena: &Arena, area: &LazyArea) -> bool {
    let (left, census, taken) = (frames::left(), area.census(), arena.frames_taken());
    let address = area.start() + FIRST * PAGE_BYTES;
    for cpu in arena.cpus {
        turnstile::touch_in_next_nmi(cpu.index, address, PAGES, STRIDE * PAGE_BYTES, true);
    }
    turnstile::draw_line();
    arena.cpus.into_iter().for_each(|cpu| turnstile::begin(cpu, turnstile::by_nmi));
    while turnstile::is_running() {
        spin_loop();
    }
    let after = area.census();
    let made = after.pages + after.tables - census.pages - census.tables;
    let errors: u64 = arena.cpus.iter().map(|cpu| turnstile::take_errors(cpu.index)).sum();
    arena.refresh();
    let is_counted = arena.frames_taken() - taken == made;
    reset(arena, area);
    errors == 0 && after.pages == PAGES && is_counted && frames::left() == left
}

/// Takes everything away, the area's entry in the address space included.
fn reset(arena: &Arena, area: &LazyArea) {
    for table in (FIRST..FIRST + PAGES * STRIDE).step_by(TABLE_PAGES) {
        // SAFETY: nobody races now, and both CPUs forget the area's translations before they do.
        unsafe { area.strip(table, 2) };
    }
    lazy::forget_top_level(arena.space.root(), area.start());
    arena.refresh();
}
