//! The HPET: a counter, and three comparators that raise inputs of the I/O APIC when it reaches them.
//!
//! Time is the machine's clock. The counter is a function of it: its value when it was started, and when that was; so
//! is the moment at which a comparator is due. Nothing is polled.
//!
//! As in many chipsets the counter has 64 bits and runs at 14.31818 MHz, and comparators reach the inputs that no ISA line
//! has. Comparators have 32 bits, which the specification allows. Left out are the legacy replacement route, messages, and
//! level-triggered interrupts; their bits read as 0. A comparator that does not interrupt stands still. All accesses have
//! 32 bits.
//!
//! Source: "IA-PC HPET (High Precision Event Timers) Specification", revision 1.0a.

/// Physical address of its registers.
pub const HPET_BASE: u64 = 0xfed0_0000;
/// What the first register says: revision 1, three comparators, a counter of 64 bits.
pub const CAPABILITIES_VALUE: u32 = 0x8086_2201;
/// Period of the counter, in femtoseconds.
pub const PERIOD_FS: u32 = 69_841_279;
const FS_PER_SECOND: u128 = 1_000_000_000_000_000;

const CAPABILITIES: u32 = 0x000;
const PERIOD: u32 = 0x004;
const CONFIGURATION: u32 = 0x010;
const COUNTER: u32 = 0x0f0;
const COUNTER_UPPER: u32 = 0x0f4;
const COMPARATORS: u32 = 0x100;
const COMPARATOR_BYTES: u32 = 0x20;
const ENABLE: u32 = 1 << 0;

/// Offsets from a comparator's first register.
const MODE: u32 = 0x00;
const ROUTES: u32 = 0x04;
const VALUE: u32 = 0x08;
const INTERRUPT_ENABLE: u32 = 1 << 2;
const PERIODIC: u32 = 1 << 3;
const PERIODIC_CAPABLE: u32 = 1 << 4;
const SET_DEADLINE: u32 = 1 << 6;
const ROUTE_SHIFT: u32 = 9;
const ROUTE: u32 = 0x1f << ROUTE_SHIFT;
const WRITABLE: u32 = INTERRUPT_ENABLE | PERIODIC | SET_DEADLINE | ROUTE;
/// Inputs 20 to 23.
const ROUTES_VALUE: u32 = 0x00f0_0000;

/// A comparator.
#[derive(Clone, Copy, Debug, Default)]
struct Comparator {
    mode: u32,
    value: u32,
    period: u32,
    /// What the counter was when this was set, or was due last: it is not due then.
    seen: u64,
}

/// The HPET.
#[derive(Clone, Debug)]
pub struct Hpet {
    clock_hz: u64,
    /// The counter while it halts, and when it was started.
    base: u64,
    /// Machine time of the start; `None` while the counter halts.
    started: Option<u64>,
    comparators: [Comparator; 3],
}

impl Hpet {
    /// Creates the HPET in a machine with this clock.
    #[must_use]
    pub fn new(clock_hz: u64) -> Self {
        Self { clock_hz, base: 0, started: None, comparators: [Comparator::default(); 3] }
    }

    /// Reads a register.
    #[must_use]
    pub fn read(&self, offset: u32, now: u64) -> u32 {
        let counter = self.counter(now);
        match offset {
            CAPABILITIES => CAPABILITIES_VALUE,
            PERIOD => PERIOD_FS,
            CONFIGURATION => u32::from(self.started.is_some()) * ENABLE,
            COUNTER => low(counter),
            COUNTER_UPPER => low(counter >> 32),
            _ => match self.comparator_at(offset) {
                Some((index, MODE)) => self.comparators[index].mode | capability(index),
                Some((_, ROUTES)) => ROUTES_VALUE,
                Some((index, VALUE)) => self.comparators[index].value,
                _ => 0,
            },
        }
    }

    /// Writes a register. The counter takes a value only while it halts.
    pub fn write(&mut self, offset: u32, value: u32, now: u64) {
        match offset {
            CONFIGURATION => self.enable(value & ENABLE != 0, now),
            COUNTER if self.started.is_none() => self.base = self.base >> 32 << 32 | u64::from(value),
            COUNTER_UPPER if self.started.is_none() => {
                self.base = u64::from(value) << 32 | u64::from(low(self.base));
            }
            _ => {
                if let Some((index, register)) = self.comparator_at(offset) {
                    self.write_comparator(index, register, value, now);
                }
            }
        }
    }

