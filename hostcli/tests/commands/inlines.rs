//! Inlined functions are found in what a real compiler wrote: this test's own executable.

use std::fs;
use std::hint::black_box;

use nmiprof::capture::writer::{self, SyntheticSample, Writer};
use nmiprof_wire::BuildId;
use object::{Object as _, ObjectSymbol as _};

use crate::fixture::{Fixture, run};

#[inline(always)]
fn inner(n: u64) -> u64 {
    black_box(n).wrapping_mul(3).rotate_left(7)
}

#[inline(never)]
fn the_outer_function(n: u64) -> u64 {
    inner(black_box(n)) + 1
}

/// Returns a capture with one sample at every address of the outer function, and this executable's path.
fn capture_of_outer() -> (Fixture, String) {
    assert_ne!(the_outer_function(1), 0);
    let path = std::env::current_exe().expect("this test has a file");
    let bytes = fs::read(&path).expect("which can be read");
    let elf = object::File::parse(&*bytes).expect("which is an ELF");
    let id = elf.build_id().expect("with sound notes").expect("the linker of this host writes a build-id");
    let outer = elf
        .symbols()
        .find(|symbol| symbol.name().is_ok_and(|name| name.contains("the_outer_function")))
        .expect("it is not inlined");
    let mut hello = writer::hello();
    hello.build_id = BuildId(id.try_into().expect("the linker of this host writes SHA-1 build-ids"));
    let mut writer = Writer::new(&hello).expect("a short Hello");
    for ip in outer.address()..outer.address() + outer.size() {
        writer.sample(&SyntheticSample { ip, ..SyntheticSample::default() }).expect("CPU 0 is there");
    }
    (Fixture::new(&writer.end().expect("frames of its own making")), path.display().to_string())
}

fn run_on_outer(command: &str) -> String {
    let (fixture, elf) = capture_of_outer();
    let ran = run(&format!("{command} -i {} -k {elf}", fixture.path("capture").display()));
    ran.outcome();
    ran.out
}

#[test]
fn an_inlined_function_counts_as_itself() {
    let report = run_on_outer("report --sort symbol,srcline");
    assert!(report.contains("inlines::inner "), "{report}");
    assert!(report.contains("commands/inlines.rs:"), "{report}");
}

#[test]
fn without_inlining_it_counts_as_the_function_it_was_inlined_into() {
    let report = run_on_outer("report --no-inline");
    assert!(!report.contains("inlines::inner"), "{report}");
    assert!(report.contains("100.00%") && report.contains("inlines::the_outer_function"), "{report}");
}

#[test]
fn folded_stacks_show_it_below_its_caller() {
    let folded = run_on_outer("export --format folded");
    assert!(folded.contains("inlines::the_outer_function;commands::inlines::inner "), "{folded}");
}
