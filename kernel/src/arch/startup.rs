//! Starting another CPU: INIT, startup, and from real mode to Rust.
//!
//! One CPU starts at a time, so what it needs to begin with waits in two words, and all others wait for it.
//!
//! Source: SDM volume 3, "Multiple-Processor Management"; "MultiProcessor Specification", version 1.4, appendix B.

#![expect(unsafe_code, reason = "copies code to low memory and names symbols of the assembly")]

use core::arch::global_asm;
use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::apic::LocalApic;
use super::boot::{MemoryMap, MemoryRange};
use super::cpu;
use super::layout::{KERNEL_BASE, PAGE_BYTES, direct};
use crate::memory::space;
use crate::memory::stack::StackRange;
use crate::smp;

/// Real mode reaches no further.
const REAL_MODE_END: u64 = 0xa_0000;
/// What lies below may still be the firmware's or the loader's: interrupt vectors, the BIOS data area, and where GRUB
/// leaves its information.
const UNTOUCHED_END: u64 = 0x8000;
/// The time from INIT to startup: 10 ms.
const INIT_PER_SECOND: u64 = 100;
/// The time that a CPU has to begin after a startup message, before it gets a second one: 1 ms.
const STARTUP_PER_SECOND: u64 = 1000;

global_asm!(
    include_str!("startup.S"),
    KERNEL_BASE = const KERNEL_BASE,
    PAGE_BYTES = const PAGE_BYTES,
    CR4_PAE = const 1 << 5,
    IA32_EFER = const 0xc000_0080_u32,
    EFER_LME_NXE = const (1 << 8) | (1 << 11),
    // All but cache disable and not write-through, which INIT sets.
    CR0_CACHES_ON = const !((1_u32 << 30) | (1 << 29)),
    CR0_PG_WP_PE = const (1_u32 << 31) | (1 << 16) | (1 << 0),
    BOOT_CODE_SELECTOR = const 8,
    root = sym ROOT,
    stack = sym STACK,
    entry = sym begin,
);

unsafe extern "C" {
    safe static startup_page_begin: u8;
    safe static startup_page_end: u8;
}

/// The page tables and the stack of the CPU that starts. Written by the CPU that starts it, before its message.
static ROOT: AtomicU64 = AtomicU64::new(0);
static STACK: AtomicU64 = AtomicU64::new(0);
/// CPUs that have begun, in all. Written by each of them, read by the one that starts them.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// The page in low memory at which CPUs start.
#[derive(Clone, Copy, Debug)]
pub struct StartupPage(u8);

impl StartupPage {
    /// Finds a page of RAM that nobody uses and copies the code there. `None` where there is none.
    ///
    /// # Context
    /// Thread; the direct map shows all RAM, and low memory is handed out to nobody.
    pub fn prepare(memory: &MemoryMap) -> Option<Self> {
        let mut low = memory.clone();
        low.remove(MemoryRange { start: 0, end: UNTOUCHED_END });
        low.align(PAGE_BYTES);
        let page = low.take_first(PAGE_BYTES, REAL_MODE_END)?;
        let (begin, end) = (&raw const startup_page_begin, &raw const startup_page_end);
        let len = end.addr() - begin.addr();
        assert!(len as u64 <= PAGE_BYTES, "the code fits into a page");
        // SAFETY: (1) the page is RAM (checked above), the direct map shows it, and the frame allocator leaves low
        // memory alone; (2) so many bytes lie between the labels.
        unsafe { ptr::copy_nonoverlapping(begin, direct::<u8>(page), len) };
        u8::try_from(page / PAGE_BYTES).ok().map(Self)
    }

    /// Starts the CPU whose APIC has this ID, on `stack`; tells whether it has begun.
    ///
    /// # Context
    /// Thread of the boot CPU, with no other CPU starting, after [`prepare_all`] for this one.
    pub fn start(self, apic: LocalApic, apic_id: u32, stack: &StackRange, tsc_hz: u64) -> bool {
        let begun = BEGUN.load(Ordering::Acquire);
        ROOT.store(space::master_root().start_address().as_u64(), Ordering::Relaxed);
        // Relaxed: the message orders, and nothing reads the words before it.
        STACK.store(stack.start(), Ordering::Relaxed);
        // Acquire: pairs with `begin`.
        let has_begun = || BEGUN.load(Ordering::Acquire) != begun;
        // The second message is for a CPU that has missed the first one; one that has begun ignores it.
        let has_begun = [tsc_hz / STARTUP_PER_SECOND, tsc_hz].into_iter().any(|ticks| {
            apic.send_startup(apic_id, self.0);
            wait_until(ticks, has_begun)
        });
        if !has_begun {
            // It must not begin later, on what is another one's stack then.
            apic.send_init(apic_id);
        }
        has_begun
    }
}

/// Makes CPUs wait for their startup messages.
///
/// # Context
/// Thread of the boot CPU; none of them has started.
pub fn prepare_all(apic: LocalApic, apic_ids: &[u32], tsc_hz: u64) {
    apic_ids.iter().for_each(|id| apic.send_init(*id));
    let start = cpu::timestamp();
    while cpu::timestamp().wrapping_sub(start) < tsc_hz / INIT_PER_SECOND {
        // Not `pause`: nobody else runs, and an emulator would look for somebody each time.
        cpu::nop_sled(cpu::SLED_INSTRUCTIONS);
    }
}

/// Waits until something has happened, for so many ticks of the clock at most; tells whether it has.
pub fn wait_until(ticks: u64, has_happened: impl Fn() -> bool) -> bool {
    let start = cpu::timestamp();
    while !has_happened() {
        if cpu::timestamp().wrapping_sub(start) >= ticks {
            return has_happened();
        }
        spin_loop();
    }
    true
}

/// Begins on a new CPU, with its stack and the master's page tables.
///
/// # Context
/// Interrupts disabled; no segments, no interrupt table: nothing may fault yet.
extern "C" fn begin() -> ! {
    // Release: whoever sees the count may use the words anew.
    BEGUN.fetch_add(1, Ordering::Release);
    smp::main()
}
