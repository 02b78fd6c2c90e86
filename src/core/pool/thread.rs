//! Which threads take connections: told apart for ever, since the system gives a thread's identifier to a later one.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak}; // loom has no `Weak`, and nothing to find here.

/// A thread that takes connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Which of all threads it is: none before it had this number, and none will.
    pub number: u64,
    /// What the caller's world calls it, which a later thread may be called, too.
    pub ident: u64,
}

/// What a thread keeps to its end.
pub type Life = Arc<()>;

#[derive(Debug)]
struct Known {
    life: Weak<()>,
    /// Whether the caller's world says that it has ended, which it does a little before the system.
    announced: bool,
}

/// The threads that were ever told of, and have not ended. That one ends changes nothing here, and takes no lock.
#[derive(Debug)]
pub struct Threads {
    known: BTreeMap<u64, Known>,
    told: u64,
    /// At which size those that have ended are swept out: twice what the last sweep left, so that each pays little.
    sweep_at: usize,
}

impl Threads {
    const FEW: usize = 64;

    /// No threads.
    #[must_use]
    pub const fn new() -> Self {
        Self { known: BTreeMap::new(), told: 0, sweep_at: Self::FEW }
    }

    /// A thread not told of before; `announced`: the caller's world will say when it has ended.
    pub fn insert(&mut self, ident: u64, announced: bool) -> (Thread, Life) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| known.life.strong_count() > 0);
            self.sweep_at = (self.known.len() * 2).max(Self::FEW);
        }
        self.told += 1;
        let life = Life::default();
        self.known.insert(self.told, Known { life: Arc::downgrade(&life), announced });
        (Thread { number: self.told, ident }, life)
    }

    /// Whether a thread has ended; `None` if it has not to the system, and the caller's world may know better.
    #[must_use]
    pub fn has_ended(&self, thread: Thread) -> Option<bool> {
        match self.known.get(&thread.number) {
            Some(known) if known.life.strong_count() > 0 => (!known.announced).then_some(false),
            _ => Some(true),
        }
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_ends_once_and_is_forgotten_while_those_that_live_are_not() {
        let mut threads = Threads::new();
        let (stays, _life) = threads.insert(7, false);
        for _ in 0..1000 {
            let (other, life) = threads.insert(7, true);
            assert_ne!(other, stays);
            assert_eq!(threads.has_ended(other), None);
            drop(life);
            assert_eq!(threads.has_ended(other), Some(true));
            assert_eq!(threads.has_ended(stays), Some(false));
            assert!(threads.known.len() <= Threads::FEW);
        }
    }
}
