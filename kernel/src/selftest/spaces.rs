//! Address spaces: what they refuse, what they give back, and reading user stacks from inside an NMI.
//!
//! One process is made, filled, loaded, read, and dropped; then every frame must be back. While it is loaded a
//! self-NMI walks user call chains that end in every bad way; its faults unmask NMIs, and a second self-NMI
//! nests there. Before that a [rival] installs the same entries as a fault does.

#![expect(unsafe_code, reason = "loads an address space and reads where nothing is mapped")]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::rival;
use crate::arch::fallible;
use crate::arch::layout::{DIRECT_MAP, PAGE_BYTES, VMALLOC, direct};
use crate::arch::paging::MapError;
use crate::arch::percpu::PerCpu;
use crate::callchain::{self, Cut, DEPTH_MAX, End};
use crate::info;
use crate::memory::frames;
use crate::memory::space::{self, AddressSpace, USER_END, UserRights};

/// Name of the self-test.
pub const NAME: &str = "spaces";

const STACK: u64 = 0x0000_7fff_0000_0000;
const STACK_BYTES: u64 = 2 * PAGE_BYTES;
const STACK_END: u64 = STACK + STACK_BYTES;
/// What return addresses look like.
const TEXT: u64 = 0x40_0000;
const NOT_CANONICAL: u64 = 1 << 63;

/// A walk and what must come of it.
struct Scene {
    frame_pointer: u64,
    end: End,
    addresses: u64,
}

const fn scene(frame_pointer: u64, end: End, addresses: u64) -> Scene {
    Scene { frame_pointer, end, addresses }
}

/// Frame pairs in the stack: where, the caller's frame, the return address.
const FRAMES: &[(u64, u64, u64)] = &[
    (STACK + 0x100, STACK + 0x200, TEXT),
    (STACK + 0x200, STACK + 0x300, TEXT + 1),
    (STACK + 0x300, 0, TEXT + 2),
    (STACK + 0x400, STACK_END, TEXT),
    (STACK + 0x500, STACK_END - 8, TEXT),
    (STACK + 0x600, STACK + 0x600, TEXT),
    (STACK + 0x700, DIRECT_MAP, TEXT),
    (STACK + 0x800, 0, DIRECT_MAP),
    (STACK + 0x900, STACK + 0x908, 0),
];
/// From here on frames follow each other without a gap, to the end of the page.
const DEEP: u64 = STACK + PAGE_BYTES;

const SCENES: &[Scene] = &[
    scene(0, End::Complete, 0),
    scene(STACK + 0x100, End::Complete, 3),
    scene(STACK + 0x400, End::Truncated(Cut::Fault), 1),
    // The first word is mapped, the second one is not.
    scene(STACK + 0x500, End::Truncated(Cut::Fault), 1),
    scene(STACK + 0x600, End::Truncated(Cut::Pointer), 1),
    scene(STACK + 0x700, End::Truncated(Cut::Pointer), 1),
    scene(STACK + 0x800, End::Truncated(Cut::Pointer), 0),
    scene(STACK + 0x900, End::Complete, 0),
    scene(DEEP, End::Truncated(Cut::Depth), DEPTH_MAX as u64),
    scene(STACK + 0x101, End::Truncated(Cut::Pointer), 0),
    scene(USER_END - 16, End::Truncated(Cut::Fault), 0),
    scene(USER_END - 8, End::Truncated(Cut::Pointer), 0),
    scene(NOT_CANONICAL, End::Truncated(Cut::Pointer), 0),
    scene(VMALLOC, End::Truncated(Cut::Pointer), 0),
    scene(u64::MAX - 7, End::Truncated(Cut::Pointer), 0),
];

static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Runs of the handler that walked. Written by the NMI.
static RUNS: AtomicU64 = AtomicU64::new(0);
/// Walks that came out otherwise than they must. Written by the NMI.
static WRONG: AtomicU64 = AtomicU64::new(0);