    /// Returns when a comparator is due next.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        let due = (0..self.comparators.len()).filter_map(|index| self.due(index));
        due.map(|counter| self.time_of(counter)).min()
    }

    /// Lets the comparator raise its input that is due first, if one is; returns the input, and when it was due.
    pub fn raise_due(&mut self, now: u64) -> Option<(usize, u64)> {
        let counter = self.counter(now);
        let due = (0..self.comparators.len()).filter_map(|index| Some((self.due(index)?, index)));
        let (at, index) = due.min().filter(|(at, _)| *at <= counter)?;
        let due = self.time_of(at);
        let comparator = &mut self.comparators[index];
        comparator.seen = at;
        if comparator.mode & PERIODIC != 0 {
            comparator.value = comparator.value.wrapping_add(comparator.period);
        }
        Some((((comparator.mode & ROUTE) >> ROUTE_SHIFT) as usize, due))
    }

    fn enable(&mut self, is_on: bool, now: u64) {
        if is_on == self.started.is_some() {
            return;
        }
        self.base = self.counter(now);
        self.started = is_on.then_some(now);
        for comparator in &mut self.comparators {
            comparator.seen = self.base;
        }
    }

    fn write_comparator(&mut self, index: usize, register: u32, value: u32, now: u64) {
        let counter = self.counter(now);
        let comparator = &mut self.comparators[index];
        match register {
            MODE => {
                let able =
                    if capability(index) & PERIODIC_CAPABLE != 0 { WRITABLE } else { WRITABLE & !PERIODIC };
                comparator.mode = value & able;
            }
            VALUE if comparator.mode & PERIODIC == 0 => comparator.value = value,
            VALUE if comparator.mode & SET_DEADLINE != 0 => {
                comparator.mode &= !SET_DEADLINE;
                comparator.value = value;
            }
            VALUE => comparator.period = value,
            _ => return,
        }
        comparator.seen = counter;
    }

    /// Returns what the counter will be when a comparator is due: the next value with its lower half.
    fn due(&self, index: usize) -> Option<u64> {
        let Comparator { mode, value, seen, .. } = self.comparators[index];
        self.started.filter(|_| mode & INTERRUPT_ENABLE != 0)?;
        let ahead = value.wrapping_sub(low(seen)).wrapping_sub(1);
        seen.checked_add(u64::from(ahead) + 1)
    }

    fn counter(&self, now: u64) -> u64 {
        let cycles = self.started.map_or(0, |start| now.saturating_sub(start));
        let ticks = u128::from(cycles) * FS_PER_SECOND / self.fs_hz();
        self.base.wrapping_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// Returns the first cycle in which the counter has this value.
    fn time_of(&self, counter: u64) -> u64 {
        let ticks = u128::from(counter.saturating_sub(self.base));
        let cycles = u64::try_from((ticks * self.fs_hz()).div_ceil(FS_PER_SECOND)).unwrap_or(u64::MAX);
        self.started.unwrap_or(0).saturating_add(cycles)
    }

    /// Returns the product of both clocks' measures: so many cycles of the machine are a tick, in units of 1/10^15.
    fn fs_hz(&self) -> u128 {
        u128::from(self.clock_hz) * u128::from(PERIOD_FS)
    }

    fn comparator_at(&self, offset: u32) -> Option<(usize, u32)> {
        let from_first = offset.checked_sub(COMPARATORS)?;
        let index = (from_first / COMPARATOR_BYTES) as usize;
        (index < self.comparators.len()).then_some((index, from_first % COMPARATOR_BYTES))
    }
}

/// Returns what a comparator can do: the first is periodic.
const fn capability(index: usize) -> u32 {
    if index == 0 { PERIODIC_CAPABLE } else { 0 }
}

const fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::{
        COMPARATORS, CONFIGURATION, COUNTER, COUNTER_UPPER, ENABLE, Hpet, INTERRUPT_ENABLE, PERIOD_FS,
        PERIODIC, ROUTE_SHIFT, SET_DEADLINE, VALUE,
    };

    const CLOCK_HZ: u64 = 100_000_000;
    const SECOND_TICKS: u64 = 14_318_179;

    fn periodic(period: u32) -> Hpet {
        let mut hpet = Hpet::new(CLOCK_HZ);
        hpet.write(COMPARATORS, INTERRUPT_ENABLE | PERIODIC | SET_DEADLINE | 23 << ROUTE_SHIFT, 0);
        hpet.write(COMPARATORS + VALUE, period, 0);
        hpet.write(COMPARATORS + VALUE, period, 0);
        hpet.write(CONFIGURATION, ENABLE, 1000);
        hpet
    }

    #[test]
    fn the_counter_runs_with_the_machines_clock_and_stands_while_it_is_off() {
        let mut hpet = Hpet::new(CLOCK_HZ);
        assert_eq!(hpet.read(COUNTER, 5), 0);
        hpet.write(CONFIGURATION, ENABLE, 10);
        assert_eq!(u64::from(hpet.read(COUNTER, 10 + CLOCK_HZ)), SECOND_TICKS);
        hpet.write(COUNTER, 7, 11);
        assert_ne!(hpet.read(COUNTER, 10 + CLOCK_HZ), 7, "it takes no value while it runs");
        hpet.write(CONFIGURATION, 0, 10 + CLOCK_HZ);
        assert_eq!(u64::from(hpet.read(COUNTER, 10 + 2 * CLOCK_HZ)), SECOND_TICKS);
        hpet.write(COUNTER, 7, 0);
        hpet.write(COUNTER_UPPER, 1, 0);
        assert_eq!((hpet.read(COUNTER, 0), hpet.read(COUNTER_UPPER, 0)), (7, 1));
    }

    #[test]
    fn a_periodic_comparator_is_due_at_each_multiple_of_its_period() {
        let mut hpet = periodic(1431);
        for index in 1..=1000_u64 {
            let due = hpet.next_due().expect("it runs");
            let ticks = (u128::from(due - 1000) * 1_000_000_000_000_000)
                / (u128::from(CLOCK_HZ) * u128::from(PERIOD_FS));
            assert_eq!(ticks, u128::from(1431 * index), "the first cycle of that tick");
            assert_eq!(u64::from(hpet.read(COUNTER, due - 1)), 1431 * index - 1);
            assert_eq!(hpet.raise_due(due - 1), None);
            assert_eq!(hpet.raise_due(due), Some((23, due)));
            assert_eq!(hpet.raise_due(due), None, "once");
        }
        hpet.write(CONFIGURATION, 0, u64::MAX / 2);
        assert_eq!(hpet.next_due(), None);
    }

    #[test]
    fn the_first_deadline_and_the_period_are_set_by_two_writes() {
        let mut hpet = Hpet::new(CLOCK_HZ);
        hpet.write(COMPARATORS, INTERRUPT_ENABLE | PERIODIC | SET_DEADLINE, 0);
        hpet.write(COMPARATORS + VALUE, 100, 0);
        hpet.write(COMPARATORS + VALUE, 1000, 0);
        assert_eq!(hpet.read(COMPARATORS, 0) & SET_DEADLINE, 0, "it clears itself");
        hpet.write(CONFIGURATION, ENABLE, 0);
        let [first, second] = [0, 1].map(|_| {
            let due = hpet.next_due().expect("it runs");
            hpet.raise_due(due);
            hpet.read(COUNTER, due)
        });
        assert_eq!([first, second], [100, 1100]);
    }

    #[test]
    fn a_comparator_that_is_not_periodic_is_due_once_in_a_round_of_its_32_bits() {
        let mut hpet = Hpet::new(CLOCK_HZ);
        let second = COMPARATORS + 0x20;
        hpet.write(second, INTERRUPT_ENABLE | PERIODIC, 0);
        assert_eq!(hpet.read(second, 0) & PERIODIC, 0, "the others can't");
        hpet.write(second + VALUE, 50, 0);
        hpet.write(CONFIGURATION, ENABLE, 0);
        let due = hpet.next_due().expect("it runs");
        assert_eq!(hpet.read(COUNTER, due), 50);
        assert_eq!(hpet.raise_due(due), Some((0, due)));
        let again = hpet.next_due().expect("it runs");
        assert_eq!((hpet.read(COUNTER_UPPER, again), hpet.read(COUNTER, again)), (1, 50));
    }
}
