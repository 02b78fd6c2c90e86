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
mod permit;
mod state;
mod stats;

pub use self::backoff::Backoff;
pub use self::permit::Permit;
use self::state::{Ask, Picked, Place, State};
pub use self::stats::{Histogram, Stats};
use super::fork;
use super::park::{Notice, Park, Waiter, Wake};
use super::semaphore::HANDOFF_AGE;
use super::sync::{Arc, Leaf, LeafGuard};
use super::waitlist::{Key, Waitlist, Woken};
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

/// What makes two handles the same connection.
///
/// A clone of a handle is one more count of the same connection, and runs nobody's code: it is made under the lock.
pub trait Identity {
    /// Equal for the same connection alone, as long as a handle of it lives.
    fn key(&self) -> usize;
}

/// What the pool is asked to keep to.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The most connections.
    pub max: u32,
    /// The fewest that expiry leaves.
    pub min: u32,
    /// The most waiters.
    pub max_waiting: u32,
    /// The newest idle connection is taken first, not the oldest.
    pub lifo: bool,
    /// A connection idle for longer is closed.
    pub max_idle: Nanos,
    /// A connection idle for longer is to be looked at before use.
    pub check_after: Nanos,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// The thread, by any name that tells it from others.
    pub thread: u64,
    /// Whether the right to open a connection is an answer.
    pub create: bool,
    /// Whether to fail at once where only threads that wait here could end the wait.
    pub deadlock: bool,
}

/// Who says that a connection is his to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The thread that took it.
    Thread(u64),
    /// The holder of this loan.
    Loan(u64),
    /// Somebody who knows that the thread that took it is no more.
    Heir,
}

/// What an acquire came to.
#[derive(Debug)]
pub enum Taken<'p, T: Clone + Identity> {
    /// A connection, which is out, and the number of this loan.
    Lent(T, u64),
    /// A connection to look at before it is [`lent`](Permit::lend): too old (`spent`), or idle for long.
    Suspect {
        /// The slot it is in.
        permit: Permit<'p, T>,
        /// Whether it is too old.
        spent: bool,
    },
    /// The right to open a connection.
    Create(Permit<'p, T>),
}

/// Why an acquire ended without an answer; nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum AcquireError<I> {
    /// The pool is closed.
    Closed,
    /// As many wait as may.
    Full,
    /// The deadline passed.
    TimedOut,
    /// Every connection is with a thread that itself waits for one.
    Deadlocked,
    /// The sleep was interrupted.
    Interrupted(I),
}

/// Why a return was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOwned {
    /// It is the pool's, and not out: it was returned before.
    Returned,
    /// It is not the pool's.
    Foreign,
    /// It is out, but somebody else took it.
    Other,
}

/// How a return went.
#[derive(Debug)]
pub enum GivenBack<'p, T: Clone + Identity> {
    /// It is idle or handed on; `overdue`: another idle connection is too old, see [`Pool::take_overdue`].
    Kept {
        /// Whether there is one.
        overdue: bool,
    },
    /// It is not to be used again: to be closed.
    Spent(Permit<'p, T>),
    /// It was the parent process's, or was closed while it was out: nothing is to be done.
    Gone(Option<T>),
}

/// A connection that is out.
#[derive(Debug)]
pub struct Loan<T> {
    /// The connection.
    pub conn: T,
    /// Which of all loans this is.
    pub number: u64,
    /// Who took it.
    pub thread: u64,
    /// How long ago.
    pub held: Nanos,
    /// Where, if that was told.
    pub origin: Option<T>,
}

