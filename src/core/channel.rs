//! A bounded queue of items, many senders to many receivers, that can be closed.
//!
//! An item goes straight into the hands of a receiver that waits, else into the ring; a receiver that makes room
//! takes in what the first blocked sender waits with. Nobody stops at such a hand-over, so there is no convoy,
//! and since a waiter is woken only when its wait is over, timeouts and close are exact. Capacity 0, where every
//! item goes from hand to hand, and no capacity at all are the same code.
//!
//! What a receiver was handed lies in its place of the wait list until it comes for it. If it never does (a
//! raised signal handler, a fork), the item goes back to where it came from: nothing is ever lost.

pub(super) mod state;

use self::state::{Door, Given, Offer, Request, State};
use super::fork;
use super::park::{Notice, Park, Waiter, Wake};
use super::sync::{Arc, Leaf, LeafGuard};
use super::waitlist::Woken;
use std::collections::VecDeque;
use std::time::Instant;

pub use self::state::End;

/// The capacity of a channel that has none.
pub const UNBOUNDED: usize = usize::MAX;

/// Why nothing was sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<I> {
    /// No room, or no item, by the deadline.
    Unready,
    /// The channel is closed, and for a receiver: it is empty.
    Closed,
    /// The channel is [diverted](Channel::divert).
    Diverted,
    /// The sleep was interrupted.
    Interrupted(I),
}

/// A send that was refused, with what was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent<B, I> {
    /// The reason.
    pub why: Refusal<I>,
    /// What is not in the channel. An interrupted send may find that all of it is.
    pub back: B,
}

/// The channel.
#[derive(Debug)]
pub struct Channel<T> {
    state: Leaf<State<T>>,
}

