//! What is asked of a pool, and what it answers.

use super::{Nanos, Permit, Thread};

/// What makes two handles the same connection.
///
/// A clone of a handle is one more count of the same connection, and runs nobody's code: it is made under the lock.
pub trait Identity {
    /// Equal for the same connection alone, as long as a handle of it lives.
    fn key(&self) -> usize;
}

/// What the pool is asked to keep to.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The most connections.
    pub max: u32,
    /// The fewest that expiry leaves.
    pub min: u32,
    /// The most waiters.
    pub max_waiting: u32,
    /// The newest idle connection is taken first, not the oldest.
    pub lifo: bool,
    /// A connection idle for longer is closed.
    pub max_idle: Nanos,
    /// A connection idle for longer is to be looked at before use.
    pub check_after: Nanos,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// The thread.
    pub thread: Thread,
    /// Whether the right to open a connection is an answer.
    pub create: bool,
    /// Whether to fail at once where only threads that wait here could end the wait.
    pub deadlock: bool,
}

/// Who says that a connection is his to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The thread that took it.
    Thread(Thread),
    /// The holder of this loan.
    Loan(u64),
    /// Somebody who knows that it is his, whatever thread took it.
    Heir,
}

/// What an acquire came to.
#[derive(Debug)]
pub enum Taken<'p, T: Clone + Identity> {
    /// A connection, which is out, and the number of this loan.
    Lent(T, u64),
    /// A connection to look at before it is [`lent`](Permit::lend): too old (`spent`), or idle for long.
    Suspect {
        /// The slot it is in.
        permit: Permit<'p, T>,
        /// Whether it is too old.
        spent: bool,
    },
    /// The right to open a connection.
    Create(Permit<'p, T>),
}

/// Why an acquire ended without an answer; nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum AcquireError<I> {
    /// The pool is closed.
    Closed,
    /// As many wait as may.
    Full,
    /// The deadline passed.
    TimedOut,
    /// Every connection is with a thread that itself waits for one.
    Deadlocked,
    /// The sleep was interrupted.
    Interrupted(I),
}

/// Why a return was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOwned {
    /// It is the pool's, and not out: it was returned before.
    Returned,
    /// It is not the pool's.
    Foreign,
    /// It is out, but somebody else took it.
    Other,
}

/// How a return went.
#[derive(Debug)]
pub enum GivenBack<'p, T: Clone + Identity> {
    /// It is idle or handed on; `overdue`: another idle connection is too old, see [`Pool::take_overdue`](super::Pool::take_overdue).
    Kept {
        /// Whether there is one.
        overdue: bool,
    },
    /// It is not to be used again: to be closed.
    Spent(Permit<'p, T>),
    /// It was the parent process's, or was closed while it was out: nothing is to be done.
    Gone(Option<T>),
}

/// A connection that is out.
#[derive(Debug)]
pub struct Loan<T> {
    /// The connection.
    pub conn: T,
    /// Which of all loans this is.
    pub number: u64,
    /// Who took it.
    pub thread: Thread,
    /// How long ago.
    pub held: Nanos,
    /// Where, if that was told.
    pub origin: Option<T>,
}

/// How many of what there are, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Connections, with those being opened.
    pub size: u32,
    /// Of these, the idle ones.
    pub idle: u32,
    /// Waiters.
    pub waiting: u32,
    /// The most connections.
    pub max: u32,
    /// The fewest.
    pub min: u32,
}
