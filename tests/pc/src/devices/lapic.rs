//! The local APIC: its registers, by memory (xAPIC) or as MSRs (x2APIC), and its timer.
//!
//! The entry for performance counters is the PMU model's, which knows when it masks itself. The timer has no NMI
//! mode: on hardware those bits of its entry are reserved, ignored in memory and #GP in an MSR.
//!
//! Source: SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".

/// Offsets of registers.
pub mod register {
    /// ID.
    pub const ID: u32 = 0x20;
    /// End of interrupt.
    pub const END_OF_INTERRUPT: u32 = 0xb0;
    /// Low half of the command.
    pub const COMMAND_LOW: u32 = 0x300;
    /// High half of the command.
    pub const COMMAND_HIGH: u32 = 0x310;
    /// Entry of the timer.
    pub const LVT_TIMER: u32 = 0x320;
    /// Entry for performance counters.
    pub const LVT_PERFORMANCE: u32 = 0x340;
    /// Entry of LINT0.
    pub const LVT_LINT0: u32 = 0x350;
    /// Entry of LINT1.
    pub const LVT_LINT1: u32 = 0x360;
    /// Initial count of the timer.
    pub const INITIAL_COUNT: u32 = 0x380;
    /// Current count of the timer.
    pub const CURRENT_COUNT: u32 = 0x390;
    /// What the timer's clock is divided by.
    pub const DIVIDE: u32 = 0x3e0;
}

const VERSION: u32 = 0x30;
const SPURIOUS_VECTOR: u32 = 0xf0;
const VERSION_VALUE: u32 = 0x0005_0014;
const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const MODE: u32 = 7 << 8;
const MODE_NMI: u32 = 4 << 8;
const MODE_EXTERNAL: u32 = 7 << 8;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const SHORTHAND: u32 = 3 << 18;
const SHORTHAND_SELF: u32 = 1 << 18;
const TIMER_WRITABLE: u32 = MASKED | PERIODIC | 0xff;
const REGISTERS: usize = 64;

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing.
    Nothing,
    /// An NMI to this CPU.
    Nmi,
    /// An interrupt with this vector to this CPU.
    Vector(u8),
}

/// The local APIC of CPU 0.
#[derive(Clone, Debug)]
pub struct LocalApic {
    registers: [u32; REGISTERS],
    /// Machine time at which the timer was armed.
    armed: Option<u64>,
    /// Vectors that ask to be taken, one bit each.
    requests: [u64; 4],
    in_service: Option<u8>,
}

impl Default for LocalApic {
    fn default() -> Self {
        let mut apic = Self { registers: [0; REGISTERS], armed: None, requests: [0; 4], in_service: None };
        for entry in [register::LVT_TIMER, register::LVT_LINT0, register::LVT_LINT1, 0x330, 0x370] {
            *apic.slot(entry) = MASKED;
        }
        *apic.slot(SPURIOUS_VECTOR) = 0xff;
        *apic.slot(VERSION) = VERSION_VALUE;
        apic
    }
}

impl LocalApic {
    /// Reads a register, but for the entry of the performance counters.
    #[must_use]
    pub fn read(&self, offset: u32, now: u64) -> u32 {
        match offset & 0xff0 {
            register::CURRENT_COUNT => self.remaining(now),
            other => self.value(other),
        }
    }

    /// Writes a register, but for the entry of the performance counters.
    pub fn write(&mut self, offset: u32, value: u32, now: u64) -> Sent {
        let offset = offset & 0xff0;
        match offset {
            register::ID | VERSION | register::CURRENT_COUNT => return Sent::Nothing,
            register::END_OF_INTERRUPT => self.in_service = None,
            register::LVT_TIMER => *self.slot(offset) = value & TIMER_WRITABLE,
            register::INITIAL_COUNT => {
                *self.slot(offset) = value;
                self.armed = (value != 0).then_some(now);
            }
            register::COMMAND_LOW => {
                *self.slot(offset) = value;
                return self.command(value, self.value(register::COMMAND_HIGH) >> 24);
            }
            _ => *self.slot(offset) = value,
        }
        Sent::Nothing
    }

