//! What is true: what each counter has counted, and which overflows are to be reported.
//!
//! The truth is kept from what the driver was asked to do and from what happened; it asks neither the driver nor the
//! model. The one exception is time inside of a call of the driver: there [`super::cpu`] says who counts.

use nmiprof_pmu::model::{Privilege, Signal};
use nmiprof_pmu::profiles::{IntelRegisters, Profile, Registers};
use nmiprof_pmu::{Counter, CounterSet};

/// What a counter was programmed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct What {
    pub(crate) signal: Signal,
    pub(crate) user: bool,
    pub(crate) kernel: bool,
}

impl What {
    /// Tells whether this event at this privilege level counts.
    pub(crate) fn is(&self, signal: Signal, privilege: Privilege) -> bool {
        let level = if privilege == Privilege::User { self.user } else { self.kernel };
        level && self.signal == signal
    }
}

/// One counter.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    mask: u64,
    load_max: u64,
    what: Option<What>,
    is_enabled: bool,
    is_loaded: bool,
    value: u64,
    /// The step of an overflow since the load that was not reported.
    due: Option<u64>,
}

/// All counters, and time.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    accounts: [Account; Counter::COUNT],
    pub(crate) all: CounterSet,
    /// Whether an overflow stops all counters until it is acknowledged.
    freezes: bool,
    is_frozen: bool,
    pub(crate) in_pmi: bool,
    pub(crate) now_steps: u64,
    pub(crate) overflows: u64,
}

/// `IA32_PERF_CAPABILITIES`: full-width writes.
const FULL_WIDTH: u64 = 1 << 13;

impl Truth {
    pub(crate) fn new(profile: &Profile, freeze: bool) -> Self {
        let (all, version) = match &profile.registers {
            Registers::Intel(facts) => (intel_counters(facts), facts.version),
            Registers::Amd(facts) => (CounterSet::first_general(facts.counters), 0),
            Registers::Forgotten => (CounterSet::EMPTY, 0),
        };
        let mut accounts = [Account::default(); Counter::COUNT];
        for counter in all.iter() {
            let (bits, load_bits) = bits(profile, counter);
            accounts[usize::from(counter.number())].mask = (1 << bits) - 1;
            accounts[usize::from(counter.number())].load_max = 1 << (load_bits - 1);
        }
        let freezes = freeze && version >= 4;
        Self { accounts, all, freezes, is_frozen: false, in_pmi: false, now_steps: 0, overflows: 0 }
    }

    fn account(&mut self, counter: Counter) -> &mut Account {
        &mut self.accounts[usize::from(counter.number())]
    }

    fn those(&self, which: impl Fn(&Account) -> bool) -> CounterSet {
        let chosen = self.all.iter().filter(|counter| which(&self.accounts[usize::from(counter.number())]));
        chosen.fold(CounterSet::EMPTY, |set, counter| set.union(counter.set()))
    }

    /// Returns the counters that count now, if nothing is between two accesses.
    pub(crate) fn running(&self) -> CounterSet {
        if self.in_pmi || self.is_frozen {
            return CounterSet::EMPTY;
        }
        self.those(|one| one.is_enabled && one.what.is_some_and(|what| what.user || what.kernel))
    }

    pub(crate) fn enabled(&self) -> CounterSet {
        self.those(|one| one.is_enabled)
    }

    /// Returns the counters that can be enabled: they were loaded, and have not overflowed since.
    pub(crate) fn ready(&self) -> CounterSet {
        self.those(|one| one.what.is_some() && one.is_loaded && one.due.is_none())
    }

    /// Returns the counters whose overflow is to be reported.
    pub(crate) fn due(&self) -> CounterSet {
        self.those(|one| one.is_enabled && one.due.is_some())
    }

    /// Returns the counters that were stopped with an overflow that nobody will report.
    pub(crate) fn stale(&self) -> CounterSet {
        self.those(|one| !one.is_enabled && one.due.is_some())
    }

    /// Returns those of which the NMI should have come, if an NMI takes so many steps.
    pub(crate) fn overdue(&self, latency_steps: u64) -> CounterSet {
        let now = self.now_steps;
        self.those(|one| one.is_enabled && one.due.is_some_and(|due| now >= due + latency_steps))
    }

