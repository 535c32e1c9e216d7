//! Bring-up: memory, then the CPU, then what the command line asks for.

use alloc::boxed::Box;
use alloc::vec::Vec;

use nmiprof_wire::{Aggregate, FaultReturn, NmiEntry, Options, RingMode, Unmask};

use x86_64::instructions::interrupts;

use crate::arch::apic::LocalApic;
use crate::arch::boot::{self, BootInfo, acpi};
use crate::arch::gdt::{Ist, Segments};
use crate::arch::idt;
use crate::arch::paging::MapError;
use crate::arch::percpu::PerCpu;
use crate::arch::{cpu, pic, screen, syscall};
use crate::memory::reserve::FrameReserve;
use crate::memory::stack::{self, StackRange};
use crate::memory::{frames, heap, space};
use crate::nmi::entry::NmiStack;
use crate::nmi::{self, entry};
use crate::workloads::{self, Task};
use crate::{info, process, report, selftest, thread, warning};

/// Pages of each interrupt stack: a fatal report formats its text there.
const IST_PAGES: u64 = 6;
/// Number of the CPU that boots.
pub const CPU_0: u16 = 0;

/// Says what ACPI's tables have; without any, the machine is one CPU and what every PC has.
pub fn report_acpi() {
    let tables = match acpi::tables() {
        Ok(tables) => tables,
        Err(error) => return warning!("{error}"),
    };
    match &tables.madt {
        Ok(madt) => info!("ACPI: {} CPUs, {} I/O APICs", madt.cpus.len(), madt.io_apics.len()),
        Err(error) => warning!("ACPI's table of CPUs: {error}"),
    }
    if let Ok(madt) = &tables.madt
        && madt.entries_refused > 0
    {
        warning!("ACPI's table of CPUs: {} entries are cut, or too many", madt.entries_refused);
    }
}

/// Takes over memory.
///
/// # Errors
/// [`MapError`] where there is too little.
pub fn memory(boot: &BootInfo) -> Result<(), MapError> {
    let memory = boot.memory();
    frames::init(memory, boot.modules().iter().chain([&space::image()]));
    space::build(memory, boot.screen())?;
    frames::reach_all();
    screen::init(boot.screen());
    heap::init()?;
    info!("memory: {} MiB usable in {} runs", memory.bytes() >> 20, memory.runs().len());
    if boot.modules_refused() > 0 {
        warning!("{} boot modules don't lie in RAM and are left out", boot.modules_refused());
    }
    Ok(())
}

/// Makes processes of the programs in the boot module, if there is one, and thread 0 of what runs now.
pub fn processes(boot: &BootInfo, options: &Options<'_>) {
    thread::adopt_main(stack::current());
    process::load_all(boot::module(boot))
        .unwrap_or_else(|error| report::configuration(format_args!("{error}")));
    refuse_unsound(options, thread::processes() > 0);
}

/// Selects and makes the workloads: all of them where none is named, unless there are programs to run.
pub fn workloads(options: &Options<'_>) -> Vec<Task> {
    if options.workloads.is_empty() && thread::processes() > 0 {
        return Vec::new();
    }
    workloads::select(options.workloads).unwrap_or_else(|name| {
        let known: Vec<_> = workloads::ALL.iter().chain(workloads::BY_NAME).map(|entry| entry.0).collect();
        report::configuration(format_args!("unknown workload `{name}`; known: {}", known.join(", ")))
    })
}

