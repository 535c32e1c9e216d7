//! Where NMIs hit the code between user mode and the kernel: SYSCALL entry and exit, the tick's entry and exit, and the
//! switch of threads.
//!
//! With `period=1` there is an NMI at every instruction that is not an NMI's own, so each of these is hit as soon as it
//! runs. That leaves no room for further NMIs: one more, and the next overflow comes before the handler has returned,
//! for ever. So they are provoked in another run, whose period is longer than the handler: at every hit one from inside
//! the handler, which nests where the entry has unmasked NMIs.
//! The hits are noted here by address and reported at the end: no sample has to be stored for that, which would
//! have the drain run for ever.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::arch::apic::LocalApic;
use crate::arch::frame::IretFrame;
use crate::arch::{interrupt, switch, syscall};
use crate::info;
use crate::nmi::PerCpu;

/// Bytes of code that are told apart.
const BYTES: usize = 1024;
/// Offsets in one line of the report.
const PER_LINE: usize = 48;

static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Hits provoke NMIs. Written by the trigger.
static PROVOKES: AtomicBool = AtomicBool::new(false);
/// The hit before this one provoked an NMI. Written by the NMI.
static PROVOKED: AtomicBool = AtomicBool::new(false);
/// Hits by offset into all windows, one after the other. Written by the NMI.
static HITS: [AtomicU32; BYTES] = [const { AtomicU32::new(0) }; BYTES];

/// Code that is watched.
struct Window {
    name: &'static str,
    start: u64,
    len_bytes: usize,
}

fn windows() -> [Window; 3] {
    let window = |name, (start, end): (u64, u64)| Window {
        name,
        start,
        len_bytes: usize::try_from(end - start).unwrap_or(BYTES),
    };
    [
        window("syscall", syscall::window()),
        window("interrupt", interrupt::window()),
        window("switch", switch::window()),
    ]
}

/// Starts to note hits, and maybe to provoke NMIs at them.
pub fn start(provokes: bool) {
    PROVOKES.store(provokes, Ordering::Relaxed);
    ACTIVE.store(true, Ordering::Relaxed);
}

/// Notes the interrupted address, if it is watched.
///
/// # Context
/// NMI.
pub fn note(interrupted: &IretFrame, nmi: &PerCpu, apic: LocalApic) {
    if !ACTIVE.load(Ordering::Relaxed) || interrupted.is_user() {
        return;
    }
    let mut before = 0;
    for window in windows() {
        let offset = usize::try_from(interrupted.rip.wrapping_sub(window.start)).unwrap_or(BYTES);
        if offset < window.len_bytes {
            if let Some(hits) = HITS.get(before + offset) {
                hits.fetch_add(1, Ordering::Relaxed);
            }
            // Every other one: the run that it causes comes at the same address.
            if PROVOKES.load(Ordering::Relaxed) && !PROVOKED.fetch_xor(true, Ordering::Relaxed) {
                nmi.send_self_nmi(apic);
            }
            return;
        }
        before += window.len_bytes;
    }
}

/// Says which addresses were hit.
pub fn finish() {
    if !ACTIVE.swap(false, Ordering::Relaxed) {
        return;
    }
    let mut before = 0;
    for Window { name, start, len_bytes } in windows() {
        let hits = HITS.get(before..before + len_bytes).unwrap_or_default();
        let hit = |(offset, hits): (usize, &AtomicU32)| (hits.load(Ordering::Relaxed) > 0).then_some(offset);
        let offsets: alloc::vec::Vec<usize> = hits.iter().enumerate().filter_map(hit).collect();
        for line in offsets.chunks(PER_LINE) {
            info!("window {name} {start:#x}: {line:?}");
        }
        before += len_bytes;
    }
}
