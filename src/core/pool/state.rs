//! What lies under the pool's lock, and the moves that are made there.

use super::backoff::Gate;
use super::{Claim, Forked, Identity, Nanos, Policy, Stats, Thread};
use crate::core::fork;
use crate::core::park::Notice;
use crate::core::waitlist::{Waitlist, Woken};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Mixes an address, which is hash enough.
#[derive(Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

/// Where a slot's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: the slot is free.
    Vacant,
    /// In the hands of a [`Permit`](super::Permit): being opened, checked, reset or closed.
    Claimed,
    /// On the stack.
    Idle,
    /// Handed to a waiter that has not come for it yet.
    Given,
    /// With a user.
    Out,
    /// With a user, and closed under his hands; it counts no more.
    Forced,
}

/// One of the connections there may be.
#[derive(Debug)]
pub(super) struct Slot<T> {
    /// Here as long as the connection is the pool's, whoever uses it: so its address is nobody else's.
    pub conn: Option<T>,
    pub place: Place,
    /// Since when it is at that place.
    pub since: Nanos,
    /// When it is too old.
    pub expires: Nanos,
    /// [`State::era`] at its birth.
    pub era: u32,
    /// Who took it.
    pub thread: Thread,
    /// Which of all loans this is.
    pub loan: u64,
    /// Whether something outside was paid for it, see [`Permit::pay`](super::Permit::pay).
    pub paid: bool,
    /// Where it was taken, in the caller's words.
    pub origin: Option<T>,
}

impl<T> Slot<T> {
    #[inline]
    pub fn is_lent_to(&self, claim: Claim) -> bool {
        self.place == Place::Out
            && match claim {
                Claim::Thread(thread) => self.thread == thread,
                Claim::Loan(loan) => self.loan == loan,
                Claim::Heir => true,
            }
    }
}

/// What a waiter asks, and what it was handed.
#[derive(Debug)]
pub(super) struct Ask {
    pub since: Nanos,
    pub thread: Thread,
    /// Whether the right to open a connection would do.
    pub create: bool,
    /// A slot, and the fork generation it was handed over in.
    pub gift: Option<(u32, u32)>,
}

/// An idle connection just taken from the stack.
pub(super) enum Picked<T> {
    /// It is out.
    Lent(T, u64),
    /// It is claimed: it must be looked at first, or is too old.
    Suspect { slot: u32, spent: bool },
}

#[derive(Debug)]
pub(super) struct State<T> {
    pub slots: Vec<Slot<T>>,
    /// Vacant slots.
    pub vacant: Vec<u32>,
    /// The longest idle first.
    pub idle: VecDeque<u32>,
    /// Slots that count: neither vacant nor forced.
    pub open: u32,
    pub index: HashMap<usize, u32, BuildHasherDefault<AddressHasher>>,
    pub waiters: Waitlist<Ask>,
    /// Waiters told to compete for an idle connection, and still under way.
    pub pulsed: u32,
    /// Who waits for the last connection to leave.
    pub closers: Waitlist<()>,
    pub policy: Policy,
    pub closed: bool,
    /// Connections of an earlier era are not used again.
    pub era: u32,
    /// A connection idle since before has to be looked at: one that was, was dead.
    pub suspect_before: Nanos,
    pub gate: Gate,
    pub stats: Stats,
    pub seed: u64,
    /// The fork generation that all of the above belongs to.
    pub generation: u32,
    /// Slots that the parent process had paid for.
    pub forgotten: u32,
    /// What the parent process had open. Kept, never closed and never dropped.
    pub inherited: Forked<T>,
}

impl<T: Clone + Identity> State<T> {
    /// Starts over in a child process.
    #[cold]
    pub fn enter_child(&mut self) {
        self.generation = fork::generation();
        for slot in self.slots.drain(..) {
            self.forgotten += u32::from(slot.paid && slot.place != Place::Vacant);
            self.inherited.keep(slot.conn);
            self.inherited.keep(slot.origin);
        }
        self.vacant.clear();
        self.idle.clear();
        self.index.clear();
        self.open = 0;
        self.pulsed = 0;
        self.gate = Gate::default();
        // Their gifts are slots of the parent, which `Ask::gift` tells by the generation.
        drop((self.waiters.take_ghosts(), self.closers.take_ghosts()));
    }

    /// Whether one more connection may be opened.
    pub fn has_room(&self) -> bool {
        self.open < self.policy.max && !self.closed
    }

