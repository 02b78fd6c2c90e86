//! Permits over a waitlist.
//!
//! Acquire and release are one compare-and-swap each while nobody waits. A waiter queues first in, first out,
//! and by default is *pulsed*, not handed the permit: whoever runs takes it, and at most as many woken waiters
//! are under way as there are permits for (the designated wakers). Under a GIL that is an order of magnitude
//! faster than handing over, since a hand-off costs a thread switch. It could starve a waiter, so one older than
//! [`HANDOFF_AGE`] is handed its permits directly, and while it still lacks some, newcomers queue behind it. A
//! fair semaphore treats every waiter so.

mod slow;
mod word;

use self::word::{BARRED, CLOSED, QUEUED, VOID, Word};
use super::fork;
use super::park::{Notice, Park, Waiter};
use super::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use super::sync::{Arc, Leaf};
use super::waitlist::{Waitlist, Woken};
use std::time::{Duration, Instant};

pub use self::word::MAX_PERMITS;

/// A waiter older than this is no longer overtaken. A hand-off costs a thread switch; but from 2 ms on threads that
/// hold a permit for half a millisecond do not take turns evenly any more.
///
/// (loom repeats a run exactly, so it must not depend on the time.)
pub const HANDOFF_AGE: Duration = if cfg!(loom) { Duration::MAX } else { Duration::from_millis(1) };

/// `capacity` of a semaphore that has none.
const UNBOUNDED: u32 = u32::MAX;

/// Why an acquire ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError<I> {
    /// The semaphore is closed.
    Closed,
    /// More permits were asked for than the semaphore can ever have.
    Hopeless {
        /// What was asked for.
        n: u32,
        /// What it can have.
        capacity: u32,
    },
    /// The semaphore was never initialised.
    Void,
    /// The sleep was interrupted; nothing was taken.
    Interrupted(I),
}

/// Why a release was refused; nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// It would leave more permits than the capacity: somebody releases what was not acquired.
    Full {
        /// The capacity.
        capacity: u32,
    },
    /// It would leave more than [`MAX_PERMITS`].
    TooMany {
        /// What is free already.
        permits: u32,
    },
    /// The semaphore was never initialised.
    Void,
}

/// What a waiter asks for.
#[derive(Clone, Copy, Debug)]
struct Ask {
    n: u32,
    since: Instant,
}

#[derive(Debug)]
struct Queue {
    /// In the order of arrival; a pulsed waiter that came too late is at the front again.
    list: Waitlist<Ask>,
    /// Permits that waiters under way have been pulsed for: no second waiter is woken for them.
    pulsed: u32,
    /// Waiters that have been granted theirs and have not run since.
    granted: u32,
    /// Every waiter is handed its permits in turn.
    fair: bool,
}

/// A counting semaphore, with or without a capacity.
#[derive(Debug)]
pub struct Semaphore {
    word: AtomicU64,
    /// Changed under the lock, while `QUEUED` keeps releases off the fast path, and into a new epoch.
    capacity: AtomicU32,
    queue: Leaf<Queue>,
}

impl Semaphore {
    /// A semaphore that fails every use until it is initialised.
    #[must_use]
    pub fn void() -> Self {
        Self {
            word: AtomicU64::new(VOID),
            capacity: AtomicU32::new(UNBOUNDED),
            queue: Leaf::new(Queue { list: Waitlist::new(), pulsed: 0, granted: 0, fair: false }),
        }
    }

    /// A semaphore with `permits` free.
    #[must_use]
    pub fn new(permits: u32, fair: bool) -> Self {
        let semaphore = Self::void();
        semaphore.init(permits, None, fair);
        semaphore
    }

    /// A semaphore with `capacity` permits, all free, that refuses a release of more than were acquired.
    #[must_use]
    pub fn bounded(capacity: u32, fair: bool) -> Self {
        let semaphore = Self::void();
        semaphore.init(capacity, Some(capacity), fair);
        semaphore
    }

    /// Starts over with `permits` free; who waits goes on waiting for them.
    pub fn init(&self, permits: u32, capacity: Option<u32>, fair: bool) {
        let mut queue = self.lock();
        queue.fair = fair;
        self.recount(&queue, |_| 0, capacity.unwrap_or(UNBOUNDED));
        self.update(|word| Word(word.0 & !(VOID | CLOSED)).with_permits(signed(permits)));
        self.settle_and_wake(queue);
    }

    /// Whether [`init`](Self::init) is still to come.
    #[inline]
    pub fn is_void(&self) -> bool {
        self.load().has(VOID)
    }

    /// The permits that are free.
    #[inline]
    pub fn permits(&self) -> u32 {
        self.look().permits().max(0).unsigned_abs()
    }

    /// Whether an acquire would have to wait.
    #[inline]
    pub fn is_locked(&self) -> bool {
        let word = self.look();
        word.permits() <= 0 || word.has(BARRED)
    }

    /// Sets the permits that are free, whatever is held.
    pub fn set_permits(&self, permits: u32) {
        let queue = self.lock();
        self.update(|word| word.with_permits(signed(permits)));
        self.settle_and_wake(queue);
    }

    /// The most permits there can be, if there is such a bound.
    pub fn capacity(&self) -> Option<u32> {
        Some(self.capacity.load(Ordering::Relaxed)).filter(|&capacity| capacity != UNBOUNDED)
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.lock().list.len()
    }

    /// Whether waiters are handed their permits strictly in turn.
    pub fn is_fair(&self) -> bool {
        self.lock().fair
    }

