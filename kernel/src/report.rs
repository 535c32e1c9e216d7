//! Last words: a panic, an exception, a broken invariant or a wrong command line, as a frame and on the screen.
//!
//! Any of them can come at any moment, also inside an NMI and while another frame is half sent. So this
//! waits for no lock, allocates nothing, opens the line anew, ends a half-sent frame with a zero, and leaves
//! the machine. What waits for the line goes first, where nobody else has it. The screen comes last: it serves whoever stands before a machine whose line is not read, or that has
//! no line at all.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use nmiprof_wire::{ExitCode, Fatal, FatalCause, Frame, LINE_BYTES_MAX, encode};
use x86_64::instructions::interrupts;

use crate::arch::cpu;
use crate::arch::exit::{self, exit};
use crate::arch::frame::IretFrame;
use crate::arch::serial::{Port, PortError};
use crate::arch::{percpu, screen};
use crate::text::FixedText;
use crate::{smp, stream};

/// Reports a CPU exception that nothing handles.
pub fn exception(vector: u64, error: u64, fault_address: u64, interrupted: &IretFrame) -> ! {
    let IretFrame { rip, rsp, rflags, cs, .. } = interrupted;
    let text = format_args!(
        "exception {vector} ({}), error code {error:#x}, CR2 {fault_address:#x}, RIP {rip:#x}, CS {cs:#x}, \
         RFLAGS {rflags:#x}, RSP {rsp:#x}",
        exception_name(vector),
    );
    fatal(FatalCause::Exception, text, "", 0)
}

/// Reports that a named invariant does not hold.
pub fn broken_invariant(invariant: &str, interrupted: &IretFrame) -> ! {
    let IretFrame { rip, rsp, .. } = interrupted;
    fatal(FatalCause::Invariant, format_args!("{invariant}; interrupted RIP {rip:#x}, RSP {rsp:#x}"), "", 0)
}

/// Reports that something every invariant builds on is not as it was set up.
pub fn broken_setup(text: fmt::Arguments<'_>) -> ! {
    fatal(FatalCause::Invariant, text, "", 0)
}

/// Reports an NMI that nobody explains, where the command line says that it stops the machine.
pub fn unknown_nmi(interrupted: &IretFrame) -> ! {
    let rip = interrupted.rip;
    fatal(FatalCause::Invariant, format_args!("unknown NMI at RIP {rip:#x}, and unknown=stop"), "", 0)
}

/// Reports a command line that can't be honoured.
pub fn configuration(text: fmt::Arguments<'_>) -> ! {
    fatal(FatalCause::Configuration, text, "", 0)
}

/// Reports that there is no line, on the screen. Nobody would see a sample, so none is taken.
pub fn no_line(error: PortError) -> ! {
    let text = FixedText::<512>::format(format_args!(
        "nmiprof: there is no serial line, so there is no profile\n\n{error}.\n\n\
         Samples leave by that port and by no other way. Enable it in the setup of\n\
         this machine's firmware, as COM1 at 0x3f8, or add a serial card there.\n\nHalted."
    ));
    screen::show(text.as_str());
    exit(ExitCode::Configuration)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |location| (location.file(), location.line()));
    fatal(FatalCause::Panic, format_args!("{}", info.message()), file, line)
}

fn fatal(cause: FatalCause, text: fmt::Arguments<'_>, file: &str, line: u32) -> ! {
    /// The CPU whose report is under way. A second one of the same CPU is about the first, and can't be sent; that of
    /// another CPU came too late.
    static REPORTING: AtomicU32 = AtomicU32::new(NOBODY);
    const NOBODY: u32 = u32::MAX;

    interrupts::disable();
    let cpu = percpu::find().map_or(0, |cpu| cpu.index);
    let reporting = REPORTING.compare_exchange(NOBODY, cpu.into(), Ordering::Relaxed, Ordering::Relaxed);
    if reporting.is_err_and(|reporting| reporting != u32::from(cpu)) {
        exit::halt();
    }
    if reporting.is_ok() {
        smp::halt_others();
        let message = FixedText::<512>::format(text);
        let fatal = Fatal { cause, cpu, time: cpu::timestamp(), message: message.as_str(), file, line };
        send(&Frame::Fatal(fatal));
        #[cfg(feature = "selftest")]
        crate::selftest::rain::check();
        show(&fatal);
    }
    exit(exit_code(cause))
}

fn send(frame: &Frame<'_>) {
    // A zero, and the frame.
    let mut bytes = [0; 1 + LINE_BYTES_MAX];
    stream::rescue();
    if let (Some(port), Ok(line)) = (Port::again(), encode(frame, &mut bytes[1..])) {
        let end = 1 + line.len();
        stream::send_last(port, bytes.get(..end).unwrap_or_default());
    }
}

/// Puts the report on the screen, if there is one.
fn show(fatal: &Fatal<'_>) {
    let Fatal { message, file, line, .. } = *fatal;
    let what = match fatal.cause {
        FatalCause::Panic => "the kernel panicked",
        FatalCause::Invariant => "an NMI invariant is broken",
        FatalCause::Configuration => "the kernel can't do what it is asked for",
        FatalCause::Exception => "the kernel took an exception that nothing handles",
    };
    let text = if file.is_empty() {
        FixedText::<768>::format(format_args!("nmiprof: {what}\n\n{message}\n\nHalted."))
    } else {
        FixedText::format(format_args!("nmiprof: {what}\n\n{message}\n{file}:{line}\n\nHalted."))
    };
    screen::show(text.as_str());
}

const fn exit_code(cause: FatalCause) -> ExitCode {
    match cause {
        FatalCause::Panic => ExitCode::Panic,
        FatalCause::Invariant => ExitCode::Invariant,
        FatalCause::Configuration => ExitCode::Configuration,
        FatalCause::Exception => ExitCode::Exception,
    }
}

/// Names of the exceptions that have one (SDM volume 3, "Exception and Interrupt Reference").
const fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "#DE divide error",
        1 => "#DB debug",
        3 => "#BP breakpoint",
        6 => "#UD invalid opcode",
        7 => "#NM no floating-point unit",
        8 => "#DF double fault",
        11 => "#NP segment not present",
        12 => "#SS stack fault",
        13 => "#GP general protection",
        14 => "#PF page fault",
        17 => "#AC alignment check",
        18 => "#MC machine check",
        _ => "reserved or rare",
    }
}
