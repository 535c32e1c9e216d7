//! The sampler: from an overflow to a record in the ring.
//!
//! A record's payload is `[time, ip, return addresses...]`; its tag is a [`Tag`]. Nothing is encoded or looked
//! up in the NMI: the drain does that, and finds out which of the words are return addresses.

use alloc::boxed::Box;

use core::sync::atomic::Ordering;

use nmiprof_pmu::engine::Throttle;
use nmiprof_pmu::timer::Overflow;
use nmiprof_pmu::{CounterUnit as _, TimerPmu};
use nmiprof_ring::Producer;

use crate::arch::apic::LocalApic;
use crate::arch::frame::IretFrame;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::{cpu, paging};
use crate::callchain::{self, Cut, DEPTH_MAX, End, Walk, Walked};
use crate::memory::ring_memory::RingMemory;
use crate::memory::stack::{self, Frames};
use crate::nmi::Interrupted;
use crate::nmi::counters::Counters as NmiCounts;
use crate::nmi::orders::{Order, Taken};
use crate::pmu::Counters;

/// Words of a payload before its return addresses.
pub const FIXED_WORDS: usize = 2;

/// What the NMI of one CPU samples with.
pub struct Sampler {
    /// The timer that counts; without a period where `counters` count.
    pub timer: TimerPmu<LocalApic>,
    counters: Option<Box<Counters>>,
    needs_timer: bool,
    /// NMIs that a model's timer raised for nothing and that were not claimed yet, in this row of back-to-back NMIs.
    strays: u32,
    /// What the row interrupts.
    row_rip: u64,
    /// The timer's; counters have their own.
    throttle: Throttle,
    form: Form,
    store: Store,
}

/// How a sample is taken: the usual details have code of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The timer's: time and address.
    Plain,
    /// The timer's: those and the call chain of the one thread that there is.
    Chain,
    /// Whatever there is to count with, and whatever the detail says.
    Any,
}

impl Form {
    const fn of(detail: Detail, throttle: &Throttle) -> Self {
        match detail {
            _ if throttle.is_on() => Self::Any,
            Detail { chains: false, spaces: false, kept: Kept::ALL } => Self::Plain,
            Detail { chains: true, spaces: false, kept: Kept::ALL } => Self::Chain,
            _ => Self::Any,
        }
    }
}

/// What a sample has besides time and address, and which samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Call chains.
    pub chains: bool,
    /// The address space.
    pub spaces: bool,
    /// Which samples are kept.
    pub kept: Kept,
}

impl Detail {
    /// The least there is.
    pub const PLAIN: Self = Self { chains: false, spaces: false, kept: Kept::ALL };
}

/// Which samples are kept, by the privilege level of the interrupted code: bit N stands for event N. For a PMU that
/// can't tell the levels apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Events whose samples of user code are kept.
    pub user: u16,
    /// Events whose samples of the kernel are kept.
    pub kernel: u16,
}

impl Kept {
    /// All samples.
    pub const ALL: Self = Self { user: u16::MAX, kernel: u16::MAX };

    const fn has(self, event: u8, interrupted: &IretFrame) -> bool {
        let events = if interrupted.is_user() { self.user } else { self.kernel };
        events >> (event & 15) & 1 != 0
    }
}

/// The part of a record that is no word of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The call chain was cut.
    pub truncated: bool,
    /// It was cut at a frame that is not mapped.
    pub faulted: bool,
    /// It goes on into user code, or begins there.
    pub user: bool,
    /// Index of the event, below 16.
    pub event: u8,
    /// Frame number of the top-level table in CR3; 0 where it was not looked at.
    pub space: u64,
}

impl Tag {
    const TRUNCATED: u64 = 1 << 0;
    const FAULTED: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const EVENT_SHIFT: u32 = 3;
    const EVENT_MASK: u64 = 0xf;
    const SPACE_SHIFT: u32 = 8;

    const fn to_bits(self) -> u64 {
        let truncated = if self.truncated { Self::TRUNCATED } else { 0 };
        let faulted = if self.faulted { Self::FAULTED } else { 0 };
        let user = if self.user { Self::USER } else { 0 };
        let event = (self.event as u64 & Self::EVENT_MASK) << Self::EVENT_SHIFT;
        (self.space << Self::SPACE_SHIFT) | event | truncated | faulted | user
    }

    /// Reads a record's tag.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            truncated: bits & Self::TRUNCATED != 0,
            faulted: bits & Self::FAULTED != 0,
            user: bits & Self::USER != 0,
            event: (bits >> Self::EVENT_SHIFT & Self::EVENT_MASK) as u8,
            space: bits >> Self::SPACE_SHIFT,
        }
    }
}

