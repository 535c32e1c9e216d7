//! The table of CPUs and interrupts: MADT, whose signature is "APIC".
//!
//! Entries come in any order. A kind that is not listed below is skipped; so is an entry that is shorter than its kind
//! needs, or one for which there is no room, and that is counted. One that says to be shorter than its own head ends the
//! table: nobody knows where the next one would be.
//!
//! | entry | becomes |
//! |---|---|
//! | 0 Local APIC, 9 Local x2APIC | [`Cpu`] |
//! | 1 I/O APIC | [`IoApic`] |
//! | 2 Interrupt source override | [`Override`] |
//! | 3 NMI source | [`NmiSource`] |
//! | 4 Local APIC NMI, 10 Local x2APIC NMI | [`LocalNmi`] |
//! | 5 Local APIC address override | [`Madt::local_apic_address`] |
//!
//! Source: ACPI specification 6.5, "Multiple APIC Description Table (MADT)".

use super::list::List;
use super::table::{Header, Table};
use super::{PhysicalMemory, TableError};

/// Most CPUs, usable or not yet.
pub const CPUS_MAX: usize = 256;
const IO_APICS_MAX: usize = 16;
/// The interrupts of an ISA bus are 16; no other bus has overrides.
const OVERRIDES_MAX: usize = 16;
const NMI_SOURCES_MAX: usize = 16;
/// One for each CPU, where firmware does not say "all".
const LOCAL_NMIS_MAX: usize = CPUS_MAX;

/// CPUs and interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Madt {
    /// Physical address of every CPU's local APIC, where it has its registers in memory.
    pub local_apic_address: u64,
    /// There are legacy interrupt controllers (8259), to be masked.
    pub has_legacy_controllers: bool,
    /// CPUs that run or could, each once, in the table's order: the one that boots is not always the first.
    pub cpus: List<Cpu, CPUS_MAX>,
    /// I/O APICs.
    pub io_apics: List<IoApic, IO_APICS_MAX>,
    /// Interrupts of the ISA bus that are not where their number says.
    pub overrides: List<Override, OVERRIDES_MAX>,
    /// Inputs of I/O APICs that are NMIs.
    pub nmi_sources: List<NmiSource, NMI_SOURCES_MAX>,
    /// Pins of local APICs that are NMIs.
    pub local_nmis: List<LocalNmi, LOCAL_NMIS_MAX>,
    /// Entries that are cut, or one too many.
    pub entries_refused: u32,
}

/// A CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// ID of its local APIC.
    pub apic_id: u32,
    /// What other tables and entries call it.
    pub uid: u32,
    /// It can be started now. Else it may come later, by hot-plug ("online capable").
    pub enabled: bool,
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoApic {
    /// Its ID.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u32,
    /// The global system interrupt of its input 0.
    pub first_gsi: u32,
}

/// An interrupt of the ISA bus that is not the global system interrupt of its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Number on the bus.
    pub irq: u8,
    /// Global system interrupt.
    pub gsi: u32,
    /// How the line signals.
    pub signal: Signal,
}

/// An input of an I/O APIC that is an NMI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NmiSource {
    /// Global system interrupt.
    pub gsi: u32,
    /// How the line signals.
    pub signal: Signal,
}

/// A pin of local APICs that is an NMI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalNmi {
    /// The [`Cpu::uid`] that it is of; `None` for all.
    pub uid: Option<u32>,
    /// The pin: LINT0 or LINT1.
    pub pin: u8,
    /// How the line signals.
    pub signal: Signal,
}

/// How an interrupt line signals: "MPS INTI flags".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    flags: u16,
}

impl Signal {
    const POLARITY: u16 = 0b11;
    const ACTIVE_LOW: u16 = 0b11;
    const TRIGGER: u16 = 0b11 << 2;
    const LEVEL: u16 = 0b11 << 2;

    /// Tells whether the line says low for an interrupt. (What conforms to the ISA bus says high.)
    #[must_use]
    pub const fn is_active_low(self) -> bool {
        self.flags & Self::POLARITY == Self::ACTIVE_LOW
    }

    /// Tells whether the line keeps its level until it was served. (What conforms to the ISA bus gives an edge.)
    #[must_use]
    pub const fn is_level(self) -> bool {
        self.flags & Self::TRIGGER == Self::LEVEL
    }
}

impl Madt {
    /// Returns the global system interrupt of an interrupt of the ISA bus, and how it signals.
    #[must_use]
    pub fn isa_interrupt(&self, irq: u8) -> Override {
        let by_table = self.overrides.iter().find(|other| other.irq == irq).copied();
        by_table.unwrap_or(Override { irq, gsi: irq.into(), signal: Signal::default() })
    }

    /// Returns the I/O APIC that a global system interrupt is an input of, if any, and the number of the input.
    ///
    /// How many inputs each has its registers say: the one that begins last before the interrupt is right, if it has so
    /// many.
    #[must_use]
    pub fn io_apic_of(&self, gsi: u32) -> Option<(IoApic, u32)> {
        let before = self.io_apics.iter().filter(|io_apic| io_apic.first_gsi <= gsi);
        let nearest = before.max_by_key(|io_apic| io_apic.first_gsi)?;
        Some((*nearest, gsi - nearest.first_gsi))
    }

