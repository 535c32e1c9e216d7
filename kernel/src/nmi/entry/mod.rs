//! NMI entries: the assembly at vector 2.
//!
//! Each strategy is one assembly file and one module that has its stack picture as a type. All of them
//! save the same [`Context`], call [`run`](super::run) with the frame of the outermost interrupted code,
//! and count arrivals in an [`EntryCounters`] that sits at the very top of the NMI stack: there it is
//! found from RSP alone. The CPU's area is found the same way, so the GS base may be anything: the NMI path
//! neither reads nor changes it.
//!
//! The named invariants that every strategy upholds:
//! - **NMI-once**: the handler is never re-entered on a CPU;
//! - **NMI-latch**: one or more NMIs that arrive while it runs cause exactly one more run;
//! - **NMI-transparent**: the interrupted code gets back every register, flag, CR2, DR7 and its stack;
//! - **NMI-live**: after the outermost return NMIs are unmasked, and nested arrivals can't grow the stack
//!   without bound.
//!
//! # What none of them closes
//!
//! Each exit gives its state up a few instructions before its `iretq`, and recognizes an NMI in between by where it
//! is: RIP, RSP or the frame. An exception with a stack of its own (#DB, #MC, #DF) in these instructions hides
//! that, and an NMI inside *its* handler would be taken for a first one and overwrite the frame that the exit
//! still needs. Two of the answers that come to mind cost every NMI something: to look at the other stacks as
//! well, or never to give the state up before the `iretq`. Instead nothing that comes there returns:
//! - #DB: DR7 is the interrupted one there, so a breakpoint could hit. `arch::breakpoint`, in the only image that
//!   sets any, refuses what the entries execute and write, as Linux does; and the trap flag is clear.
//! - #MC is fatal, here as anywhere. Its report comes out whole: it is on a stack that no NMI touches.
//! - #DF: nothing there can fault twice; it is fatal as well.
//!
//! `tests/tests/exit_window.rs` forces the first two for every strategy.
//!
//! The `iretq` itself faults if the segments of the interrupted user code have become bad. That exception runs on
//! the entry's stack, with the state free, and an NMI inside it does the same harm. No code here has such a frame.

#![expect(unsafe_code, reason = "names symbols of the assembly and reads counters on the NMI stack")]

#[cfg(feature = "selftest")]
mod inspect;
mod latched;
#[cfg(feature = "selftest")]
mod mutant;
mod naive;
mod rostedt;
mod softmask;
mod tristate;

use core::mem::offset_of;
use core::ptr;

#[cfg(feature = "selftest")]
pub use inspect::text;

use nmiprof_wire::{NestedReturn, NmiEntry, Options, Unmask};
use x86_64::VirtAddr;

use crate::arch::frame::{CallerSaved, WORD};
use crate::arch::idt;
use crate::arch::percpu::PerCpu;
use crate::memory::stack::StackRange;

/// Direction flag.
const RFLAGS_DF: u32 = 1 << 10;
/// The flag that is always set; with everything else clear.
const RFLAGS_RESERVED: u32 = 1 << 1;
/// The privilege level in a selector; not 0 in that of user code.
const SELECTOR_RPL: u8 = 0b11;
/// 1 in the image that has entries with known defects.
const HAS_MUTANTS: u8 = cfg!(feature = "selftest") as u8;
/// The eight enable bits of the debug control register.
const DR7_ENABLED: u8 = 0xff;

/// What every entry saves before it calls Rust, lowest address first.
#[repr(C)]
struct Context {
    dr7: u64,
    cr2: u64,
    registers: CallerSaved,
}

const _: () = assert!(size_of::<Context>() == 11 * WORD, "two control registers below the pushed ones");

/// What the entries keep at the top of the NMI stack: counters, and the ways to a second stack and to the
/// CPU's area.
///
/// Written by the NMI entries of the stack's own CPU, read by anyone; each wraps after 2^64 NMIs.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryCounters {
    /// Arrivals at vector 2.
    pub entries: u64,
    /// Arrivals that found an NMI in progress.
    pub nested: u64,
    /// Runs that nested arrivals caused.
    pub rerun: u64,
    /// Where the second stack's top block is, for the strategy that has one; written once, before NMIs.
    second: u64,
    /// Where the [`PerCpu`] of the stack's CPU is; written once, before NMIs.
    cpu: u64,
    reserved: u64,
}

/// The NMI stack of one CPU.
#[derive(Clone, Copy, Debug)]
pub struct NmiStack(StackRange);

impl NmiStack {
    /// Takes a stack, which must be all zeros, for NMIs.
    pub const fn new(stack: StackRange) -> Self {
        Self(stack)
    }

    /// Returns where the CPU starts to push.
    pub const fn top(&self) -> VirtAddr {
        VirtAddr::new(self.counters())
    }

    /// Tells the entries whose stack this is.
    ///
    /// # Context
    /// Thread, before this CPU can take an NMI, and after [`NmiStack::add_second`].
    pub fn set_cpu(&self, cpu: &'static PerCpu) {
        let cpu = ptr::from_ref(cpu).addr() as u64;
        let word = self.counters() + offset_of!(EntryCounters, cpu) as u64;
        // SAFETY: (1) the word lies in the mapped stack, above where the CPU pushes; (2) (caller) no NMI can
        // arrive yet.
        unsafe { ptr::write(word as *mut u64, cpu) };
        if let Some(second) = self.second_cpu() {
            // SAFETY: as above; the word lies in the block at the top of the second stack.
            unsafe { ptr::write(second, cpu) };
        }
    }

