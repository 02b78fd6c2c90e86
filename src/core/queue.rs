//! The queues of the `queue` module: items, the tasks not yet done, and a door that can be shut.
//!
//! Both sides wait as at a [`semaphore`](super::semaphore): whoever runs takes what there is, at most as many woken
//! waiters are under way as there is to take, and one that has waited for [`HANDOFF_AGE`] gets a *claim*, which
//! nobody overtakes. Nothing of an item lies in a waitlist, so a waiter that leaves, for whatever reason, has
//! nothing to hand back but its turn.
//!
//! A queue can be *opened*: its items leave, once and for good, for a place where the caller keeps them, and whoever
//! waited is told to look there.

pub mod heap;
mod turn;

use super::fork;
use super::park::{Notice, Park, Waiter, Wake};
use super::semaphore::HANDOFF_AGE;
use super::sync::{Arc, Leaf, LeafGuard};
use super::waitlist::{Waitlist, Woken};
use std::collections::VecDeque;
use std::time::Instant;

/// `capacity` of a queue that has none.
pub const UNBOUNDED: usize = usize::MAX;

/// Places kept in an emptied queue; more than that was a burst, whose memory goes back.
const KEPT: usize = 4096;

/// Not yet initialised.
const VOID: u8 = 1;
/// The items are elsewhere.
const OPEN: u8 = 2;
/// Shut down: nothing comes in.
const SHUT: u8 = 4;

/// Why nothing was put or got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is full, or empty; or it was for all the time there was.
    NotNow,
    /// The queue is shut down.
    ShutDown,
    /// The items are elsewhere.
    Opened,
    /// The queue was never initialised.
    Void,
}

/// Why a wait led to nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure<I> {
    /// The queue did not let it happen.
    Refused(Refusal),
    /// A signal handler, or a comparison of items, raised.
    Interrupted(I),
}

impl<I> From<Refusal> for Failure<I> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// An item.
    Get,
    /// Room for an item.
    Put,
}

/// Who waits on one side, since when, and how many of them are under way.
#[derive(Debug, Default)]
struct Line {
    list: Waitlist<Instant>,
    /// Woken to compete, and not yet back.
    pulsed: usize,
    /// Woken to take what nobody else may, and not yet back.
    claims: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    capacity: usize,
    /// `VOID | OPEN | SHUT`.
    barred: u8,
    /// For `heap`: changes whenever the heap does.
    version: u64,
    /// For `heap`: how many of the last items are not part of the heap yet.
    loose: usize,
    /// For `heap`: operations that ask that the heap does not grow.
    holds: u32,
    unfinished: u64,
    /// The fork generation of everybody who waits.
    generation: u32,
    getters: Line,
    putters: Line,
    joiners: Waitlist<()>,
}

impl<T> State<T> {
    const fn line(&mut self, side: Side) -> &mut Line {
        match side {
            Side::Get => &mut self.getters,
            Side::Put => &mut self.putters,
        }
    }

    /// How many items, or places for one, are anybody's.
    #[inline]
    fn available(&self, side: Side) -> usize {
        match side {
            Side::Get => self.items.len().saturating_sub(self.getters.claims),
            Side::Put => self.capacity.saturating_sub(self.items.len().saturating_add(self.putters.claims)),
        }
    }

    /// Whether `side` may act now; `claimed`: with a place in the line that is due.
    #[inline]
    fn admit(&self, side: Side, claimed: bool) -> Result<(), Refusal> {
        if self.barred != 0 {
            self.bar(side)?;
        }
        let there = match side {
            Side::Get => self.items.len(),
            Side::Put => self.capacity.saturating_sub(self.items.len()),
        };
        // After a drain or a resize there may be less than was claimed.
        if self.available(side) > 0 || claimed && there > 0 { Ok(()) } else { Err(Refusal::NotNow) }
    }

