//! The ways through the pool that wait, or refuse.

use super::state::{Ask, Place, State};
use super::{AcquireError, Asking, GivenBack, Identity, Nanos, NotOwned, Permit, Pool, Taken, Thread};
use crate::core::park::{Notice, Park, Waiter, Wake};
use crate::core::sync::{Arc, LeafGuard};
use crate::core::waitlist::{Key, Woken};
use std::time::Instant;

impl<T: Clone + Identity> Pool<T> {
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
        Self::settle_and_wake(guard, now, true);
        answer
    }

    /// What a waiter was handed becomes its own.
    fn collect(&self, state: &mut State<T>, at: u32, now: Nanos, thread: Thread) -> Taken<'_, T> {
        match state.slots[at as usize].conn {
            None => Taken::Create(Permit::new(self, at, state)),
            Some(_) => match state.lend(at, now, thread) {
                Some((conn, loan)) => Taken::Lent(conn, loan),
                None => Taken::Create(Permit::new(self, at, state)),
            },
        }
    }

    #[cold]
    pub(super) fn refuse(
        mut state: LeafGuard<'_, State<T>>,
        key: usize,
    ) -> Result<GivenBack<'_, T>, NotOwned> {
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
