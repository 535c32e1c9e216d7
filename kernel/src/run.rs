//! The kernel's life, from the boot code's call to the end.

use nmiprof_boot::acpi::{AcpiError, Tables};
use nmiprof_wire::{ExitCode, Job, Options};
use spin::Once;

use crate::arch::boot::{self, BootInfo, MAPPED_END};
use crate::arch::{clock, screen};
use crate::memory::stack;
use crate::session::Session;
use crate::{arch, info, init, report, selftest, smp, stream};

static BOOT: Once<BootInfo> = Once::new();
/// What ACPI says of the machine. Written once, while the boot page tables are loaded.
static ACPI: Once<Result<Tables, AcpiError>> = Once::new();

/// Continues from the boot code: memory first, then everything else on a guarded stack.
pub fn kernel_main(boot: BootInfo) -> ! {
    let boot = BOOT.call_once(|| boot);
    screen::init(boot.screen().filter(|screen| screen.range().end <= MAPPED_END));
    stream::open().unwrap_or_else(|error| report::no_line(error));
    info!("nmiprof kernel {}, command line: {}", arch::build_id::build_id(), boot.command_line());
    init::report_acpi(ACPI.call_once(|| boot::acpi(boot)));
    let Err(error) = init::memory(boot).and_then(|()| stack::continue_on_thread_stack(profile));
    report::configuration(format_args!("not enough memory to start ({error:?}): give the machine more"));
}

/// Profiles the workloads as the command line asks, and leaves.
extern "C" fn profile() -> ! {
    let command_line = BOOT.get().map_or("", BootInfo::command_line);
    let options =
        Options::parse(command_line).unwrap_or_else(|error| report::configuration(format_args!("{error}")));
    let cpu = init::boot_cpu(&options);
    if let Some(boot) = BOOT.get() {
        init::processes(boot, &options);
    }
    let mut workloads = init::workloads(&options);
    let prepared = selftest::prepare(&options);
    let frequencies = clock::measure(cpu.apic).unwrap_or_else(|| {
        report::configuration(format_args!(
            "there is no interval timer (8254) that counts: nothing tells how fast the clocks run"
        ))
    });
    let madt = ACPI.get().and_then(|tables| tables.as_ref().ok()?.madt.as_ref().ok());
    let memory = BOOT.get().map(BootInfo::memory);
    let cpus = smp::start_all(cpu, madt, memory, options, frequencies.tsc_hz);
    let mut session = Session::new(options, cpu, frequencies, cpus);
    selftest::trigger(options.selftest);
    if selftest::experiment(&options, cpu, &mut session, prepared) {
        workloads.clear();
    } else if options.job == Job::List {
        session.begin();
        session.list();
        workloads.clear();
    } else if options.job == Job::PmuTest {
        session.begin();
        session.report_counters();
        workloads.clear();
    } else {
        session.measure_steps(&mut workloads);
        session.start();
        session.work(&mut workloads);
        session.stop();
        selftest::finish();
    }
    session.finish(&workloads);
    arch::exit::exit(ExitCode::Success)
}