    #[cold]
    fn bar(&self, side: Side) -> Result<(), Refusal> {
        if self.barred & VOID != 0 {
            Err(Refusal::Void)
        } else if self.barred & OPEN != 0 {
            Err(Refusal::Opened)
        } else if self.barred & SHUT != 0 && (side == Side::Put || self.items.is_empty()) {
            Err(Refusal::ShutDown)
        } else {
            Ok(())
        }
    }

    /// Takes all items.
    fn take(&mut self) -> VecDeque<T> {
        self.version = self.version.wrapping_add(1);
        self.loose = 0;
        std::mem::take(&mut self.items)
    }

    /// Counts an item that has come in; `None`: nobody is to learn of it.
    #[inline]
    fn came(&mut self) -> Option<Woken> {
        self.unfinished += 1;
        if self.getters.list.is_empty() { None } else { Some(self.settle()) }
    }

    /// Makes room known after an item has gone out.
    #[inline]
    fn went(&mut self) -> Option<Woken> {
        if self.items.capacity() > KEPT {
            self.shrink();
        }
        if self.putters.list.is_empty() && self.barred == 0 { None } else { Some(self.settle()) }
    }

    #[cold]
    fn shrink(&mut self) {
        if self.items.len() < self.items.capacity() / 4 {
            self.items.shrink_to(self.items.capacity() / 2);
        }
    }

    /// Wakes as many on each side as there is something for. Every change that gives anybody hope ends here.
    #[cold]
    fn settle(&mut self) -> Woken {
        let mut woken = Woken::default();
        for side in [Side::Get, Side::Put] {
            self.serve(side, &mut woken);
        }
        if self.barred & SHUT != 0 {
            self.putters.list.notify_where(Notice::Closed, &mut woken, |_| true);
            if self.items.is_empty() {
                self.getters.list.notify_where(Notice::Closed, &mut woken, |_| true);
            }
        }
        woken
    }

    fn serve(&mut self, side: Side, woken: &mut Woken) {
        let mut now = None;
        loop {
            let available = self.available(side);
            let line = self.line(side);
            let Some(front) = line.list.front().filter(|_| available > 0) else { return };
            let due = *now.get_or_insert_with(Instant::now) - front.ask >= HANDOFF_AGE;
            if !due && available <= line.pulsed {
                return;
            }
            let (notice, under_way) =
                if due { (Notice::GRANTED, &mut line.claims) } else { (Notice::Pulsed, &mut line.pulsed) };
            // One that gave up in this moment is only taken from the line.
            if front.waiter.notify(notice) {
                woken.push(&front.waiter);
                *under_way += 1;
            }
            line.list.unlink_front();
        }
    }

    /// Has everybody look again.
    fn stir(&mut self) -> Woken {
        let mut woken = Woken::default();
        self.getters.list.notify_where(Notice::Closed, &mut woken, |_| true);
        self.putters.list.notify_where(Notice::Closed, &mut woken, |_| true);
        self.joiners.notify_where(Notice::Closed, &mut woken, |()| true);
        woken
    }

    fn finished(&mut self) -> Woken {
        let mut woken = Woken::default();
        if self.unfinished == 0 {
            self.joiners.notify_where(Notice::GRANTED, &mut woken, |()| true);
        }
        woken
    }

    /// Forgets who was lost in a fork, and what they had been given.
    #[cold]
    fn exorcise(&mut self) {
        self.generation = fork::generation();
        for side in [Side::Get, Side::Put] {
            for ghost in self.line(side).list.take_ghosts() {
                self.end_turn(side, ghost.waiter.notice());
            }
        }
        drop(self.joiners.take_ghosts());
        self.holds = 0;
        // The one thread that came through the fork is awake: it is here.
        drop(self.settle());
    }

    /// Ends the turn that a notice gave.
    fn end_turn(&mut self, side: Side, notice: Option<Notice>) {
        let line = self.line(side);
        match notice {
            Some(Notice::Pulsed) => line.pulsed = line.pulsed.saturating_sub(1),
            Some(Notice::Granted { .. }) => line.claims = line.claims.saturating_sub(1),
            _ => {}
        }
    }
}