    /// Takes a slot for a connection that is to be opened.
    pub fn open_slot(&mut self) -> u32 {
        self.open += 1;
        let slot = Slot {
            conn: None,
            place: Place::Claimed,
            since: 0,
            expires: Nanos::MAX,
            era: self.era,
            thread: Thread::default(),
            loan: 0,
            paid: false,
            origin: None,
        };
        if let Some(at) = self.vacant.pop() {
            self.slots[at as usize] = slot;
            return at;
        }
        self.slots.push(slot);
        // There are never more slots than `Policy::max` has ever been, which is a u32.
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    /// Frees a slot: what was in it, for the caller to drop after unlocking.
    #[must_use]
    pub fn vacate(&mut self, at: u32) -> (Option<T>, Option<T>) {
        let conn = self.unindex(at);
        let slot = &mut self.slots[at as usize];
        let origin = slot.origin.take();
        if std::mem::replace(&mut slot.place, Place::Vacant) != Place::Forced {
            self.open -= 1;
        }
        self.vacant.push(at);
        (conn, origin)
    }

    /// Takes the connection out of a slot.
    pub fn unindex(&mut self, at: u32) -> Option<T> {
        let conn = self.slots[at as usize].conn.take()?;
        self.index.remove(&conn.key());
        self.stats.discarded += 1;
        Some(conn)
    }

    /// Takes an idle connection, the newest or the oldest.
    #[inline]
    pub fn pick(&mut self, now: Nanos, thread: Thread) -> Option<Picked<T>> {
        let at = if self.policy.lifo { self.idle.pop_back() } else { self.idle.pop_front() }?;
        let slot = &mut self.slots[at as usize];
        let rested = now.saturating_sub(slot.since);
        let spent = now >= slot.expires || rested >= self.policy.max_idle;
        if spent || rested >= self.policy.check_after || slot.since < self.suspect_before {
            slot.place = Place::Claimed;
            self.stats.expired += u64::from(spent);
            return Some(Picked::Suspect { slot: at, spent });
        }
        self.lend(at, now, thread).map(|(conn, loan)| Picked::Lent(conn, loan))
    }

    /// Hands a slot's connection to a user, with the number of the loan.
    #[inline]
    pub fn lend(&mut self, at: u32, now: Nanos, thread: Thread) -> Option<(T, u64)> {
        self.stats.acquired += 1;
        let loan = self.stats.acquired;
        let slot = &mut self.slots[at as usize];
        (slot.place, slot.since, slot.thread, slot.loan) = (Place::Out, now, thread, loan);
        Some((slot.conn.clone()?, loan))
    }

    /// Whether a connection that comes back is to be closed instead of kept.
    #[inline]
    pub fn is_spent(&self, at: u32, now: Nanos) -> bool {
        let slot = &self.slots[at as usize];
        self.closed || slot.era != self.era || self.open > self.policy.max || now >= slot.expires
    }

    /// Puts a connection on the stack.
    #[inline]
    pub fn shelve(&mut self, at: u32, now: Nanos) {
        let slot = &mut self.slots[at as usize];
        (slot.place, slot.since) = (Place::Idle, now);
        self.idle.push_back(at);
    }

    /// Takes back what a waiter was handed and did not come for.
    pub fn take_back(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if slot.conn.is_some() {
            slot.place = Place::Idle;
            self.idle.push_back(at);
        } else {
            // Nothing was in it, so nothing is dropped.
            let _ = self.vacate(at);
        }
    }

    /// Serves the front of the queue as far as it goes. Every change under the lock ends here.
    ///
    /// With `barge`, a waiter younger than the hand-off age is only told to come and compete, so that the thread
    /// that runs may go on running.
    pub fn settle(&mut self, now: Nanos, barge: bool, woken: &mut Woken) {
        if self.open == 0 {
            self.closers.notify_where(Notice::GRANTED, woken, |()| true);
        }
        while let Some(front) = self.waiters.front() {
            if !self.idle.is_empty() {
                if barge && now.saturating_sub(front.ask.since) < super::HANDOFF_NANOS {
                    if self.pulsed as usize >= self.idle.len() {
                        return;
                    }
                    if front.waiter.notify(Notice::Pulsed) {
                        woken.push(&front.waiter);
                        self.pulsed += 1;
                    }
                    self.waiters.unlink_front();
                    continue;
                }
                let next = if self.policy.lifo { self.idle.pop_back() } else { self.idle.pop_front() };
                let Some(at) = next else { return };
                self.slots[at as usize].place = Place::Given;
                self.grant(at, woken);
            } else if (front.ask.create || self.gate.is_open()) && self.has_room() {
                let at = self.open_slot();
                self.grant(at, woken);
            } else {
                return;
            }
        }
    }

    fn grant(&mut self, at: u32, woken: &mut Woken) {
        let generation = self.generation;
        let Some(front) = self.waiters.front_mut() else { return self.take_back(at) };
        let won = front.waiter.notify(Notice::GRANTED);
        if won {
            front.ask.gift = Some((at, generation));
            woken.push(&front.waiter);
        }
        self.waiters.unlink_front();
        if !won {
            // It gave up in this moment.
            self.take_back(at);
        }
    }

    /// Whether every connection is with a thread that waits here for another one.
    pub fn is_deadlocked(&self, me: Thread) -> bool {
        self.policy.max > 0
            && self.open >= self.policy.max
            && self.slots.iter().all(|slot| match slot.place {
                Place::Out => {
                    slot.thread == me
                        || self.waiters.asks().any(|ask| ask.gift.is_none() && ask.thread == slot.thread)
                }
                Place::Vacant | Place::Forced => true,
                _ => false,
            })
    }

    /// A number in 0..1, of no cryptographic worth.
    #[allow(clippy::cast_precision_loss)]
    pub fn draw(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
