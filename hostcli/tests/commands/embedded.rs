//! Addresses in the kernel that the executable carries are resolved without being told where it is.

use nmiprof::capture::writer::{self, SyntheticSample, Writer};
use nmiprof::commands::Outcome;
use nmiprof::images::Image;
use object::{Object as _, ObjectSymbol as _, SymbolKind};

use crate::fixture::{Fixture, run};

#[test]
fn every_function_of_the_embedded_kernel_is_resolved_and_most_have_a_line() {
    let elf = object::File::parse(Image::Main.elf()).expect("the embedded kernel is an ELF");
    let mut hello = writer::hello();
    hello.build_id = Image::Main.build_id().expect("the embedded kernel has a build-id");
    let mut writer = Writer::new(&hello).expect("a short Hello");
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let sample = SyntheticSample { ip: symbol.address(), ..SyntheticSample::default() };
        writer.sample(&sample).expect("CPU 0 is there");
    }
    let fixture = Fixture::new(&writer.end().expect("frames of its own making"));
    let script = run(&format!("script -F sym,srcline -i {}", fixture.path("capture").display()));
    assert_eq!(script.outcome(), Outcome::Good);
    let lines: Vec<&str> = script.out.lines().collect();
    let with_line = lines.iter().filter(|line| line.contains(".rs:")).count();
    assert!(!lines.is_empty() && !script.out.contains("[unknown]"), "{}", script.out);
    assert!(with_line * 10 >= lines.len() * 8, "{with_line} of {} have a line", lines.len());
}
