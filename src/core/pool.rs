//! Connections over a waitlist.
//!
//! The pool counts, stacks and hands over; it never opens, checks or closes anything. An acquire is answered with
//! an idle connection or with a [`Permit`], the right to open one; whoever holds a permit fills it, or drops it,
//! and every such end serves the next waiter. Waiters are served first in, first out, and are handed the
//! connection itself. One exception keeps threads that hold a connection for no time at all from switching at
//! every return: after a hold below [`QUICK`] a young waiter is only told to come and compete.
//!
//! The pool keeps its own handle of every connection, also of those that are out. So a connection's address is
//! nobody else's, and a return is known to be right or wrong by it.

mod backoff;
mod care;
mod permit;
mod slow;
mod state;
mod stats;
mod thread;
mod types;

pub use self::backoff::Backoff;
pub use self::permit::Permit;
use self::state::{Picked, Place, State};
pub use self::stats::{Histogram, Stats};
pub use self::thread::{Life, Thread, Threads};
pub use self::types::{
    AcquireError, Asking, Claim, GivenBack, Identity, Loan, NotOwned, Policy, Sizes, Taken,
};
use super::fork;
use super::park::Notice;
use super::semaphore::HANDOFF_AGE;
use super::sync::{Leaf, LeafGuard};
use super::waitlist::{Waitlist, Woken};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A time of the pool's own clock: nanoseconds since it was made.
pub type Nanos = u64;

/// A connection held for less was not worth a thread switch: nothing waited for the outside world meanwhile.
pub const QUICK: Duration = Duration::from_micros(50);

const QUICK_NANOS: Nanos = nanos(QUICK);
const HANDOFF_NANOS: Nanos = nanos(HANDOFF_AGE);

/// Centuries of nanoseconds, or as many as there are.
#[allow(clippy::cast_possible_truncation)]
#[must_use]
pub const fn nanos(span: Duration) -> Nanos {
    if span.as_nanos() > u64::MAX as u128 { u64::MAX } else { span.as_nanos() as u64 }
}

/// What a child process keeps of its parent's, for ever: a drop would close what the parent uses.
#[derive(Debug)]
struct Forked<T> {
    kept: Vec<T>,
}

impl<T> Forked<T> {
    fn keep(&mut self, value: Option<T>) {
        self.kept.extend(value);
    }
}

impl<T> Drop for Forked<T> {
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.kept));
    }
}

/// A pool of connections.
#[derive(Debug)]
pub struct Pool<T> {
    born: Instant,
    state: Leaf<State<T>>,
}

