//! The model as a virtual PMU: under a clock that is all it can count, with a timer that is all that can interrupt.
//!
//! A driver that writes the registers of a [`ClockedModel`] profiles a machine that has no PMU. The hard part is that
//! nothing runs between two accesses: what would have happened meanwhile is found out at the next one, and an NMI
//! that should come meanwhile has to be set up before.
//!
//! 1. Each access first brings the model up to the present: every running counter gets the events that its formula
//!    says for the ticks that have passed ([`super::FORMULAS`]), in the order of the overflows, because one overflow
//!    may freeze the others.
//! 2. After an access that may change it, the timer is armed for the earliest *delivery*: an overflow and the latency
//!    after it. A timer that would interrupt a masked LVT entry is not armed.
//! 3. NMIs that the model is found to have delivered are matched with the timer's: if the timer has run out, the
//!    first of them was the timer's; if it was armed for this one and still runs (the access came between the
//!    overflow and the timer's end), the first is left to it. Each further one is raised by a self-NMI ([`Line::raise`]).
//!
//! So no NMI is lost and none is doubled. What makes that hard is that the timer may end between any two steps of
//! this code, and neither "it has run out" nor "it still runs" stays true while one acts on it. The first does, until
//! the timer is armed again. So a timer that ends within [`GUARD_TICKS`] is never touched: its NMI will come, and the
//! access that it brings arms the timer for what is next then. A nearer deadline that comes up in that time waits for
//! the same access.
//!
//! An NMI of the timer that belongs to no delivery is told by [`ClockedModel::take_strays`], so that whoever handles
//! it need not call it unknown. There are two kinds: the deadline is beyond the timer's 32 bits, which is then armed
//! in parts; or the counter was stopped when the timer was about to end. Hardware has the second kind too: late NMIs.
//!
//! Events have no privilege level here: the clock can't tell user code from the kernel. A counter counts if it counts
//! at any level; who wants one level filters the samples.
//!
//! # Context
//! That of the driver: the NMI, or a thread while nothing is enabled. An access costs one look at the clock and some
//! shifts per running counter; a division only where the timer is armed for an event that comes in groups.

use super::Model;
use super::delivery::IN_FLIGHT_MAX;
use super::flaw::Flaw;
use super::formula::rate;
use super::signal::Signal;
use super::slot::SLOTS;
use crate::bus::{GeneralProtection, MsrBus};
use crate::profiles::Profile;

/// Ticks by which the timer is armed longer than the distance to the deadline: a timer that ends early would
/// interrupt before the overflow. Under QEMU with `-icount` a count of N ends N + 1 instructions after the store that
/// arms it, which is late enough; the tick is for clocks that are cut to whole ticks.
pub const MARGIN_TICKS: u64 = 1;

/// Ticks before its end in which the timer is left alone: more than pass between a look at the clock and the arming
/// of the timer that follows from it.
pub const GUARD_TICKS: u64 = 256;

/// Overflows and deliveries that one access follows; the next access goes on. More than there can be: a counter
/// overflows once in the at least 2^40 events that it holds.
const ROUNDS_MAX: usize = SLOTS + IN_FLIGHT_MAX + 1;

/// The clock, timer and self-NMI of the CPU that the virtual PMU runs on.
pub trait Line {
    /// Reads the clock, in ticks.
    fn now(&self) -> u64;
    /// Starts to count `ticks` of the same clock down to an NMI, in place of what is counted; 0 stops.
    fn arm(&self, ticks: u32);
    /// Returns the ticks that are left: 0 when the timer has run out, or is stopped.
    fn remaining(&self) -> u32;
    /// Raises an NMI on this CPU.
    fn raise(&self);
}

/// A PMU that counts a clock.
#[derive(Clone, Debug)]
pub struct ClockedModel<L> {
    model: Model,
    line: L,
    /// The clock at the beginning.
    start: u64,
    /// Ticks since the beginning, up to which the model has come.
    present: u64,
    plan: Plan,
    timer: Option<Armed>,
    strays: u32,
}

/// What comes next, in ticks since the beginning; `u64::MAX` for what does not come.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// The next overflow or delivery.
    change: u64,
    /// The next delivery of an NMI.
    deadline: u64,
}

impl Plan {
    const NOTHING: Self = Self { change: u64::MAX, deadline: u64::MAX };
}

/// What the timer is armed for, in ticks since the beginning.
#[derive(Clone, Copy, Debug)]
struct Armed {
    /// The delivery.
    deadline: u64,
    /// When the timer ends at the earliest; before the deadline if that is far.
    end: u64,
    /// Whether its NMI is that of a delivery which the model has made already.
    is_owed: bool,
}

impl<L: Line> ClockedModel<L> {
    /// Creates the PMU of this CPU, as it is after a reset; the timer is not touched.
    pub fn new(profile: &'static Profile, line: L) -> Self {
        let start = line.now();
        let model = Model::new(profile);
        Self { model, line, start, present: 0, plan: Plan::NOTHING, timer: None, strays: 0 }
    }

    /// Gives it a flaw.
    #[must_use]
    pub fn with_flaw(mut self, flaw: Flaw) -> Self {
        self.model = self.model.with_flaw(flaw);
        self
    }

    /// Lets an NMI arrive so many ticks after its overflow.
    #[must_use]
    pub fn with_latency(mut self, ticks: u64) -> Self {
        self.model = self.model.with_latency(ticks);
        self
    }

    /// Returns the model, as of the last access. Its profile reads CPUID.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the line.
    pub const fn line(&self) -> &L {
        &self.line
    }

    /// Brings the model up to the present, as every access does.
    #[inline]
    pub fn poll(&mut self) {
        self.catch_up();
        if self.match_timer() {
            self.arm();
        }
    }

