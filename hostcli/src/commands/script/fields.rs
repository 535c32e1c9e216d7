//! Which parts of a sample are printed.

/// Parts of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Field {
    /// CPU
    Cpu,
    /// Time in seconds
    Time,
    /// Event
    Event,
    /// Address
    Ip,
    /// Function
    Sym,
    /// Offset into the function
    Symoff,
    /// Source file and line
    Srcline,
}

/// A set of fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) cpu: bool,
    pub(super) time: bool,
    pub(super) event: bool,
    pub(super) ip: bool,
    pub(super) sym: bool,
    pub(super) symoff: bool,
    pub(super) srcline: bool,
}

impl Fields {
    pub(super) fn new(fields: &[Field]) -> Self {
        Self {
            cpu: fields.contains(&Field::Cpu),
            time: fields.contains(&Field::Time),
            event: fields.contains(&Field::Event),
            ip: fields.contains(&Field::Ip),
            sym: fields.contains(&Field::Sym),
            symoff: fields.contains(&Field::Symoff),
            srcline: fields.contains(&Field::Srcline),
        }
    }

    /// Tells whether an ELF is needed.
    pub(super) const fn need_symbols(self) -> bool {
        self.sym || self.symoff || self.srcline
    }

    /// Tells whether anything is printed before the address.
    pub(super) const fn has_head(self) -> bool {
        self.cpu || self.time || self.event
    }

    /// Tells whether anything is printed of an address.
    pub(super) const fn has_place(self) -> bool {
        self.ip || self.need_symbols()
    }
}
