//! A kernel ELF without code: four symbols and a build-id.

use nmiprof_wire::BuildId;

/// Where the text begins.
pub(crate) const TEXT: u64 = 0xffff_ffff_8010_0000;

/// Symbols: name, offset into the text, size.
const SYMBOLS: [(&str, u64, u64); 4] = [
    ("_ZN4main3run17h0123456789abcdefE", 0, 0x100),
    ("_ZN4sort9quicksort17h0123456789abcdefE", 0x100, 0x80),
    ("_ZN6matrix8multiply17h0123456789abcdefE", 0x180, 0x80),
    ("nmi_entry", 0x200, 0),
];

const TEXT_BYTES: u64 = 0x400;
const HEADER_BYTES: usize = 64;
const SECTION_NAMES: &[u8] = b"\0.text\0.note.gnu.build-id\0.symtab\0.strtab\0.shstrtab\0";

/// One section: offset of its name, type, flags, address, content, link, entry size, size.
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    content: Vec<u8>,
    link: u32,
    entry_bytes: u64,
    bytes: u64,
}

impl Section {
    fn new(name: u32, kind: u32, content: Vec<u8>) -> Self {
        let bytes = content.len() as u64;
        Self { name, kind, flags: 0, address: 0, content, link: 0, entry_bytes: 0, bytes }
    }
}

/// Returns the file.
pub(crate) fn kernel(build_id: BuildId) -> Vec<u8> {
    let (symbols, strings) = symbols();
    let text = Section { flags: 6, address: TEXT, bytes: TEXT_BYTES, ..Section::new(1, 8, Vec::new()) };
    let symtab = Section { link: 4, entry_bytes: 24, ..Section::new(26, 2, symbols) };
    let sections = [
        Section::new(0, 0, Vec::new()),
        text,
        Section::new(7, 7, note(build_id)),
        symtab,
        Section::new(34, 3, strings),
        Section::new(42, 3, SECTION_NAMES.to_vec()),
    ];
    let (mut contents, mut headers) = (Vec::new(), Vec::new());
    for section in &sections {
        headers.extend(section_header(section, HEADER_BYTES + contents.len()));
        contents.extend(&section.content);
        contents.resize(contents.len().next_multiple_of(8), 0);
    }
    [file_header(HEADER_BYTES + contents.len()), contents, headers].concat()
}

fn note(build_id: BuildId) -> Vec<u8> {
    let words: Vec<u8> = [4_u32, 20, 3].iter().flat_map(|word| word.to_le_bytes()).collect();
    [&words[..], b"GNU\0", &build_id.0].concat()
}

fn symbols() -> (Vec<u8>, Vec<u8>) {
    let (mut table, mut strings) = (vec![0; 24], vec![0]);
    for (name, offset, size) in SYMBOLS {
        table.extend(u32::try_from(strings.len()).expect("few names").to_le_bytes());
        let kind = if size > 0 { 2 } else { 0 };
        table.extend([0x10 | kind, 0, 1, 0]);
        table.extend((TEXT + offset).to_le_bytes());
        table.extend(size.to_le_bytes());
        strings.extend(name.bytes());
        strings.push(0);
    }
    (table, strings)
}

fn section_header(section: &Section, offset: usize) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(section.name.to_le_bytes());
    header.extend(section.kind.to_le_bytes());
    for word in [section.flags, section.address, offset as u64, section.bytes] {
        header.extend(word.to_le_bytes());
    }
    header.extend(section.link.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header.extend(8_u64.to_le_bytes());
    header.extend(section.entry_bytes.to_le_bytes());
    header
}

fn file_header(section_headers: usize) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2_u16, 62] {
        header.extend(half.to_le_bytes());
    }
    header.extend(1_u32.to_le_bytes());
    for word in [TEXT, 0, section_headers as u64] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 0, 64, 6, 5] {
        header.extend(half.to_le_bytes());
    }
    header
}
