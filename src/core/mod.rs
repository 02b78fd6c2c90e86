//! Counting, queueing and handing over; no Python.
//!
//! The laws of this layer:
//!
//! 1. **Leaf lock.** An object's lock is held for nanoseconds and under it things only move: no value of a
//!    caller is dropped, no callback runs, nobody is woken. What is removed is returned, and whoever is to be
//!    woken is collected in a [`waitlist::Woken`] and woken after unlocking.
//! 2. **One way out.** A wait ends by exactly one compare-and-swap on its [`park::Waiter`]. The loser of that
//!    race gives back what it was handed, so nothing is ever lost.
//! 3. **A sleeper owns nothing.** Between the start and the end of a sleep a thread touches its `Waiter` alone (and
//!    the counters of [`spin`]), never a lock. So a thread that never returns (a daemon thread at interpreter exit) blocks nobody, and a
//!    fork that finds every other thread asleep finds every leaf lock free.
//! 4. **A fork leaves ghosts.** The child's copy of a waitlist names threads that are not there. The first look
//!    at a list after a fork removes them and hands back what they had been granted: see [`fork`].

pub mod channel;
pub mod fork;
pub mod park;
pub mod pool;
pub mod queue;
pub mod select;
pub mod semaphore;
#[cfg(all(target_os = "linux", not(loom)))]
pub mod shared;
#[cfg(not(loom))]
pub mod spin;
pub mod sync;
pub mod timer;
pub mod waitlist;
