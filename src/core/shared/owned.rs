//! Permits that have an owner: taking, giving back, and taking back from the dead.

use super::liveness::{Process, is_alive};
use super::member::Owner;
use super::page::{MEMBERS, Slot};
use super::{Error, Semaphore, sys};
use crate::core::spin;
use std::sync::atomic::Ordering;

/// How often an acquire makes sure that a named semaphore still has its name, in nanoseconds.
const NAME_CHECK: u64 = 1_000_000_000;

/// How often a thread looks again before it goes to sleep, and how long it waits for each look: some microseconds, in
/// which the holder takes and gives its permit a hundred times. To look more often would take the cache line away
/// from it at every turn, and both would wait for the line instead.
const LOOKS: u32 = 2;
const PAUSES: u32 = 64;

/// A permit that is taken, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process, by the id it has in its own PID namespace.
    pub pid: u32,
    /// Since when, in nanoseconds of the wall clock, to a few milliseconds; 0 before that is known.
    pub since: u64,
}

impl Semaphore {
    #[inline]
    pub(super) fn take_owned(&self) -> bool {
        let Some(me) = self.membership.and_then(super::Membership::me) else { return false };
        let hint = self.hint.load(Ordering::Relaxed);
        match self.page.slots().get(hint as usize) {
            Some(slot) if take_slot(slot, me) => self.settle(slot),
            _ => self.take_beyond(me, hint),
        }
    }

    /// Takes a permit that another process gives back within microseconds, which a sleep would take longer than.
    /// Not if all are held by this process: its threads may need what the calling one holds, the interpreter.
    pub(super) fn spin(&self) -> bool {
        let Some(me) = self.membership.and_then(super::Membership::me) else { return false };
        let others = || self.page.slots().iter().any(|slot| slot.owner().load(Ordering::Relaxed) != me.0);
        let looks = if spin::is_useful() { LOOKS } else { 0 };
        (0..looks).take_while(|_| others()).any(|_| {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            self.take()
        })
    }

    fn take_beyond(&self, me: Owner, hint: u32) -> bool {
        let forwards = (hint..self.capacity()).chain(0..hint);
        self.first(forwards, |slot| take_slot(slot, me)).is_some_and(|slot| self.settle(slot))
    }

    /// The rest of taking a slot; false if it has to be given back, since the file is not the one of that name.
    #[inline]
    fn settle(&self, slot: Slot<'_>) -> bool {
        let now = sys::wall();
        slot.since().store(now, Ordering::Relaxed);
        self.path.is_none() || now.wrapping_sub(self.seen.load(Ordering::Relaxed)) < NAME_CHECK || {
            let stays = !self.is_removed();
            if stays {
                self.seen.store(now, Ordering::Relaxed);
            } else {
                slot.owner().store(0, Ordering::SeqCst);
            }
            stays
        }
    }

    #[inline]
    pub(super) fn give_owned(&self, n: u32) -> Result<(), Error> {
        let me = self.membership.and_then(super::Membership::me).ok_or(Error::NotHeld)?;
        if n > 1 && self.held_here() < n {
            return Err(Error::NotHeld);
        }
        let hint = self.hint.load(Ordering::Relaxed);
        if n == 1 && self.page.slots().get(hint as usize).is_some_and(|slot| give_slot(slot, me)) {
            return Ok(());
        }
        for _ in 0..n {
            self.give_beyond(me)?;
        }
        Ok(())
    }

    /// Backwards, since takers go forwards: what was taken last is found first.
    fn give_beyond(&self, me: Owner) -> Result<(), Error> {
        let hint = self.hint.load(Ordering::Relaxed).min(self.capacity());
        let backwards = (0..hint).rev().chain((hint..self.capacity()).rev());
        self.first(backwards, |slot| give_slot(slot, me)).map(drop).ok_or(Error::NotHeld)
    }

    /// The first slot in this order that can be had; the hint leads to it from now on.
    fn first(
        &self,
        mut order: impl Iterator<Item = u32>,
        have: impl Fn(Slot<'_>) -> bool,
    ) -> Option<Slot<'_>> {
        let slots = self.page.slots();
        let (at, slot) =
            order.find_map(|at| Some((at, slots.get(at as usize).filter(|&slot| have(slot))?)))?;
        self.hint.store(at, Ordering::Relaxed);
        Some(slot)
    }

    pub(super) fn free_slots(&self) -> u32 {
        self.count(|owner| owner == 0)
    }

