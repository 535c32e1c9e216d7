//! Goal: kernels that know nothing of this project can be run here, when they have a Multiboot 1 header.
//!
//! Method: an image made by hand, which sends its command line and the first byte of its module, and ends the machine
//! with the size of the memory that it was told of. Images that want what this loader can't do are refused.

use nmiprof::images::Image;
use nmiprof_pc::boot::Kernel;
use nmiprof_pc::{Config, Machine, Stopped};

const MAGIC: u32 = 0x1bad_b002;
const BASE: u32 = 0x10_0000;
const FILE_HEADER_BYTES: u16 = 52;
const PROGRAM_HEADER_BYTES: u16 = 32;
/// Behind the headers of the file and of Multiboot.
const CODE: u32 = 96;
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0x3d, 0x02, 0xb0, 0xad, 0x2b,   // cmp eax, 0x2badb002
    0x75, 29,                       // jne no loader
    0x8b, 0x73, 16,                 // mov esi, [ebx + 16]: the command line
    0xba, 0xf8, 0x03, 0, 0,         // mov edx, 0x3f8
    0xac,                           // lodsb
    0x84, 0xc0,                     // test al, al
    0x74, 3,                        // jz end
    0xee,                           // out dx, al
    0xeb, 0xf8,                     // jmp lodsb
    0x8b, 0x73, 24,                 // end: mov esi, [ebx + 24]: the modules
    0x8b, 0x36,                     // mov esi, [esi]
    0x8a, 0x06,                     // mov al, [esi]
    0xee,                           // out dx, al
    0x8b, 0x43, 8,                  // mov eax, [ebx + 8]: KiB above 1 MiB
    0xe7, 0xf4,                     // out 0xf4, eax
    0xb8, 0xff, 0xff, 0xff, 0x7f,   // no loader: mov eax, 0x7fffffff
    0xe7, 0xf4,                     // out 0xf4, eax
];

/// Makes an ELF file of 32 bits with one segment, whose Multiboot header has these flags and is off by so much.
fn image(flags: u32, off: u32) -> &'static [u8] {
    const RUN_386: [u16; 2] = [2, 3];
    const LOAD: u32 = 1;
    const READ_EXECUTE: u32 = 5;
    let total = CODE + u32::try_from(PROGRAM.len()).expect("small");
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    let halves =
        |file: &mut Vec<u8>, all: &[u16]| file.extend(all.iter().flat_map(|half| half.to_le_bytes()));
    let words = |file: &mut Vec<u8>, all: &[u32]| file.extend(all.iter().flat_map(|word| word.to_le_bytes()));
    halves(&mut file, &RUN_386);
    words(&mut file, &[1, BASE + CODE, u32::from(FILE_HEADER_BYTES), 0, 0]);
    halves(&mut file, &[FILE_HEADER_BYTES, PROGRAM_HEADER_BYTES, 1, 0, 0, 0]);
    words(&mut file, &[LOAD, 0, BASE, BASE, total, total, READ_EXECUTE, 4096]);
    let sum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags).wrapping_add(off);
    words(&mut file, &[MAGIC, flags, sum]);
    assert_eq!(file.len(), CODE as usize);
    file.extend(PROGRAM);
    file.leak()
}

#[test]
fn a_foreign_kernel_gets_its_command_line_its_module_and_its_memory() {
    let mut machine = Machine::new(&Config {
        foreign: Some(image(3, 0)),
        command_line: "hello world ".to_owned(),
        module: b"!".to_vec(),
        memory_mib: 32,
        ..Config::default()
    });
    assert_eq!(machine.run(1000), Stopped::Exit(31 << 10), "31 MiB above the first");
    assert_eq!(machine.take_sent(), b"kernel hello world !");
}

#[test]
fn an_image_that_this_loader_can_not_start_as_it_asks_is_refused() {
    let address_fields = 1 << 16;
    let video = 1 << 2;
    let text = "a kernel".repeat(1000);
    for (image, why) in [
        (image(address_fields, 0), "it wants to be loaded by the header's addresses"),
        (image(video, 0), "it wants a video mode"),
        (image(0, 1), "its checksum is wrong"),
        (Image::Main.elf(), "this one has another protocol"),
        (text.leak().as_bytes(), "no ELF file"),
        (&[], "nothing"),
    ] {
        assert!(Kernel::parse_multiboot(image).is_none(), "{why}");
    }
    assert!(Kernel::parse_multiboot(image(0, 0)).is_some());
}