/// Tells whether a sampler of a timer with such a detail and throttle is a usual one.
pub fn is_usual(detail: Detail, throttle: &Throttle) -> bool {
    Form::of(detail, throttle) != Form::Any
}

impl Sampler {
    /// Creates a sampler that counts with a timer. A throttle that has a limit needs a form of its own: it is for
    /// periods that are so short that they can reach it.
    pub fn with_timer(
        timer: TimerPmu<LocalApic>,
        ring: Producer<'static, RingMemory>,
        detail: Detail,
        mut throttle: Throttle,
    ) -> Self {
        let form = Form::of(detail, &throttle);
        throttle.start(cpu::timestamp());
        let store = Store::new(ring, detail);
        Self { timer, counters: None, needs_timer: true, strays: 0, row_rip: 0, throttle, form, store }
    }

    /// Creates a sampler that counts with the counters of a PMU.
    pub fn with_counters(
        apic: LocalApic,
        mut counters: Box<Counters>,
        ring: Producer<'static, RingMemory>,
        detail: Detail,
    ) -> Self {
        let timer = TimerPmu::new(apic, 0);
        let needs_timer = counters.unit().bus().is_virtual();
        counters.unit().bus().take_strays();
        let store = Store::new(ring, detail);
        let throttle = Throttle::OFF;
        Self {
            timer,
            counters: Some(counters),
            needs_timer,
            strays: 0,
            row_rip: 0,
            throttle,
            form: Form::Any,
            store,
        }
    }

    /// Gives back what it was made of.
    pub fn into_parts(self) -> (Option<Box<Counters>>, Producer<'static, RingMemory>) {
        (self.counters, self.store.ring)
    }

    /// Tells whether the local APIC's timer has to raise NMIs.
    pub const fn needs_timer(&self) -> bool {
        self.needs_timer
    }

    /// Tells whether counters of a PMU count.
    pub const fn has_counters(&self) -> bool {
        self.counters.is_some()
    }

    /// Tells whether a timer counts and [`Sampler::handle_usual`] knows how to store its samples.
    #[inline(always)]
    pub fn is_usual(&self) -> bool {
        self.form != Form::Any
    }

    /// Takes a sample if this NMI is an overflow of the timer, and returns how many events it handled; for usual
    /// samplers.
    ///
    /// # Context
    /// NMI; may fault, at the first touch of a ring page.
    #[inline(always)]
    pub fn handle_usual(&mut self, interrupted: &Interrupted<'_>) -> u32 {
        let Some(handled) = part_handled(self.timer.poll()) else {
            if self.form == Form::Plain {
                self.store.plain(interrupted);
            } else {
                self.store.with_chain(interrupted);
            }
            return 1;
        };
        handled
    }

    /// Takes a sample for every overflow that this NMI may be, of whatever counts, and returns how many events it
    /// handled.
    ///
    /// # Context
    /// NMI; may fault, at the first touch of a ring page and in the frames of user code.
    pub fn handle_any(&mut self, interrupted: &Interrupted<'_>) -> u32 {
        let Self { counters: Some(counters), store, .. } = self else {
            return self.handle_timer(interrupted);
        };
        let nmi = interrupted.nmi;
        let handled = counters.handle_nmi(cpu::timestamp, |overflow| {
            if overflow.throttled {
                nmi.counters.overflows.increment();
                nmi.counters.throttled.increment();
            } else {
                store.any(interrupted, overflow.event);
            }
        });
        obey(counters, nmi.orders.take());
        let strays = counters.unit().bus().take_strays();
        // Relaxed: for this CPU's tick only.
        nmi.wants_tick.store(counters.wants_tick(), Ordering::Relaxed);
        self.note_strays(interrupted.frame.rip, strays);
        handled
    }

    /// Notes NMIs of a model's timer that belong to no overflow. Such an NMI is that of this run, or it is latched: then
    /// it comes right after this run, or after runs that each found what the next one's NMI was for. What has not come by
    /// the end of the row has merged with another one, and excuses nobody.
    fn note_strays(&mut self, rip: u64, strays: u32) {
        if rip != self.row_rip {
            (self.row_rip, self.strays) = (rip, 0);
        }
        self.strays = self.strays.saturating_add(strays);
    }

    /// Handles an NMI with the timer; a period shorter than the handler must leave something to the interrupted code.
    fn handle_timer(&mut self, interrupted: &Interrupted<'_>) -> u32 {
        let begin = cpu::timestamp();
        let was_pausing = self.timer.is_pausing();
        let Some(handled) = part_handled(self.timer.poll()) else {
            self.store.any(interrupted, 0);
            if self.throttle.note(begin, cpu::timestamp()) {
                self.timer.pause(self.throttle.window_ticks());
            }
            return 1;
        };
        if was_pausing && handled > 0 && !self.throttle.tick(begin) {
            self.timer.pause(self.throttle.window_ticks());
        }
        handled
    }

