//! Case 21: two CPUs that touch pages of one area at once, and what each of them finds missing.
//!
//! The area's first table is shared by all address spaces; the entry that names it is missing in the one that both
//! CPUs have loaded, and further tables and pages may be missing for both. Whatever the order: both touches succeed, one
//! frame is taken for each page and table, the loser's stays in its reserve, and all are there again in the end.

#![expect(unsafe_code, reason = "takes pages and tables away")]

use alloc::boxed::Box;

use nmiprof_wire::Failure;

use super::{Arena, TICKS_PER_SECOND, say, send};
use crate::arch::fallible;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::paging::lazy;
use crate::arch::percpu::{self, PerCpu};
use crate::memory::frames;
use crate::memory::space::master_root;
use crate::memory::vmalloc::LazyArea;
use crate::selftest::turnstile::{self, Gate, Orders, RACERS};
use crate::smp;

/// The page that is raced for: the first behind its tables of both lower levels.
const PAGE: u64 = 512 * 512;
/// Its neighbour, behind the same table.
const NEIGHBOUR: u64 = PAGE + 1;
/// Another one of that table, present from the start.
const OLD: u64 = PAGE + 2;
const AREA_BYTES: u64 = (PAGE + 512) * PAGE_BYTES;

/// What a CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Its NMI touches a page.
    Touch(u64),
    /// Its thread reads a page that is there.
    Read(u64),
    /// Its thread unmaps a page that nobody else knows, and its NMI maps it again.
    Remap(u64),
}

/// What is raced for.
struct Scene {
    name: &'static str,
    acts: [Act; RACERS],
    /// The level of the first table that is missing; 0 for the page alone.
    missing: u32,
    /// Pages that are there.
    present: &'static [u64],
    /// The address space does not have the area.
    is_older: bool,
    /// Pages that are mapped afterwards.
    pages: u64,
}

const SCENES: [Scene; 8] = [
    Scene { name: "a page", missing: 0, is_older: false, ..touching(PAGE) },
    Scene { name: "a table and a page", missing: 1, is_older: false, ..touching(PAGE) },
    Scene { name: "two tables and a page", missing: 2, is_older: false, ..touching(PAGE) },
    Scene { name: "two tables and a page each", missing: 2, is_older: false, ..touching(NEIGHBOUR) },
    Scene { name: "a top-level entry and a page", missing: 0, ..touching(PAGE) },
    Scene { name: "a top-level entry, two tables and a page", missing: 2, ..touching(PAGE) },
    Scene {
        name: "a top-level entry, by two threads",
        acts: [Act::Read(OLD), Act::Read(OLD)],
        present: &[OLD],
        ..touching(PAGE)
    },
    Scene {
        name: "a top-level entry, by an NMI and a thread that unmaps and maps",
        acts: [Act::Remap(OLD), Act::Touch(PAGE)],
        present: &[OLD],
        pages: 2,
        ..touching(PAGE)
    },
];

/// The first CPU touches [`PAGE`], the second one this.
const fn touching(second: u64) -> Scene {
    Scene {
        name: "",
        acts: [Act::Touch(PAGE), Act::Touch(second)],
        missing: 0,
        present: &[],
        is_older: true,
        pages: if second == PAGE { 1 } else { 2 },
    }
}

/// Plays every scene in every order.
pub(super) fn run(arena: &Arena) {
    let area = LazyArea::new(AREA_BYTES).expect("there is memory");
    let area: &'static LazyArea = Box::leak(Box::new(area));
    SCENES.iter().for_each(|scene| play(arena, area, scene));
}

fn play(arena: &Arena, area: &'static LazyArea, scene: &Scene) {
    let mut orders = Orders::new();
    let mut failures = 0;
    let (before, lost_before) = (arena.counts(), turnstile::lost_so_far());
    loop {
        failures |= race(arena, area, scene, &mut orders);
        if !orders.advance() {
            break;
        }
    }
    let lost = turnstile::lost_so_far();
    let lost: [u64; 4] = core::array::from_fn(|level| lost[level] - lost_before[level]);
    let [one, other] = [0, 1].map(|racer| {
        let (after, before) = (arena.cpus[racer].nmi.snapshot(), &before[racer]);
        (after.other_faults - before.other_faults, after.space_syncs - before.space_syncs)
    });
    let text = format_args!(
        "lost to the other CPU: {} top-level entries, {} and {} tables, {} pages; {} raced faults, {} syncs in NMIs",
        lost[3],
        lost[2],
        lost[1],
        lost[0],
        one.0 + other.0,
        one.1 + other.1,
    );
    say(21, scene.name, orders.races(), text, failures);
    send(21, orders.races(), failures);
}