/// Sets the CPU up that boots, and the NMI entry that was asked for, which is that of all CPUs.
///
/// # Panics
/// If memory does not suffice for the stacks.
pub fn boot_cpu(options: &Options<'_>) -> &'static PerCpu {
    refuse_unsound(options, false);
    refuse_decommit(options);
    refuse_both(options);
    entry::install(options).unwrap_or_else(|_| refuse_variant(options));
    let cpu = this_cpu(CPU_0, options);
    // On the other CPUs it stays masked: one of them is enough to hear of it.
    cpu.apic.enable_nmi_pin();
    pic::silence();
    interrupts::enable();
    info!("cpu 0: APIC {} ({:?}), NMI entry {}", cpu.apic_id, cpu.apic, options.nmi_entry);
    cpu
}

/// Sets up the CPU that runs this: segments, interrupt stacks, APIC, its area, exceptions. From here on it can take an
/// NMI.
///
/// # Context
/// Thread, interrupts disabled; one CPU at a time, after the NMI entry was installed.
///
/// # Panics
/// If memory does not suffice for the stacks.
pub fn this_cpu(index: u16, options: &Options<'_>) -> &'static PerCpu {
    let nmi_stack = NmiStack::new(interrupt_stack());
    if options.nmi_entry == NmiEntry::Latched {
        nmi_stack.add_second(interrupt_stack());
    }
    let segments = Segments::new(&[
        (Ist::Nmi, nmi_stack.top()),
        (Ist::DoubleFault, interrupt_stack().top_address()),
        (Ist::MachineCheck, interrupt_stack().top_address()),
        (Ist::Debug, interrupt_stack().top_address()),
    ]);
    let ring_zero_stack = Box::leak(Box::new(segments)).load(index);
    let reserve = FrameReserve::new(options.reserve_frames);
    let apic = LocalApic::enable();
    let nmi = nmi::PerCpu::new(nmi_stack, options);
    // The table first: whoever finds the area may send an NMI, and one with last words to say does.
    idt::load();
    let cpu = PerCpu::install(index, apic, ring_zero_stack, nmi, reserve);
    selftest::started();
    require_nmi_stack();
    selftest::started();
    syscall::open();
    selftest::started();
    cpu::forbid_floating_point();
    selftest::started();
    cpu
}

/// Refuses to go on where NMIs would not start on their own stack.
pub fn require_nmi_stack() {
    if !idt::nmi_has_its_stack() {
        report::broken_setup(format_args!(
            "vector 2 has no stack of its own: an NMI would take what it interrupted for its state"
        ));
    }
}

/// Refuses what is known to break an invariant, unless the command line insists.
fn refuse_unsound(options: &Options<'_>, has_programs: bool) {
    let Some(unmasked_by) = unmasked_by(options, has_programs) else { return };
    if options.nmi_entry == NmiEntry::Naive && !options.unsafe_nmi {
        report::configuration(format_args!(
            "nmi=naive is unsound here: {unmasked_by}, and the next one destroys the handler's stack; choose \
             another entry or fault_return=ret, or insist with unsafe_nmi=on"
        ));
    }
}

/// Says what unmasks NMIs inside the handler, if anything does.
fn unmasked_by(options: &Options<'_>, has_programs: bool) -> Option<&'static str> {
    if options.unmask == Unmask::Early {
        Some("unmask=early unmasks NMIs in the handler")
    } else if options.fault_return == FaultReturn::Ret {
        None
    } else if options.ring == RingMode::Lazy {
        Some("with ring=lazy and fault_return=iret a page fault inside the NMI unmasks NMIs")
    } else if has_programs && options.chains {
        Some(
            "with fault_return=iret a page fault inside the NMI unmasks NMIs, and a call chain of user code may fault",
        )
    } else if matches!(options.selftest, "sweep" | "pairs" | "storm" | "exceptions" | "cases" | "spaces") {
        Some(
            "this self-test raises exceptions inside the NMI, whatever the ring is, and fault_return=iret unmasks NMIs",
        )
    } else {
        None
    }
}

fn refuse_decommit(options: &Options<'_>) {
    if !options.decommit_is_possible() {
        report::configuration(format_args!(
            "decommit={} needs ring=lazy and a ring of more pages (ring={} ring_bytes={})",
            options.decommit, options.ring, options.ring_bytes
        ));
    }
}

/// Refuses to send each sample twice: the accounts of a user's run have one number for each.
fn refuse_both(options: &Options<'_>) {
    if options.aggregate == Aggregate::Both && cfg!(not(feature = "selftest")) {
        report::configuration(format_args!(
            "aggregate=both is for the self-test image; choose aggregate=on or aggregate=off"
        ));
    }
}

fn refuse_variant(options: &Options<'_>) -> ! {
    let Options { nmi_entry, unmask, nested_return, mutant, .. } = options;
    if !mutant.is_empty() {
        report::configuration(format_args!(
            "nmi={nmi_entry} with unmask={unmask} and nested_return={nested_return} has no mutant `{mutant}` in this \
             image; only the self-test image has any"
        ));
    }
    report::configuration(format_args!(
        "nmi={nmi_entry} has no form with unmask={unmask} and nested_return={nested_return}; leave those out"
    ))
}

fn interrupt_stack() -> StackRange {
    StackRange::allocate(IST_PAGES).expect("memory suffices for the interrupt stacks")
}
