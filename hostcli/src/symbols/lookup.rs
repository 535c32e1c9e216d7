//! Addresses of a whole run: the kernel's, and those of its user programs.

use std::collections::HashMap;
use std::rc::Rc;

use nmiprof_wire::BuildId;

use super::{Image, Programs, Resolved, SymbolError, Symbolizer};
use crate::capture::Owner;

/// Looks up addresses, each in the image that it belongs to. An image is read when it is first asked for.
pub struct Symbols<'elf> {
    kernel: Symbolizer<'elf>,
    programs: &'elf Programs,
    /// `None` for what is not at hand, or can't be parsed.
    open: HashMap<BuildId, Option<Symbolizer<'elf>>>,
    unknown: Rc<Resolved>,
}

impl<'elf> Symbols<'elf> {
    /// Reads the symbols of the kernel.
    ///
    /// # Errors
    /// [`SymbolError::NotElf`] where it can't be parsed.
    pub fn new(kernel: &'elf Image, programs: &'elf Programs) -> Result<Self, SymbolError> {
        let kernel = Symbolizer::new(kernel)?;
        Ok(Self { kernel, programs, open: HashMap::new(), unknown: Rc::default() })
    }

    /// Looks up an instruction.
    pub fn instruction(&mut self, owner: Owner, ip: u64) -> Rc<Resolved> {
        let unknown = Rc::clone(&self.unknown);
        self.symbolizer(owner).map_or(unknown, |symbolizer| symbolizer.instruction(ip))
    }

    /// Looks up the call that returns to `ip`; see [`Symbolizer::call`].
    pub fn call(&mut self, owner: Owner, ip: u64) -> Rc<Resolved> {
        self.instruction(owner, ip.wrapping_sub(1))
    }

    fn symbolizer(&mut self, owner: Owner) -> Option<&mut Symbolizer<'elf>> {
        match owner {
            Owner::Kernel => Some(&mut self.kernel),
            Owner::Unknown => None,
            Owner::Program(id) => {
                let programs = self.programs;
                let open = || programs.find(&id).and_then(|image| Symbolizer::new(image).ok());
                self.open.entry(id).or_insert_with(open).as_mut()
            }
        }
    }
}