impl<T> Channel<T> {
    /// An open channel for at most `capacity` items at a time. It allocates nothing until items come.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { state: Leaf::new(State::new(capacity)) }
    }

    /// Puts an item into the ring if nobody waits and there is room. It does nothing else (after a fork not even
    /// that), so it drops nothing and wakes nobody. `item` runs under the lock; it may count a reference.
    #[inline]
    pub fn put(&self, item: impl FnOnce() -> T) -> bool {
        let mut state = self.state.lock();
        let plain = state.receivers.is_empty() && state.has_room() && state.generation == fork::generation();
        if plain {
            state.push(item());
        }
        plain
    }

    /// Takes the oldest item from the ring if nobody waits for its room, and does nothing else, as [`put`](Self::put).
    #[inline]
    pub fn get(&self) -> Option<T> {
        let mut state = self.state.lock();
        let plain = state.senders.is_empty()
            && state.door != Door::Diverted
            && state.generation == fork::generation();
        if plain { state.pop(End::Front) } else { None }
    }

    /// Sends an item if that needs no waiting.
    ///
    /// # Errors
    /// No room, closed or diverted; with the item.
    #[inline]
    pub fn try_send<I>(&self, item: T) -> Result<(), Unsent<T, I>> {
        let mut state = self.lock();
        if state.receivers.is_empty() && state.has_room() {
            state.push(item);
            return Ok(());
        }
        Self::offer(state, item)
    }

    /// Sends an item, waiting for room until the deadline.
    ///
    /// # Errors
    /// No room by the deadline, closed, diverted or interrupted; with the item. An interrupt that finds the item
    /// taken leaves it in the channel.
    pub fn send<P: Park>(
        &self,
        item: T,
        deadline: Option<Instant>,
        park: &P,
    ) -> Result<(), Unsent<Option<T>, P::Interrupt>> {
        match self.try_send(item) {
            Ok(()) => Ok(()),
            Err(Unsent { why: Refusal::Unready, back }) => self
                .send_all(VecDeque::from([back]), deadline, park)
                .map_err(|Unsent { why, mut back }| Unsent { why, back: back.pop_front() }),
            Err(Unsent { why, back }) => Err(Unsent { why, back: Some(back) }),
        }
    }

    /// Sends items in their order, waiting for room until the deadline: they are taken as there is room, and the
    /// sender sleeps until the last one is.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the items that were not sent.
    pub fn send_all<P: Park>(
        &self,
        mut items: VecDeque<T>,
        deadline: Option<Instant>,
        park: &P,
    ) -> Result<(), Unsent<VecDeque<T>, P::Interrupt>> {
        loop {
            let mut woken = Woken::default();
            let mut state = self.lock();
            state.offer_all(&mut items, &mut woken);
            if items.is_empty() {
                wake(state, woken);
                return Ok(());
            }
            if let Some(why) = state.shut() {
                wake(state, woken);
                return Err(Unsent { why, back: items });
            }
            let waiter = Arc::new(Waiter::new());
            let key = state.senders.join(Arc::clone(&waiter), Offer { items, case: 0 });
            wake(state, woken);

            let (notice, interrupt) = ended(park.park(&waiter, deadline), &waiter);

            let mut woken = Woken::default();
            let mut state = self.lock();
            items = state.senders.leave(&key).map(|offer| offer.items).unwrap_or_default();
            let late = notice.is_none() && interrupt.is_none();
            if late {
                // Room that came with the deadline is better than none.
                state.offer_all(&mut items, &mut woken);
            }
            wake(state, woken);
            if let Some(interrupt) = interrupt {
                return Err(Unsent { why: Refusal::Interrupted(interrupt), back: items });
            }
            if late && !items.is_empty() {
                return Err(Unsent { why: Refusal::Unready, back: items });
            }
            // Nothing is left, or there was a notice other than that: the next round finds out.
        }
    }

    /// Receives an item if that needs no waiting.
    ///
    /// # Errors
    /// No item, closed and empty, or diverted.
    #[inline]
    pub fn try_recv<I>(&self, end: End) -> Result<T, Refusal<I>> {
        let mut state = self.lock();
        if state.senders.is_empty() && state.door != Door::Diverted {
            if let Some(item) = state.pop(end) {
                return Ok(item);
            }
        }
        Self::take(state, end)
    }

    /// Receives an item, waiting for one until the deadline.
    ///
    /// # Errors
    /// No item by the deadline, closed and empty, diverted or interrupted.
    pub fn recv<P: Park>(
        &self,
        end: End,
        deadline: Option<Instant>,
        park: &P,
    ) -> Result<T, Refusal<P::Interrupt>> {
        loop {
            let mut state = match Self::try_take(self.lock(), end) {
                Ok(answer) => return answer,
                Err(state) => state,
            };
            let waiter = Arc::new(Waiter::new());
            let request = Request { given: None, end, case: 0 };
            let key = state.receivers.join(Arc::clone(&waiter), request);
            drop(state);

            let (notice, interrupt) = ended(park.park(&waiter, deadline), &waiter);

            let mut woken = Woken::default();
            let mut state = self.lock();
            let mut given = state.receivers.leave(&key).and_then(|request| request.given);
            let late = notice.is_none() && interrupt.is_none();
            if interrupt.is_some() {
                if let Some(given) = given.take() {
                    state.give_back(given, end, &mut woken);
                }
            }
            let item = match given {
                // An item that came with the deadline is better than none.
                None if late => state.take(end, &mut woken),
                given => given.map(Given::into_item),
            };
            wake(state, woken);
            if let Some(interrupt) = interrupt {
                return Err(Refusal::Interrupted(interrupt));
            }
            if let Some(item) = item {
                return Ok(item);
            }
            if late {
                return Err(Refusal::Unready);
            }
            // Closed, diverted, or sent back to compete: the next round finds out.
        }
    }

    /// Receives up to `max` items that are there, waiting for the first one until the deadline.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_many<P: Park>(
        &self,
        max: usize,
        deadline: Option<Instant>,
        park: &P,
    ) -> Result<Vec<T>, Refusal<P::Interrupt>> {
        let mut items = self.try_recv_many(max);
        if items.is_empty() && max > 0 {
            items.push(self.recv(End::Front, deadline, park)?);
            self.extend(&mut items, max - 1);
        }
        Ok(items)
    }

    /// Receives up to `max` items that are there.
    pub fn try_recv_many(&self, max: usize) -> Vec<T> {
        let mut items = Vec::new();
        self.extend(&mut items, max);
        items
    }

    /// Receives everything that can be received without waiting.
    pub fn drain(&self) -> VecDeque<T> {
        let mut woken = Woken::default();
        let mut state = self.lock();
        let items = state.take_all(&mut woken);
        wake(state, woken);
        items
    }

    /// Fails every sender, now and later; receivers may have what is left. Whether the channel was open.
    pub fn close(&self) -> bool {
        let mut woken = Woken::default();
        let mut state = self.lock();
        let was = std::mem::replace(&mut state.door, Door::Closed);
        state.dismiss(Notice::Closed, &mut woken);
        wake(state, woken);
        was != Door::Closed
    }

    /// [Closes](Self::close) the channel and takes what receivers could have had.
    pub fn shut_down(&self) -> VecDeque<T> {
        let mut woken = Woken::default();
        let mut state = self.lock();
        state.door = Door::Closed;
        state.dismiss(Notice::Closed, &mut woken);
        let items = std::mem::take(&mut state.ring);
        wake(state, woken);
        items
    }

    /// Takes the items out and sends everybody away, now and later, with [`Refusal::Diverted`]: the owner wants
    /// to keep the items elsewhere for a while. An item that an interrupted receiver gives back still arrives
    /// here; [`take_back`](Self::take_back) finds it.
    pub fn divert(&self) -> VecDeque<T> {
        let mut woken = Woken::default();
        let mut state = self.lock();
        state.door = Door::Diverted;
        state.dismiss(Notice::Pulsed, &mut woken);
        let items = std::mem::take(&mut state.ring);
        wake(state, woken);
        items
    }

    /// What came back into a diverted channel.
    pub fn take_back(&self) -> VecDeque<T> {
        std::mem::take(&mut self.lock().ring)
    }

    /// Opens a diverted channel again, with these items in it before what came back.
    pub fn reopen(&self, mut items: VecDeque<T>) {
        let mut state = self.lock();
        items.append(&mut state.ring);
        state.ring = items;
        state.door = Door::Open;
    }

    /// How many items lie in the channel.
    #[inline]
    pub fn len(&self) -> usize {
        self.lock().ring.len()
    }

    /// Whether no item lies in the channel.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lock().ring.is_empty()
    }

    /// How many items were ever taken in.
    pub fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    /// The most items that may lie in the channel; [`UNBOUNDED`] is one.
    pub fn capacity(&self) -> usize {
        self.lock().capacity
    }

    /// Changes the capacity. New room goes to who waits for it; items that are too many stay.
    pub fn set_capacity(&self, capacity: usize) {
        let mut woken = Woken::default();
        let mut state = self.lock();
        state.capacity = capacity;
        state.refill(&mut woken);
        wake(state, woken);
    }

    /// Whether the channel was closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.lock().door == Door::Closed
    }

    /// How many wait in a send.
    pub fn sending(&self) -> u32 {
        self.lock().senders.len()
    }

    /// How many wait in a receive.
    pub fn receiving(&self) -> u32 {
        self.lock().receivers.len()
    }

    /// Shows the items in the ring, the oldest first. `see` runs under the lock: it may count references, and
    /// must not run code of the caller's.
    pub fn each(&self, see: impl FnMut(&T)) {
        self.lock().ring.iter().for_each(see);
    }

    /// Shows every item that the channel owns, for a garbage collector, which must not wait: `false` if somebody
    /// is moving them.
    ///
    /// # Errors
    /// The first that `visit` returns.
    pub fn traverse<E>(&self, mut visit: impl FnMut(&T) -> Result<(), E>) -> Result<bool, E> {
        let Some(state) = self.state.try_lock() else { return Ok(false) };
        for item in state.items() {
            visit(item)?;
        }
        Ok(true)
    }

    // ---- under the lock ----

    /// The state, without the ghosts of a fork.
    #[inline]
    pub(super) fn lock(&self) -> LeafGuard<'_, State<T>> {
        let state = self.state.lock();
        if state.generation == fork::generation() { state } else { self.lay(state) }
    }

    #[cold]
    fn lay<'a>(&'a self, mut state: LeafGuard<'a, State<T>>) -> LeafGuard<'a, State<T>> {
        let mut woken = Woken::default();
        let ghosts = state.lay(&mut woken);
        wake(state, woken);
        // What they wanted to send dies here, with the lock free.
        drop(ghosts);
        self.lock()
    }

    #[cold]
    fn offer<I>(mut state: LeafGuard<'_, State<T>>, item: T) -> Result<(), Unsent<T, I>> {
        let mut woken = Woken::default();
        let offered = state.offer(item, &mut woken);
        let why = state.shut().unwrap_or(Refusal::Unready);
        wake(state, woken);
        offered.map_err(|back| Unsent { why, back })
    }

    #[cold]
    fn take<I>(state: LeafGuard<'_, State<T>>, end: End) -> Result<T, Refusal<I>> {
        Self::try_take(state, end).unwrap_or(Err(Refusal::Unready))
    }

    /// An answer, or the lock again if there is none yet.
    fn try_take<I>(
        mut state: LeafGuard<'_, State<T>>,
        end: End,
    ) -> Result<Result<T, Refusal<I>>, LeafGuard<'_, State<T>>> {
        let mut woken = Woken::default();
        match state.take(end, &mut woken) {
            Some(item) => {
                wake(state, woken);
                Ok(Ok(item))
            }
            None => state.shut().map(Err).ok_or(state),
        }
    }

    /// Puts back at the front what a select was handed and could not take.
    pub(super) fn give_back(&self, given: Given<T>) {
        let mut woken = Woken::default();
        let mut state = self.lock();
        state.give_back(given, End::Front, &mut woken);
        wake(state, woken);
    }

    fn extend(&self, items: &mut Vec<T>, max: usize) {
        let mut woken = Woken::default();
        let mut state = self.lock();
        state.take_many(max, items, &mut woken);
        wake(state, woken);
    }
}

/// Unlocks, then wakes: the first act of the woken is to take this lock.
#[inline]
fn wake<T>(state: LeafGuard<'_, State<T>>, woken: Woken) {
    drop(state);
    woken.unpark();
}

/// How a wait was ended by others, if it was, and the interrupt that ended the sleep, if one did.
pub(super) fn ended<I>(wake: Result<Wake, I>, waiter: &Waiter) -> (Option<Notice>, Option<I>) {
    match wake {
        Ok(Wake::Notified(notice)) => (Some(notice), None),
        Ok(Wake::TimedOut) => (None, None),
        Err(interrupt) => (waiter.cancel().err(), Some(interrupt)),
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