/// Races once, in the order at hand; returns what failed.
fn race(arena: &Arena, area: &'static LazyArea, scene: &Scene, orders: &mut Orders) -> u32 {
    let left = prepare(arena, area, scene);
    let (census, taken) = (area.census(), arena.frames_taken());
    turnstile::close(Gate::Tables);
    for (cpu, act) in arena.cpus.into_iter().zip(scene.acts) {
        turnstile::begin(cpu, |cpu| send_to(cpu, area, act));
    }
    orders.lead();
    turnstile::open();
    arena.cpus.iter().for_each(|cpu| Arena::wait_until_parked(cpu));
    arena.refresh();
    let after = area.census();
    let made = after.pages + after.tables - census.pages - census.tables;
    let unmapped = scene.acts.iter().filter(|act| matches!(act, Act::Remap(_))).count() as u64;
    let errors: u64 = arena.cpus.iter().map(|cpu| turnstile::take_errors(cpu.index)).sum();
    let is_mapped = errors == 0 && after.pages == scene.pages.max(scene.present.len() as u64);
    let has_area = lazy::has_top_level(arena.space.root(), area.start());
    // Each frame that was taken is in a table, and all are there again when the same tables are.
    let is_counted = arena.frames_taken() - taken == made + unmapped;
    let is_whole = prepare(arena, area, scene) == left;
    let fails = |failure: Failure, holds: bool| if holds { 0 } else { failure.bit() };
    fails(Failure::Dispatch, is_mapped) | fails(Failure::Space, has_area && is_counted && is_whole)
}

/// Makes everything as it has to be before the race; returns how many frames are left then.
fn prepare(arena: &Arena, area: &LazyArea, scene: &Scene) -> u64 {
    // SAFETY: nobody races now, and both CPUs forget the area's translations before they do.
    unsafe { area.strip(PAGE, 2) };
    let Scene { missing, present, is_older, .. } = *scene;
    let own = percpu::current();
    let map = |page: u64| {
        let mapped = lazy::install_leaf(master_root(), area.start() + page * PAGE_BYTES, &own.reserve);
        mapped.expect("the reserve is full");
    };
    if missing < 2 {
        map(PAGE);
        // SAFETY: as above.
        unsafe { area.strip(PAGE, missing) };
    }
    present.iter().copied().for_each(map);
    own.reserve.refill();
    lazy::forget_top_level(arena.space.root(), area.start());
    if !is_older {
        lazy::install_top_level(arena.space.root(), master_root(), area.start());
    }
    arena.refresh();
    frames::left()
}

/// Lets a CPU act.
fn send_to(cpu: &'static PerCpu, area: &'static LazyArea, act: Act) {
    let address = |page: u64| area.start() + page * PAGE_BYTES;
    match act {
        Act::Touch(page) => {
            turnstile::touch_in_next_nmi(cpu.index, address(page), 1, 0, true);
            turnstile::by_nmi(cpu);
        }
        Act::Read(page) => give(cpu, move |cpu| {
            // SAFETY: the page is there, and nothing but zeros is in it.
            let read = unsafe { fallible::read_pair(address(page)) };
            turnstile::note(cpu.index, read == Ok([0, 0]));
        }),
        Act::Remap(page) => give(cpu, move |cpu| {
            let frame = area.remove(page);
            turnstile::note(cpu.index, frame.is_some());
            if let Some(frame) = frame {
                // SAFETY: it was just unmapped, and no other CPU knows the page.
                unsafe { frames::free(frame) };
            }
            turnstile::touch_in_next_nmi(cpu.index, address(page), 1, 0, false);
            cpu.nmi.send_self_nmi(cpu.apic);
        }),
    }
}

fn give(cpu: &'static PerCpu, work: impl FnOnce(&'static PerCpu) + Send + 'static) {
    let work = move |cpu: &'static PerCpu| {
        work(cpu);
        turnstile::finish(cpu.index);
    };
    smp::assign(cpu, TICKS_PER_SECOND, Box::new(work));
}