    /// Reads the counters.
    ///
    /// # Context
    /// Any. An NMI in between can change one counter and not yet another; the caller compares `entries`.
    pub fn read_counters(&self) -> EntryCounters {
        let counters = self.counters() as *const EntryCounters;
        // SAFETY: (1) the words lie inside the mapped stack, above where the CPU pushes; (2) each is
        // written by single instructions of this CPU's entries; volatile, so that each read is one too.
        unsafe { ptr::read_volatile(counters) }
    }

    const fn counters(&self) -> u64 {
        self.0.top - size_of::<EntryCounters>() as u64
    }
}

/// A form of a strategy's entry: each is a stub of its own, made from the same assembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    unmask: Unmask,
    nested_return: NestedReturn,
}

/// Installs the strategy that the options name at vector 2.
///
/// # Context
/// Thread, while nothing that raises an NMI is armed.
///
/// # Errors
/// [`NoSuchVariant`] where the strategy does not come in that form.
pub fn install(options: &Options<'_>) -> Result<(), NoSuchVariant> {
    let variant = Variant { unmask: options.unmask, nested_return: options.nested_return };
    let stub = if has_sound_entry(options) {
        sound_stub(options.nmi_entry, variant)
    } else {
        mutant_stub(options, variant)
    };
    let stub = stub.ok_or(NoSuchVariant)?;
    if options.nmi_entry == NmiEntry::Softmask {
        let stub = return_fault_stub(options, variant).ok_or(NoSuchVariant)?;
        // SAFETY: the stub lets through what is not its own, and is used with this strategy only.
        unsafe { idt::install_general_protection(stub) };
    }
    // SAFETY: (1) the stub is an NMI entry for this stack; (2) (caller) no NMI can arrive yet.
    unsafe { idt::install_nmi(stub) };
    Ok(())
}

/// Tells whether the entry is to be a sound one: no defect, or one that is not of the entry.
fn has_sound_entry(options: &Options<'_>) -> bool {
    #[cfg(feature = "selftest")]
    if super::defect::Defect::named(options.mutant) != super::defect::Defect::None {
        return true;
    }
    options.mutant.is_empty()
}

fn sound_stub(entry: NmiEntry, variant: Variant) -> Option<VirtAddr> {
    match entry {
        NmiEntry::Naive => naive::stub(variant),
        NmiEntry::Rostedt => rostedt::stub(variant),
        NmiEntry::Latched => latched::stub(variant),
        NmiEntry::Softmask => softmask::stub(variant),
        NmiEntry::Tristate => tristate::stub(variant),
    }
}

/// Returns the entry with the known defect that the options name: only the self-test image has any.
#[cfg(feature = "selftest")]
fn mutant_stub(options: &Options<'_>, variant: Variant) -> Option<VirtAddr> {
    match options.nmi_entry {
        NmiEntry::Naive => None,
        NmiEntry::Rostedt => rostedt::mutant(variant, options.mutant),
        NmiEntry::Latched => latched::mutant(variant, options.mutant),
        NmiEntry::Softmask => softmask::mutant(variant, options.mutant),
        NmiEntry::Tristate => tristate::mutant(variant, options.mutant),
    }
}

/// Returns the address of the `iretq` by which the plain form of a strategy leaves.
#[cfg(feature = "selftest")]
pub fn last_instruction(entry: NmiEntry) -> u64 {
    unsafe extern "C" {
        safe static nmi_naive_iretq: u8;
        safe static nmi_rostedt_iretq: u8;
        safe static nmi_latched_iretq: u8;
        safe static nmi_softmask_iretq: u8;
        safe static nmi_tristate_iretq: u8;
    }
    let label = match entry {
        NmiEntry::Naive => &nmi_naive_iretq,
        NmiEntry::Rostedt => &nmi_rostedt_iretq,
        NmiEntry::Latched => &nmi_latched_iretq,
        NmiEntry::Softmask => &nmi_softmask_iretq,
        NmiEntry::Tristate => &nmi_tristate_iretq,
    };
    address_of(label).as_u64()
}

/// Returns what `softmask` has at vector 13.
fn return_fault_stub(options: &Options<'_>, variant: Variant) -> Option<VirtAddr> {
    #[cfg(feature = "selftest")]
    if !options.mutant.is_empty() {
        return softmask::mutant_return_fault(variant, options.mutant);
    }
    debug_assert!(options.mutant.is_empty(), "this image has no mutants");
    Some(softmask::return_fault_stub(variant.unmask))
}

#[cfg(not(feature = "selftest"))]
const fn mutant_stub(_: &Options<'_>, _: Variant) -> Option<VirtAddr> {
    None
}

/// The strategy does not come in the form that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchVariant;

/// Returns how many bytes above `from` `to` is, both offsets into the same picture.
const fn distance(from: usize, to: usize) -> isize {
    to.cast_signed() - from.cast_signed()
}

/// Returns the address of an assembly label, declared as a byte of code.
fn address_of(label: &'static u8) -> VirtAddr {
    VirtAddr::from_ptr(label)
}
