//! What lies behind the lock of a channel, and the moves that are made there.
//!
//! The invariants, which every method keeps: items in the ring mean that no receiver waits, room in the ring
//! means that no sender waits. A waiter that has been cancelled may still stand in its list; it counts as gone.

use super::super::fork;
use super::super::park::Notice;
use super::super::waitlist::{Entry, Waitlist, Woken};
use super::Refusal;
use std::collections::VecDeque;

/// Items whose room is kept when the ring runs empty; more than that was a burst, whose memory goes back.
const KEPT: usize = 4096;

/// Which end of the ring an item is received from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The oldest item.
    Front,
    /// The newest item.
    Back,
}

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Everybody.
    Open,
    /// Receivers, for what is left.
    Closed,
    /// Nobody: see [`Channel::divert`](super::Channel::divert).
    Diverted,
}

/// What a sender waits with.
#[derive(Debug)]
pub struct Offer<T> {
    /// What is still to be taken, the first one first. A sender is granted when the last one is.
    pub items: VecDeque<T>,
    /// Which case of a select this is.
    pub case: u32,
}

/// What a receiver waits with.
#[derive(Debug)]
pub struct Request<T> {
    /// The item that was handed over. It belongs to the channel until the receiver leaves with it.
    pub given: Option<Given<T>>,
    /// Where the item goes back to if the receiver cannot take it.
    pub end: End,
    /// Which case of a select this is.
    pub case: u32,
}

/// An item on its way to a receiver.
#[derive(Debug)]
pub struct Given<T> {
    pub item: T,
    /// The place of this item among all that the channel has accepted.
    number: u64,
}

impl<T> Given<T> {
    pub fn into_item(self) -> T {
        self.item
    }
}

/// The channel under its lock.
#[derive(Debug)]
pub struct State<T> {
    /// At most `capacity` items, and those that came back from receivers who could not take them.
    pub ring: VecDeque<T>,
    pub capacity: usize,
    pub door: Door,
    /// Items that ever came in.
    pub accepted: u64,
    pub senders: Waitlist<Offer<T>>,
    pub receivers: Waitlist<Request<T>>,
    /// The fork generation of everybody here.
    pub generation: u32,
}

