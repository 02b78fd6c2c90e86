//! The way through the lock: who waits, and who is served.

use super::word::{BARRED, CLOSED, QUEUED, VOID, Word};
use super::{AcquireError, Ask, HANDOFF_AGE, MAX_PERMITS, Queue, ReleaseError, Semaphore};
use crate::core::fork;
use crate::core::park::{Notice, Waiter, Wake};
use crate::core::sync::atomic::Ordering;
use crate::core::sync::{Arc, LeafGuard};
use crate::core::waitlist::{Entry, Key, Woken};
use std::time::Instant;

impl Semaphore {
    /// The queue, without the ghosts of a fork.
    pub(super) fn lock(&self) -> LeafGuard<'_, Queue> {
        let mut queue = self.queue.lock();
        let ghosts = queue.list.take_ghosts();
        if !ghosts.is_empty() {
            self.lay(&ghosts, &mut queue);
        }
        queue
    }

    /// Frees what ghosts had been granted, and forgets that they were on their way.
    #[cold]
    fn lay(&self, ghosts: &[Entry<Ask>], queue: &mut Queue) {
        for ghost in ghosts {
            match ghost.waiter.notice() {
                Some(Notice::Granted { .. }) => {
                    queue.granted = queue.granted.saturating_sub(1);
                    self.add(ghost.ask.n);
                }
                Some(Notice::Pulsed) => queue.pulsed = queue.pulsed.saturating_sub(ghost.ask.n),
                _ => {}
            }
        }
        let mut woken = Woken::default();
        self.settle(queue, &mut woken);
        // The one thread that came through the fork is awake: it is here.
        drop(woken);
    }

    #[cold]
    pub(super) fn try_again<I>(&self, n: u32) -> Result<bool, AcquireError<I>> {
        self.refuse(n)?;
        if fork::generation() == 0 {
            return Ok(false);
        }
        // In a child process, ghosts may have barred the door.
        drop(self.lock());
        Ok(self.take(n, BARRED | CLOSED | VOID))
    }

    fn refuse<I>(&self, n: u32) -> Result<(), AcquireError<I>> {
        let (word, capacity) = (self.load(), self.capacity.load(Ordering::Relaxed));
        if word.has(VOID) {
            Err(AcquireError::Void)
        } else if word.has(CLOSED) {
            Err(AcquireError::Closed)
        } else if n > capacity && capacity > 0 {
            Err(AcquireError::Hopeless { n, capacity })
        } else {
            Ok(())
        }
    }

    /// Joins the queue, or takes the permits after all.
    #[cold]
    pub(super) fn enqueue<I>(&self, n: u32, waiter: &Arc<Waiter>) -> Result<Option<Key>, AcquireError<I>> {
        let mut queue = self.lock();
        // Under the lock, so that a resize or close either sees this waiter or is seen here.
        self.refuse(n)?;
        if self.take(n, BARRED | CLOSED | VOID) {
            return Ok(None);
        }
        let key = queue.list.join(Arc::clone(waiter), Ask { n, since: Instant::now() });
        self.settle_and_wake(queue);
        Ok(Some(key))
    }

    /// What a park has come to; `None`: to be parked again.
    pub(super) fn resume<I>(
        &self,
        n: u32,
        waiter: &Waiter,
        key: &Key,
        wake: Result<Wake, I>,
    ) -> Option<Result<bool, AcquireError<I>>> {
        let mut queue = self.lock();
        let notice = match &wake {
            Ok(Wake::Notified(notice)) => Some(*notice),
            Ok(Wake::TimedOut) => None,
            Err(_) => waiter.cancel().err(),
        };
        match notice {
            Some(Notice::Pulsed) => queue.pulsed -= n,
            Some(Notice::Granted { .. }) => queue.granted -= 1,
            _ => {}
        }
        let answer = match (wake, notice) {
            (Err(interrupt), notice) => {
                if matches!(notice, Some(Notice::Granted { .. })) {
                    self.add(n);
                }
                Some(Err(AcquireError::Interrupted(interrupt)))
            }
            (Ok(_), Some(Notice::Granted { .. })) => Some(Ok(true)),
            (Ok(_), Some(Notice::Closed)) => Some(Err(AcquireError::Closed)),
            (Ok(_), Some(Notice::Hopeless)) => {
                Some(Err(AcquireError::Hopeless { n, capacity: self.capacity.load(Ordering::Relaxed) }))
            }
            (Ok(_), Some(Notice::Pulsed)) if self.take(n, CLOSED) => Some(Ok(true)),
            (Ok(_), Some(Notice::Pulsed)) => {
                let refused = self.refuse(n).err();
                if refused.is_none() {
                    waiter.rearm();
                    queue.list.rejoin_front(key);
                }
                refused.map(Err)
            }
            // A permit that came with the deadline is better than none.
            (Ok(_), None) => Some(Ok(self.take(n, BARRED | CLOSED))),
        };
        if answer.is_some() {
            queue.list.leave(key);
        }
        self.settle_and_wake(queue);
        answer
    }

    #[cold]
    pub(super) fn release_locked(&self, n: u32) -> Result<(), ReleaseError> {
        let queue = self.lock();
        let mut word = self.load();
        loop {
            if word.has(VOID) {
                return Err(ReleaseError::Void);
            }
            let Some(more) = word.plus(n, self.limit()) else {
                return Err(self
                    .capacity()
                    .map_or(ReleaseError::TooMany { permits: word.permits().unsigned_abs() }, |capacity| {
                        ReleaseError::Full { capacity }
                    }));
            };
            match self.swap(word, more) {
                Ok(()) => break,
                Err(seen) => word = seen,
            }
        }
        self.settle_and_wake(queue);
        Ok(())
    }

    /// Puts back `n` permits that had been counted: no bound can refuse them.
    fn add(&self, n: u32) {
        self.update(|word| word.plus(n, MAX_PERMITS).unwrap_or(word));
    }

    pub(super) fn settle_and_wake(&self, mut queue: LeafGuard<'_, Queue>) {
        let mut woken = Woken::default();
        self.settle(&mut queue, &mut woken);
        drop(queue);
        woken.unpark();
    }

    /// Serves the front of the queue as far as the permits go, and says in the word who must queue from now on.
    /// Every change under the lock ends here.
    pub(super) fn settle(&self, queue: &mut Queue, woken: &mut Woken) {
        let mut now = None;
        let mut word = self.load();
        loop {
            let (to, serves) = match queue.list.front() {
                // A child process finds by the flag that there may be a ghost to take permits back from.
                None => (word.with_queue(if queue.granted > 0 { QUEUED } else { 0 }), false),
                // All that is free is spoken for by waiters under way, each of whom will settle again: not worth
                // a look at the clock.
                Some(_)
                    if !queue.fair
                        && word.minus(queue.pulsed.saturating_add(1)).is_none()
                        && queue.pulsed > 0 =>
                {
                    (Word(word.0 | QUEUED), false)
                }
                Some(front) => {
                    let due =
                        queue.fair || *now.get_or_insert_with(Instant::now) - front.ask.since >= HANDOFF_AGE;
                    let n = front.ask.n;
                    match word.minus(n) {
                        Some(less) if due => (less, true),
                        Some(_) if word.minus(n.saturating_add(queue.pulsed)).is_some() => {
                            if front.waiter.notify(Notice::Pulsed) {
                                woken.push(&front.waiter);
                                queue.pulsed += n;
                            }
                            queue.list.unlink_front();
                            continue;
                        }
                        None if queue.fair || due && word.permits() > 0 => {
                            (word.with_queue(QUEUED | BARRED), false)
                        }
                        _ => (word.with_queue(QUEUED), false),
                    }
                }
            };
            if to != word {
                if let Err(seen) = self.swap(word, to) {
                    word = seen;
                    continue;
                }
                word = to;
            }
            if !serves {
                return;
            }
            if let Some(front) = queue.list.front() {
                if front.waiter.notify(Notice::GRANTED) {
                    woken.push(&front.waiter);
                    queue.granted += 1;
                } else {
                    // It gave up in this moment.
                    self.add(front.ask.n);
                    word = self.load();
                }
            }
            queue.list.unlink_front();
        }
    }
}