/// A queue. A new one refuses everything until [`init`](Self::init).
#[derive(Debug)]
pub struct Queue<T> {
    state: Leaf<State<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Leaf::new(State {
                items: VecDeque::new(),
                capacity: UNBOUNDED,
                barred: VOID,
                version: 0,
                loose: 0,
                holds: 0,
                unfinished: 0,
                generation: fork::generation(),
                getters: Line::default(),
                putters: Line::default(),
                joiners: Waitlist::new(),
            }),
        }
    }
}

impl<T> Queue<T> {
    /// An empty queue for at most `capacity` items.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let queue = Self::default();
        drop(queue.init(capacity, false));
        queue
    }

    /// Starts over, empty, opened or not; who waits goes on waiting. Returns the items there were.
    #[must_use]
    pub fn init(&self, capacity: usize, open: bool) -> VecDeque<T> {
        let mut state = self.lock();
        let items = state.take();
        (state.capacity, state.unfinished) = (capacity, 0);
        state.barred = if open { OPEN } else { 0 };
        let woken = state.stir();
        drop(state);
        woken.unpark();
        items
    }

    /// Sends the items and everybody who waits elsewhere, for good. `None`: they are there already.
    #[must_use]
    pub fn open(&self) -> Option<VecDeque<T>> {
        let mut state = self.lock();
        if state.barred & OPEN != 0 {
            return None;
        }
        state.barred = state.barred & SHUT | OPEN;
        let items = state.take();
        let woken = state.stir();
        drop(state);
        woken.unpark();
        Some(items)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        let state = self.lock();
        state.items.len() >= state.capacity
    }

    /// Whether there is a capacity at all.
    pub fn is_bounded(&self) -> bool {
        self.lock().capacity != UNBOUNDED
    }

    /// Whether the items are elsewhere.
    pub fn is_open(&self) -> bool {
        self.lock().barred & OPEN != 0
    }

    /// Whether [`init`](Self::init) is still to come.
    pub fn is_void(&self) -> bool {
        self.lock().barred & VOID != 0
    }

    /// Whether the queue is shut down.
    pub fn is_shut(&self) -> bool {
        self.lock().barred & SHUT != 0
    }

    /// Whether `side` is refused whatever there is.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self, side: Side) -> Result<(), Refusal> {
        self.lock().bar(side)
    }

    /// How many wait on a side.
    pub fn waiting(&self, side: Side) -> u32 {
        self.lock().line(side).list.len()
    }

    /// How many wait for the tasks to be done.
    pub fn joining(&self) -> u32 {
        self.lock().joiners.len()
    }

    /// Changes the capacity; room that appears is given to who waits for it.
    pub fn set_capacity(&self, capacity: usize) {
        let mut state = self.lock();
        state.capacity = capacity;
        let woken = state.settle();
        drop(state);
        woken.unpark();
    }

    // ---- items ----

    /// Puts an item at the back, if there is room.
    ///
    /// # Errors
    /// The reason, and the item.
    #[inline]
    pub fn try_put(&self, item: T, claimed: bool) -> Result<(), (Refusal, T)> {
        let mut state = self.lock();
        if let Err(refusal) = state.admit(Side::Put, claimed) {
            return Err((refusal, item));
        }
        state.items.push_back(item);
        if let Some(woken) = state.came() {
            drop(state);
            woken.unpark();
        }
        Ok(())
    }

    /// Gets the item at the front, or with `last` the one at the back.
    ///
    /// # Errors
    /// The reason.
    #[inline]
    pub fn try_get(&self, last: bool, claimed: bool) -> Result<T, Refusal> {
        let mut state = self.lock();
        state.admit(Side::Get, claimed)?;
        let item = if last { state.items.pop_back() } else { state.items.pop_front() };
        if let Some(woken) = state.went() {
            drop(state);
            woken.unpark();
        }
        item.ok_or(Refusal::NotNow)
    }

    // ---- tasks ----

    /// The items that came and were not reported done.
    pub fn unfinished(&self) -> u64 {
        self.lock().unfinished
    }

    /// Sets that number; at 0 everybody who joins goes on.
    pub fn set_unfinished(&self, unfinished: u64) {
        let mut state = self.lock();
        state.unfinished = unfinished;
        let woken = state.finished();
        drop(state);
        woken.unpark();
    }

    /// Reports one done: `false` if there was none to do.
    ///
    /// # Errors
    /// The tasks are not counted here.
    #[inline]
    pub fn task_done(&self) -> Result<bool, Refusal> {
        let mut state = self.lock();
        if state.barred & (VOID | OPEN) != 0 {
            state.bar(Side::Put)?;
        }
        let Some(unfinished) = state.unfinished.checked_sub(1) else { return Ok(false) };
        state.unfinished = unfinished;
        if unfinished == 0 {
            let woken = state.finished();
            drop(state);
            woken.unpark();
        }
        Ok(true)
    }

    /// Waits until every task is done.
    ///
    /// # Errors
    /// The interrupt, or that the tasks are not counted here.
    pub fn join<P: Park>(&self, park: &P) -> Result<(), Failure<P::Interrupt>> {
        let (waiter, key) = {
            let mut state = self.lock();
            if state.barred & (VOID | OPEN) != 0 {
                state.bar(Side::Put)?;
            }
            if state.unfinished == 0 {
                return Ok(());
            }
            let waiter = Arc::new(Waiter::new());
            let key = state.joiners.join(Arc::clone(&waiter), ());
            (waiter, key)
        };
        let wake = park.park(&waiter, None);
        self.lock().joiners.leave(&key);
        match wake {
            Err(interrupt) => Err(Failure::Interrupted(interrupt)),
            Ok(Wake::Notified(Notice::Granted { .. })) => Ok(()),
            // Opened, or initialised anew: look again.
            Ok(_) => self.join(park),
        }
    }

    /// Shuts the door: puts are refused, and gets once nothing is left. With `immediate` nothing is left at once,
    /// and what there was, which the caller gets, counts as done.
    ///
    /// # Errors
    /// The items are elsewhere, or the queue is void.
    pub fn shut(&self, immediate: bool) -> Result<VecDeque<T>, Refusal> {
        let mut state = self.lock();
        if state.barred & (VOID | OPEN) != 0 {
            state.bar(Side::Put)?;
        }
        state.barred |= SHUT;
        let mut items = VecDeque::new();
        let mut done = Woken::default();
        if immediate {
            items = state.take();
            state.unfinished = state.unfinished.saturating_sub(items.len() as u64);
            done = state.finished();
        }
        let woken = state.settle();
        drop(state);
        woken.unpark();
        done.unpark();
        Ok(items)
    }

    /// Sets the flag that [`is_shut`](Self::is_shut) reads; who waits learns of it.
    pub fn set_shut(&self, shut: bool) {
        let mut state = self.lock();
        state.barred = if shut { state.barred | SHUT } else { state.barred & !SHUT };
        let woken = if state.barred & OPEN == 0 { state.settle() } else { Woken::default() };
        drop(state);
        woken.unpark();
    }

    // ---- for the garbage collector ----

    /// Shows every item; nothing if the lock is held, which a collector must not wait for.
    ///
    /// # Errors
    /// The visitor's.
    pub fn visit<E>(&self, visitor: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        self.state.try_lock().map_or(Ok(()), |state| state.items.iter().try_for_each(visitor))
    }

    /// Takes every item out, as if they had never come.
    #[must_use]
    pub fn clear(&self) -> VecDeque<T> {
        self.lock().take()
    }

    /// The state, without the ghosts of a fork.
    #[inline]
    fn lock(&self) -> LeafGuard<'_, State<T>> {
        let mut state = self.state.lock();
        if state.generation != fork::generation() {
            state.exorcise();
        }
        state
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
