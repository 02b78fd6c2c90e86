//! The right to one connection.

use super::state::{Place, State};
use super::{Identity, Nanos, Pool, Thread};
use std::fmt;

/// A slot in its holder's hands, with a connection in it or without. Dropped, it frees the slot, and the next
/// waiter is served, whatever made the holder drop it.
#[must_use = "a permit dropped at once was for nothing"]
pub struct Permit<'p, T: Clone + Identity> {
    pool: &'p Pool<T>,
    slot: u32,
    /// Of fork: a permit of the parent's is none in the child.
    generation: u32,
}

impl<'p, T: Clone + Identity> Permit<'p, T> {
    pub(super) fn new(pool: &'p Pool<T>, slot: u32, state: &State<T>) -> Self {
        Self { pool, slot, generation: state.generation }
    }

    /// As numbers, to be kept beyond the borrow; [`from_raw`](Self::from_raw) is to follow.
    #[must_use]
    pub fn into_raw(self) -> (u32, u32) {
        let raw = (self.slot, self.generation);
        std::mem::forget(self);
        raw
    }

    /// The permit that was made into these numbers.
    pub fn from_raw(pool: &'p Pool<T>, raw: (u32, u32)) -> Self {
        Self { pool, slot: raw.0, generation: raw.1 }
    }

    /// The connection in the slot.
    #[must_use]
    pub fn conn(&self) -> Option<T> {
        self.with(|state, at| state.slots[at as usize].conn.clone())?
    }

    /// Notes that something outside was paid for this slot: a child process asks how often that was.
    pub fn pay(&self) {
        self.with(|state, at| state.slots[at as usize].paid = true);
    }

    /// Puts a connection into the empty slot.
    ///
    /// # Errors
    /// The connection, which the pool has already.
    pub fn fill(&self, conn: T, expires: Nanos) -> Result<(), T> {
        let key = conn.key();
        let mut conn = Some(conn);
        self.with(|state, at| {
            if state.index.contains_key(&key) {
                return;
            }
            state.index.insert(key, at);
            let slot = &mut state.slots[at as usize];
            (slot.conn, slot.expires, slot.era) = (conn.take(), expires, state.era);
            state.stats.created += 1;
        });
        conn.map_or(Ok(()), Err)
    }

    /// Takes the connection out of the slot, to close it.
    #[must_use]
    pub fn empty(&self) -> Option<T> {
        self.with(State::unindex)?
    }

    /// Hands the connection to a user, with the number of the loan.
    ///
    /// # Errors
    /// The permit, if the pool was closed meanwhile, or there is no connection.
    pub fn lend(self, thread: Thread) -> Result<(T, u64), Self> {
        let now = self.pool.now();
        let lent = self.with(|state, at| {
            let ready = !state.closed && state.slots[at as usize].conn.is_some();
            if ready { state.lend(at, now, thread) } else { None }
        });
        match lent.flatten() {
            Some(lent) => {
                std::mem::forget(self);
                Ok(lent)
            }
            None => Err(self),
        }
    }

    /// Puts the connection on the stack, or hands it to the next waiter.
    ///
    /// # Errors
    /// The permit, if the connection is not to be used again: to be closed.
    pub fn shelve(self) -> Result<(), Self> {
        let now = self.pool.now();
        let mut state = self.pool.lock();
        let at = self.slot;
        if state.generation != self.generation
            || state.is_spent(at, now)
            || state.slots[at as usize].conn.is_none()
        {
            drop(state);
            return Err(self);
        }
        state.shelve(at, now);
        Pool::settle_and_wake(state, now, false);
        std::mem::forget(self);
        Ok(())
    }

    fn with<R>(&self, change: impl FnOnce(&mut State<T>, u32) -> R) -> Option<R> {
        let mut state = self.pool.lock();
        (state.generation == self.generation).then(|| change(&mut state, self.slot))
    }
}

impl<T: Clone + Identity> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        debug_assert!(
            self.with(|state, at| state.slots[at as usize].place == Place::Claimed).unwrap_or(true)
        );
        let now = self.pool.now();
        let mut state = self.pool.lock();
        if state.generation != self.generation {
            return;
        }
        let removed = state.vacate(self.slot);
        Pool::settle_and_wake(state, now, false);
        drop(removed);
    }
}

impl<T: Clone + Identity> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("slot", &self.slot).finish_non_exhaustive()
    }
}
