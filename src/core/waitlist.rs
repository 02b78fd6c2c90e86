//! A first-in, first-out list of waiters.
//!
//! A waiter's place belongs to the waiter: it [`join`](Waitlist::join)s, and it alone [`leave`](Waitlist::leave)s.
//! Others take the first from the queue with [`unlink_front`](Waitlist::unlink_front), which ends its turn but
//! leaves its place, and what lies there, for the owner to collect. So a place is never given to a stranger while
//! its owner still holds the [`Key`], and what was handed over is found there even if the owner never comes.
//!
//! Every operation is O(1): a doubly linked list in a vector of places.

use super::fork;
use super::park::{Notice, Waiter};
use super::sync::Arc;

const NIL: u32 = u32::MAX;
/// Places kept when the list is empty; more than that was a burst, whose memory goes back.
const KEPT: usize = 16;

/// A waiter's place in a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Key(u32);

/// Somebody waiting, and for what.
#[derive(Debug)]
pub struct Entry<A> {
    /// The wait.
    pub waiter: Arc<Waiter>,
    /// What is asked, or what was handed over.
    pub ask: A,
}

#[derive(Debug)]
struct Place<A> {
    /// `None` when the place is free; `next` then names the next free one.
    entry: Option<Entry<A>>,
    prev: u32,
    next: u32,
    linked: bool,
}

/// The queue. One pointer, null until somebody has joined: most objects are never waited for.
#[derive(Debug)]
pub struct Waitlist<A> {
    body: Option<Box<Body<A>>>,
}

#[derive(Debug)]
struct Body<A> {
    places: Vec<Place<A>>,
    head: u32,
    tail: u32,
    /// First of the free places.
    free: u32,
    /// Places in the queue.
    linked: u32,
    /// Places that belong to somebody, in the queue or not.
    taken: u32,
    /// The fork generation of everybody here.
    generation: u32,
}

impl<A> Default for Waitlist<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> Waitlist<A> {
    /// An empty list; it allocates nothing until somebody joins.
    #[must_use]
    pub const fn new() -> Self {
        Self { body: None }
    }

    /// How many wait in the queue.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u32 {
        self.body.as_ref().map_or(0, |body| body.linked)
    }

    /// Whether nobody waits in the queue.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Joins at the back.
    pub fn join(&mut self, waiter: Arc<Waiter>, ask: A) -> Key {
        let body = self.body.get_or_insert_with(Box::default);
        if body.taken == 0 {
            body.generation = fork::generation();
        }
        let at = body.occupy(Entry { waiter, ask });
        body.link(at, body.tail, NIL);
        Key(at)
    }

    /// Joins the queue again, at the front: for a waiter that was pulsed and came too late.
    pub fn rejoin_front(&mut self, key: &Key) {
        if let Some(body) = &mut self.body {
            debug_assert!(!body.places[key.0 as usize].linked);
            body.link(key.0, NIL, body.head);
        }
    }

    /// The first in the queue.
    #[inline]
    #[must_use]
    pub fn front(&self) -> Option<&Entry<A>> {
        let body = self.body.as_ref()?;
        body.entry(body.head)
    }

    /// The first in the queue, to be given something.
    #[inline]
    pub fn front_mut(&mut self) -> Option<&mut Entry<A>> {
        let body = self.body.as_mut()?;
        body.places.get_mut(body.head as usize)?.entry.as_mut()
    }

    /// Takes the first from the queue; its place stays its own.
    pub fn unlink_front(&mut self) {
        if let Some(body) = &mut self.body {
            body.unlink(body.head);
        }
    }

    /// What lies at the owner's own place.
    pub fn at(&mut self, key: &Key) -> Option<&mut A> {
        Some(&mut self.body.as_mut()?.places.get_mut(key.0 as usize)?.entry.as_mut()?.ask)
    }

    /// Gives up the place and the turn, if there still is one.
    pub fn leave(&mut self, key: &Key) -> Option<A> {
        Some(self.body.as_mut()?.vacate(key.0)?.ask)
    }

    /// Ends every wait in the queue that `doomed` picks, with the same notice.
    pub fn notify_where(&mut self, notice: Notice, woken: &mut Woken, mut doomed: impl FnMut(&A) -> bool) {
        let Some(body) = &mut self.body else { return };
        let mut at = body.head;
        while let Some(entry) = body.entry(at) {
            let next = body.places[at as usize].next;
            if doomed(&entry.ask) {
                if entry.waiter.notify(notice) {
                    woken.push(&entry.waiter);
                }
                body.unlink(at);
            }
            at = next;
        }
    }

    /// Removes everybody whose thread was lost in a fork, with what had been handed to them. Empty unless this
    /// is the first call in a child process.
    #[inline]
    #[must_use]
    pub fn take_ghosts(&mut self) -> Vec<Entry<A>> {
        match &mut self.body {
            Some(body) if body.taken > 0 && body.generation != fork::generation() => body.exorcise(),
            _ => Vec::new(),
        }
    }

    /// Everything that lies here, handed over or not: for the garbage collector.
    pub fn asks(&self) -> impl Iterator<Item = &A> {
        let places = self.body.iter().flat_map(|body| &body.places);
        places.filter_map(|place| place.entry.as_ref()).map(|entry| &entry.ask)
    }
}

impl<A> Default for Body<A> {
    fn default() -> Self {
        Self { places: Vec::new(), head: NIL, tail: NIL, free: NIL, linked: 0, taken: 0, generation: 0 }
    }
}

impl<A> Body<A> {
    #[cold]
    fn exorcise(&mut self) -> Vec<Entry<A>> {
        self.generation = fork::generation();
        let ghosts: Vec<u32> = (0..)
            .zip(&self.places)
            .filter(|(_, place)| place.entry.as_ref().is_some_and(|entry| entry.waiter.is_ghost()))
            .map(|(at, _)| at)
            .collect();
        ghosts.into_iter().filter_map(|at| self.vacate(at)).collect()
    }

