//! The reference trace of an NMI, on the image that users run.
//!
//! Method: the second NMI of a boot is the first that samples (the one before proves that the timer raises
//! NMIs at all). It touches the first page of the ring, so a page fault returns inside it. That NMI is
//! stepped through from outside, by QEMU's debug stub, and compared with what the image holds. A later NMI
//! finds its page mapped and has to come out without an inner `iretq`.

use nmiprof::images::Image;
use nmiprof::machine::Program;
use nmiprof::sweep::tracer::Traced;
use nmiprof::sweep::{Boundaries, Class, Code, Tracer};
use nmiprof_tests::{Boot, qemu};
use nmiprof_wire::{Line, NestedReturn, NmiEntry, Options, Unmask};

/// The NMI that faults.
const FAULTING: u64 = 2;
/// An NMI that finds its ring page mapped.
const LATER: u64 = 3;

fn program() -> Option<Program> {
    qemu().map_err(|skip| skip.register()).ok()
}

fn code() -> Code {
    Code::parse(Image::Main.elf()).expect("the embedded image is an ELF file")
}

fn command_line(entry: NmiEntry, unmask: Unmask, nested_return: NestedReturn) -> String {
    let options = Options {
        nmi_entry: entry,
        unmask,
        nested_return,
        unsafe_nmi: entry == NmiEntry::Naive,
        duration_ns: 1_000_000,
        line: Line::File,
        ..Options::default()
    };
    options.to_string()
}

fn tracer<'a>(program: &'a Program, code: &'a Code, command_line: &'a str, label: &'a str) -> Tracer<'a> {
    Tracer { program, image: Image::Main.elf(), code, kernel_command_line: command_line, label, cpus: 1 }
}

fn rostedt(arrival: u64) -> Option<(Code, Traced)> {
    let (program, code) = (program()?, code());
    let words = command_line(NmiEntry::Rostedt, Unmask::Fault, NestedReturn::Iret);
    let traced = tracer(&program, &code, &words, "nmi_rostedt").trace(arrival).expect("a trace");
    Some((code, traced))
}

fn boundaries(code: &Code, traced: &Traced, label: &str, unmask: Unmask) -> Boundaries {
    Boundaries::of(&traced.trace, &code.entry(label).expect("it is built in"), unmask)
}

#[test]
fn a_trace_goes_from_the_entry_to_the_interrupted_instruction() {
    let Some((code, traced)) = rostedt(FAULTING) else { return };
    let steps = traced.trace.steps();
    assert_eq!(Some(steps[0].address), code.address("nmi_rostedt"));
    assert_eq!(steps[steps.len() - 1].address, traced.interrupted);
    assert_eq!(Some(steps[steps.len() - 2].address), code.address("nmi_rostedt_iretq"));
}

#[test]
fn an_nmi_that_faults_has_exactly_one_inner_iret_and_is_reachable_from_there() {
    let Some((code, traced)) = rostedt(FAULTING) else { return };
    let boundaries = boundaries(&code, &traced, "nmi_rostedt", Unmask::Fault);
    let [inner] = boundaries.inner_irets() else { panic!("{:?}", boundaries.inner_irets()) };
    let all = boundaries.all();
    assert!(code.describe(all[*inner].address).starts_with("exception_iretq"));
    assert!(all[..=*inner].iter().all(|boundary| boundary.class == Class::Masked));
    assert!(all[inner + 1..].iter().all(|boundary| boundary.class == Class::Reachable));
    assert_eq!(all[inner + 1].occurrence, 1, "the instruction that faulted comes again");
    let [masked, reachable] = [Class::Masked, Class::Reachable].map(|class| boundaries.count(class));
    eprintln!("{} boundaries: {masked} masked, {reachable} reachable", all.len());
}

#[test]
fn an_nmi_without_a_fault_is_masked_up_to_its_return() {
    let Some((code, traced)) = rostedt(LATER) else { return };
    let boundaries = boundaries(&code, &traced, "nmi_rostedt", Unmask::Fault);
    assert!(boundaries.inner_irets().is_empty(), "{:?}", boundaries.inner_irets());
    assert_eq!(boundaries.count(Class::Reachable), 1, "the interrupted instruction");
    eprintln!("{} boundaries", boundaries.all().len());
}

#[test]
fn the_trace_is_the_same_twice() {
    let (Some((_, first)), Some((_, second))) = (rostedt(FAULTING), rostedt(FAULTING)) else { return };
    assert_eq!(first, second);
}

#[test]
fn early_unmasking_makes_the_boundaries_before_the_fault_early() {
    let Some(program) = program() else { return };
    let code = code();
    for (entry, nested_return, label) in [
        (NmiEntry::Naive, NestedReturn::Iret, "nmi_naive_early"),
        (NmiEntry::Rostedt, NestedReturn::Iret, "nmi_rostedt_early"),
        (NmiEntry::Rostedt, NestedReturn::Ret, "nmi_rostedt_early_nret"),
    ] {
        let words = command_line(entry, Unmask::Early, nested_return);
        let traced = tracer(&program, &code, &words, label).trace(FAULTING).expect("a trace");
        let boundaries = boundaries(&code, &traced, label, Unmask::Early);
        assert_eq!(boundaries.inner_irets().len(), 2, "{label}: the entry's and the fault's");
        let counts = [Class::Masked, Class::Early, Class::Reachable].map(|class| boundaries.count(class));
        assert!(counts.iter().all(|count| *count > 0), "{label}: {counts:?}");
        eprintln!("{label}: masked, early, reachable: {counts:?}");
    }
}

#[test]
fn arrivals_are_counted_to_the_end_of_the_machine() {
    let Some(program) = program() else { return };
    let code = code();
    let words = command_line(NmiEntry::Rostedt, Unmask::Fault, NestedReturn::Iret);
    let (arrivals, record) = tracer(&program, &code, &words, "nmi_rostedt").count().expect("it runs");
    let entries = record.accounts().total().nmi.entries;
    assert!(entries > 0 && arrivals == entries, "{arrivals} seen, {entries} counted by the kernel");
}

/// The kernel measures a sample by the distance of two interrupted instructions and of two time stamps.
#[test]
fn the_trace_is_as_long_as_the_kernel_measures() {
    let Some((code, traced)) = rostedt(LATER) else { return };
    let ticks = boundaries(&code, &traced, "nmi_rostedt", Unmask::Fault).ticks();
    let Some(run) = Boot::image(Image::Main).append("duration_ns=1000000").run().passed() else { return };
    let measured = run.record.run().and_then(|run| run.sample_instructions);
    assert_eq!(measured, Some(u64::from(ticks)));
}