    /// Returns how many NMIs of the timer belong to no delivery, since the last call.
    pub const fn take_strays(&mut self) -> u32 {
        core::mem::replace(&mut self.strays, 0)
    }

    /// Executes RDPMC.
    ///
    /// # Errors
    /// [`GeneralProtection`] where there is no such counter.
    pub fn rdpmc(&mut self, index: u32) -> Result<u64, GeneralProtection> {
        self.poll();
        self.model.rdpmc(index)
    }

    /// Does what may change when the next NMI comes.
    fn change<R>(&mut self, change: impl FnOnce(&mut Model) -> R) -> R {
        self.catch_up();
        let result = change(&mut self.model);
        self.plan = self.plan();
        self.match_timer();
        self.arm();
        result
    }

    fn elapsed(&self) -> u64 {
        self.line.now().wrapping_sub(self.start)
    }

    /// Brings the model up to the present.
    #[inline]
    fn catch_up(&mut self) {
        let now = self.elapsed();
        for _ in 0..ROUNDS_MAX {
            if now < self.plan.change {
                return self.advance(now);
            }
            self.advance(self.plan.change);
            self.model.deliver();
            self.plan = self.plan();
        }
    }

    /// Lets the model count up to a time before which nothing overflows.
    fn advance(&mut self, to: u64) {
        let from = self.present;
        if to > from {
            self.present = to;
            self.model.pass(to - from, self.model.running, |signal| events_between(signal, from, to));
        }
    }

    /// Finds out when the model changes next, and when it delivers an NMI next, if nothing is written before.
    fn plan(&self) -> Plan {
        let delivery = self.delivery_under_way();
        let is_listening = self.model.raises_nmis();
        let latency = self.model.latency_steps;
        let mut plan = Plan { change: delivery, deadline: if is_listening { delivery } else { u64::MAX } };
        for next in self.model.next_overflows() {
            let overflow = self.when(next.signal, next.events);
            plan.change = plan.change.min(overflow);
            if next.interrupts && is_listening {
                plan.deadline = plan.deadline.min(overflow.saturating_add(latency));
            }
        }
        plan
    }

    fn delivery_under_way(&self) -> u64 {
        self.present.saturating_add(self.model.steps_to_delivery())
    }

    /// Returns when so many more events will have happened.
    fn when(&self, signal: Signal, events: u64) -> u64 {
        rate(signal).map_or(u64::MAX, |rate| rate.ticks(rate.events(self.present).saturating_add(events)))
    }

    /// Raises the NMIs that were delivered, but for the one that is the timer's; tells whether the timer is free.
    #[inline]
    fn match_timer(&mut self) -> bool {
        let delivered = self.model.take_nmis();
        let is_due = self.timer.is_some_and(|armed| self.present >= armed.end);
        (delivered != 0 || is_due) && self.settle(delivered)
    }

    fn settle(&mut self, delivered: u32) -> bool {
        let has_run_out = self.timer.is_some() && self.line.remaining() == 0;
        let by_timer =
            u32::from(if has_run_out { self.take_timers_nmi(delivered) } else { self.owe_nmi(delivered) });
        for _ in by_timer..delivered {
            self.line.raise();
        }
        self.timer.is_none()
    }

    /// Forgets a timer that has run out; tells whether its NMI is one of these.
    fn take_timers_nmi(&mut self, delivered: u32) -> bool {
        let is_new = self.timer.take().is_some_and(|armed| !armed.is_owed);
        if is_new && delivered == 0 {
            self.strays = self.strays.saturating_add(1);
        }
        is_new && delivered != 0
    }

    /// Leaves one of these NMIs to the timer that was armed for it and ends any moment; tells whether it did.
    fn owe_nmi(&mut self, delivered: u32) -> bool {
        let present = self.present;
        let own =
            self.timer.as_mut().filter(|armed| !armed.is_owed && armed.deadline <= present && delivered != 0);
        own.map(|armed| armed.is_owed = true).is_some()
    }

    /// Arms the timer for the next delivery, if it is not.
    fn arm(&mut self) {
        let deadline = self.plan.deadline;
        if self.timer.map_or(u64::MAX, |armed| armed.deadline) == deadline {
            return;
        }
        let now = self.elapsed();
        if self.timer.is_some_and(|armed| now.saturating_add(GUARD_TICKS) >= armed.end) {
            return;
        }
        let ticks = if deadline == u64::MAX { 0 } else { timer_ticks(now, deadline) };
        self.line.arm(ticks);
        let end = now.saturating_add(u64::from(ticks));
        self.timer = (ticks != 0).then_some(Armed { deadline, end, is_owed: false });
    }
}

impl<L: Line> MsrBus for ClockedModel<L> {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        self.poll();
        self.model.read(msr)
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        self.change(|model| model.write(msr, value))
    }

    fn read_lvtpc(&mut self) -> u32 {
        self.poll();
        self.model.read_lvtpc()
    }

    fn write_lvtpc(&mut self, value: u32) {
        self.change(|model| model.write_lvtpc(value));
    }
}

/// Returns how many events happen after one time up to another one.
fn events_between(signal: Signal, from: u64, to: u64) -> u64 {
    rate(signal).map_or(0, |rate| rate.events(to).wrapping_sub(rate.events(from)))
}

/// Returns what to arm the timer with: at least 1, at most what it has bits for.
fn timer_ticks(now: u64, deadline: u64) -> u32 {
    let distance = deadline.saturating_add(MARGIN_TICKS).saturating_sub(now).max(1);
    u32::try_from(distance).unwrap_or(u32::MAX)
}
