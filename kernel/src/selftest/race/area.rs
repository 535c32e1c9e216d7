//! Case 21: an NMI that touches an area while another CPU makes it.
//!
//! Until the area is complete, the access is one to a bad address; from then on it is a first touch.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use nmiprof_wire::Failure;

use super::{Arena, TICKS_PER_SECOND, say, send};
use crate::arch::layout::PAGE_BYTES;
use crate::memory::vmalloc::LazyArea;
use crate::selftest::turnstile::{self, Gate, Orders};
use crate::smp;

/// Areas that could not be made.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Makes one area for each order.
pub(super) fn run(arena: &Arena) {
    let mut orders = Orders::new();
    let (mut touched, mut refused, mut failures) = (0_u64, 0_u64, 0);
    loop {
        let errors = race(arena, &mut orders);
        refused += errors;
        touched += 1 - errors;
        if !orders.advance() {
            break;
        }
    }
    // It comes to both, or the orders were not all there are.
    if FAILED.load(Ordering::Relaxed) != 0 || touched == 0 || refused == 0 {
        failures |= Failure::Space.bit();
    }
    let failed = FAILED.load(Ordering::Relaxed);
    let text =
        format_args!("{refused} touches before the area was there, {touched} after; {failed} areas not made");
    say(21, "an area that is being made", orders.races(), text, failures);
    send(21, orders.races(), failures);
}

/// Returns how many touches were refused.
fn race(arena: &Arena, orders: &mut Orders) -> u64 {
    let [maker, toucher] = arena.cpus;
    let start = LazyArea::next_start();
    turnstile::close(Gate::Tables);
    turnstile::begin(maker, |cpu| {
        let work = |cpu: &'static crate::arch::percpu::PerCpu| {
            let area = LazyArea::new(PAGE_BYTES);
            FAILED.fetch_add(area.is_err().into(), Ordering::Relaxed);
            turnstile::finish(cpu.index);
        };
        smp::assign(cpu, TICKS_PER_SECOND, Box::new(work));
    });
    turnstile::begin(toucher, |cpu| {
        turnstile::touch_in_next_nmi(cpu.index, start, 1, 0, true);
        turnstile::by_nmi(cpu);
    });
    orders.lead();
    turnstile::open();
    Arena::wait_until_parked(maker);
    arena.refresh();
    turnstile::take_errors(toucher.index)
}
