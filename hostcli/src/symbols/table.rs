//! The ELF symbol table: what is left to know where there is no DWARF, and where functions begin.

use std::rc::Rc;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SymbolKind};

use super::symbolizer::Names;

/// Code symbols, sorted by address.
#[derive(Debug)]
pub(super) struct SymbolTable {
    symbols: Vec<Symbol>,
    /// Executable sections: first address, and the one after the last.
    text: Vec<(u64, u64)>,
}

/// A named stretch of code.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    pub(super) start: u64,
    /// Size in bytes; 0 for a label, which reaches to the next symbol.
    size_bytes: u64,
    is_function: bool,
    pub(super) name: Rc<str>,
}

impl SymbolTable {
    pub(super) fn new(elf: &object::File<'_>, names: &mut Names) -> Self {
        let text: Vec<_> = elf.sections().filter_map(|section| text_range(&section)).collect();
        let mut table = Self { symbols: Vec::new(), text };
        let defined =
            elf.symbols().filter(|symbol| symbol.is_definition() || symbol.kind() == SymbolKind::Label);
        table.symbols =
            defined.filter(|symbol| table.is_text(symbol.address())).filter_map(read_symbol).collect();
        table.sort();
        for symbol in &mut table.symbols {
            symbol.name = names.demangled(&symbol.name);
        }
        table
    }

    /// Sorts by address, and keeps one symbol of each: a function rather than a label.
    fn sort(&mut self) {
        self.symbols.sort_unstable_by(|a, b| {
            (a.start, !a.is_function, &a.name).cmp(&(b.start, !b.is_function, &b.name))
        });
        self.symbols.dedup_by_key(|symbol| symbol.start);
    }

    /// Tells whether there is code at `ip`.
    pub(super) fn is_text(&self, ip: u64) -> bool {
        self.text.iter().any(|(start, end)| (*start..*end).contains(&ip))
    }

    /// Finds the symbol that covers `ip`.
    pub(super) fn find(&self, ip: u64) -> Option<&Symbol> {
        let after = self.symbols.partition_point(|symbol| symbol.start <= ip);
        let symbol = self.symbols.get(after.checked_sub(1)?)?;
        let is_inside = symbol.size_bytes == 0 || ip - symbol.start < symbol.size_bytes;
        is_inside.then_some(symbol)
    }
}

fn read_symbol(symbol: object::Symbol<'_, '_>) -> Option<Symbol> {
    Some(Symbol {
        start: symbol.address(),
        size_bytes: symbol.size(),
        is_function: symbol.kind() == SymbolKind::Text,
        name: symbol.name().ok().filter(|name| !name.is_empty())?.into(),
    })
}

fn text_range(section: &object::Section<'_, '_>) -> Option<(u64, u64)> {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
        return None;
    };
    let is_executable = sh_flags.0 & object::elf::SHF_EXECINSTR.0 != 0;
    is_executable.then(|| (section.address(), section.address().saturating_add(section.size())))
}
