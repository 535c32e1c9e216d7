//! Starting and stopping the sampler, from thread context.

#![expect(unsafe_code, reason = "takes back what it gave to the handler")]

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::Ordering;

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
        // Release: an NMI that finds the sampler finds all of it.
        self.sampler.store(Box::into_raw(sampler), Ordering::Release);
        self.send_self_nmi(apic);
        Ok(())
    }

    /// Tells whether sampling is on.
    #[cfg(feature = "selftest")]
    pub fn is_sampling(&self) -> bool {
        !self.sampler.load(Ordering::Relaxed).is_null()
    }

    /// Stops to sample on this CPU and takes the sampler back.
    pub fn stop(&self, apic: LocalApic) -> Option<Box<Sampler>> {
        apic.mask_timer();
        // Acquire: what the NMIs did to the sampler is seen. From here on none finds it.
        let sampler = self.sampler.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: (1) `start` made it from a box; (2) the swap took it out, and no NMI of this CPU is under
        // way, for this is its thread.
        (!sampler.is_null()).then(|| unsafe { Box::from_raw(sampler) })
    }
}
