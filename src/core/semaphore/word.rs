//! The one word that an uncontended acquire or release touches.

/// Most permits a semaphore can count.
pub const MAX_PERMITS: u32 = i32::MAX as u32;

/// `permits` (low 32 bits, signed), four flags, and an epoch.
///
/// Permits are negative only while a bounded semaphore has been shrunk below what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

/// A release has to take the lock: somebody is queued, or granted and has not run since, or the capacity is being
/// changed.
pub const QUEUED: u64 = 1 << 32;
/// An acquire has to queue even if there are permits: the front of the queue is to have them.
pub const BARRED: u64 = 1 << 33;
/// Closed: an acquire fails.
pub const CLOSED: u64 = 1 << 34;
/// Not initialised yet: every use fails.
pub const VOID: u64 = 1 << 35;
/// One more resize. A release that has read the old capacity fails its compare-and-swap by it.
const EPOCH: u64 = 1 << 36;
const PERMITS: u64 = 0xFFFF_FFFF;

impl Word {
    /// The permits that are free.
    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    pub const fn permits(self) -> i32 {
        self.0 as u32 as i32
    }

    /// The same word with other permits.
    #[inline]
    #[allow(clippy::cast_sign_loss)]
    pub const fn with_permits(self, permits: i32) -> Self {
        Self(self.0 & !PERMITS | permits as u32 as u64)
    }

    /// The same word with exactly these of the flags that say who queues.
    #[inline]
    pub const fn with_queue(self, flags: u64) -> Self {
        Self(self.0 & !(QUEUED | BARRED) | flags)
    }

    /// Whether one of `flags` is set.
    #[inline]
    pub const fn has(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    /// The same word with `n` permits fewer, if so many are free.
    #[inline]
    #[allow(clippy::cast_possible_wrap)]
    pub const fn minus(self, n: u32) -> Option<Self> {
        let permits = self.permits();
        if n <= MAX_PERMITS && permits >= n as i32 {
            Some(self.with_permits(permits - n as i32))
        } else {
            None
        }
    }

    /// The same word with `n` permits more, if that is not above `limit`.
    #[inline]
    #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)]
    pub const fn plus(self, n: u32, limit: u32) -> Option<Self> {
        let permits = self.permits() as i64 + n as i64;
        if permits <= limit as i64 { Some(self.with_permits(permits as i32)) } else { None }
    }

    /// The same word in the next epoch.
    pub const fn next_epoch(self) -> Self {
        Self(self.0.wrapping_add(EPOCH))
    }
}
