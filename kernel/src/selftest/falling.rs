//! Panics of one CPU, or of two at once, inside the NMI, while all CPUs sample: case 41.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::percpu;

/// Name of the self-test in which CPU 1 panics.
pub const ONE: &str = "panic-one";
/// Name of the one in which CPUs 1 and 2 do.
pub const TWO: &str = "panic-two";

/// Samples of a CPU before it panics.
const SAMPLES: u32 = 200;
/// Turns that the first one waits for the second: it may not come, for it has been halted.
const TURNS_MAX: u32 = 1 << 28;

/// CPUs that are to panic, from CPU 1 on. Written by the trigger.
static FALLING: AtomicU32 = AtomicU32::new(0);
/// Samples that each of them still has. Written by its NMI.
static LEFT: [AtomicU32; 2] = [const { AtomicU32::new(SAMPLES) }; 2];
/// CPUs that are ready to panic.
static READY: AtomicU32 = AtomicU32::new(0);

/// Tells whether some CPU is to panic.
pub fn is_on() -> bool {
    FALLING.load(Ordering::Relaxed) != 0
}

/// Lets so many CPUs panic.
pub fn start(cpus: u32) {
    FALLING.store(cpus, Ordering::Relaxed);
}

/// Panics, if this CPU is to and has had its samples.
///
/// # Context
/// NMI.
///
/// # Panics
/// On request.
#[cold]
pub fn note_sample() {
    let falling = FALLING.load(Ordering::Relaxed);
    let index = percpu::current().index;
    let Some(left) = usize::from(index).checked_sub(1).and_then(|racer| LEFT.get(racer)) else { return };
    if u32::from(index) > falling {
        return;
    }
    let samples = left.load(Ordering::Relaxed).saturating_sub(1);
    left.store(samples, Ordering::Relaxed);
    if samples == 0 {
        READY.fetch_add(1, Ordering::AcqRel);
        let is_together = (0..TURNS_MAX).any(|_| {
            spin_loop();
            READY.load(Ordering::Acquire) == falling
        });
        panic!(
            "CPU {index} panics on request, {}",
            if is_together { "as all that were to" } else { "alone" }
        );
    }
}
