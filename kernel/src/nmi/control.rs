//! Starting and stopping the sampler, from thread context.

use alloc::boxed::Box;
use core::hint;
use core::sync::atomic::Ordering;

use super::PerCpu;
use super::orders::Order;
use crate::arch::apic::LocalApic;
use crate::arch::cpu;
use crate::arch::fallible::AccessError;
use crate::sampler::Sampler;

/// Polls of an order that was given: a self-NMI takes a handful.
const POLLS_MAX: u32 = 1 << 20;
/// Instructions after the counters stopped, for NMIs that were on their way: some microseconds.
const LINGER_INSTRUCTIONS: u64 = cpu::SLED_INSTRUCTIONS;
/// The same after the timer was masked: nothing new comes, and what was sent comes at once. (An emulator delivers it
/// before the block of instructions that follows.)
const LINGER_INSTRUCTIONS_TIMER: u64 = 64;

impl PerCpu {
    /// Starts to sample on this CPU, at the end of a first NMI, sent here.
    ///
    /// # Errors
    /// [`AccessError`] where the APIC refuses a timer that raises NMIs and one is needed; the sampler comes back.
    pub fn start(&self, apic: LocalApic, sampler: Box<Sampler>) -> Result<(), (AccessError, Box<Sampler>)> {
        if sampler.needs_timer()
            && let Err(error) = apic.route_timer_to_nmi()
        {
            return Err((error, sampler));
        }
        // Relaxed, here and below: for this CPU only.
        self.has_counters.store(sampler.has_counters(), Ordering::Relaxed);
        self.sampler.put(sampler);
        if self.wants_orders() {
            self.order(apic, Order::Start);
        } else {
            self.send_self_nmi(apic);
        }
        Ok(())
    }

    /// Tells whether sampling is on.
    #[cfg(feature = "selftest")]
    pub fn is_sampling(&self) -> bool {
        self.sampler.is_on()
    }

    /// Stops to sample on this CPU and takes the sampler back.
    pub fn stop(&self, apic: LocalApic) -> Option<Box<Sampler>> {
        // An overflow just before the end may have its NMI on the way still: the sampler must be there to claim it. And no
        // `pause` meanwhile: on an emulator that runs the CPUs in turn, each one would be another CPU's turn.
        if self.wants_orders() {
            self.order(apic, Order::Stop);
            cpu::nop_sled(LINGER_INSTRUCTIONS);
        }
        apic.mask_timer();
        cpu::nop_sled(LINGER_INSTRUCTIONS_TIMER);
        self.has_counters.store(false, Ordering::Relaxed);
        self.wants_tick.store(false, Ordering::Relaxed);
        let mut sampler = self.sampler.take();
        if let Some(sampler) = &mut sampler {
            sampler.shut_down();
        }
        sampler
    }

    /// Asks the counters to do what is due from time to time, if there is anything.
    ///
    /// # Context
    /// The tick's interrupt.
    pub fn tick(&self, apic: LocalApic) {
        if self.wants_tick() {
            self.mailbox.orders.give(Order::Tick);
            self.send_self_nmi(apic);
        }
    }

    /// Tells whether the counters have something to do at the next tick.
    pub fn wants_tick(&self) -> bool {
        self.wants_tick.load(Ordering::Relaxed)
    }

    /// Tells whether what counts here takes orders.
    fn wants_orders(&self) -> bool {
        self.has_counters.load(Ordering::Relaxed)
    }

    /// Gives an order and waits until it was obeyed.
    fn order(&self, apic: LocalApic, order: Order) {
        self.mailbox.orders.give(order);
        self.send_self_nmi(apic);
        for _ in 0..POLLS_MAX {
            if !self.mailbox.orders.is_pending(order) {
                break;
            }
            hint::spin_loop();
        }
    }
}