    /// Notes that an empty NMI was explained by what came before it.
    ///
    /// # Context
    /// NMI.
    #[cold]
    pub fn late_was_explained(&mut self) {
        if let Some(counters) = &mut self.counters {
            counters.late_was_explained(cpu::timestamp());
        }
    }

    /// Leaves the registers as they were found.
    ///
    /// # Context
    /// Thread, after sampling has ended.
    pub fn shut_down(&mut self) {
        if let Some(counters) = &mut self.counters {
            counters.unit().shut_down();
        }
    }

    /// Returns how often the timer's throttle has tripped, and for how many ticks of the clock in all.
    pub const fn throttled(&self) -> (u64, u64) {
        (self.throttle.episodes(), self.throttle.throttled_ticks())
    }

    /// Claims an NMI that nothing else explains, if it can be a late one of the counters.
    ///
    /// # Context
    /// NMI.
    #[cold]
    pub fn claims_late(&mut self) -> bool {
        let Some(counters) = &mut self.counters else { return false };
        if self.strays > 0 {
            self.strays -= 1;
            counters.count_late();
            return true;
        }
        counters.claims_late(cpu::timestamp())
    }
}

/// Does what the thread asked for.
fn obey(counters: &mut Counters, orders: Taken) {
    if orders.is_empty() {
        return;
    }
    if orders.has(Order::Stop) {
        counters.stop(cpu::timestamp());
    } else if orders.has(Order::Start) {
        counters.start(cpu::timestamp());
    } else if orders.has(Order::Tick) {
        counters.tick(cpu::timestamp());
        counters.end_tick(cpu::timestamp());
    }
}

/// Returns how many events were handled with what the timer says; `None` for a period that is over.
#[inline(always)]
const fn part_handled(found: Overflow) -> Option<u32> {
    match found {
        Overflow::NotMine => Some(0),
        Overflow::Partial => Some(1),
        Overflow::Complete => None,
    }
}

/// Where samples go, and what they are made of.
struct Store {
    ring: Producer<'static, RingMemory>,
    detail: Detail,
    /// The frames on the stack of the thread that made this.
    frames: Frames,
}

impl Store {
    fn new(ring: Producer<'static, RingMemory>, detail: Detail) -> Self {
        Self { ring, detail, frames: stack::current().frames() }
    }

    /// Stores a sample of time and address; the ring counts it if it can't be.
    #[inline(always)]
    fn plain(&mut self, interrupted: &Interrupted<'_>) {
        count_overflow(&interrupted.nmi.counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), interrupted.frame.rip];
        // A drop is counted already.
        let _ = self.ring.store(Tag::default().to_bits(), fixed);
    }

    /// Stores a sample with its call chain.
    #[inline(always)]
    fn with_chain(&mut self, interrupted: &Interrupted<'_>) {
        count_overflow(&interrupted.nmi.counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let frame = interrupted.frame;
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), frame.rip];
        record.push_all(fixed);
        let walk = record.extend(Walk::new(self.frames, frame.rsp, interrupted.frame_pointer));
        record.commit(Tag { truncated: !walk.is_complete(), ..Tag::default() }.to_bits());
    }

    /// Stores a sample of an event with whatever the detail says.
    fn any(&mut self, interrupted: &Interrupted<'_>, event: u8) {
        let Interrupted { nmi, frame, frame_pointer } = *interrupted;
        // What is not kept is no overflow: the event is that of the other privilege level.
        if !self.detail.kept.has(event, frame) {
            return;
        }
        count_overflow(&nmi.counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let spaces = self.detail.spaces;
        let space = if spaces { paging::loaded().start_address().as_u64() / PAGE_BYTES } else { 0 };
        let tag = Tag { event, space, ..Tag::default() };
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), frame.rip];
        record.push_all(fixed);
        if !self.detail.chains {
            return record.commit(tag.to_bits());
        }
        let Walked { end, user } = callchain::walk(frame, frame_pointer, DEPTH_MAX, |address| {
            record.push(address);
        });
        let (truncated, faulted) = (end != End::Complete, end == End::Truncated(Cut::Fault));
        record.commit(Tag { truncated, faulted, user, ..tag }.to_bits());
    }
}

/// Counts an overflow: before the ring is tried, and independently of what becomes of the sample.
#[inline(always)]
fn count_overflow(counters: &NmiCounts) {
    counters.overflows.increment();
}
