//! The sampler: from an overflow to a record in the ring.
//!
//! Here: which overflow is a sample, with whatever counts. [`detail`] says what a sample has, [`store`] puts it together.
//! Nothing is encoded or looked up in the NMI: the drain does that.

mod detail;
mod store;
mod tag;

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use nmiprof_pmu::engine::Throttle;
use nmiprof_pmu::timer::Overflow;
use nmiprof_pmu::{CounterUnit as _, TickPmu, TimerPmu};
use nmiprof_ring::Producer;
use nmiprof_wire::PmuCounters;

use crate::arch::apic::LocalApic;
use crate::arch::cpu;
use crate::arch::percpu::SHARED_BYTES;
use crate::memory::ring_memory::RingMemory;
use crate::nmi::Interrupted;
use crate::nmi::orders::{Order, Taken};
use crate::pmu::Counters;
use crate::pmu::source::SourceClock;
pub use detail::{Detail, Kept};
pub use store::FIXED_WORDS;
use store::Store;
pub use tag::Tag;

/// What the NMI of one CPU samples with. It is on the heap, where others' things are next to it.
#[repr(align(128))]
pub struct Sampler {
    /// The timer that counts; without a period where `counters` count.
    pub timer: TimerPmu<LocalApic>,
    counters: Option<Box<Counters>>,
    /// The line that ticks, where neither the timer nor counters count.
    ticks: Option<Box<TickPmu<SourceClock>>>,
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

const _: () = assert!(
    align_of::<Sampler>() == SHARED_BYTES && size_of::<Sampler>().is_multiple_of(SHARED_BYTES),
    "no shared cache line: nothing else on the heap lies on the sampler's lines"
);

/// How a sample is taken: the usual details have code of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Form {
    /// The timer's: time and address.
    Plain,
    /// The timer's: those and the call chain of the one thread that there is.
    Chain,
    /// Whatever there is to count with, and whatever the detail says.
    Any,
    /// As `Plain`, with a look at the clock before and after: that is not usual.
    #[cfg(feature = "selftest")]
    Timed,
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
        #[cfg(feature = "selftest")]
        let is_timed = form == Form::Plain && crate::selftest::handler_times::is_on();
        #[cfg(feature = "selftest")]
        let form = if is_timed { Form::Timed } else { form };
        throttle.start(cpu::timestamp());
        let store = Store::new(ring, detail);
        Self {
            timer,
            counters: None,
            ticks: None,
            needs_timer: true,
            strays: 0,
            row_rip: 0,
            throttle,
            form,
            store,
        }
    }

    /// Creates a sampler for a line that ticks for all CPUs.
    pub fn with_ticks(
        apic: LocalApic,
        ticks: TickPmu<SourceClock>,
        ring: Producer<'static, RingMemory>,
        detail: Detail,
    ) -> Self {
        let timer = TimerPmu::new(apic, 0);
        let sampler = Self::with_timer(timer, ring, detail, Throttle::OFF);
        Self { ticks: Some(Box::new(ticks)), needs_timer: false, form: Form::Any, ..sampler }
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
            ticks: None,
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
        (self.counters, self.store.into_ring())
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
        #[cfg(feature = "selftest")]
        let is_usual = self.form < Form::Any;
        #[cfg(not(feature = "selftest"))]
        let is_usual = self.form != Form::Any;
        is_usual
    }

    /// Tells whether its runs are timed.
    #[cfg(feature = "selftest")]
    pub fn is_timed(&self) -> bool {
        self.form == Form::Timed
    }

    /// Makes a sampler of plain samples one whose runs are timed, or the other way round.
    #[cfg(feature = "selftest")]
    pub const fn set_timed(&mut self, on: bool) {
        self.form = if on { Form::Timed } else { Form::Plain };
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
            return match self.handle_ticks(interrupted) {
                Some(handled) => handled,
                None => self.handle_timer(interrupted),
            };
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
        let orders = nmi.mailbox.orders.take();
        if !orders.is_empty() {
            // The order's NMI found what it found before the overflows' own NMIs came.
            counters.was_not_alone(handled, cpu::timestamp());
            obey(counters, orders);
        }
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

    /// Handles an NMI with a line that ticks.
    fn handle_ticks(&mut self, interrupted: &Interrupted<'_>) -> Option<u32> {
        let found = self.ticks.as_mut()?.poll();
        Some(part_handled(found).unwrap_or_else(|| {
            self.store.any(interrupted, 0);
            1
        }))
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
        if let Some(ticks) = &mut self.ticks {
            ticks.late_was_explained();
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

    /// Returns what the timer or the line has counted besides samples; counters have their own.
    pub fn timer_counts(&self) -> PmuCounters {
        let (late, merged) = self.ticks.as_ref().map_or((0, 0), |ticks| (ticks.late(), ticks.missed()));
        PmuCounters {
            throttles: self.throttle.episodes(),
            throttled_ticks: self.throttle.throttled_ticks(),
            late,
            merged,
            ..PmuCounters::default()
        }
    }

    /// Claims an NMI that nothing else explains, if it can be a late one of the counters.
    ///
    /// # Context
    /// NMI.
    #[cold]
    pub fn claims_late(&mut self) -> bool {
        let Some(counters) = &mut self.counters else {
            return self.ticks.as_mut().is_some_and(|ticks| ticks.claims_late());
        };
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
