//! From the boot module to processes.

use core::fmt;
use core::ops::Range;

use nmiprof_program::abi::{self, MAP_START, STACK_BYTES, STACK_TOP};
use nmiprof_program::{ArchiveError, Image, ImageError, Program, Rights, archive};
use nmiprof_wire::BuildId;

use super::Process;
use crate::arch::paging::MapError;
use crate::memory::space::{self, AddressSpace, UserRights};
use crate::memory::stack::StackRange;
use crate::text::FixedText;
use crate::thread;

const WORD: u64 = size_of::<u64>() as u64;
const _: () = assert!(abi::USER_END == space::USER_END, "what a program may have can be mapped");

/// What the ABI asks of RSP at the start.
const STACK_ALIGN: u64 = 16;
/// Words on the stack of a new program besides the addresses of its arguments: their number, and two zeros.
const FIXED_WORDS: u64 = 3;

/// Why a program does not run.
#[derive(Clone, Copy, Debug)]
pub enum LoadError<'a> {
    /// The module is no archive of programs.
    Archive(ArchiveError),
    /// A file is no program that can be run.
    Image(&'a str, ImageError),
    /// Memory does not suffice for it.
    Memory(&'a str, MapError),
}

impl fmt::Display for LoadError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "the boot module holds no programs: {error}"),
            Self::Image(name, error) => write!(f, "`{name}` can't be run: {error}"),
            Self::Memory(name, error) => {
                write!(f, "not enough memory to load `{name}` ({error:?}); give the machine more")
            }
        }
    }
}

/// Makes a process of every program in an archive. They run when the scheduler gets there.
///
/// # Errors
/// [`LoadError`] for the first one that can't be run.
pub fn load_all(archive: &[u8]) -> Result<(), LoadError<'_>> {
    if archive.is_empty() {
        return Ok(());
    }
    for (number, program) in (1..).zip(archive::programs(archive)) {
        load(number, &program.map_err(LoadError::Archive)?)?;
    }
    Ok(())
}

fn load<'a>(number: u32, program: &Program<'a>) -> Result<(), LoadError<'a>> {
    let name = program.name();
    let image = Image::parse(program.elf).map_err(|error| LoadError::Image(name, error))?;
    let (space, user_stack) = map(&image, program).map_err(|error| LoadError::Memory(name, error))?;
    let stack = StackRange::for_thread().map_err(|error| LoadError::Memory(name, error))?;
    let process = Process {
        number,
        name: FixedText::format(format_args!("{name}")),
        build_id: image.build_id.map(BuildId),
        space,
        next_map: MAP_START,
    };
    thread::spawn(process, image.entry, user_stack, stack);
    Ok(())
}

/// Maps a program and its stack, and returns the space and the first RSP.
fn map(image: &Image<'_>, program: &Program<'_>) -> Result<(AddressSpace, u64), MapError> {
    let mut space = AddressSpace::new_process()?;
    for segment in &image.segments {
        let rights = match segment.rights {
            Rights::Read => UserRights::Read,
            Rights::ReadWrite => UserRights::ReadWrite,
            Rights::ReadExecute => UserRights::ReadExecute,
        };
        space.map_user(segment.start, segment.len_bytes, rights)?;
        space.write_user(segment.content_start, segment.content)?;
    }
    space.map_user(STACK_TOP - STACK_BYTES, STACK_BYTES, UserRights::ReadWrite)?;
    let rsp = push_arguments(&mut space, program)?;
    Ok((space, rsp))
}

/// Writes the arguments to the top of the stack, and what points to them below.
fn push_arguments(space: &mut AddressSpace, program: &Program<'_>) -> Result<u64, MapError> {
    let texts = arguments_range(program);
    let count = program.arguments().count() as u64;
    let rsp = (texts.start - (count + FIXED_WORDS) * WORD) / STACK_ALIGN * STACK_ALIGN;
    space.write_user(rsp, &count.to_le_bytes())?;
    let (mut text, mut pointer) = (texts.start, rsp + WORD);
    for argument in program.arguments() {
        space.write_user(text, argument)?;
        space.write_user(pointer, &text.to_le_bytes())?;
        text += argument.len() as u64;
        pointer += WORD;
    }
    // The words after the pointers are zeros: new memory is.
    Ok(rsp)
}

fn arguments_range(program: &Program<'_>) -> Range<u64> {
    let bytes: usize = program.arguments().map(<[u8]>::len).sum();
    STACK_TOP - bytes as u64..STACK_TOP
}
