//! The only file that says where locks and atomics come from, so that loom can take their place.

#[cfg(not(loom))]
pub use parking_lot::{Mutex as Leaf, MutexGuard as LeafGuard};
#[cfg(not(loom))]
pub use std::sync::{Arc, atomic};

#[cfg(loom)]
pub use loom::sync::{Arc, MutexGuard as LeafGuard, atomic};

/// loom's mutex with the face of `parking_lot`'s, which knows no poisoning.
#[cfg(loom)]
#[derive(Debug)]
pub struct Leaf<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Leaf<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Waits for the lock; a panic in another holder fails the model anyway.
    pub fn lock(&self) -> LeafGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<LeafGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