    /// Writes a register as an MSR; `None` is #GP.
    pub fn write_msr(&mut self, offset: u32, value: u64, now: u64) -> Option<Sent> {
        let low = u32::try_from(value & 0xffff_ffff).ok()?;
        if offset == register::COMMAND_LOW {
            *self.slot(offset) = low;
            return Some(self.command(low, u32::try_from(value >> 32).ok()?));
        }
        let is_reserved = value >> 32 != 0 || (offset == register::LVT_TIMER && low & MODE != 0);
        (!is_reserved).then(|| self.write(offset, low, now))
    }

    /// Tells whether the entry of a pin lets NMIs through.
    #[must_use]
    pub fn lets_nmi_pin_through(&self) -> bool {
        self.value(register::LVT_LINT1) & (MASKED | MODE) == MODE_NMI
    }

    /// Tells whether the legacy controller's interrupts come through.
    #[must_use]
    pub fn lets_legacy_through(&self) -> bool {
        self.value(register::LVT_LINT0) & (MASKED | MODE) == MODE_EXTERNAL
            && self.value(SPURIOUS_VECTOR) & SOFTWARE_ENABLE != 0
    }

    /// Returns when the timer ends.
    #[must_use]
    pub fn timer_end(&self) -> Option<u64> {
        let count = u64::from(self.value(register::INITIAL_COUNT)) * self.divisor();
        self.armed.map(|start| start.saturating_add(count))
    }

    /// Lets the timer end.
    pub fn end_timer(&mut self, now: u64) {
        let entry = self.value(register::LVT_TIMER);
        self.armed = (entry & PERIODIC != 0).then_some(now);
        if entry & MASKED == 0 {
            self.request(entry.to_le_bytes()[0]);
        }
    }

    /// Asks for an interrupt; vectors below 16 are illegal, and dropped.
    pub fn request(&mut self, vector: u8) {
        if vector >= 16 {
            self.requests[usize::from(vector >> 6)] |= 1 << (vector & 63);
        }
    }

    /// Returns the vector that is to be taken next.
    #[must_use]
    pub fn asking(&self) -> Option<u8> {
        let highest = (0..=u8::MAX)
            .rev()
            .find(|vector| self.requests[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0);
        highest.filter(|vector| self.in_service.is_none_or(|other| vector >> 4 > other >> 4))
    }

    /// Accepts that vector.
    pub fn accept(&mut self, vector: u8) {
        self.requests[usize::from(vector >> 6)] &= !(1 << (vector & 63));
        self.in_service = Some(vector);
    }

    fn remaining(&self, now: u64) -> u32 {
        let left = self.timer_end().map_or(0, |end| end.saturating_sub(now) / self.divisor());
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn divisor(&self) -> u64 {
        let setting = self.value(register::DIVIDE);
        let code = setting >> 1 & 4 | setting & 3;
        1 << ((code + 1) & 7)
    }

    /// Sends a command: what is for this CPU, whose ID is 0, comes back.
    fn command(&self, value: u32, destination: u32) -> Sent {
        let is_own = match value & SHORTHAND {
            0 => destination == 0 || destination == 0xff,
            // SDM: the self shorthand is for fixed interrupts only.
            SHORTHAND_SELF => value & MODE == 0,
            _ => false,
        };
        match value & MODE {
            MODE_NMI if is_own => Sent::Nmi,
            0 if is_own => Sent::Vector(value.to_le_bytes()[0]),
            _ => Sent::Nothing,
        }
    }

    fn value(&self, offset: u32) -> u32 {
        self.registers.get((offset >> 4) as usize).copied().unwrap_or(0)
    }

    fn slot(&mut self, offset: u32) -> &mut u32 {
        &mut self.registers[(offset >> 4) as usize % REGISTERS]
    }
}