/// How many of what there are, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Connections, with those being opened.
    pub size: u32,
    /// Of these, the idle ones.
    pub idle: u32,
    /// Waiters.
    pub waiting: u32,
    /// The most connections.
    pub max: u32,
    /// The fewest.
    pub min: u32,
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

    /// Takes a connection or the right to open one, waiting for it until the deadline.
    ///
    /// # Errors
    /// Closed, full, out of time, deadlocked or interrupted; nothing was taken.
    pub fn acquire<P: Park>(
        &self,
        asking: Asking,
        deadline: Option<Instant>,
        park: &P,
    ) -> Result<Taken<'_, T>, AcquireError<P::Interrupt>> {
        let waiter = Arc::new(Waiter::new());
        let begin = self.now();
        let key = {
            let mut woken = Woken::default();
            let mut state = self.lock();
            let taken = self.take(&mut state, asking, begin, &mut woken);
            if !matches!(taken, Ok(None)) {
                drop(state);
                woken.unpark();
                return taken.and_then(|taken| taken.ok_or(AcquireError::TimedOut));
            }
            if state.waiters.len() >= state.policy.max_waiting {
                state.stats.refused += 1;
                return Err(AcquireError::Full);
            }
            if asking.deadlock && state.is_deadlocked(asking.thread) {
                return Err(AcquireError::Deadlocked);
            }
            let ask = Ask { since: begin, thread: asking.thread, create: asking.create, gift: None };
            let key = state.waiters.join(Arc::clone(&waiter), ask);
            drop(state);
            woken.unpark();
            key
        };
        loop {
            let wake = park.park(&waiter, deadline);
            if let Some(answer) = self.resume(asking, begin, &waiter, &key, wake) {
                return answer;
            }
        }
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
            _ => return self.refuse(state, key),
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
            self.settle_and_wake(state, now, held < QUICK_NANOS);
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
            _ => return self.refuse(state, key).map(Err),
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

    /// The longest idle connection if it is too old, or is not to be kept at all: to be closed.
    pub fn take_overdue(&self) -> Option<Permit<'_, T>> {
        let now = self.now();
        let mut state = self.lock();
        if !Self::has_overdue(&state, now) {
            return None;
        }
        let at = state.idle.pop_front()?;
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
        self.settle_and_wake(state, now, false);
    }

    /// Whether an attempt to open a connection may be made now.
    ///
    /// # Errors
    /// When to ask again.
    pub fn enter_gate(&self, backoff: &Backoff) -> Result<(), Instant> {
        let now = self.now();
        let mut state = self.lock();
        let draw = state.draw();
        state.gate.enter(backoff, now, draw).map_err(|until| self.born + Duration::from_nanos(until))
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
        state.gate.succeeded();
        state.stats.create.record(took);
        None
    }

    /// `lifetime` less a random part of up to `jitter`: when a connection born now is too old.
    pub fn draw_expiry(&self, lifetime: Nanos, jitter: f64) -> Nanos {
        let now = self.now();
        let draw = self.lock().draw();
        now.saturating_add(backoff::shorten(lifetime, jitter, draw))
    }

    /// Counts a connection that a check or a reset found dead.
    pub fn count_failed(&self) {
        self.lock().stats.failed += 1;
    }

    /// Counts an acquire that ran out of time.
    pub fn count_timeout(&self) {
        self.lock().stats.timeouts += 1;
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

    /// Waits until no connection is left: whether that came before the deadline.
    ///
    /// # Errors
    /// The interrupt.
    pub fn wait_empty<P: Park>(&self, deadline: Option<Instant>, park: &P) -> Result<bool, P::Interrupt> {
        let waiter = Arc::new(Waiter::new());
        let key = {
            let mut state = self.lock();
            if state.open == 0 {
                return Ok(true);
            }
            state.closers.join(Arc::clone(&waiter), ())
        };
        let wake = park.park(&waiter, deadline);
        let mut state = self.lock();
        state.closers.leave(&key);
        wake.map(|_| state.open == 0)
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
        self.settle_and_wake(state, now, false);
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
    pub fn is_deadlocked(&self, thread: u64) -> bool {
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

    fn settle_and_wake(&self, mut state: LeafGuard<'_, State<T>>, now: Nanos, barge: bool) {
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

    /// What a park has come to; `None`: to be parked again.
    fn resume<I>(
        &self,
        asking: Asking,
        begin: Nanos,
        waiter: &Waiter,
        key: &Key,
        wake: Result<Wake, I>,
    ) -> Option<Result<Taken<'_, T>, AcquireError<I>>> {
        let now = self.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let notice = match &wake {
            Ok(Wake::Notified(notice)) => Some(*notice),
            Ok(Wake::TimedOut) => None,
            Err(_) => waiter.cancel().err(),
        };
        if notice == Some(Notice::Pulsed) {
            state.pulsed = state.pulsed.saturating_sub(1);
        }
        let gift = state.waiters.at(key).and_then(|ask| ask.gift.take());
        let gift = gift.filter(|(_, generation)| *generation == state.generation).map(|(at, _)| at);
        let answer = match (wake, notice) {
            (Err(interrupt), _) => {
                if let Some(at) = gift {
                    state.take_back(at);
                }
                Some(Err(AcquireError::Interrupted(interrupt)))
            }
            (Ok(_), Some(Notice::Closed | Notice::Hopeless)) => Some(Err(AcquireError::Closed)),
            (Ok(_), None) => Some(Err(AcquireError::TimedOut)),
            (Ok(_), Some(Notice::Granted { .. } | Notice::Pulsed)) => match gift {
                Some(at) => Some(Ok(self.collect(state, at, now, asking.thread))),
                None => state.pick(now, asking.thread).map(|picked| Ok(self.taken(state, picked))),
            },
        };
        let answer = match answer {
            None if state.closed => Some(Err(AcquireError::Closed)),
            None => {
                // It came too late, or what it was handed was the parent process's.
                waiter.rearm();
                state.waiters.rejoin_front(key);
                None
            }
            Some(answer) => {
                if answer.is_ok() {
                    state.stats.wait.record(now.saturating_sub(begin));
                }
                state.waiters.leave(key);
                Some(answer)
            }
        };
        self.settle_and_wake(guard, now, true);
        answer
    }

    /// What a waiter was handed becomes its own.
    fn collect(&self, state: &mut State<T>, at: u32, now: Nanos, thread: u64) -> Taken<'_, T> {
        match state.slots[at as usize].conn {
            None => Taken::Create(Permit::new(self, at, state)),
            Some(_) => match state.lend(at, now, thread) {
                Some((conn, loan)) => Taken::Lent(conn, loan),
                None => Taken::Create(Permit::new(self, at, state)),
            },
        }
    }

    #[inline]
    fn has_overdue(state: &State<T>, now: Nanos) -> bool {
        let Some(&at) = state.idle.front() else { return false };
        if state.closed || state.open > state.policy.max {
            return true;
        }
        let slot = &state.slots[at as usize];
        let old = now >= slot.expires || now.saturating_sub(slot.since) >= state.policy.max_idle;
        slot.era != state.era || old && state.open > state.policy.min
    }

    #[cold]
    fn refuse(&self, mut state: LeafGuard<'_, State<T>>, key: usize) -> Result<GivenBack<'_, T>, NotOwned> {
        if let Some(&at) = state.index.get(&key) {
            match state.slots[at as usize].place {
                Place::Forced => {}
                Place::Out => return Err(NotOwned::Other),
                _ => return Err(NotOwned::Returned),
            }
            let (conn, origin) = state.vacate(at);
            drop(state);
            drop(origin);
            return Ok(GivenBack::Gone(conn));
        }
        if state.inherited.kept.iter().any(|conn| conn.key() == key) {
            return Ok(GivenBack::Gone(None));
        }
        Err(NotOwned::Foreign)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
