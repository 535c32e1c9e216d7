//! The lookup itself, with every answer kept.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use object::{Object as _, ObjectSection as _};

use super::table::SymbolTable;
use super::{Image, SymbolError, UNKNOWN};
use crate::capture::clean;

/// Most inlined functions that one address is given.
const FRAMES_MAX: usize = 64;

type Bytes<'elf> = EndianSlice<'elf, LittleEndian>;

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFrame {
    /// The function's name, demangled, without hash.
    pub function: Rc<str>,
    /// Source file, as the compiler saw it.
    pub file: Option<Rc<str>>,
    /// Source line; 0 where none is known.
    pub line: u32,
    /// Whether the function was inlined into the next frame's.
    pub is_inlined: bool,
}

/// What is known of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Functions at the address, innermost first; empty where none is known.
    pub frames: Vec<SourceFrame>,
    /// Where the code of the outermost one begins, as the symbol table has it.
    pub start: Option<u64>,
}

impl Resolved {
    /// Tells whether nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.frames.is_empty()
    }
}

impl SourceFrame {
    /// Tells whether the function comes with the compiler, by where its source file was.
    #[must_use]
    pub fn is_standard_library(&self) -> bool {
        let is_compilers =
            |file: &str| file.starts_with("/rustc/") || file.contains("/rustlib/src/rust/library/");
        self.file.as_deref().is_some_and(is_compilers)
    }

    /// Writes `file:line` with the last directory only, or `None` where the line is not known.
    #[must_use]
    pub fn srcline(&self) -> Option<String> {
        let file = self.file.as_deref().filter(|_| self.line > 0)?;
        let mut cuts = file.rmatch_indices('/').map(|(at, _)| at + 1);
        let start = cuts.nth(1).unwrap_or(0);
        Some(format!("{}:{}", &file[start..], self.line))
    }
}

/// Looks up addresses in one image, each unique one once.
pub struct Symbolizer<'elf> {
    dwarf: Option<Context<Bytes<'elf>>>,
    table: SymbolTable,
    names: Names,
    known: HashMap<u64, Rc<Resolved>>,
    unknown: Rc<Resolved>,
}

impl<'elf> Symbolizer<'elf> {
    /// Reads the symbols of an image. Damaged DWARF is treated as missing.
    ///
    /// # Errors
    /// [`SymbolError::NotElf`] where the image can't be parsed.
    pub fn new(image: &'elf Image) -> Result<Self, SymbolError> {
        let elf = object::File::parse(image.bytes())
            .map_err(|source| SymbolError::NotElf { name: image.name().to_owned(), source })?;
        let mut names = Names::default();
        Ok(Self {
            dwarf: dwarf(&elf),
            table: SymbolTable::new(&elf, &mut names),
            names,
            known: HashMap::new(),
            unknown: Rc::default(),
        })
    }

    /// Looks up the instruction at `ip`.
    pub fn instruction(&mut self, ip: u64) -> Rc<Resolved> {
        if !self.table.is_text(ip) {
            // Nothing outside the code is kept, so that hostile addresses fill no memory.
            return Rc::clone(&self.unknown);
        }
        if let Some(known) = self.known.get(&ip) {
            return Rc::clone(known);
        }
        let resolved = Rc::new(self.resolve(ip));
        self.known.insert(ip, Rc::clone(&resolved));
        resolved
    }

    /// Looks up the call that returns to `ip`: the instruction before it, which may be another line or,
    /// after a call that never returns, another function.
    pub fn call(&mut self, ip: u64) -> Rc<Resolved> {
        self.instruction(ip.wrapping_sub(1))
    }

    fn resolve(&mut self, ip: u64) -> Resolved {
        let symbol = self.table.find(ip).cloned();
        let name = symbol.as_ref().map(|symbol| Rc::clone(&symbol.name));
        let mut frames = self.dwarf_frames(ip, name.as_ref());
        if frames.is_empty() {
            frames.extend(name.map(|function| SourceFrame {
                function,
                file: None,
                line: 0,
                is_inlined: false,
            }));
        }
        Resolved { frames, start: symbol.map(|symbol| symbol.start) }
    }

    /// Collects what DWARF knows; a function without a name takes the symbol's.
    fn dwarf_frames(&mut self, ip: u64, symbol: Option<&Rc<str>>) -> Vec<SourceFrame> {
        let mut frames = Vec::new();
        let Some(dwarf) = &self.dwarf else {
            return frames;
        };
        let Ok(mut found) = dwarf.find_frames(ip).skip_all_loads() else {
            return frames;
        };
        while let Ok(Some(frame)) = found.next() {
            let raw = frame.function.as_ref().and_then(|name| name.raw_name().ok());
            let Some(function) = raw.map(|raw| self.names.demangled(&raw)).or(symbol.cloned()) else {
                break;
            };
            let location = frame.location;
            let file = location.as_ref().and_then(|location| location.file);
            frames.push(SourceFrame {
                function,
                file: file.map(|file| self.names.intern(&clean(file))),
                line: location.and_then(|location| location.line).unwrap_or(0),
                is_inlined: true,
            });
            if frames.len() == FRAMES_MAX {
                break;
            }
        }
        if let Some(outermost) = frames.last_mut() {
            outermost.is_inlined = false;
        }
        frames
    }
}

fn dwarf<'elf>(elf: &object::File<'elf>) -> Option<Context<Bytes<'elf>>> {
    let section = |id: SectionId| -> Result<Bytes<'elf>, object::Error> {
        let section = elf.section_by_name(id.name());
        let data = section.map_or(Ok(&[][..]), |section| section.data())?;
        Ok(EndianSlice::new(data, LittleEndian))
    };
    Context::from_dwarf(Dwarf::load(section).ok()?).ok()
}

/// Names that are kept once each.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<Rc<str>>,
}

impl Names {
    /// Demangles a Rust name and leaves any other one as it is.
    pub(super) fn demangled(&mut self, raw: &str) -> Rc<str> {
        match rustc_demangle::try_demangle(raw) {
            Ok(name) => self.intern(&clean(&format!("{name:#}"))),
            Err(_) if raw.is_empty() => self.intern(UNKNOWN),
            Err(_) => self.intern(&clean(raw)),
        }
    }

    fn intern(&mut self, name: &str) -> Rc<str> {
        if let Some(known) = self.known.get(name) {
            return Rc::clone(known);
        }
        let name: Rc<str> = name.into();
        self.known.insert(Rc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_line_keeps_the_last_directory() {
        let mut frame = SourceFrame {
            function: "f".into(),
            file: Some("/home/me/kernel/src/workloads/sort.rs".into()),
            line: 7,
            is_inlined: false,
        };
        assert_eq!(frame.srcline().as_deref(), Some("workloads/sort.rs:7"));
        frame.file = Some("sort.rs".into());
        assert_eq!(frame.srcline().as_deref(), Some("sort.rs:7"));
        frame.line = 0;
        assert_eq!(frame.srcline(), None);
    }

    #[test]
    fn names_are_demangled_without_their_hash_and_cleaned() {
        let mut names = Names::default();
        assert_eq!(&*names.demangled("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(&*names.demangled("memcpy"), "memcpy");
        assert_eq!(&*names.demangled("x\x1b[2J"), "x\\u{1b}[2J");
    }
}