    fn entry(&self, at: u32) -> Option<&Entry<A>> {
        self.places.get(at as usize)?.entry.as_ref()
    }

    fn occupy(&mut self, entry: Entry<A>) -> u32 {
        self.taken += 1;
        let place = Place { entry: Some(entry), prev: NIL, next: NIL, linked: false };
        if let Some(free) = self.places.get_mut(self.free as usize) {
            let at = std::mem::replace(&mut self.free, free.next);
            *free = place;
            return at;
        }
        self.places.push(place);
        // A list of 2^32 sleeping threads does not fit a machine's memory.
        u32::try_from(self.places.len() - 1).unwrap_or(NIL)
    }

    fn vacate(&mut self, at: u32) -> Option<Entry<A>> {
        self.unlink(at);
        let free = self.free;
        let place = self.places.get_mut(at as usize)?;
        let entry = place.entry.take()?;
        place.next = free;
        self.free = at;
        self.taken -= 1;
        if self.taken == 0 && self.places.len() > KEPT {
            self.places = Vec::new();
            self.free = NIL;
        }
        Some(entry)
    }

    fn link(&mut self, at: u32, prev: u32, next: u32) {
        let place = &mut self.places[at as usize];
        (place.prev, place.next, place.linked) = (prev, next, true);
        self.point(prev, next, at, at);
        self.linked += 1;
    }

    fn unlink(&mut self, at: u32) {
        let Some(place) = self.places.get_mut(at as usize).filter(|place| place.linked) else { return };
        place.linked = false;
        let (prev, next) = (place.prev, place.next);
        self.point(prev, next, next, prev);
        self.linked -= 1;
    }

    /// Has the place before `prev..next` lead to `forward`, and the one after it back to `backward`.
    fn point(&mut self, prev: u32, next: u32, forward: u32, backward: u32) {
        match self.places.get_mut(prev as usize) {
            Some(place) => place.next = forward,
            None => self.head = forward,
        }
        match self.places.get_mut(next as usize) {
            Some(place) => place.prev = backward,
            None => self.tail = backward,
        }
    }
}

/// Waiters whose wait was ended under a lock, to be woken after unlocking.
#[derive(Debug, Default)]
#[must_use = "a notified waiter sleeps on until it is woken"]
pub struct Woken {
    /// The common case, without an allocation.
    first: Option<Arc<Waiter>>,
    rest: Vec<Arc<Waiter>>,
}

impl Woken {
    /// Adds a waiter that this thread has notified.
    pub fn push(&mut self, waiter: &Arc<Waiter>) {
        let waiter = Arc::clone(waiter);
        if self.first.is_none() {
            self.first = Some(waiter);
        } else {
            self.rest.push(waiter);
        }
    }

    /// Wakes them, in the order they were notified.
    pub fn unpark(self) {
        for waiter in self.first.iter().chain(&self.rest) {
            waiter.unpark();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn join(list: &mut Waitlist<u32>, ask: u32) -> Key {
        list.join(Arc::new(Waiter::new()), ask)
    }

    fn drain(list: &mut Waitlist<u32>) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(entry) = list.front() {
            order.push(entry.ask);
            list.unlink_front();
        }
        order
    }

    #[test]
    fn the_first_to_join_is_the_first_out() {
        let mut list = Waitlist::new();
        for ask in 0..5 {
            join(&mut list, ask);
        }
        assert_eq!(drain(&mut list), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_place_stays_its_owners_after_its_turn() {
        let mut list = Waitlist::new();
        let key = join(&mut list, 1);
        list.unlink_front();
        let other = join(&mut list, 2);
        assert_eq!(list.leave(&key), Some(1));
        assert_eq!(list.leave(&other), Some(2));
        assert!(list.is_empty());
    }

    #[test]
    fn a_burst_gives_its_memory_back() {
        let mut list = Waitlist::new();
        let keys: Vec<Key> = (0..1000).map(|ask| join(&mut list, ask)).collect();
        for key in keys {
            list.leave(&key);
        }
        assert_eq!(list.body.map(|body| body.places.capacity()), Some(0));
    }

    proptest::proptest! {
        #[test]
        fn it_behaves_like_a_deque(steps in proptest::collection::vec((0_u8..4, 0_usize..8), 0..200)) {
            let (mut list, mut model) = (Waitlist::new(), VecDeque::new());
            let mut keys: Vec<(u32, Key)> = Vec::new();
            let mut turned: Vec<(u32, Key)> = Vec::new();
            for (number, (step, pick)) in (0_u32..).zip(steps) {
                match step {
                    0 => { keys.push((number, join(&mut list, number))); model.push_back(number); }
                    1 if !keys.is_empty() => {
                        let (ask, key) = keys.remove(pick % keys.len());
                        proptest::prop_assert_eq!(list.leave(&key), Some(ask));
                        model.retain(|&other| other != ask);
                    }
                    2 => if let Some(ask) = model.pop_front() {
                        proptest::prop_assert_eq!(list.front().map(|entry| entry.ask), Some(ask));
                        list.unlink_front();
                        let index = keys.iter().position(|(other, _)| *other == ask).unwrap();
                        turned.push(keys.remove(index));
                    },
                    3 => if let Some((ask, key)) = turned.pop() {
                        list.rejoin_front(&key);
                        model.push_front(ask);
                        keys.push((ask, key));
                    },
                    _ => {}
                }
                proptest::prop_assert_eq!(list.len() as usize, model.len());
            }
            proptest::prop_assert_eq!(drain(&mut list), Vec::from(model));
        }
    }
}
