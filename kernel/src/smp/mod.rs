//! The other CPUs: started one after the other, then parked until there is [work](assignment) for them.
//!
//! CPU 0 is the one that boots. It drains all rings, runs all programs, takes the tick and the NMI pin, and hands
//! work to the others. A parked CPU halts and takes NMIs: it claims what was meant for it, and halts again (case 53).

mod assignment;
mod clock_offset;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering};

use nmiprof_boot::acpi::Madt;
use nmiprof_wire::{CpuInfo, Options};
use spin::Once;
use x86_64::instructions::interrupts;

pub use assignment::{assign, is_parked};

use crate::arch::apic::LocalApic;
use crate::arch::boot::MemoryMap;
use crate::arch::percpu::{self, CPUS_MAX, PerCpu};
use crate::arch::startup::{StartupPage, prepare_all, wait_until};
use crate::init::{self, CPU_0};
use crate::memory::stack::StackRange;
use crate::nmi::mailbox::Message;
use crate::{info, report, selftest, warning};

/// The command line, for CPUs that start.
static OPTIONS: Once<Options<'static>> = Once::new();
/// Number of the CPU that starts. Written by CPU 0 before it starts one.
static STARTING: AtomicU16 = AtomicU16::new(0);

/// Starts every CPU that the firmware names, and tells of all of them, CPU 0 first.
///
/// # Context
/// CPU 0, thread, once; what runs later may not take low memory.
pub fn start_all(
    cpu_0: &PerCpu,
    madt: Option<&Madt>,
    memory: Option<&MemoryMap>,
    options: Options<'static>,
    tsc_hz: u64,
) -> Vec<CpuInfo> {
    OPTIONS.call_once(|| options);
    let mut infos = Vec::from([CpuInfo { cpu: CPU_0, apic_id: cpu_0.apic_id, ..CpuInfo::default() }]);
    let ids = other_ids(cpu_0, madt);
    if ids.is_empty() {
        return infos;
    }
    let Some(page) = memory.and_then(StartupPage::prepare) else {
        warning!("no page of RAM below 640 KiB is free: the other {} CPUs can't start", ids.len());
        return infos;
    };
    prepare_all(cpu_0.apic, &ids, tsc_hz);
    for id in ids {
        let index = u16::try_from(infos.len()).unwrap_or(u16::MAX);
        if index >= CPUS_MAX {
            warning!("only {CPUS_MAX} CPUs are used");
            break;
        }
        if let Some(info) = start(page, cpu_0.apic, index, id, tsc_hz) {
            infos.push(info);
        }
    }
    info!("{} CPUs run", infos.len());
    infos
}

/// Lists the APIC IDs of all CPUs that can start, but for this one's.
fn other_ids(cpu_0: &PerCpu, madt: Option<&Madt>) -> Vec<u32> {
    let can_be_reached = |id: u32| cpu_0.apic == LocalApic::X2Apic || id < XAPIC_BROADCAST;
    let cpus = madt.map(|madt| madt.cpus.iter().filter(|cpu| cpu.enabled)).into_iter().flatten();
    cpus.map(|cpu| cpu.apic_id).filter(|id| *id != cpu_0.apic_id && can_be_reached(*id)).collect()
}

/// What an xAPIC takes for all CPUs; no CPU has it, and none with a higher ID can be reached.
const XAPIC_BROADCAST: u32 = 0xff;

fn start(page: StartupPage, apic: LocalApic, index: u16, apic_id: u32, tsc_hz: u64) -> Option<CpuInfo> {
    /// It takes microseconds, but a CPU of an emulator waits for its turn.
    const SECONDS_MAX: u64 = 10;
    let Ok(stack) = StackRange::for_thread() else {
        warning!("no memory for a stack: the CPU with APIC ID {apic_id} is left alone");
        return None;
    };
    // Relaxed: the startup message orders.
    STARTING.store(index, Ordering::Relaxed);
    let is_up = || {
        selftest::while_starting(index);
        percpu::of(index).is_some_and(|cpu| is_parked(cpu.index))
    };
    if !page.start(apic, apic_id, &stack, tsc_hz) {
        warning!("the CPU with APIC ID {apic_id} does not start");
        return None;
    }
    if !wait_until(SECONDS_MAX * tsc_hz, is_up) {
        report::broken_setup(format_args!("CPU {index} (APIC ID {apic_id}) has started and got stuck"));
    }
    let (clock_offset, clock_uncertainty) = clock_offset::measure(index);
    Some(CpuInfo { cpu: index, apic_id, samples: false, clock_offset, clock_uncertainty })
}

/// Lives the life of a CPU that was started.
pub fn main() -> ! {
    let options =
        OPTIONS.get().unwrap_or_else(|| report::broken_setup(format_args!("a CPU started too early")));
    let cpu = init::this_cpu(STARTING.load(Ordering::Relaxed), options);
    interrupts::enable();
    selftest::started();
    assignment::work_for_ever(cpu)
}

/// Makes another CPU forget the translations that it has cached; returns when it has.
///
/// # Context
/// Thread of one CPU at a time; nothing to do for the CPU that runs this.
pub fn flush(cpu: &PerCpu) {
    /// An NMI takes microseconds, but a CPU of an emulator waits for its turn: some seconds.
    const TICKS_MAX: u64 = 1 << 34;
    let before = cpu.nmi.mailbox.flushes();
    cpu.send_nmi(Message::Flush);
    if !wait_until(TICKS_MAX, || cpu.nmi.mailbox.flushes() != before) {
        report::broken_setup(format_args!("CPU {} takes no NMI", cpu.index));
    }
}

/// Halts all other CPUs, wherever they are: there are last words to be said. One that does not answer is given up.
///
/// # Context
/// Any.
pub fn halt_others() {
    const TICKS_MAX: u64 = 1 << 24;
    percpu::others().for_each(|cpu| cpu.send_nmi(Message::Halt));
    percpu::others().for_each(|cpu| {
        wait_until(TICKS_MAX, || cpu.nmi.mailbox.has_halted());
    });
}
