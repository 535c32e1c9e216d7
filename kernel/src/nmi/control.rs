//! Starting and stopping the sampler, from thread context.

#![expect(unsafe_code, reason = "reaches the handler's state while no NMI can arrive")]

use super::PerCpu;
use crate::arch::apic::LocalApic;
use crate::arch::fallible::AccessError;
use crate::sampler::Sampler;

impl PerCpu {
    /// Starts to sample on this CPU: the counter is armed at the end of a first NMI, sent here.
    ///
    /// # Errors
    /// [`AccessError`] where the APIC refuses a timer that raises NMIs; nothing is sampled then.
    pub fn start(&self, apic: LocalApic, sampler: Sampler) -> Result<(), AccessError> {
        // SAFETY: the timer, the only source that fires by itself, is masked until the next line.
        unsafe { *self.sampler_slot() = Some(sampler) };
        apic.route_timer_to_nmi()?;
        self.send_self_nmi(apic);
        Ok(())
    }

    /// Stops to sample on this CPU and takes the sampler back.
    pub fn stop(&self, apic: LocalApic) -> Option<Sampler> {
        apic.mask_timer();
        // An NMI that the timer raised before the mask was taken at the latest here: it is unmasked in
        // thread context, and reading the register waits for the write.
        let _ = apic.id();
        // SAFETY: the timer is masked, and nothing else raises NMIs unasked.
        unsafe { (*self.sampler_slot()).take() }
    }
}
