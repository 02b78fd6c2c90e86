//! What keeps a pool in order, and what tells how it is.

use super::state::{Place, State};
use super::{Backoff, Identity, Loan, Nanos, Permit, Policy, Pool, Sizes, Stats, Thread, backoff};
use crate::core::fork;
use std::time::{Duration, Instant};

impl<T: Clone + Identity> Pool<T> {
    /// The right to open a connection that nobody asked for: up to `min` (then with `None` when there are as many).
    pub fn try_open(&self, up_to: u32) -> Option<Permit<'_, T>> {
        let mut state = self.lock();
        if state.open >= up_to || !state.has_room() || !state.waiters.is_empty() {
            return None;
        }
        let at = state.open_slot();
        Some(Permit::new(self, at, &state))
    }

    /// Notes where a connection that is out was taken, for [`loans`](Self::loans); what was noted before comes back.
    pub fn note_origin(&self, key: usize, origin: T) -> Option<T> {
        let mut state = self.lock();
        let Some(&at) = state.index.get(&key) else { return Some(origin) };
        state.slots[at as usize].origin.replace(origin)
    }

    /// An idle connection that is too old, or is not to be kept at all: to be closed.
    pub fn take_overdue(&self) -> Option<Permit<'_, T>> {
        let now = self.now();
        let mut state = self.lock();
        let overdue = state.idle.iter().position(|&at| Self::is_overdue(&state, at, now))?;
        let at = state.idle.remove(overdue)?;
        state.slots[at as usize].place = Place::Claimed;
        state.stats.expired += 1;
        Some(Permit::new(self, at, &state))
    }

    /// Every idle connection, to look at; `than`: only those that have been idle for that long.
    pub fn take_idle(&self, than: Nanos) -> Vec<Permit<'_, T>> {
        let now = self.now();
        let mut state = self.lock();
        let mut taken = Vec::new();
        for _ in 0..state.idle.len() {
            let Some(at) = state.idle.pop_front() else { break };
            if now.saturating_sub(state.slots[at as usize].since) >= than {
                state.slots[at as usize].place = Place::Claimed;
                taken.push(Permit::new(self, at, &state));
            } else {
                state.idle.push_back(at);
            }
        }
        taken
    }

    /// Has every connection idle since before now looked at before its next use, whatever its rest.
    pub fn suspect_idle(&self) {
        let now = self.now();
        self.lock().suspect_before = now;
    }

    /// Has no connection of today be used again once it is idle.
    pub fn retire(&self) {
        let mut state = self.lock();
        state.era = state.era.wrapping_add(1);
    }

    /// Changes what the pool keeps to.
    pub fn set_policy(&self, change: impl FnOnce(&mut Policy)) {
        let now = self.now();
        let mut state = self.lock();
        change(&mut state.policy);
        Self::settle_and_wake(state, now, false);
    }

    /// Whether an attempt to open a connection may be made now.
    ///
    /// # Errors
    /// When to ask again.
    pub fn enter_gate(&self, backoff: &Backoff) -> Result<(), Instant> {
        let now = self.now();
        let mut state = self.lock();
        state.gate.enter(backoff, now).map_err(|until| self.born + Duration::from_nanos(until))
    }

    /// Tells how an attempt to open a connection went: when to try again.
    pub fn tell_gate(&self, backoff: Option<&Backoff>, took: Option<Nanos>) -> Option<Instant> {
        let now = self.now();
        let mut state = self.lock();
        let Some(took) = took else {
            state.stats.create_failed += 1;
            let draw = state.draw();
            return backoff
                .map(|backoff| self.born + Duration::from_nanos(state.gate.failed(backoff, now, draw)));
        };
        state.stats.create.record(took);
        if state.gate.succeeded() {
            // Whoever waited for that moment need not wait for its time.
            Self::settle_and_wake(state, now, false);
        }
        None
    }

    /// `lifetime` less a random part of up to `jitter`: when a connection born now is too old.
    pub fn draw_expiry(&self, lifetime: Nanos, jitter: f64) -> Nanos {
        let now = self.now();
        let draw = self.lock().draw();
        now.saturating_add(backoff::shorten(lifetime, jitter, draw))
    }

    /// How many paid slots of a parent process this one has started without; told once.
    pub fn take_forgotten(&self) -> u32 {
        std::mem::take(&mut self.lock().forgotten)
    }

    /// Counts a connection that a check or a reset found dead.
    pub fn count_failed(&self) {
        self.lock().stats.failed += 1;
    }

    /// Counts an acquire that ran out of time.
    pub fn count_timeout(&self) {
        self.lock().stats.timeouts += 1;
    }

    /// Takes every connection that is out from the pool, to be closed under its user's hands. Its return is
    /// accepted later, and does nothing.
    pub fn force_out(&self) -> Vec<T> {
        let now = self.now();
        let mut state = self.lock();
        let mut forced = Vec::new();
        let state_ref = &mut *state;
        for slot in state_ref.slots.iter_mut().filter(|slot| slot.place == Place::Out) {
            slot.place = Place::Forced;
            state_ref.open -= 1;
            forced.extend(slot.conn.clone());
        }
        Self::settle_and_wake(state, now, false);
        forced
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many of what there are.
    pub fn sizes(&self) -> Sizes {
        let state = self.lock();
        // Not more idle ones than slots, which are counted by a u32.
        let idle = u32::try_from(state.idle.len()).unwrap_or(u32::MAX);
        let (max, min) = (state.policy.max, state.policy.min);
        Sizes { size: state.open, idle, waiting: state.waiters.len(), max, min }
    }

    /// What has happened.
    pub fn stats(&self) -> Stats {
        self.lock().stats
    }

    /// The connections that are out.
    pub fn loans(&self) -> Vec<Loan<T>> {
        let now = self.now();
        let state = self.lock();
        let out = state.slots.iter().filter(|slot| slot.place == Place::Out);
        out.filter_map(|slot| {
            let held = now.saturating_sub(slot.since);
            Some(Loan {
                conn: slot.conn.clone()?,
                number: slot.loan,
                thread: slot.thread,
                held,
                origin: slot.origin.clone(),
            })
        })
        .collect()
    }

    /// Whether every connection is with a thread that waits here, this one among them.
    pub fn is_deadlocked(&self, thread: Thread) -> bool {
        self.lock().is_deadlocked(thread)
    }

    /// Shows the garbage collector what the pool holds; what a parent process left is not for it to judge.
    /// `visit` is called under the lock, and only looks.
    ///
    /// # Errors
    /// Of `visit`.
    pub fn visit<E>(&self, mut visit: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        if state.generation != fork::generation() {
            return Ok(());
        }
        for slot in &state.slots {
            slot.conn.iter().chain(&slot.origin).try_for_each(&mut visit)?;
        }
        Ok(())
    }

    /// Takes everything out of an unreachable pool, for the garbage collector to drop.
    pub fn clear(&self) -> Vec<T> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        for at in 0..state.slots.len() {
            taken.extend(state.slots[at].conn.take());
            taken.extend(state.slots[at].origin.take());
        }
        state.index.clear();
        state.closed = true;
        taken
    }

    /// Whether the longest idle connection is overdue.
    #[inline]
    pub(super) fn has_overdue(state: &State<T>, now: Nanos) -> bool {
        state.idle.front().is_some_and(|&at| Self::is_overdue(state, at, now))
    }

    #[inline]
    fn is_overdue(state: &State<T>, at: u32, now: Nanos) -> bool {
        let slot = &state.slots[at as usize];
        let rested = now.saturating_sub(slot.since) >= state.policy.max_idle;
        state.is_spent(at, now) || rested && state.open > state.policy.min
    }
}
