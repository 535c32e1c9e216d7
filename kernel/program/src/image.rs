//! From an ELF file to what has to be mapped.
//!
//! The file is hostile. What is accepted is a static program for x86-64 with fixed addresses, whose segments are each
//! writable or executable but not both, share no page, and lie where programs may lie. Reading the format is the
//! work of the `elf` crate; what it says is checked here.
//!
//! Source: System V ABI, "Program Loading and Dynamic Linking", and its x86-64 supplement.

use core::fmt;

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::Note;
use elf::segment::ProgramHeader;
use heapless::Vec;

use crate::abi::{MAP_START, PROGRAM_START, STACK_TOP, USER_END};

/// Most segments that a program may have.
pub const SEGMENTS_MAX: usize = 16;

const PAGE_BYTES: u64 = 4096;

/// What has to be mapped for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Address of the first instruction.
    pub entry: u64,
    /// The identity that the linker gave it.
    pub build_id: Option<[u8; 20]>,
    /// In ascending order; they share no page.
    pub segments: Vec<Segment<'a>, SEGMENTS_MAX>,
}

/// Pages with the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// First page.
    pub start: u64,
    /// Bytes of all its pages.
    pub len_bytes: u64,
    /// Where the content begins; what is around it is zeros.
    pub content_start: u64,
    /// The content.
    pub content: &'a [u8],
    /// What the program may do with it.
    pub rights: Rights,
}

/// What a program may do with its pages: never write and execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

impl<'a> Image<'a> {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ImageError`] says why it can't be run.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        let header = &elf.ehdr;
        if header.class != Class::ELF64 || header.e_machine != EM_X86_64 {
            return Err(ImageError::Machine);
        }
        match header.e_type {
            ET_EXEC => {}
            ET_DYN => return Err(ImageError::PositionIndependent),
            _ => return Err(ImageError::NotProgram),
        }
        let mut image = Self { entry: header.e_entry, build_id: None, segments: Vec::new() };
        for header in elf.segments().ok_or(ImageError::NoSegments)? {
            match header.p_type {
                PT_LOAD if header.p_memsz > 0 => image.add(segment(file, &header)?)?,
                PT_INTERP | PT_DYNAMIC => return Err(ImageError::Dynamic),
                PT_TLS => return Err(ImageError::ThreadLocal),
                PT_NOTE => image.build_id = image.build_id.or_else(|| build_id(&elf, &header)),
                _ => {}
            }
        }
        image.check()
    }

    fn add(&mut self, segment: Segment<'a>) -> Result<(), ImageError> {
        self.segments.push(segment).map_err(|_| ImageError::TooManySegments)
    }

    fn check(mut self) -> Result<Self, ImageError> {
        self.segments.sort_unstable_by_key(|segment| segment.start);
        if self.segments.is_empty() {
            return Err(ImageError::NoSegments);
        }
        let overlap = |pair: &[Segment<'_>]| matches!(pair, [a, b] if a.start + a.len_bytes > b.start);
        if self.segments.windows(2).any(overlap) {
            return Err(ImageError::Overlap);
        }
        let holds_entry = |segment: &Segment<'_>| {
            let offset = self.entry.checked_sub(segment.start);
            segment.rights == Rights::ReadExecute && offset.is_some_and(|offset| offset < segment.len_bytes)
        };
        if self.segments.iter().any(holds_entry) { Ok(self) } else { Err(ImageError::Entry) }
    }
}

/// Checks one segment against the file, the address space, and the rights that can be given.
fn segment<'a>(file: &'a [u8], header: &ProgramHeader) -> Result<Segment<'a>, ImageError> {
    let rights = match (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0) {
        (true, true) => return Err(ImageError::WritableCode),
        (true, false) => Rights::ReadWrite,
        (false, true) => Rights::ReadExecute,
        (false, false) => Rights::Read,
    };
    if header.p_filesz > header.p_memsz {
        return Err(ImageError::Content);
    }
    let content_start = header.p_vaddr;
    let start = content_start / PAGE_BYTES * PAGE_BYTES;
    let end = content_start.checked_add(header.p_memsz).filter(|end| *end <= USER_END);
    let end = end.ok_or(ImageError::Address)?.next_multiple_of(PAGE_BYTES);
    // What the kernel itself gives to a program lies in between.
    let is_free = end <= MAP_START || start >= STACK_TOP;
    if start < PROGRAM_START || end > USER_END || !is_free {
        return Err(ImageError::Address);
    }
    Ok(Segment { start, len_bytes: end - start, content_start, content: content(file, header)?, rights })
}

fn content<'a>(file: &'a [u8], header: &ProgramHeader) -> Result<&'a [u8], ImageError> {
    let start = usize::try_from(header.p_offset).map_err(|_| ImageError::Content)?;
    let len = usize::try_from(header.p_filesz).map_err(|_| ImageError::Content)?;
    let end = start.checked_add(len).ok_or(ImageError::Content)?;
    file.get(start..end).ok_or(ImageError::Content)
}

/// Finds a GNU build-id of 20 bytes. Notes that make no sense are no build-id.
fn build_id(elf: &ElfBytes<'_, LittleEndian>, header: &ProgramHeader) -> Option<[u8; 20]> {
    let notes = elf.segment_data_as_notes(header).ok()?;
    notes.into_iter().find_map(|note| match note {
        Note::GnuBuildId(id) => id.0.try_into().ok(),
        _ => None,
    })
}

/// Why a file can't be run as a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is no little-endian ELF file, or a damaged one.
    NotElf,
    /// It is for another machine.
    Machine,
    /// It is an object file, a core dump, or the like.
    NotProgram,
    /// Its addresses are not fixed.
    PositionIndependent,
    /// It needs a dynamic linker.
    Dynamic,
    /// It has thread-local storage.
    ThreadLocal,
    /// It has nothing to load.
    NoSegments,
    /// It has more than [`SEGMENTS_MAX`] segments.
    TooManySegments,
    /// A segment is both writable and executable.
    WritableCode,
    /// Two segments share a page.
    Overlap,
    /// A segment lies where no program may.
    Address,
    /// A segment's content is larger than the segment, or not in the file.
    Content,
    /// The first instruction is not in code.
    Entry,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "it is no ELF file, or a damaged one",
            Self::Machine => "it is not for x86-64",
            Self::NotProgram => "it is no program: link it",
            Self::PositionIndependent => "it is position-independent: link it statically, with fixed addresses",
            Self::Dynamic => "it needs a dynamic linker: link it statically",
            Self::ThreadLocal => "it has thread-local storage, which there is none of here",
            Self::NoSegments => "it has nothing to load",
            Self::TooManySegments => "it has more than 16 segments",
            Self::WritableCode => "a segment is both writable and executable",
            Self::Overlap => "two segments share a page",
            Self::Address => {
                "a segment lies where none may: below 64 KiB, in the area of memory and stack, or outside of the user half"
            }
            Self::Content => "a segment's content is larger than the segment, or not in the file",
            Self::Entry => "its first instruction is not in code",
        })
    }
}

impl core::error::Error for ImageError {}
