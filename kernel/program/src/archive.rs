//! Several programs in one file: a cpio archive, as Linux takes its initial file system.
//!
//! A boot protocol offers one module (QEMU's `-initrd`). The archive has the format that cpio calls `newc`; for
//! each program it holds two files, `N/arguments` and `N/program`, with N from 0 on. The arguments are texts, each
//! ended by a zero byte; the first one is the program's name.
//!
//! Source: cpio(5), "New ASCII Format"; Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`.

use core::fmt;

use crate::abi::{ARGUMENTS_BYTES_MAX, ARGUMENTS_MAX};

const MAGIC: &[u8] = b"070701";
/// Numbers after the magic, each of eight hexadecimal digits.
const NUMBERS: usize = 13;
const DIGITS: usize = 8;
const HEADER_BYTES: usize = MAGIC.len() + NUMBERS * DIGITS;
const SIZE: usize = 6;
const NAME_SIZE: usize = 11;
/// Names and contents are padded to this.
const ALIGN: usize = 4;
const TRAILER: &[u8] = b"TRAILER!!!";
const ARGUMENTS: &[u8] = b"/arguments";
const PROGRAM: &[u8] = b"/program";

/// One program of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    arguments: &'a [u8],
    /// The ELF file.
    pub elf: &'a [u8],
}

impl<'a> Program<'a> {
    /// Returns the arguments, each with its ending zero; there is at least one.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.arguments.split_inclusive(|byte| *byte == 0)
    }

    /// Returns the name: the first argument.
    #[must_use]
    pub fn name(&self) -> &'a str {
        let name = self.arguments.split(|byte| *byte == 0).next().unwrap_or_default();
        core::str::from_utf8(name).unwrap_or("?")
    }
}

/// Returns the programs of an archive. An error is the last item.
pub fn programs(archive: &[u8]) -> impl Iterator<Item = Result<Program<'_>, ArchiveError>> {
    let mut rest = Some(archive);
    core::iter::from_fn(move || {
        let (program, after) = match next_program(rest?) {
            Ok(Some((program, after))) => (Ok(program), Some(after)),
            Ok(None) => return None,
            Err(error) => (Err(error), None),
        };
        rest = after;
        Some(program)
    })
}

fn next_program(archive: &[u8]) -> Result<Option<(Program<'_>, &[u8])>, ArchiveError> {
    let (arguments, rest) = next_file(archive)?;
    if arguments.name == TRAILER {
        return Ok(None);
    }
    let (program, rest) = next_file(rest)?;
    if !arguments.name.ends_with(ARGUMENTS) || !program.name.ends_with(PROGRAM) {
        return Err(ArchiveError::Order);
    }
    let arguments = arguments.content;
    let count = arguments.iter().filter(|byte| **byte == 0).count();
    let fits = arguments.len() <= ARGUMENTS_BYTES_MAX && count <= ARGUMENTS_MAX;
    if arguments.last() != Some(&0) || !fits {
        return Err(ArchiveError::Arguments);
    }
    Ok(Some((Program { arguments, elf: program.content }, rest)))
}

/// A file of an archive.
struct File<'a> {
    name: &'a [u8],
    content: &'a [u8],
}

/// Splits the next file off.
fn next_file(archive: &[u8]) -> Result<(File<'_>, &[u8]), ArchiveError> {
    let (header, rest) = archive.split_at_checked(HEADER_BYTES).ok_or(ArchiveError::Cut)?;
    let numbers = header.strip_prefix(MAGIC).ok_or(ArchiveError::Magic)?;
    let [size, name_size] = [SIZE, NAME_SIZE].map(|index| number(numbers, index));
    let (size, name_size) = (size?, name_size?);
    let (name, rest) = split_padded(rest, name_size, HEADER_BYTES)?;
    let (content, rest) = split_padded(rest, size, 0)?;
    let name = name.strip_suffix(&[0]).ok_or(ArchiveError::Name)?;
    Ok((File { name, content }, rest))
}

fn number(numbers: &[u8], index: usize) -> Result<usize, ArchiveError> {
    let digits = numbers.get(index * DIGITS..(index + 1) * DIGITS).ok_or(ArchiveError::Cut)?;
    digits.iter().try_fold(0, |number: usize, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(ArchiveError::Number)?;
        Ok(number * 16 + digit as usize)
    })
}

/// Splits `len` bytes and their padding off; `before` bytes precede them since the last aligned one.
fn split_padded(bytes: &[u8], len: usize, before: usize) -> Result<(&[u8], &[u8]), ArchiveError> {
    let (wanted, rest) = bytes.split_at_checked(len).ok_or(ArchiveError::Cut)?;
    let rest = rest.get(padding(before + len)..).ok_or(ArchiveError::Cut)?;
    Ok((wanted, rest))
}

