//! [`BootInfo`]: what every protocol is read into.

use crate::{MemoryMap, MemoryRange, Rsdp, Screen};

/// What the boot loader handed over: a bounded copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootInfo {
    memory: MemoryMap,
    command_line: [u8; Self::COMMAND_LINE_MAX],
    command_line_len: usize,
    modules: [MemoryRange; Self::MODULES_MAX],
    modules_len: usize,
    modules_refused: usize,
    rsdp: Option<Rsdp>,
    screen: Option<Screen>,
}

impl BootInfo {
    /// Most bytes of the command line.
    pub const COMMAND_LINE_MAX: usize = 2048;
    /// Most modules.
    pub const MODULES_MAX: usize = 8;

    /// Creates what a loader that says nothing hands over.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            memory: MemoryMap::new(),
            command_line: [0; Self::COMMAND_LINE_MAX],
            command_line_len: 0,
            modules: [MemoryRange::EMPTY; Self::MODULES_MAX],
            modules_len: 0,
            modules_refused: 0,
            rsdp: None,
            screen: None,
        }
    }

    /// Returns the RAM, modules and kernel image included.
    #[must_use]
    pub const fn memory(&self) -> &MemoryMap {
        &self.memory
    }

    /// Returns where the modules are: inside the RAM.
    #[must_use]
    pub fn modules(&self) -> &[MemoryRange] {
        self.modules.get(..self.modules_len).unwrap_or_default()
    }

    /// Counts the modules that could not be taken: they don't lie in RAM, or are too many.
    #[must_use]
    pub const fn modules_refused(&self) -> usize {
        self.modules_refused
    }

    /// Returns the command line; text that is not UTF-8 ends it.
    #[must_use]
    pub fn command_line(&self) -> &str {
        let bytes = self.command_line.get(..self.command_line_len).unwrap_or_default();
        bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }

    /// Returns where ACPI's tables are, if the loader says so.
    #[must_use]
    pub const fn rsdp(&self) -> Option<Rsdp> {
        self.rsdp
    }

    /// Returns the screen, if the loader left one.
    #[must_use]
    pub const fn screen(&self) -> Option<Screen> {
        self.screen
    }

    /// Takes over what is usable, and after that what is not, whichever order they were described in.
    pub fn set_memory(&mut self, entries: impl Iterator<Item = (MemoryRange, bool)> + Clone) {
        let of_kind = |wanted: bool| entries.clone().filter(move |(_, is_ram)| *is_ram == wanted);
        of_kind(true).for_each(|(range, _)| self.memory.add(range));
        of_kind(false).for_each(|(range, _)| self.memory.remove(range));
    }

    /// Sets the command line: what comes before the first zero, as far as there is room.
    pub fn set_command_line(&mut self, bytes: impl IntoIterator<Item = u8>) {
        self.command_line_len = 0;
        for (slot, byte) in self.command_line.iter_mut().zip(bytes).take_while(|(_, byte)| *byte != 0) {
            *slot = byte;
            self.command_line_len += 1;
        }
    }

    /// Adds a module, if it lies in RAM, and counts it if it does not. The RAM has to be set by then.
    pub fn add_module(&mut self, module: MemoryRange) {
        if module.is_empty() {
            return;
        }
        match self.modules.get_mut(self.modules_len) {
            Some(slot) if self.memory.contains(&module) => {
                *slot = module;
                self.modules_len += 1;
            }
            _ => self.modules_refused += 1,
        }
    }

    /// Sets where ACPI's tables are.
    pub const fn set_rsdp(&mut self, rsdp: Option<Rsdp>) {
        self.rsdp = rsdp;
    }

    /// Sets the screen. What it shows is not RAM, whatever was said before.
    pub fn set_screen(&mut self, screen: Screen) {
        self.memory.remove(screen.range());
        self.screen = Some(screen);
    }
}

impl Default for BootInfo {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ram(end: u64) -> BootInfo {
        let mut info = BootInfo::new();
        info.set_memory([(MemoryRange { start: 0, end }, true)].into_iter());
        info
    }

    #[test]
    fn what_is_not_ram_wins_whatever_comes_first() {
        let (ram, hole) = (MemoryRange { start: 0, end: 0x9000 }, MemoryRange { start: 0x3000, end: 0x5000 });
        for entries in [[(ram, true), (hole, false)], [(hole, false), (ram, true)]] {
            let mut info = BootInfo::new();
            info.set_memory(entries.into_iter());
            assert_eq!(info.memory().bytes(), 0x7000);
            assert!(!info.memory().contains(&hole));
        }
    }

    #[test]
    fn the_command_line_ends_at_its_zero_or_where_it_is_no_text() {
        let mut info = BootInfo::new();
        info.set_command_line(*b"a=b\0c=d");
        assert_eq!(info.command_line(), "a=b");
        info.set_command_line(*b"a\xff b");
        assert_eq!(info.command_line(), "a");
        info.set_command_line(std::iter::repeat_n(b'x', 5000));
        assert_eq!(info.command_line().len(), BootInfo::COMMAND_LINE_MAX);
    }

    #[test]
    fn modules_outside_of_ram_are_refused_and_counted() {
        let mut info = with_ram(0x10_0000);
        info.add_module(MemoryRange { start: 0x1000, end: 0x2000 });
        info.add_module(MemoryRange { start: 0xf_f000, end: 0x10_0001 });
        info.add_module(MemoryRange { start: 0x5000, end: 0x4000 });
        assert_eq!(info.modules(), [MemoryRange { start: 0x1000, end: 0x2000 }]);
        assert_eq!(info.modules_refused(), 1, "the one of no bytes is none");
        for _ in 0..BootInfo::MODULES_MAX {
            info.add_module(MemoryRange { start: 0x1000, end: 0x2000 });
        }
        assert_eq!((info.modules().len(), info.modules_refused()), (BootInfo::MODULES_MAX, 2));
    }
}