    pub(crate) fn value(&self, counter: Counter) -> u64 {
        self.accounts[usize::from(counter.number())].value
    }

    pub(crate) fn what(&self, counter: Counter) -> Option<What> {
        self.accounts[usize::from(counter.number())].what
    }

    pub(crate) fn load_max(&self, counter: Counter) -> u64 {
        self.accounts[usize::from(counter.number())].load_max
    }

    /// Returns the events until a counter overflows.
    pub(crate) fn room(&self, counter: Counter) -> u64 {
        let one = &self.accounts[usize::from(counter.number())];
        one.mask - one.value + 1
    }

    /// Returns how many such events change nothing but the values, if these counters run; the last one may overflow.
    pub(crate) fn even(&self, running: CounterSet, signal: Signal, privilege: Privilege) -> u64 {
        let counting = self.counting(running, signal, privilege);
        counting.iter().map(|counter| self.room(counter)).min().unwrap_or(u64::MAX)
    }

    fn counting(&self, running: CounterSet, signal: Signal, privilege: Privilege) -> CounterSet {
        let matching = self.those(|one| one.what.is_some_and(|what| what.is(signal, privilege)));
        running.intersection(matching)
    }

    /// Lets events happen, at most as many as [`Truth::even`] says.
    pub(crate) fn pass(&mut self, events: u64, running: CounterSet, signal: Signal, privilege: Privilege) {
        self.now_steps += events;
        let now = self.now_steps;
        for counter in self.counting(running, signal, privilege).iter() {
            let one = self.account(counter);
            let overflows = events > one.mask - one.value;
            one.value = (one.value + events) & one.mask;
            if overflows {
                one.due = one.due.or(Some(now));
                self.overflows += 1;
                self.is_frozen |= self.freezes;
            }
        }
    }

    pub(crate) fn program(&mut self, counter: Counter, what: Option<What>) {
        let one = self.account(counter);
        *one =
            Account { mask: one.mask, load_max: one.load_max, value: one.value, what, ..Account::default() };
    }

    pub(crate) fn load(&mut self, counter: Counter, events: u64) {
        let one = self.account(counter);
        one.value = events.clamp(1, one.load_max).wrapping_neg() & one.mask;
        (one.is_loaded, one.due) = (true, None);
    }

    pub(crate) fn set_enabled(&mut self, counters: CounterSet, enabled: bool) {
        for counter in counters.intersection(self.all).iter() {
            let one = self.account(counter);
            one.is_enabled = enabled && one.what.is_some();
        }
    }

    /// Notes that overflows were reported, and with them everything was acknowledged.
    pub(crate) fn took(&mut self, counters: CounterSet) {
        self.is_frozen = false;
        for counter in counters.iter() {
            let one = self.account(counter);
            (one.is_loaded, one.due) = (false, None);
        }
    }

    pub(crate) fn recover(&mut self) {
        self.is_frozen = false;
        for counter in self.all.iter() {
            let one = self.account(counter);
            (one.is_enabled, one.is_loaded, one.due) = (false, false, None);
        }
    }

    pub(crate) fn reset(&mut self) {
        (self.is_frozen, self.in_pmi) = (false, false);
        for counter in self.all.iter() {
            self.program(counter, None);
            self.account(counter).value = 0;
        }
    }
}

fn intel_counters(facts: &IntelRegisters) -> CounterSet {
    let fixed = CounterSet::first_general(facts.fixed).0 << 32;
    CounterSet(CounterSet::first_general(facts.general).0 | fixed)
}

/// Returns the width of a counter, and how many bits of it a write decides.
fn bits(profile: &Profile, counter: Counter) -> (u8, u8) {
    match &profile.registers {
        Registers::Intel(facts) if counter.is_fixed() => (facts.fixed_width_bits, facts.fixed_width_bits),
        Registers::Intel(facts) => {
            let is_full = facts.capabilities.is_some_and(|bits| bits & FULL_WIDTH != 0);
            (facts.general_width_bits, if is_full { facts.general_width_bits } else { 32 })
        }
        _ => (48, 48),
    }
}
