//! Goal: whatever bytes come in, an archive or an ELF file gives a value or an error, and nothing that could be mapped in
//! a wrong way.
//!
//! Method: sound files, made here from the format's description alone; each rule broken in turn; and random damage.

use nmiprof_program::abi::{MAP_START, PROGRAM_START, STACK_TOP, USER_END};
use nmiprof_program::{ArchiveError, Image, ImageError, Rights, archive};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const LOAD: u32 = 1;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;

/// A program header.
#[derive(Clone, Copy)]
struct Header {
    kind: u32,
    flags: u32,
    address: u64,
    content_bytes: u64,
    memory_bytes: u64,
}

const CODE: Header =
    Header { kind: LOAD, flags: READ | EXECUTE, address: 0x20_0000, content_bytes: 16, memory_bytes: 16 };
const DATA: Header =
    Header { kind: LOAD, flags: READ | WRITE, address: 0x20_1010, content_bytes: 8, memory_bytes: 0x3000 };

/// Makes a file with these segments, whose contents lie at its end.
fn file(headers: &[Header], entry: u64) -> Vec<u8> {
    let mut file = vec![0; HEADER_BYTES];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..20].copy_from_slice(&[2, 0, 62, 0]);
    file[20] = 1;
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32] = 64;
    file[52] = 64;
    file[54] = 56;
    file[56] = u8::try_from(headers.len()).expect("few");
    let contents = HEADER_BYTES + headers.len() * SEGMENT_BYTES;
    for header in headers {
        file.extend(header.kind.to_le_bytes());
        file.extend(header.flags.to_le_bytes());
        let sizes =
            [contents as u64, header.address, header.address, header.content_bytes, header.memory_bytes, 1];
        sizes.iter().for_each(|size| file.extend(size.to_le_bytes()));
    }
    file.extend([0x90; 64]);
    file
}

fn error(headers: &[Header]) -> ImageError {
    Image::parse(&file(headers, CODE.address)).expect_err("it breaks a rule")
}

#[test]
fn a_sound_file_says_what_to_map() {
    let file = file(&[DATA, CODE], CODE.address + 4);
    let image = Image::parse(&file).expect("it is sound");
    let found: Vec<_> =
        image.segments.iter().map(|segment| (segment.start, segment.len_bytes, segment.rights)).collect();
    assert_eq!(found, [(0x20_0000, 0x1000, Rights::ReadExecute), (0x20_1000, 0x4000, Rights::ReadWrite)]);
    assert_eq!((image.segments[1].content_start, image.segments[1].content), (0x20_1010, &[0x90; 8][..]));
    assert_eq!((image.entry, image.build_id), (CODE.address + 4, None));
}

#[test]
fn every_rule_is_checked() {
    let code = |change: fn(&mut Header)| {
        let mut header = CODE;
        change(&mut header);
        header
    };
    assert_eq!(error(&[code(|header| header.flags |= WRITE)]), ImageError::WritableCode);
    assert_eq!(error(&[CODE, Header { address: 0x20_0ff0, ..DATA }]), ImageError::Overlap);
    assert_eq!(error(&[code(|header| header.memory_bytes = 8)]), ImageError::Content);
    assert_eq!(
        error(&[code(|header| [header.content_bytes, header.memory_bytes] = [4096; 2])]),
        ImageError::Content
    );
    assert_eq!(error(&[DATA]), ImageError::Entry);
    assert_eq!(error(&[]), ImageError::NoSegments);
    assert_eq!(error(&[CODE; 17]), ImageError::TooManySegments);
    for (kind, expected) in [(2, ImageError::Dynamic), (3, ImageError::Dynamic), (7, ImageError::ThreadLocal)]
    {
        assert_eq!(error(&[CODE, Header { kind, ..DATA }]), expected);
    }
    for address in [0, PROGRAM_START - 1, MAP_START, STACK_TOP - 1, USER_END, 1 << 47, 1 << 63, u64::MAX] {
        assert_eq!(error(&[CODE, Header { address, ..DATA }]), ImageError::Address, "{address:#x}");
    }
    assert_eq!(error(&[CODE, Header { memory_bytes: u64::MAX, ..DATA }]), ImageError::Address);
    let mut other = file(&[CODE], CODE.address);
    other[18] = 183;
    assert_eq!(Image::parse(&other), Err(ImageError::Machine));
    other = file(&[CODE], CODE.address);
    other[16] = 3;
    assert_eq!(Image::parse(&other), Err(ImageError::PositionIndependent));
}

fn packed(programs: &[(Vec<String>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (arguments, elf)) in programs.iter().enumerate() {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        archive::push(&mut bytes, number, &arguments, elf).expect("sound arguments");
    }
    archive::finish(&mut bytes).expect("it fits");
    bytes
}

#[test]
fn arguments_that_cant_be_passed_are_refused() {
    let mut bytes = Vec::new();
    for arguments in [&[][..], &["a\0b"], &["x"; 65]] {
        assert_eq!(archive::push(&mut bytes, 0, arguments, b""), Err(ArchiveError::Arguments));
    }
    assert_eq!(archive::push(&mut bytes, 10, &["a"], b""), Err(ArchiveError::TooMany));
}

proptest! {
    #[test]
    fn programs_survive_their_archive(
        programs in prop::collection::vec(
            (prop::collection::vec("[^\\x00]{0,12}", 1..5), prop::collection::vec(any::<u8>(), 0..300)), 0..10,
        ),
    ) {
        let bytes = packed(&programs);
        let found: Result<Vec<_>, _> = archive::programs(&bytes).collect();
        let found = found.expect("a sound archive");
        prop_assert_eq!(found.len(), programs.len());
        for (found, (arguments, elf)) in found.iter().zip(&programs) {
            prop_assert_eq!(found.elf, elf.as_slice());
            let texts: Vec<_> = found.arguments().map(<[u8]>::to_vec).collect();
            let wanted: Vec<_> = arguments.iter().map(|text| [text.as_bytes(), b"\0"].concat()).collect();
            prop_assert_eq!(texts, wanted);
        }
    }

    #[test]
    fn damaged_archives_end(bytes in prop::collection::vec(any::<u8>(), 0..400), at: prop::sample::Index, byte: u8) {
        prop_assert!(archive::programs(&bytes).count() <= 1);
        let mut sound = packed(&[(vec!["a".to_owned()], bytes)]);
        let at = at.index(sound.len());
        sound[at] = byte;
        prop_assert!(archive::programs(&sound).count() <= 2);
    }

    #[test]
    fn damaged_files_map_nothing_wrong(at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 1..9)) {
        let mut file = file(&[CODE, DATA], CODE.address);
        let at = at.index(HEADER_BYTES + 2 * SEGMENT_BYTES - bytes.len());
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        if let Ok(image) = Image::parse(&file) {
            for segment in &image.segments {
                prop_assert!(segment.start >= PROGRAM_START && segment.start % 4096 == 0);
                prop_assert!(segment.start + segment.len_bytes <= USER_END);
                let content_end = segment.content_start + segment.content.len() as u64;
                prop_assert!(segment.content_start >= segment.start && content_end <= segment.start + segment.len_bytes);
            }
        }
    }
}