impl<T: Clone + Identity> Pool<T> {
    /// An empty pool.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let state = State {
            slots: Vec::new(),
            vacant: Vec::new(),
            idle: VecDeque::new(),
            open: 0,
            index: HashMap::default(),
            waiters: Waitlist::new(),
            pulsed: 0,
            closers: Waitlist::new(),
            policy,
            closed: false,
            era: 0,
            suspect_before: 0,
            gate: backoff::Gate::default(),
            stats: Stats::default(),
            seed: 0x9E37_79B9_7F4A_7C15 ^ fork::this_thread() as u64,
            generation: fork::generation(),
            forgotten: 0,
            inherited: Forked { kept: Vec::new() },
        };
        Self { born: Instant::now(), state: Leaf::new(state) }
    }

    /// Now, by the pool's clock. (loom repeats a run exactly, so there it stands still.)
    #[inline]
    pub fn now(&self) -> Nanos {
        if cfg!(loom) { 0 } else { nanos(self.born.elapsed()) }
    }

    /// Takes a connection, or the right to open one, if there is one now.
    ///
    /// # Errors
    /// Closed.
    #[inline]
    pub fn try_acquire<I>(&self, asking: Asking) -> Result<Option<Taken<'_, T>>, AcquireError<I>> {
        let now = self.now();
        let mut woken = Woken::default();
        let mut state = self.lock();
        let taken = self.take(&mut state, asking, now, &mut woken);
        drop(state);
        woken.unpark();
        taken
    }

    /// Takes back a connection that is out, and hands it on.
    ///
    /// # Errors
    /// It is not out; nothing has changed.
    #[inline]
    pub fn give_back(&self, key: usize, claim: Claim) -> Result<GivenBack<'_, T>, NotOwned> {
        let now = self.now();
        let mut state = self.lock();
        let at = match state.index.get(&key) {
            Some(&at) if state.slots[at as usize].is_lent_to(claim) => at,
            _ => return Self::refuse(state, key),
        };
        let held = now.saturating_sub(state.slots[at as usize].since);
        state.stats.returned += 1;
        state.stats.used.record(held);
        let origin = state.slots[at as usize].origin.take();
        if state.is_spent(at, now) {
            state.stats.expired += u64::from(now >= state.slots[at as usize].expires);
            state.slots[at as usize].place = Place::Claimed;
            let permit = Permit::new(self, at, &state);
            drop(state);
            drop(origin);
            return Ok(GivenBack::Spent(permit));
        }
        state.shelve(at, now);
        let overdue = Self::has_overdue(&state, now);
        if state.waiters.is_empty() {
            drop(state);
        } else {
            Self::settle_and_wake(state, now, held < QUICK_NANOS);
        }
        drop(origin);
        Ok(GivenBack::Kept { overdue })
    }

    /// Takes a connection that is out out of its user's hands, to reset or to close it.
    ///
    /// # Errors
    /// It is not out; nothing has changed. Or it is [gone](GivenBack::Gone).
    pub fn claim(
        &self,
        key: usize,
        claim: Claim,
    ) -> Result<Result<Permit<'_, T>, GivenBack<'_, T>>, NotOwned> {
        let now = self.now();
        let mut state = self.lock();
        let at = match state.index.get(&key) {
            Some(&at) if state.slots[at as usize].is_lent_to(claim) => at,
            _ => return Self::refuse(state, key).map(Err),
        };
        let slot = &mut state.slots[at as usize];
        slot.place = Place::Claimed;
        let (held, origin) = (now.saturating_sub(slot.since), slot.origin.take());
        state.stats.returned += 1;
        state.stats.used.record(held);
        let permit = Permit::new(self, at, &state);
        drop(state);
        drop(origin);
        Ok(Ok(permit))
    }

    /// Fails every waiter and every later acquire: whether that is new.
    pub fn close(&self) -> bool {
        let now = self.now();
        let mut woken = Woken::default();
        let mut state = self.lock();
        let new = !std::mem::replace(&mut state.closed, true);
        state.waiters.notify_where(Notice::Closed, &mut woken, |_| true);
        state.settle(now, false, &mut woken);
        drop(state);
        woken.unpark();
        new
    }

    // ---- under the lock ----

    /// The state; in a child process, its own.
    #[inline]
    fn lock(&self) -> LeafGuard<'_, State<T>> {
        let mut state = self.state.lock();
        if state.generation != fork::generation() {
            state.enter_child();
        }
        state
    }

    fn settle_and_wake(mut state: LeafGuard<'_, State<T>>, now: Nanos, barge: bool) {
        let mut woken = Woken::default();
        state.settle(now, barge, &mut woken);
        drop(state);
        woken.unpark();
    }

    #[inline]
    fn take<I>(
        &self,
        state: &mut State<T>,
        asking: Asking,
        now: Nanos,
        woken: &mut Woken,
    ) -> Result<Option<Taken<'_, T>>, AcquireError<I>> {
        if state.closed {
            return Err(AcquireError::Closed);
        }
        if !state.waiters.is_empty() {
            // Whoever has waited for long enough comes first.
            state.settle(now, true, woken);
        }
        if let Some(picked) = state.pick(now, asking.thread) {
            return Ok(Some(self.taken(state, picked)));
        }
        if !asking.create || !state.has_room() {
            return Ok(None);
        }
        let at = state.open_slot();
        Ok(Some(Taken::Create(Permit::new(self, at, state))))
    }

    #[inline]
    fn taken(&self, state: &State<T>, picked: Picked<T>) -> Taken<'_, T> {
        match picked {
            Picked::Lent(conn, loan) => Taken::Lent(conn, loan),
            Picked::Suspect { slot, spent } => {
                Taken::Suspect { permit: Permit::new(self, slot, state), spent }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
