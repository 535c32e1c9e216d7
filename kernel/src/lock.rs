//! The lock of thread context.
//!
//! A spin lock whose holder keeps the CPU: the tick does not switch to another thread meanwhile, which might
//! want the same lock and would spin until its own time is up. The NMI path has no lock.

use core::ops::{Deref, DerefMut};

use crate::thread::NoPreemption;

/// A value that one thread at a time may use.
pub struct Mutex<T>(spin::Mutex<T>);

impl<T> Mutex<T> {
    /// Creates an open lock.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    /// Tells whether somebody has the value.
    #[cfg(feature = "selftest")]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// Waits until nobody else has the value.
    ///
    /// # Context
    /// Thread.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let no_preemption = NoPreemption::new();
        MutexGuard { value: self.0.lock(), _no_preemption: no_preemption }
    }

    /// Takes the value, if nobody has it.
    ///
    /// # Context
    /// Any: nobody is waited for. What was interrupted may be the one who has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let no_preemption = NoPreemption::new();
        Some(MutexGuard { value: self.0.try_lock()?, _no_preemption: no_preemption })
    }
}

/// The value, for as long as this lives.
pub struct MutexGuard<'a, T> {
    // Fields are dropped in this order: the lock opens before the CPU may be taken away.
    value: spin::MutexGuard<'a, T>,
    _no_preemption: NoPreemption,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