impl<T> State<T> {
    pub fn new(capacity: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            capacity,
            door: Door::Open,
            accepted: 0,
            senders: Waitlist::new(),
            receivers: Waitlist::new(),
            generation: fork::generation(),
        }
    }

    #[inline]
    pub fn has_room(&self) -> bool {
        self.ring.len() < self.capacity && self.door == Door::Open
    }

    #[inline]
    pub fn push(&mut self, item: T) {
        self.accepted += 1;
        self.ring.push_back(item);
    }

    #[inline]
    pub fn pop(&mut self, end: End) -> Option<T> {
        let item = match end {
            End::Front => self.ring.pop_front(),
            End::Back => self.ring.pop_back(),
        };
        self.trim();
        item
    }

    /// Why there is nothing to wait for.
    pub fn shut<I>(&self) -> Option<Refusal<I>> {
        match self.door {
            Door::Open => None,
            Door::Closed => Some(Refusal::Closed),
            Door::Diverted => Some(Refusal::Diverted),
        }
    }

    /// Takes in one item: into the hands of a receiver, or into the ring.
    pub fn offer(&mut self, item: T, woken: &mut Woken) -> Result<(), T> {
        if self.door != Door::Open {
            return Err(item);
        }
        let given = Given { item, number: self.accepted };
        match self.hand_over(given, woken) {
            Ok(()) => self.accepted += 1,
            Err(given) if self.has_room() => self.push(given.item),
            Err(given) => return Err(given.item),
        }
        Ok(())
    }

    /// Takes in as many items as there is room for.
    pub fn offer_all(&mut self, items: &mut VecDeque<T>, woken: &mut Woken) {
        while !self.receivers.is_empty() {
            let Some(item) = items.pop_front() else { return };
            if let Err(item) = self.offer(item, woken) {
                items.push_front(item);
                return;
            }
        }
        if self.door == Door::Open {
            let n = items.len().min(self.capacity.saturating_sub(self.ring.len()));
            self.accepted += n as u64;
            self.ring.extend(items.drain(..n));
        }
    }

    /// Gives out one item: from the ring, whose room goes to who waits with the next, or from a sender's hands.
    pub fn take(&mut self, end: End, woken: &mut Woken) -> Option<T> {
        if self.door == Door::Diverted {
            return None;
        }
        let Some(item) = self.pop(end) else { return self.pull(woken) };
        self.refill(woken);
        Some(item)
    }

    /// Gives out up to `max` items, the first one first.
    pub fn take_many(&mut self, max: usize, out: &mut Vec<T>, woken: &mut Woken) {
        let max = out.len().saturating_add(max);
        while out.len() < max && self.door != Door::Diverted {
            let n = self.ring.len().min(max - out.len());
            if n > 0 {
                out.extend(self.ring.drain(..n));
                self.refill(woken);
                self.trim();
            } else {
                let Some(item) = self.pull(woken) else { return };
                out.push(item);
            }
        }
    }

    /// Gives out everything that could be received without waiting.
    pub fn take_all(&mut self, woken: &mut Woken) -> VecDeque<T> {
        let mut items = std::mem::take(&mut self.ring);
        while let Some(item) = self.pull(woken) {
            items.push_back(item);
        }
        items
    }

    /// Puts back what a receiver was given and could not take: for the next receiver, before all other items.
    pub fn give_back(&mut self, given: Given<T>, end: End, woken: &mut Woken) {
        if let Err(given) = self.hand_over(given, woken) {
            match end {
                End::Front => self.ring.push_front(given.item),
                End::Back => self.ring.push_back(given.item),
            }
        }
    }

    /// Moves what senders wait with into the room there is.
    pub fn refill(&mut self, woken: &mut Woken) {
        while !self.senders.is_empty() && self.ring.len() < self.capacity {
            let Some(item) = self.pull(woken) else { return };
            self.ring.push_back(item);
        }
    }

    /// Ends every wait with `notice`.
    pub fn dismiss(&mut self, notice: Notice, woken: &mut Woken) {
        self.senders.notify_where(notice, woken, |_| true);
        self.receivers.notify_where(notice, woken, |_| true);
    }

    /// Removes the ghosts of a fork. What they had been given goes back to the front in its order; what they
    /// wanted to send is theirs alone, and returned.
    pub fn lay(&mut self, woken: &mut Woken) -> Vec<Entry<Offer<T>>> {
        self.generation = fork::generation();
        let ghosts = self.receivers.take_ghosts().into_iter();
        let mut given: Vec<_> = ghosts.filter_map(|ghost| Some((ghost.ask.given?, ghost.ask.end))).collect();
        given.sort_by_key(|(given, _)| given.number);
        let (front, back): (Vec<_>, Vec<_>) = given.into_iter().partition(|(_, end)| *end == End::Front);
        for (given, end) in front.into_iter().rev().chain(back) {
            self.give_back(given, end, woken);
        }
        self.senders.take_ghosts()
    }

    /// Everything that belongs to the channel.
    pub fn items(&self) -> impl Iterator<Item = &T> {
        let offered = self.senders.asks().flat_map(|offer| &offer.items);
        let given = self.receivers.asks().filter_map(|request| Some(&request.given.as_ref()?.item));
        self.ring.iter().chain(offered).chain(given)
    }

    /// Hands an item to the first receiver that is still there.
    fn hand_over(&mut self, given: Given<T>, woken: &mut Woken) -> Result<(), Given<T>> {
        while let Some(front) = self.receivers.front_mut() {
            if front.waiter.notify(Notice::Granted { case: front.ask.case }) {
                woken.push(&front.waiter);
                front.ask.given = Some(given);
                self.receivers.unlink_front();
                return Ok(());
            }
            self.receivers.unlink_front();
        }
        Err(given)
    }

    /// Takes one item from the hands of the first sender that is still there.
    fn pull(&mut self, woken: &mut Woken) -> Option<T> {
        while let Some(front) = self.senders.front_mut() {
            // Only the last item decides the wait. Whatever else befalls the sender, it will find under the lock
            // how many of the others are left.
            let last = front.ask.items.len() <= 1;
            let taken = !last || front.waiter.notify(Notice::Granted { case: front.ask.case });
            let item = if taken { front.ask.items.pop_front() } else { None };
            if last {
                if taken {
                    woken.push(&front.waiter);
                }
                self.senders.unlink_front();
            }
            if item.is_some() {
                self.accepted += 1;
                return item;
            }
        }
        None
    }

    /// Gives back the memory of a burst.
    fn trim(&mut self) {
        if self.ring.is_empty() && self.ring.capacity() > KEPT {
            self.ring = VecDeque::new();
        }
    }
}
