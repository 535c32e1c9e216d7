//! What a machine is: the choices that a test has.

use nmiprof::images::Image;
use nmiprof_pmu::model::Flaw;
use nmiprof_pmu::profiles::{self, Profile};

use crate::cpu::nmi::IretFault;
use crate::devices::Fitted;
use crate::pmu::Latency;
use crate::watch::Attribution;

/// What a machine is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The CPU.
    pub profile: &'static Profile,
    /// A way in which its PMU lies.
    pub flaw: Option<Flaw>,
    /// Between an overflow and its NMI, in events: any that a counter counts, or instructions while none counts.
    pub latency: Latency,
    /// What an `iret` that faults does to NMIs.
    pub iret_fault: IretFault,
    /// RAM, in MiB.
    pub memory_mib: usize,
    /// Frequency of the clock: a cycle is a tick of it.
    pub clock_hz: u64,
    /// Where the truth is kept.
    pub attribution: Attribution,
    /// Whether accesses to memory go through the cache model.
    pub has_cache: bool,
    /// The image that boots.
    pub image: Image,
    /// What boots in its place: somebody else's kernel, with a Multiboot 1 header.
    pub foreign: Option<&'static [u8]>,
    /// Its command line.
    pub command_line: String,
    /// A boot module: an archive of programs.
    pub module: Vec<u8>,
    /// Whether CPUID offers x2APIC; `None` for what the profile says.
    pub x2apic: Option<bool>,
    /// Whether there are an I/O APIC, and ACPI tables that name it and the HPET.
    pub has_io_apic: bool,
    /// Whether there is a HPET.
    pub has_hpet: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: &profiles::SKYLAKE,
            flaw: None,
            latency: Latency::default(),
            iret_fault: IretFault::default(),
            memory_mib: 64,
            clock_hz: 100_000_000,
            attribution: Attribution::Own,
            has_cache: true,
            image: Image::Main,
            foreign: None,
            command_line: String::new(),
            module: Vec::new(),
            x2apic: None,
            has_io_apic: true,
            has_hpet: true,
        }
    }
}

impl Config {
    /// Returns which devices there are that a PC may lack.
    #[must_use]
    pub const fn fitted(&self) -> Fitted {
        Fitted { io_apic: self.has_io_apic, hpet: self.has_hpet }
    }
}