/// Runs the self-test.
///
/// # Panics
/// If anything is not as it must be.
pub fn run(cpu: &'static PerCpu) {
    rival::run();
    // The list of processes grows once, on the heap.
    drop(AddressSpace::new_process());
    let before = frames::left();
    let mut process = AddressSpace::new_process().expect("there is memory");
    refuse(&mut process);
    fill(&mut process);
    // SAFETY: the process is dropped after the master is loaded again.
    unsafe { process.load() };
    let pair = fallible::read_user_pair(STACK + 0x100);
    let counts = walk_in_nmi(cpu);
    space::load_master();
    assert_eq!(pair, Ok([STACK + 0x200, TEXT]), "the thread reads what was written");
    let used = before - frames::left();
    drop(process);
    assert_eq!(frames::left(), before, "a process gives every frame back");
    reuse(used);
    info!(
        "spaces: {} walks in each of {} runs, {} wrong, {} faults; {used} frames used and given back",
        SCENES.len(),
        RUNS.load(Ordering::Relaxed),
        WRONG.load(Ordering::Relaxed),
        counts,
    );
}

/// Tries what must be refused.
fn refuse(process: &mut AddressSpace) {
    let mut map = |start, len| process.map_user(start, len, UserRights::ReadWrite);
    for (start, len) in [
        (DIRECT_MAP, PAGE_BYTES),
        (USER_END, PAGE_BYTES),
        (USER_END - PAGE_BYTES, 2 * PAGE_BYTES),
        (TEXT, u64::MAX),
        (NOT_CANONICAL, PAGE_BYTES),
        (TEXT + 8, 8),
    ] {
        assert_eq!(map(start, len), Err(MapError::NotUser), "{start:#x}, {len} bytes");
    }
    map(TEXT, 1).expect("a user page");
    assert_eq!(map(TEXT, 1), Err(MapError::Occupied));
    assert_eq!(process.write_user(TEXT + PAGE_BYTES - 1, &[1, 2]), Err(MapError::NotMapped));
    assert_eq!(process.write_user(DIRECT_MAP, &[1]), Err(MapError::NotUser));
}

/// Maps the stack and writes the frames.
fn fill(process: &mut AddressSpace) {
    process.map_user(STACK, STACK_BYTES, UserRights::Read).expect("there is memory");
    process.map_user(STACK - PAGE_BYTES, PAGE_BYTES, UserRights::ReadExecute).expect("there is memory");
    let deep = (DEEP..STACK_END).step_by(16).map(|frame| (frame, frame + 16, TEXT));
    for (frame, caller, return_address) in FRAMES.iter().copied().chain(deep) {
        process.write_user(frame, &caller.to_le_bytes()).expect("it is mapped");
        process.write_user(frame + 8, &return_address.to_le_bytes()).expect("it is mapped");
    }
}

/// Walks inside an NMI, and inside the one that nests there; returns the page faults.
fn walk_in_nmi(cpu: &PerCpu) -> u64 {
    let before = cpu.nmi.snapshot();
    ACTIVE.store(true, Ordering::Relaxed);
    cpu.nmi.send_self_nmi(cpu.apic);
    ACTIVE.store(false, Ordering::Relaxed);
    let after = cpu.nmi.snapshot();
    assert!(RUNS.load(Ordering::Relaxed) >= 1, "the NMI came");
    assert_eq!(WRONG.load(Ordering::Relaxed), 0, "walks that came out otherwise");
    after.page_faults - before.page_faults
}

/// Takes the frames again, which were written to.
fn reuse(frames: u64) {
    for _ in 0..frames {
        let frame = frames::allocate_zeroed().expect("they were given back");
        let words = direct::<[u64; 512]>(frame.start_address().as_u64());
        // SAFETY: the frame was just handed out.
        assert!(unsafe { *words }.iter().all(|word| *word == 0), "a frame is zeroed again");
    }
}

/// Walks all scenes once.
///
/// # Context
/// NMI; faults.
pub fn walk_all(cpu: &PerCpu) {
    if !ACTIVE.load(Ordering::Relaxed) {
        return;
    }
    if RUNS.fetch_add(1, Ordering::Relaxed) == 0 {
        // Latched now; taken after the `iret` of the first fault.
        cpu.nmi.send_self_nmi(cpu.apic);
    }
    for scene in SCENES {
        let mut addresses = 0;
        let end = callchain::walk_user(0, scene.frame_pointer, DEPTH_MAX, |_| addresses += 1);
        let is_right = end == scene.end && addresses == scene.addresses;
        WRONG.fetch_add(u64::from(!is_right), Ordering::Relaxed);
    }
    // SAFETY: nothing can be mapped there.
    let not_canonical = unsafe { fallible::read_pair(NOT_CANONICAL) };
    WRONG.fetch_add(u64::from(not_canonical.is_ok()), Ordering::Relaxed);
}
