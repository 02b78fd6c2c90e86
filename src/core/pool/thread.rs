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

/// The threads that were ever told of, and have not ended. That one ends changes nothing here, and takes no lock.
#[derive(Debug)]
pub struct Threads {
    lives: BTreeMap<u64, Weak<()>>,
    told: u64,
    /// At which size those that have ended are swept out: twice what the last sweep left, so that each pays little.
    sweep_at: usize,
}

impl Threads {
    const FEW: usize = 64;

    /// No threads.
    #[must_use]
    pub const fn new() -> Self {
        Self { lives: BTreeMap::new(), told: 0, sweep_at: Self::FEW }
    }

    /// A thread not told of before.
    pub fn insert(&mut self, ident: u64) -> (Thread, Life) {
        if self.lives.len() >= self.sweep_at {
            self.lives.retain(|_, life| life.strong_count() > 0);
            self.sweep_at = (self.lives.len() * 2).max(Self::FEW);
        }
        self.told += 1;
        let life = Life::default();
        self.lives.insert(self.told, Arc::downgrade(&life));
        (Thread { number: self.told, ident }, life)
    }

    /// Whether a thread has ended.
    #[must_use]
    pub fn has_ended(&self, thread: Thread) -> bool {
        self.lives.get(&thread.number).is_none_or(|life| life.strong_count() == 0)
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
        let (stays, _life) = threads.insert(7);
        for _ in 0..1000 {
            let (other, life) = threads.insert(7);
            assert_ne!(other, stays);
            assert!(!threads.has_ended(other));
            drop(life);
            assert!(threads.has_ended(other));
            assert!(!threads.has_ended(stays));
            assert!(threads.lives.len() <= Threads::FEW);
        }
    }
}