    /// Whether the semaphore was closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.load().has(CLOSED)
    }

    /// Takes one permit if that is a matter of one compare-and-swap. If not, an acquire has the answer.
    #[inline]
    pub fn take_one(&self) -> bool {
        self.take(1, BARRED | CLOSED | VOID)
    }

    /// Gives one permit back if that is a matter of one compare-and-swap. If not, a release has the answer.
    #[inline]
    pub fn give_one(&self) -> bool {
        self.give(1)
    }

    /// Takes `n` permits if they are free now and nobody older is to have them.
    ///
    /// # Errors
    /// Closed, hopeless or not initialised; nothing was taken.
    #[inline]
    pub fn try_acquire<I>(&self, n: u32) -> Result<bool, AcquireError<I>> {
        if self.take(n, BARRED | CLOSED | VOID) { Ok(true) } else { self.try_again(n) }
    }

    /// Takes `n` permits at once, waiting for them until the deadline: whether they were taken.
    ///
    /// # Errors
    /// Closed, hopeless, not initialised, or interrupted; nothing was taken.
    pub fn acquire<P: Park>(
        &self,
        n: u32,
        deadline: Option<Instant>,
        park: &P,
    ) -> Result<bool, AcquireError<P::Interrupt>> {
        if self.take(n, BARRED | CLOSED | VOID) {
            return Ok(true);
        }
        let waiter = Arc::new(Waiter::new());
        let Some(key) = self.enqueue(n, &waiter)? else { return Ok(true) };
        loop {
            let wake = park.park(&waiter, deadline);
            if let Some(answer) = self.resume(n, &waiter, &key, wake) {
                return answer;
            }
        }
    }

    /// Gives `n` permits back, or adds them.
    ///
    /// # Errors
    /// Above the capacity, or above [`MAX_PERMITS`]; nothing was added.
    #[inline]
    pub fn release(&self, n: u32) -> Result<(), ReleaseError> {
        // Only a verdict under the lock is final: the capacity may be changing.
        if self.give(n) { Ok(()) } else { self.release_locked(n) }
    }

    /// Takes all free permits: how many there were.
    pub fn drain(&self) -> u32 {
        let mut taken = 0;
        self.look();
        self.update(|word| {
            taken = word.permits().max(0);
            word.with_permits(word.permits() - taken)
        });
        taken.unsigned_abs()
    }

    /// Changes the capacity: permits appear at once, and vanish at once as far as they are free; the rest as
    /// they are released. A waiter that asked for more than there will ever be is told so; capacity 0 is a pause,
    /// and tells nobody.
    pub fn resize(&self, capacity: u32) {
        let mut queue = self.lock();
        self.recount(&queue, |old| i64::from(capacity) - i64::from(old), capacity);
        let mut woken = Woken::default();
        if capacity > 0 {
            queue.list.notify_where(Notice::Hopeless, &mut woken, |ask| ask.n > capacity);
        }
        self.settle(&mut queue, &mut woken);
        drop(queue);
        woken.unpark();
    }

    /// Changes the bound a release is held against, and no permits.
    pub fn set_capacity(&self, capacity: u32) {
        let queue = self.lock();
        self.recount(&queue, |_| 0, capacity);
        self.settle_and_wake(queue);
    }

    /// Fails every waiter and every later acquire. Permits can still be released.
    pub fn close(&self) {
        let mut queue = self.lock();
        self.update(|word| Word(word.0 | CLOSED));
        let mut woken = Woken::default();
        queue.list.notify_where(Notice::Closed, &mut woken, |_| true);
        self.settle(&mut queue, &mut woken);
        drop(queue);
        woken.unpark();
    }

    // ---- the word ----

    #[inline]
    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// The word for somebody to see: in a child process, with what ghosts had been granted.
    #[inline]
    fn look(&self) -> Word {
        if self.load().has(QUEUED) && fork::generation() != 0 {
            drop(self.lock());
        }
        self.load()
    }

    #[inline]
    fn swap(&self, from: Word, to: Word) -> Result<(), Word> {
        self.word
            .compare_exchange_weak(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word)
    }

    fn update(&self, mut change: impl FnMut(Word) -> Word) {
        let mut word = self.load();
        while let Err(seen) = self.swap(word, change(word)) {
            word = seen;
        }
    }

    #[inline]
    fn take(&self, n: u32, barriers: u64) -> bool {
        let mut word = self.load();
        while !word.has(barriers) {
            let Some(less) = word.minus(n) else { return false };
            match self.swap(word, less) {
                Ok(()) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }

    #[inline]
    fn give(&self, n: u32) -> bool {
        let mut word = self.load();
        while !word.has(QUEUED | VOID) {
            let Some(more) = word.plus(n, self.limit()) else { return false };
            match self.swap(word, more) {
                Ok(()) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }

    #[inline]
    fn limit(&self) -> u32 {
        self.capacity.load(Ordering::Relaxed).min(MAX_PERMITS)
    }

    /// Sets the capacity and adds the permits that `delta` makes of the old one.
    fn recount(&self, _held: &Queue, delta: impl Fn(u32) -> i64, capacity: u32) {
        // From here on a release takes the lock.
        self.update(|word| Word(word.0 | QUEUED));
        let delta = delta(self.capacity.swap(capacity, Ordering::Relaxed));
        self.update(|word| {
            let permits = i64::from(word.permits()) + delta;
            let least = -i64::from(MAX_PERMITS);
            // Both bounds fit, so the conversion never falls back.
            let permits = permits.clamp(least, i64::from(MAX_PERMITS)).try_into().unwrap_or(0);
            word.with_permits(permits).next_epoch()
        });
    }
}

#[allow(clippy::cast_possible_wrap)]
const fn signed(permits: u32) -> i32 {
    if permits > MAX_PERMITS { i32::MAX } else { permits as i32 }
}

#[cfg(all(test, not(loom)))]
mod tests;
