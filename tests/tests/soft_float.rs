//! The kernel uses no x87, MMX or SSE register, so it can change none.
//!
//! Method: every instruction of both images is decoded. Only the self-test image may have any that touches such
//! state, and only in the functions that load and store it as a whole for its own checks.

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction};
use nmiprof::images::Image;
use nmiprof::sweep::Code;
use object::{Object as _, ObjectSection as _, SectionKind};

/// Where such instructions may be: nearest labels begin so.
const ALLOWED: &str = "nmiprof_kernel::arch::fpu::";

/// Calls `see` with every instruction of an image; returns how many there were.
fn for_each_instruction(image: Image, mut see: impl FnMut(&Instruction)) -> usize {
    let file = object::File::parse(image.elf()).expect("the embedded image is an ELF file");
    let mut count = 0;
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let bytes = section.data().expect("the section is in the file");
        for instruction in &mut Decoder::with_ip(64, bytes, section.address(), DecoderOptions::NONE) {
            count += 1;
            see(&instruction);
        }
    }
    count
}

/// Tells whether an instruction touches x87, MMX, SSE or AVX state. Fences came with SSE but touch none.
fn touches_vector_state(instruction: &Instruction) -> bool {
    let names: Vec<String> =
        instruction.cpuid_features().iter().map(|feature| format!("{feature:?}")).collect();
    let is_fence = instruction.op_count() == 0 && instruction.mnemonic() != iced_x86::Mnemonic::Emms;
    let is_x87 = instruction.cpuid_features().contains(&CpuidFeature::FPU);
    let prefixes = ["FPU", "MMX", "SSE", "AVX", "FXSR", "XSAVE"];
    let is_of_unit = names.iter().any(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    is_x87 || (is_of_unit && !is_fence)
}

/// Returns the places of all instructions that touch such state.
fn places(image: Image) -> Vec<String> {
    let code = Code::parse(image.elf()).expect("the embedded image is an ELF file");
    let mut places = Vec::new();
    let count = for_each_instruction(image, |instruction| {
        assert!(!instruction.is_invalid(), "{}", code.describe(instruction.ip()));
        if touches_vector_state(instruction) {
            places.push(code.describe(instruction.ip()));
        }
    });
    assert!(count > 10_000, "{image}: {count} instructions");
    places
}

// case 34
#[test]
fn the_main_image_has_no_vector_instruction() {
    assert_eq!(places(Image::Main), Vec::<String>::new());
}

// case 34
#[test]
fn the_selftest_image_has_them_only_where_it_checks_them() {
    let places = places(Image::Selftest);
    assert!(places.len() >= 3, "a load, a store and a store that faults: {places:?}");
    assert!(places.iter().all(|place| place.starts_with(ALLOWED)), "{places:#?}");
}
