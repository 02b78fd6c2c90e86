//! Waiting for a permit, in any process.
//!
//! All waiters sleep on one word. Its lowest bit says that somebody may be asleep, the others count wake-ups:
//!
//! * A waiter **announces** itself: it sets the bit, remembers the word, looks for a permit once more, and sleeps
//!   while the word is still the one it remembers.
//! * Who frees a permit looks at the bit. If it is set, one compare-and-swap clears it and counts on, which makes
//!   every announced waiter that is not asleep yet look again, and one that is asleep is woken.
//! * A woken waiter **passes on**: it announces again before it looks for a permit, for those who still sleep; and if
//!   it leaves with a permit while another is free, it wakes the next one.
//!
//! "Announce, then look" on one side and "free, then look at the bit" on the other are sequentially consistent, so
//! at least one of the two sees the other. One wake-up is under way at a time: the waiters that run go on, which is
//! why this is fast, and there is no count of waiters that a killed one could leave wrong.
//!
//! A process that is killed, or stopped, with a wake-up in its hands loses it for the others. So nobody sleeps longer
//! than a slice. One waiter of all has short slices, and looks for the dead at the end of each: the **sweeper**.

use super::{Error, Kind, Semaphore, sys};
use crate::core::park::Slept;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ASLEEP: u32 = 1;

/// The sweeper's slice: a dead process's permit is found after half of it on average. Longer if sweeps are slow, so
/// that they take half a percent of the time at most.
const SWEEP: Duration = Duration::from_millis(5);
const SLOWEST_SWEEP: Duration = Duration::from_millis(25);
const SWEEP_SHARE: u32 = 200;
/// The sweeper asks about every process, not only about its id, once in so many sweeps.
const THOROUGH: u32 = 16;
/// Everybody else's slice, after which a sweeper that has not moved is replaced.
const SLICE: Duration = Duration::from_millis(60);

impl Semaphore {
    /// Wakes one waiter, if there may be one; it wakes the next if there is a permit for both.
    #[inline]
    pub(super) fn wake(&self, n: u32) {
        let gate = self.page.gate();
        let word = gate.load(Ordering::SeqCst);
        if word & ASLEEP != 0 {
            wake(gate, word, n);
        }
    }

    fn announce(&self) -> u32 {
        self.page.gate().fetch_or(ASLEEP, Ordering::SeqCst) | ASLEEP
    }

    /// Where this process's waiting threads are counted.
    fn waiting_here(&self) -> Option<&AtomicU64> {
        match self.membership {
            None => Some(self.page.waiting()),
            Some(membership) => membership.place().map(super::page::Member::waiting),
        }
    }

    /// Takes a permit, and wakes a waiter if there is another.
    pub(super) fn take_and_pass_on(&self) -> bool {
        let taken = self.take();
        if taken && self.page.gate().load(Ordering::SeqCst) & ASLEEP != 0 && self.has_free() {
            self.wake(1);
        }
        taken
    }

    fn has_free(&self) -> bool {
        match self.kind() {
            Kind::Owned => self.page.slots().iter().any(|slot| slot.owner().load(Ordering::SeqCst) == 0),
            Kind::Signalling => self.page.permits().load(Ordering::SeqCst) > 0,
        }
    }

    /// Sleeps until this thread has taken a permit, the moment has come, or a signal handler may have run: at the end
    /// of a slice, since one that runs while this thread is awake interrupts nothing.
    pub(super) fn sleep(&self, wait: &mut Wait<'_>, until: Option<Instant>) -> Slept<Result<(), Error>> {
        loop {
            let announced = self.announce();
            if self.take_and_pass_on() {
                return Slept::Notified(Ok(()));
            }
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Slept::TimedOut;
            }
            let next = wait.slice.min(until.unwrap_or(wait.slice));
            match sys::wait(self.page.gate(), announced, next.saturating_duration_since(now)) {
                sys::Waited::Interrupted => return Slept::Interrupted,
                sys::Waited::TimedOut if wait.slice <= Instant::now() => {
                    if self.is_removed() {
                        return Slept::Notified(Err(Error::Removed));
                    }
                    wait.next_slice();
                    if self.take_and_pass_on() {
                        return Slept::Notified(Ok(()));
                    }
                    return Slept::Interrupted;
                }
                sys::Waited::Woken | sys::Waited::TimedOut => {}
            }
        }
    }
}

