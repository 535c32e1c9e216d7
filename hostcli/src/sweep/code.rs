//! The code of a kernel image: instructions by address, labels by name.

mod listing;

use std::collections::BTreeMap;
use std::ops::Range;

use iced_x86::{Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags};

pub use listing::Line;

/// Code of one image.
#[derive(Debug)]
pub struct Code {
    sections: Vec<Section>,
    labels: BTreeMap<u64, Vec<String>>,
}

#[derive(Debug)]
struct Section {
    start: u64,
    bytes: Vec<u8>,
}

/// A labelled stretch of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The label at its start.
    pub symbol: String,
    /// Its first address.
    pub start: u64,
    /// The address after its last one, where the next label is.
    pub end: u64,
}

/// What an instruction does to the flow of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on at this address.
    Next(u64),
    /// It returns by `iretq`.
    Iret,
    /// It goes somewhere else, or nowhere.
    Other,
}

impl Code {
    /// Reads the executable sections and the symbols of an ELF file.
    ///
    /// # Errors
    /// [`CodeError::NotElf`] where it is none.
    pub fn parse(elf: &[u8]) -> Result<Self, CodeError> {
        let file = object::File::parse(elf).map_err(CodeError::NotElf)?;
        let sections = file.sections().filter_map(|section| executable(&section)).collect();
        let mut code = Self { sections, labels: BTreeMap::new() };
        for symbol in file.symbols() {
            if let Ok(name) = symbol.name()
                && !name.is_empty()
                && code.bytes(symbol.address()).is_some()
            {
                code.labels.entry(symbol.address()).or_default().push(name.to_owned());
            }
        }
        Ok(code)
    }

    /// Returns every label of the code.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.values().flatten().map(String::as_str)
    }

    /// Finds a label.
    #[must_use]
    pub fn address(&self, label: &str) -> Option<u64> {
        let mut labels = self.labels.iter();
        labels.find(|(_, names)| names.iter().any(|name| name == label)).map(|(address, _)| *address)
    }

    /// Returns the labelled stretches of the entry at `label`, in the order of their addresses.
    ///
    /// Labels of an entry begin with its name; the first symbol that does not, or that is an entry of its
    /// own (one with an `_iretq` label), ends it.
    ///
    /// # Errors
    /// [`CodeError::NoLabel`] where there is no such entry.
    pub fn windows(&self, label: &str) -> Result<Vec<Window>, CodeError> {
        let start = self.address(label).ok_or_else(|| CodeError::NoLabel(label.to_owned()))?;
        let mut windows = vec![Window { symbol: label.to_owned(), start, end: start }];
        for (address, names) in self.labels.range(start + 1..) {
            if let Some(window) = windows.last_mut() {
                window.end = *address;
            }
            let Some(name) = names.iter().find(|name| self.belongs_to(name, label)) else { break };
            windows.push(Window { symbol: name.clone(), start: *address, end: *address });
        }
        Ok(windows)
    }

    /// Returns the addresses of the entry at `label`.
    ///
    /// # Errors
    /// [`CodeError::NoLabel`] where there is no such entry.
    pub fn entry(&self, label: &str) -> Result<Range<u64>, CodeError> {
        let windows = self.windows(label)?;
        let start = windows.first().map_or(0, |window| window.start);
        Ok(start..windows.last().map_or(start, |window| window.end))
    }

    /// Tells what the instruction at `address` does next; `None` where there is none.
    #[must_use]
    pub fn flow(&self, address: u64) -> Option<Flow> {
        let instruction = self.instruction(address)?;
        Some(match (instruction.code(), instruction.flow_control()) {
            (Opcode::Iretq | Opcode::Iretd | Opcode::Iretw, _) => Flow::Iret,
            (_, FlowControl::Next) if !repeats(&instruction) => Flow::Next(instruction.next_ip()),
            _ => Flow::Other,
        })
    }

    /// Finds the first conditional branch among the instructions that follow each other in a range.
    #[must_use]
    pub fn conditional_branch(&self, range: &Range<u64>) -> Option<u64> {
        let mut address = range.start;
        while range.contains(&address) {
            let instruction = self.instruction(address)?;
            if instruction.flow_control() == FlowControl::ConditionalBranch {
                return Some(address);
            }
            address = instruction.next_ip();
        }
        None
    }

    /// Returns the addresses of all labels that begin with `prefix`.
    pub fn addresses<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = u64> + 'a {
        let begins = move |names: &[String]| names.iter().any(|name| name.starts_with(prefix));
        self.labels.iter().filter(move |(_, names)| begins(names)).map(|(address, _)| *address)
    }

    /// Returns the addresses of all instructions in a stretch of code, decoded one after the other; `None` where it is
    /// not code throughout.
    #[must_use]
    pub fn instructions(&self, range: Range<u64>) -> Option<Vec<u64>> {
        let mut addresses = Vec::new();
        let mut next = range.start;
        while next < range.end {
            addresses.push(next);
            next = self.instruction(next)?.next_ip();
        }
        Some(addresses)
    }

    /// Names an address: the nearest label before it, and the distance.
    #[must_use]
    pub fn describe(&self, address: u64) -> String {
        let nearest = self.labels.range(..=address).next_back();
        match nearest.and_then(|(start, names)| Some((start, names.first()?))) {
            Some((start, name)) => {
                let name = rustc_demangle::demangle(name);
                format!("{name:#}+{:#x}", address - start)
            }
            None => format!("{address:#x}"),
        }
    }

    fn belongs_to(&self, name: &str, entry: &str) -> bool {
        let is_its_label = name.strip_prefix(entry).is_some_and(|rest| rest.starts_with('_'));
        is_its_label && self.address(&format!("{name}_iretq")).is_none()
    }

    fn instruction(&self, address: u64) -> Option<Instruction> {
        let bytes = self.bytes(address)?;
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    fn bytes(&self, address: u64) -> Option<&[u8]> {
        self.sections.iter().find_map(|section| {
            let offset = usize::try_from(address.checked_sub(section.start)?).ok()?;
            section.bytes.get(offset..).filter(|bytes| !bytes.is_empty())
        })
    }
}

