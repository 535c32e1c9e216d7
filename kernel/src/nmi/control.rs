//! Starting and stopping the sampler, from thread context.

use alloc::boxed::Box;

use super::PerCpu;
use crate::arch::apic::LocalApic;
use crate::arch::fallible::AccessError;
use crate::sampler::Sampler;

impl PerCpu {
    /// Starts to sample on this CPU: the counter is armed at the end of a first NMI, sent here.
    ///
    /// # Errors
    /// [`AccessError`] where the APIC refuses a timer that raises NMIs; nothing is sampled then.
    pub fn start(&self, apic: LocalApic, sampler: Box<Sampler>) -> Result<(), AccessError> {
        apic.route_timer_to_nmi()?;
        self.sampler.put(sampler);
        self.send_self_nmi(apic);
        Ok(())
    }

    /// Tells whether sampling is on.
    #[cfg(feature = "selftest")]
    pub fn is_sampling(&self) -> bool {
        self.sampler.is_on()
    }

    /// Stops to sample on this CPU and takes the sampler back.
    pub fn stop(&self, apic: LocalApic) -> Option<Box<Sampler>> {
        apic.mask_timer();
        self.sampler.take()
    }
}