#[cold]
fn wake(gate: &AtomicU32, word: u32, n: u32) {
    // Who loses this race need do nothing: the waiter that the winner wakes sees both permits.
    if gate.compare_exchange(word, word.wrapping_add(1), Ordering::SeqCst, Ordering::Relaxed).is_ok() {
        sys::wake(gate, n);
    }
}

/// One thread's wait: counted where others see it, and with its part in the sweeping.
///
/// `Page::sweep` names the sweeper in its upper half, 0 if there is none; its lower half is the sweeper's beat, by
/// which the others see that it works.
#[derive(Debug)]
pub struct Wait<'a> {
    semaphore: &'a Semaphore,
    /// The end of this slice.
    slice: Instant,
    /// Our name as the sweeper. Two threads that drew the same one would both sweep, and no more.
    name: u64,
    /// What we last saw there.
    seen: u64,
    sweeps: u32,
}

impl<'a> Wait<'a> {
    pub fn begin(semaphore: &'a Semaphore) -> Self {
        static THREADS: AtomicU32 = AtomicU32::new(1);
        let name =
            match semaphore.membership.and_then(super::Membership::me).and_then(super::member::Owner::at) {
                Some(at) => {
                    u64::from(at + 1) << 48
                        | u64::from(THREADS.fetch_add(1, Ordering::Relaxed) & 0xffff) << 32
                }
                None => 0,
            };
        if let Some(waiting) = semaphore.waiting_here() {
            waiting.fetch_add(1, Ordering::Relaxed);
        }
        let seen = semaphore.page.sweep().load(Ordering::Relaxed);
        let mut wait = Self { semaphore, slice: Instant::now() + SLICE, name, seen, sweeps: 0 };
        if name != 0 && seen == 0 && wait.become_sweeper() {
            wait.slice = Instant::now() + SWEEP;
        }
        wait
    }

    /// At the end of a slice: sweeps, if that is ours to do, and begins the next.
    fn next_slice(&mut self) {
        let now = self.semaphore.page.sweep().load(Ordering::Relaxed);
        let idle = now == self.seen || now == 0;
        self.seen = now;
        if self.name != 0 && (idle || self.is_sweeper()) && self.become_sweeper() {
            let begin = Instant::now();
            self.semaphore.sweep(self.sweeps % THOROUGH == 0);
            self.sweeps = self.sweeps.wrapping_add(1);
            let end = Instant::now();
            self.slice = end + ((end - begin) * SWEEP_SHARE).clamp(SWEEP, SLOWEST_SWEEP);
        } else {
            self.slice = Instant::now() + SLICE;
        }
    }

    fn is_sweeper(&self) -> bool {
        self.name != 0 && self.seen >> 32 == self.name >> 32
    }

    /// Puts our name, and the next beat, in place of what we saw there.
    fn become_sweeper(&mut self) -> bool {
        let beat = self.name | self.seen.wrapping_add(1) & 0xffff_ffff;
        let word = self.semaphore.page.sweep();
        let won = word.compare_exchange(self.seen, beat, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if won {
            self.seen = beat;
        }
        won
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.semaphore.waiting_here() {
            // Never below zero, whatever somebody wrote there.
            let less = |waiting: u64| waiting.checked_sub(1);
            let _ = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        if self.is_sweeper() {
            let word = self.semaphore.page.sweep();
            let resigned = word.compare_exchange(self.seen, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            // After a time as the sweeper there is one to be found; before, the next to wait will become it.
            if resigned && self.sweeps > 0 {
                self.semaphore.wake(1);
            }
        }
    }
}
