//! Model-specific registers: those that the engine acts by go to it, those of the local APIC to that, the rest to the
//! PMU model, which knows what is #GP.

use nmiprof_pmu::MsrBus as _;

use crate::devices::lapic::{Sent, register};
use crate::engine::{APIC_BASE, Engine};
use crate::watch::Watch;

const TIME: u32 = 0x10;
const APIC_BASE_REGISTER: u32 = 0x1b;
/// `IA32_PRED_CMD`, `PRED_CMD`: can only be written.
const PREDICTION_COMMAND: u32 = 0x49;
const PREDICTION_BARRIER: u64 = 1;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x83f;
const PAGE_ATTRIBUTES: u32 = 0x277;
const EFER: u32 = 0xc000_0080;
/// STAR, LSTAR, CSTAR, FMASK.
const SYSTEM_CALL: std::ops::RangeInclusive<u32> = 0xc000_0081..=0xc000_0084;
/// The bases of FS and GS, and the kernel's.
const BASES: std::ops::RangeInclusive<u32> = 0xc000_0100..=0xc000_0102;
const X2APIC_ENABLED: u64 = 1 << 10;
const APIC_ENABLED: u64 = 1 << 11;
const BOOT_CPU: u64 = 1 << 8;

/// The registers that are neither the engine's nor the PMU's.
#[derive(Clone, Debug)]
pub struct Msrs {
    /// Whether x2APIC mode can be entered.
    pub offers_x2apic: bool,
    /// Accesses to the local APIC's registers in memory while they are MSRs: on hardware they reach nothing.
    pub apic_strays: u64,
    apic_base: u64,
    page_attributes: u64,
}

impl Default for Msrs {
    fn default() -> Self {
        Self {
            offers_x2apic: false,
            apic_strays: 0,
            apic_base: APIC_BASE | APIC_ENABLED | BOOT_CPU,
            page_attributes: 0x0007_0406_0007_0406,
        }
    }
}

impl Msrs {
    /// Tells whether the local APIC is in x2APIC mode.
    #[must_use]
    pub const fn is_x2apic(&self) -> bool {
        self.apic_base & X2APIC_ENABLED != 0
    }
}

/// Reads a register; `None` is #GP.
pub fn read(engine: &mut Engine<Watch>, number: u32) -> Option<u64> {
    if number == EFER || SYSTEM_CALL.contains(&number) || BASES.contains(&number) {
        return Some(engine.msr(number));
    }
    let watch = engine.guest_mut();
    match number {
        TIME => Some(watch.clock),
        APIC_BASE_REGISTER => Some(watch.msrs.apic_base),
        PAGE_ATTRIBUTES => Some(watch.msrs.page_attributes),
        X2APIC_FIRST..=X2APIC_LAST => read_apic(watch, (number - X2APIC_FIRST) << 4),
        _ => watch.with_pmu(|model| model.read(number)).ok(),
    }
}

/// Writes a register; `None` is #GP.
pub fn write(engine: &mut Engine<Watch>, number: u32, value: u64) -> Option<()> {
    if number == EFER || SYSTEM_CALL.contains(&number) || BASES.contains(&number) {
        engine.set_msr(number, value);
        return Some(());
    }
    let watch = engine.guest_mut();
    match number {
        APIC_BASE_REGISTER => {
            if value & X2APIC_ENABLED != 0 && !watch.msrs.offers_x2apic {
                return None;
            }
            watch.msrs.apic_base = value;
        }
        PAGE_ATTRIBUTES => watch.msrs.page_attributes = value,
        PREDICTION_COMMAND => return command_prediction(watch, value),
        X2APIC_FIRST..=X2APIC_LAST => return write_apic(watch, (number - X2APIC_FIRST) << 4, value),
        _ => return watch.with_pmu(|model| model.write(number, value)).ok(),
    }
    Some(())
}

/// Does what is written to the branch predictor's register, on CPUs that say that they have it (SDM volume 2, CPUID
/// leaf 07H; APM volume 3, function 8000_0008H).
fn command_prediction(watch: &mut Watch, value: u64) -> Option<()> {
    let profile = watch.pmu.model().profile();
    let is_there = profile.leaf(7, 0)[3] & 1 << 26 != 0 || profile.leaf(0x8000_0008, 0)[1] & 1 << 12 != 0;
    if !is_there || value & !PREDICTION_BARRIER != 0 {
        return None;
    }
    if value == PREDICTION_BARRIER {
        watch.forget_branches();
    }
    Some(())
}

fn read_apic(watch: &mut Watch, offset: u32) -> Option<u64> {
    let is_there = watch.msrs.is_x2apic() && offset != register::COMMAND_HIGH;
    is_there.then(|| match offset {
        register::LVT_PERFORMANCE => u64::from(watch.with_pmu(|model| model.read_lvtpc())),
        _ => u64::from(watch.devices.apic.read(offset, watch.clock)),
    })
}

/// Vector, delivery mode and mask: the rest of an LVT entry is reserved.
const LVT_RESERVED: u64 = !0x1_07ff;

fn write_apic(watch: &mut Watch, offset: u32, value: u64) -> Option<()> {
    if !watch.msrs.is_x2apic() || offset == register::COMMAND_HIGH {
        return None;
    }
    if offset == register::LVT_PERFORMANCE {
        let entry = u32::try_from(value).ok().filter(|_| value & LVT_RESERVED == 0)?;
        watch.with_pmu(|model| model.write_lvtpc(entry));
        return Some(());
    }
    let sent = watch.devices.apic.write_msr(offset, value, watch.clock)?;
    watch.take_command(sent);
    Some(())
}

/// Reads a register of the local APIC in memory.
pub fn read_apic_memory(watch: &mut Watch, offset: u32) -> u32 {
    watch.msrs.apic_strays += u64::from(watch.msrs.is_x2apic());
    match offset {
        register::LVT_PERFORMANCE => watch.with_pmu(|model| model.read_lvtpc()),
        _ => watch.devices.apic.read(offset, watch.clock),
    }
}

/// Writes a register of the local APIC in memory.
pub fn write_apic_memory(watch: &mut Watch, offset: u32, value: u32) {
    watch.msrs.apic_strays += u64::from(watch.msrs.is_x2apic());
    let sent = match offset {
        register::LVT_PERFORMANCE => {
            watch.with_pmu(|model| model.write_lvtpc(value));
            Sent::Nothing
        }
        _ => watch.devices.apic.write(offset, value, watch.clock),
    };
    watch.take_command(sent);
}