const fn padding(len: usize) -> usize {
    len.next_multiple_of(ALIGN) - len
}

/// Appends a program to an archive: call it with 0, 1, 2 and so on, and then [`finish`].
///
/// # Errors
/// [`ArchiveError`] where it would be no sound archive: an argument has a zero byte in it, or there are none, or too
/// many.
pub fn push(
    archive: &mut impl Extend<u8>,
    number: usize,
    arguments: &[&str],
    elf: &[u8],
) -> Result<(), ArchiveError> {
    let bytes: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
    let is_sound = (1..=ARGUMENTS_MAX).contains(&arguments.len()) && bytes <= ARGUMENTS_BYTES_MAX;
    if !is_sound || arguments.iter().any(|argument| argument.contains('\0')) {
        return Err(ArchiveError::Arguments);
    }
    let texts = arguments.iter().flat_map(|argument| argument.bytes().chain([0]));
    push_file(archive, number, ARGUMENTS, bytes, texts)?;
    push_file(archive, number, PROGRAM, elf.len(), elf.iter().copied())
}

/// Appends what ends an archive.
///
/// # Errors
/// None: the result is that of the function that it shares.
pub fn finish(archive: &mut impl Extend<u8>) -> Result<(), ArchiveError> {
    push_header(archive, 0, 0, TRAILER.len() + 1)?;
    archive.extend(TRAILER.iter().copied().chain([0]));
    archive.extend(core::iter::repeat_n(0, padding(HEADER_BYTES + TRAILER.len() + 1)));
    Ok(())
}

fn push_file(
    archive: &mut impl Extend<u8>,
    number: usize,
    suffix: &[u8],
    size: usize,
    content: impl Iterator<Item = u8>,
) -> Result<(), ArchiveError> {
    const REGULAR_FILE: usize = 0o100_400;
    let digit = u8::try_from(number).ok().filter(|number| *number < PROGRAMS_MAX);
    let name = [b'0' + digit.ok_or(ArchiveError::TooMany)?];
    let name_size = name.len() + suffix.len() + 1;
    push_header(archive, REGULAR_FILE, size, name_size)?;
    archive.extend(name.into_iter().chain(suffix.iter().copied()).chain([0]));
    archive.extend(core::iter::repeat_n(0, padding(HEADER_BYTES + name_size)));
    archive.extend(content);
    archive.extend(core::iter::repeat_n(0, padding(size)));
    Ok(())
}

/// Most programs of an archive.
pub const PROGRAMS_MAX: u8 = 10;

fn push_header(
    archive: &mut impl Extend<u8>,
    mode: usize,
    size: usize,
    name_size: usize,
) -> Result<(), ArchiveError> {
    const MODE: usize = 1;
    const LINKS: usize = 4;
    archive.extend(MAGIC.iter().copied());
    for index in 0..NUMBERS {
        let number = match index {
            MODE => mode,
            LINKS => 1,
            SIZE => size,
            NAME_SIZE => name_size,
            _ => 0,
        };
        let number = u32::try_from(number).map_err(|_| ArchiveError::TooLarge)?;
        let digits = (0..DIGITS).rev().map(|digit| (number >> (4 * digit)) & 0xf);
        archive.extend(digits.map(|digit| b"0123456789ABCDEF"[digit as usize]));
    }
    Ok(())
}

/// What is wrong with an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// It ends in the middle of a file.
    Cut,
    /// A file does not start with the magic of the format.
    Magic,
    /// A number has something else than hexadecimal digits.
    Number,
    /// A name does not end with a zero.
    Name,
    /// Files that are not arguments and program in turn.
    Order,
    /// No arguments, too many, or ones with a zero byte inside.
    Arguments,
    /// More than [`PROGRAMS_MAX`] programs.
    TooMany,
    /// A file of 4 GiB or more.
    TooLarge,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "it ends in the middle of a file",
            Self::Magic => "it is no cpio archive of the newc format",
            Self::Number => "a number is none",
            Self::Name => "a name does not end",
            Self::Order => "its files are not arguments and program in turn",
            Self::Arguments => {
                "arguments are missing, contain a zero byte, or are too many (64, of 4096 bytes)"
            }
            Self::TooMany => "more than 10 programs",
            Self::TooLarge => "a program of 4 GiB or more",
        })
    }
}

impl core::error::Error for ArchiveError {}
