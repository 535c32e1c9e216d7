//! Exceptions inside the NMI: #BP, #DB, #MC, #GP and a watched word, on every run of the handler.
//!
//! Each of them ends with an `iret` that unmasks NMIs, so a self-NMI sent after the first one nests at once. The watched word is written by the handler,
//! where DR7 is zeroed and nothing may happen, and by the thread, where it must raise #DB.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::arch::apic::LocalApic;
use crate::arch::breakpoint::{self, Breakpoint, Refused};
use crate::arch::{fallible, percpu, raise};
use crate::info;
use crate::nmi::PerCpu;

const BREAKPOINT: u64 = 3;
const DEBUG: u64 = 1;
const MACHINE_CHECK: u64 = 18;

static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Written by the NMI and by the thread, watched by DR0.
static WATCHED: AtomicU64 = AtomicU64::new(0);
/// Exceptions taken, by kind. Written by the exception path of the one CPU.
static TAKEN: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
/// The run before this one provoked a nested NMI. Written by the NMI.
static PROVOKED: AtomicBool = AtomicBool::new(false);
/// Accesses that raised #GP and returned an error instead.
static PROTECTION_FAULTS: AtomicU64 = AtomicU64::new(0);

/// Starts to raise exceptions in every NMI, and to watch the word.
///
/// # Panics
/// If the breakpoint is refused.
pub fn start() {
    watch().expect("no NMI entry writes the word");
    ACTIVE.store(true, Ordering::Relaxed);
}

/// Raises everything once.
///
/// # Context
/// NMI.
pub fn raise_all(nmi: &PerCpu, apic: LocalApic) {
    if !ACTIVE.load(Ordering::Relaxed) {
        return;
    }
    WATCHED.fetch_add(1, Ordering::Relaxed);
    raise::breakpoint();
    raise::debug_trap();
    raise::machine_check();
    if fallible::touch_non_canonical().is_err() {
        PROTECTION_FAULTS.fetch_add(1, Ordering::Relaxed);
    }
    // Every other run: the run that a nested NMI asks for must not ask for another one.
    if !PROVOKED.fetch_xor(true, Ordering::Relaxed) {
        nmi.send_self_nmi(apic);
    }
    raise::breakpoint();
}

/// Takes an exception that was raised here; tells whether it was.
///
/// # Context
/// Any: the exception path.
pub fn take(vector: u64) -> bool {
    if vector == BREAKPOINT && percpu::current().nmi.experiment.take_breakpoint() {
        return true;
    }
    let kind = match vector {
        BREAKPOINT => 0,
        DEBUG => 1,
        MACHINE_CHECK => 2,
        _ => return false,
    };
    let active = ACTIVE.load(Ordering::Relaxed);
    if active {
        TAKEN[kind].fetch_add(1, Ordering::Relaxed);
    }
    active
}

/// Stops, checks that the thread's breakpoint is still set and works, and says what happened.
pub fn finish() {
    if !ACTIVE.load(Ordering::Relaxed) {
        return;
    }
    let debug_control = breakpoint::control();
    let before = TAKEN[1].load(Ordering::Relaxed);
    WATCHED.fetch_add(1, Ordering::Relaxed);
    let watched = TAKEN[1].load(Ordering::Relaxed) - before;
    ACTIVE.store(false, Ordering::Relaxed);
    let expected = watch();
    breakpoint::clear();
    let [breakpoints, debugs, machine_checks] = TAKEN.each_ref().map(|count| count.load(Ordering::Relaxed));
    let protections = PROTECTION_FAULTS.load(Ordering::Relaxed);
    let runs = percpu::current().nmi.snapshot().runs;
    info!(
        "exceptions: {breakpoints} #BP, {debugs} #DB, {machine_checks} #MC, {protections} #GP in {runs} runs; \
         {watched} #DB by the thread's watched write; DR7 kept: {}",
        Ok(debug_control) == expected,
    );
}

/// Raises #DB at every write to the word from here on. Returns DR7.
fn watch() -> Result<u64, Refused> {
    Breakpoint::Write(WATCHED.as_ptr().addr() as u64).set()
}