    /// The permits that this process holds.
    #[must_use]
    pub fn held_here(&self) -> u32 {
        self.membership.and_then(super::Membership::me).map_or(0, |me| self.count(|owner| owner == me.0))
    }

    fn count(&self, is_counted: impl Fn(u64) -> bool) -> u32 {
        let count =
            self.page.slots().iter().filter(|slot| is_counted(slot.owner().load(Ordering::SeqCst))).count();
        count.try_into().unwrap_or(u32::MAX)
    }

    /// Frees the permits of the dead: how many there were.
    ///
    /// Any number of processes may do this at once: a permit is freed by a compare-and-swap of the dead owner's
    /// word, which nobody else will ever have. `thorough` asks about every process, not only about its id.
    pub(super) fn sweep(&self, thorough: bool) -> u32 {
        let Some(membership) = self.membership else { return 0 };
        let me = membership.me().map_or(0, |me| me.0);
        if self.count(|owner| owner != 0 && owner != me) == 0 {
            return 0;
        }
        let mut we = None;
        let mut verdicts = [None; MEMBERS as usize];
        let mut freed = 0;
        for slot in self.page.slots().iter() {
            let word = slot.owner().load(Ordering::Acquire);
            if word == 0 || word == me {
                continue;
            }
            let owner = Owner(word);
            let is_alive = owner.at().is_some_and(|at| {
                let Some(place) = self.page.members().get(at) else { return false };
                place.generation().load(Ordering::SeqCst) == owner.generation()
                    && *verdicts[at as usize].get_or_insert_with(|| {
                        let we = we.get_or_insert_with(|| {
                            membership.place().and_then(Process::read).unwrap_or_else(Process::current)
                        });
                        // Whom we cannot ask about is alive.
                        membership.is_locked(at).is_none_or(|locked| is_alive(place, locked, we, thorough))
                    })
            });
            freed += u32::from(!is_alive && free_slot(slot, owner));
        }
        freed
    }

    /// Who holds permits, in no particular order.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.sweep(true);
        let holder = |slot: Slot<'_>| {
            let owner = Owner(slot.owner().load(Ordering::SeqCst));
            let place = self.page.members().get(owner.at()?)?;
            let pid = place.pid().load(Ordering::Relaxed).try_into().unwrap_or(0);
            Some(Holder { pid, since: slot.since().load(Ordering::Relaxed) })
        };
        self.page.slots().iter().filter_map(holder).collect()
    }

    /// How many threads wait, in all processes.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let waiting = match self.membership {
            None => self.page.waiting().load(Ordering::Relaxed),
            Some(_) => self.waiting_members().fold(0_u64, |sum, (_, waiting)| sum.saturating_add(waiting)),
        };
        waiting.try_into().unwrap_or(u32::MAX)
    }

    /// How many other processes wait: what a process that keeps permits in reserve should look at.
    #[must_use]
    pub fn pressure(&self) -> u32 {
        let here = self.membership.and_then(super::Membership::me).and_then(Owner::at);
        self.waiting_members().filter(|&(at, _)| Some(at) != here).count().try_into().unwrap_or(u32::MAX)
    }

    /// Living members with threads that wait. A process that was killed while it waited leaves its number there.
    fn waiting_members(&self) -> impl Iterator<Item = (u32, u64)> {
        let here = self.membership.and_then(super::Membership::me).and_then(Owner::at);
        let mut we = None;
        self.membership.into_iter().flat_map(|_| self.page.members().used()).filter_map(move |(at, place)| {
            let waiting = place.waiting().load(Ordering::Relaxed);
            if waiting == 0 {
                return None;
            }
            let lives = Some(at) == here || {
                let locked = self.membership.and_then(|membership| membership.is_locked(at));
                let we = we.get_or_insert_with(Process::current);
                locked.is_none_or(|locked| is_alive(place, locked, we, false))
            };
            lives.then_some((at, waiting))
        })
    }
}

/// Frees a permit that `dead` has, unless another sweep was faster: then it may have a living owner by now.
pub(super) fn free_slot(slot: Slot<'_>, dead: Owner) -> bool {
    slot.owner().compare_exchange(dead.0, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

#[inline]
fn take_slot(slot: Slot<'_>, me: Owner) -> bool {
    // Looking first spares the others' caches a write that must fail.
    slot.owner().load(Ordering::Relaxed) == 0
        && slot.owner().compare_exchange(0, me.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

#[inline]
fn give_slot(slot: Slot<'_>, me: Owner) -> bool {
    slot.owner().load(Ordering::Relaxed) == me.0
        && slot.owner().compare_exchange(me.0, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}