    pub(super) fn read(table: &Table<'_, impl PhysicalMemory>) -> Result<Self, TableError> {
        const FIRST_ENTRY: u32 = Header::BYTES + 8;
        let mut madt = Self::with(table.bytes(Header::BYTES)?, table.bytes(Header::BYTES + 4)?);
        let mut at = FIRST_ENTRY;
        while at < table.len_bytes() {
            // A byte of padding at the end, or an entry that is none: there is nothing behind it.
            let Ok([kind, len]) = table.bytes(at) else { break };
            if usize::from(len) < Entry::HEAD_BYTES {
                madt.entries_refused += 1;
                break;
            }
            let known = Entry::read(table, at, kind, len).and_then(|entry| madt.take(&entry));
            madt.entries_refused += u32::from(known.is_none());
            at += u32::from(len);
        }
        Ok(madt)
    }

    fn with(local_apic_address: [u8; 4], flags: [u8; 4]) -> Self {
        const LEGACY_CONTROLLERS: u32 = 1 << 0;
        Self {
            local_apic_address: u32::from_le_bytes(local_apic_address).into(),
            has_legacy_controllers: u32::from_le_bytes(flags) & LEGACY_CONTROLLERS != 0,
            cpus: List::new(),
            io_apics: List::new(),
            overrides: List::new(),
            nmi_sources: List::new(),
            local_nmis: List::new(),
            entries_refused: 0,
        }
    }

    /// Takes an entry; `None` where it is cut, or there is no room.
    fn take(&mut self, entry: &Entry) -> Option<()> {
        let took = match entry.kind {
            0 => self.take_cpu(entry.byte(3)?.into(), entry.byte(2)?.into(), entry.word(4)?, u8::MAX.into()),
            1 => self.io_apics.push(IoApic {
                id: entry.byte(2)?,
                address: entry.word(4)?,
                first_gsi: entry.word(8)?,
            }),
            2 => self.take_override(Override {
                irq: entry.byte(3)?,
                gsi: entry.word(4)?,
                signal: entry.signal(8)?,
            }),
            3 => self.nmi_sources.push(NmiSource { gsi: entry.word(4)?, signal: entry.signal(2)? }),
            4 => self.take_local_nmi(entry.byte(2)?.into(), u8::MAX.into(), entry.byte(5)?, entry.signal(3)?),
            5 => {
                self.local_apic_address = entry.long(4)?;
                true
            }
            9 => self.take_cpu(entry.word(4)?, entry.word(12)?, entry.word(8)?, u32::MAX),
            10 => self.take_local_nmi(entry.word(4)?, u32::MAX, entry.byte(8)?, entry.signal(2)?),
            _ => true,
        };
        took.then_some(())
    }

    /// Takes a CPU, unless it can't be used, or was named by an entry of the other kind already.
    fn take_cpu(&mut self, apic_id: u32, uid: u32, flags: u32, nobody: u32) -> bool {
        const ENABLED: u32 = 1 << 0;
        const ONLINE_CAPABLE: u32 = 1 << 1;
        let enabled = flags & ENABLED != 0;
        let can_run = enabled || flags & ONLINE_CAPABLE != 0;
        if !can_run || apic_id == nobody || self.cpus.iter().any(|cpu| cpu.apic_id == apic_id) {
            return true;
        }
        self.cpus.push(Cpu { apic_id, uid, enabled })
    }

    /// Takes an override; the first one of an interrupt counts.
    fn take_override(&mut self, entry: Override) -> bool {
        self.overrides.iter().any(|other| other.irq == entry.irq) || self.overrides.push(entry)
    }

    fn take_local_nmi(&mut self, uid: u32, all: u32, pin: u8, signal: Signal) -> bool {
        self.local_nmis.push(LocalNmi { uid: (uid != all).then_some(uid), pin, signal })
    }
}

/// The beginning of an entry, as much of it as any kind needs.
struct Entry {
    kind: u8,
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Entry {
    const HEAD_BYTES: usize = 2;
    const BYTES_MAX: usize = 16;

    /// Reads an entry; `None` where the table ends before it does.
    fn read(table: &Table<'_, impl PhysicalMemory>, at: u32, kind: u8, len: u8) -> Option<Self> {
        if at + u32::from(len) > table.len_bytes() {
            return None;
        }
        let mut bytes = [0; Self::BYTES_MAX];
        let len = usize::from(len).min(Self::BYTES_MAX);
        table.read(at, bytes.get_mut(..len)?).ok()?;
        Some(Self { kind, bytes, len })
    }

    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..self.len)?.first_chunk().copied()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.field(at).map(u8::from_le_bytes)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.field(at).map(u32::from_le_bytes)
    }

    fn long(&self, at: usize) -> Option<u64> {
        self.field(at).map(u64::from_le_bytes)
    }

    fn signal(&self, at: usize) -> Option<Signal> {
        self.field(at).map(|flags| Signal { flags: u16::from_le_bytes(flags) })
    }
}
