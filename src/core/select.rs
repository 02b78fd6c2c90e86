//! One wait for many channels: exactly one case fires.
//!
//! As in Go: all channels are locked, in the order of their addresses, so that "nothing is ready" is true of all of
//! them at one moment. If a case is ready it fires, and if several are, one picked at random. Otherwise one waiter
//! joins every list, and the compare-and-swap that ends its wait decides for all cases: whoever wins it fires its
//! own case, everybody else passes the waiter over. Two selects meet like any other sender and receiver; a select
//! never meets itself, since it looks for a partner before it joins.

use super::channel::state::{Given, Offer, Request, State};
use super::channel::{Channel, End, Refusal, ended};
use super::fork;
use super::park::{Notice, Park, Waiter};
use super::sync::{Arc, LeafGuard};
use super::timer::Timer;
use super::waitlist::{Key, Woken};
use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ptr;
use std::time::Instant;

/// Something to wait for.
#[derive(Debug)]
pub enum Case<'a, T> {
    /// An item from a channel.
    Recv(&'a Channel<T>),
    /// Room in a channel, for this item. It is gone when the case has fired.
    Send(&'a Channel<T>, Option<T>),
    /// A moment.
    Tick(&'a Timer),
}

/// What became of the case that fired.
#[derive(Debug, PartialEq, Eq)]
pub enum Fired<T> {
    /// An item was received.
    Received(T),
    /// The item was sent.
    Sent,
    /// It is time: the moment that was waited for.
    Ticked(Instant),
    /// The channel is closed, or the timer spent: there is nothing to wait for.
    Closed,
}

/// Waits until one of the cases can go on, and does that: which one, and what came of it.
///
/// # Errors
/// [`Refusal::Unready`] at the deadline, or the interrupt. Nothing was received or sent then, except that an
/// interrupt which finds an item already taken leaves that one sent. What was not sent is still in its case.
pub fn select<T, P: Park>(
    cases: &mut [Case<'_, T>],
    deadline: Option<Instant>,
    park: &P,
) -> Result<(usize, Fired<T>), Refusal<P::Interrupt>> {
    loop {
        let mut woken = Woken::default();
        let mut locked = Locked::new(cases);
        let fired = fire(cases, &mut locked, &mut woken);
        if fired.is_some() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            drop(locked);
            woken.unpark();
            return fired.ok_or(Refusal::Unready);
        }
        let waiter = Arc::new(Waiter::new());
        let keys = join(cases, &mut locked, &waiter);
        drop(locked);
        woken.unpark();

        let moments =
            cases.iter().filter_map(|case| if let Case::Tick(timer) = case { timer.due() } else { None });
        let until = moments.chain(deadline).min();
        let (notice, interrupt) = ended(park.park(&waiter, until), &waiter);

        let given = leave(cases, keys);
        if let Some(interrupt) = interrupt {
            if let Some((channel, _, given)) = given {
                channel.give_back(given);
            }
            return Err(Refusal::Interrupted(interrupt));
        }
        match (notice, given) {
            (_, Some((_, case, given))) => return Ok((case, Fired::Received(given.into_item()))),
            (Some(Notice::Granted { case }), None) => return Ok((case as usize, Fired::Sent)),
            // A deadline, a moment, a close: the next round finds out.
            _ => {}
        }
    }
}

/// The first case, in a random order, that is ready.
fn fire<T>(
    cases: &mut [Case<'_, T>],
    locked: &mut Locked<'_, T>,
    woken: &mut Woken,
) -> Option<(usize, Fired<T>)> {
    let now = Instant::now();
    shuffled(cases.len()).into_iter().find_map(|index| {
        let fired = match &mut cases[index] {
            Case::Recv(channel) => {
                let state = locked.state(channel)?;
                match state.take(End::Front, woken) {
                    Some(item) => Fired::Received(item),
                    None => state.shut::<()>().map(|_| Fired::Closed)?,
                }
            }
            Case::Send(channel, item) => {
                let state = locked.state(channel)?;
                match state.offer(item.take()?, woken) {
                    Ok(()) => Fired::Sent,
                    Err(back) => {
                        *item = Some(back);
                        state.shut::<()>().map(|_| Fired::Closed)?
                    }
                }
            }
            Case::Tick(timer) => timer.fire(now)?,
        };
        Some((index, fired))
    })
}

/// The waiter's places, each with the index of its case.
fn join<T>(cases: &mut [Case<'_, T>], locked: &mut Locked<'_, T>, waiter: &Arc<Waiter>) -> Vec<(usize, Key)> {
    let mut keys = Vec::with_capacity(cases.len());
    for (index, case) in (0..).zip(cases) {
        let key = match case {
            Case::Recv(channel) => locked.state(channel).map(|state| {
                let request = Request { given: None, end: End::Front, case: index };
                state.receivers.join(Arc::clone(waiter), request)
            }),
            Case::Send(channel, item) => locked.state(channel).map(|state| {
                let offer = Offer { items: item.take().into_iter().collect(), case: index };
                state.senders.join(Arc::clone(waiter), offer)
            }),
            Case::Tick(_) => None,
        };
        keys.extend(key.map(|key| (index as usize, key)));
    }
    keys
}

/// Gives up every place: items that were not sent go back to their cases, and the one that was handed over is
/// returned. The wait has ended, so nothing can happen between one channel and the next.
fn leave<'a, T>(
    cases: &mut [Case<'a, T>],
    keys: Vec<(usize, Key)>,
) -> Option<(&'a Channel<T>, usize, Given<T>)> {
    let mut found = None;
    for (index, key) in keys {
        match &mut cases[index] {
            Case::Recv(channel) => {
                let request = channel.lock().receivers.leave(&key);
                if let Some(given) = request.and_then(|request| request.given) {
                    found = Some((*channel, index, given));
                }
            }
            Case::Send(channel, item) => {
                let offer = channel.lock().senders.leave(&key);
                *item = offer.and_then(|mut offer| offer.items.pop_front());
            }
            Case::Tick(_) => {}
        }
    }
    found
}

/// All channels of a select, locked.
struct Locked<'a, T>(Vec<(&'a Channel<T>, LeafGuard<'a, State<T>>)>);

impl<'a, T> Locked<'a, T> {
    fn new(cases: &[Case<'a, T>]) -> Self {
        let mut channels = Vec::with_capacity(cases.len());
        for case in cases {
            if let Case::Recv(channel) | Case::Send(channel, _) = case {
                channels.push(*channel);
            }
        }
        channels.sort_unstable_by_key(|&channel| ptr::from_ref(channel));
        channels.dedup_by(|one, other| ptr::eq(*one, *other));
        if fork::generation() > 0 {
            // What ghosts leave behind must not die under the lock of another channel.
            for channel in &channels {
                drop(channel.lock());
            }
        }
        Self(channels.into_iter().map(|channel| (channel, channel.lock())).collect())
    }

    /// Always there for a channel of the cases.
    fn state(&mut self, channel: &Channel<T>) -> Option<&mut State<T>> {
        let (_, state) = self.0.iter_mut().find(|(other, _)| ptr::eq(*other, channel))?;
        Some(state)
    }
}

/// `0..n` in a random order.
fn shuffled(n: usize) -> Vec<usize> {
    thread_local!(static SEED: Cell<u64> = const { Cell::new(0) });
    let mut order: Vec<usize> = (0..n).collect();
    // loom repeats a run exactly.
    if n > 1 && !cfg!(loom) {
        let mut seed = SEED.get();
        if seed == 0 {
            seed = RandomState::new().hash_one(0) | 1;
        }
        for last in (1..n).rev() {
            // Marsaglia's xorshift.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // The upper half, scaled down to `0..=last`; the quotient is below n, so it fits.
            let pick = ((seed >> 32) * (last as u64 + 1)) >> 32;
            order.swap(last, usize::try_from(pick).unwrap_or(last));
        }
        SEED.set(seed);
    }
    order
}

#[cfg(all(test, not(loom)))]
mod tests;