/// Tells whether a step may stay at the same instruction because it repeats.
fn repeats(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

fn executable(section: &object::Section<'_, '_>) -> Option<Section> {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return None };
    if sh_flags.0 & object::elf::SHF_EXECINSTR.0 == 0 {
        return None;
    }
    Some(Section { start: section.address(), bytes: section.data().ok()?.to_vec() })
}

/// Why there is no code to look at.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The image is no ELF file.
    #[error("the kernel image is no ELF file ({0}); build again")]
    NotElf(object::Error),
    /// The image has no such entry.
    #[error("the kernel image has no NMI entry `{0}`; choose another --entry")]
    NoLabel(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;

    fn code() -> Code {
        Code::parse(images::MAIN).expect("an ELF file")
    }

    #[test]
    fn the_windows_of_an_entry_touch_and_end_before_the_next_entry() {
        let code = code();
        for label in ["nmi_rostedt", "nmi_rostedt_early", "nmi_rostedt_early_nret", "nmi_naive"] {
            let windows = code.windows(label).expect("it is built in");
            assert!(windows.len() > 1, "{label}");
            assert!(windows.windows(2).all(|pair| pair[0].end == pair[1].start), "{windows:#?}");
            let iretq = format!("{label}_iretq");
            assert_eq!(windows.iter().filter(|window| window.symbol.ends_with("_iretq")).count(), 1);
            assert!(windows.iter().any(|window| window.symbol == iretq), "{windows:#?}");
        }
        assert!(matches!(code.windows("nmi_none"), Err(CodeError::NoLabel(_))));
    }

    #[test]
    fn a_branch_is_found_where_there_is_one() {
        let code = code();
        let at = |label: &str| code.address(label).expect("a label");
        let window = at("nmi_tristate_window")..at("nmi_tristate_window_end");
        assert_eq!(code.conditional_branch(&window), Some(window.start), "its first instruction");
        let iretq = at("nmi_tristate_iretq")..at("nmi_tristate_window_end");
        assert_eq!(code.conditional_branch(&iretq), None);
    }

    #[test]
    fn an_iretq_is_found_at_its_label() {
        let code = code();
        let iretq = code.address("nmi_rostedt_iretq").expect("a label");
        assert_eq!(code.flow(iretq), Some(Flow::Iret));
        let entry = code.address("nmi_rostedt").expect("a label");
        assert!(matches!(code.flow(entry), Some(Flow::Next(next)) if next > entry));
        assert_eq!(code.flow(0), None);
        assert_eq!(code.describe(iretq), "nmi_rostedt_iretq+0x0");
    }
}
