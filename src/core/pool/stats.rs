//! What a pool counts: plain numbers, changed under its lock.

/// A histogram of durations: bucket `i` counts those below `2^i` nanoseconds that no lower bucket counts.
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    /// How many fell into each bucket; the last takes all that are longer.
    pub buckets: [u64; Self::BUCKETS],
    /// Of all durations, in nanoseconds.
    pub sum: u64,
    /// The longest, in nanoseconds.
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; Self::BUCKETS], sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Up to 2^47 ns, a day and a half.
    pub const BUCKETS: usize = 48;

    #[inline]
    pub(super) fn record(&mut self, ns: u64) {
        let bucket = (u64::BITS - ns.leading_zeros()) as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)] += 1;
        self.sum = self.sum.wrapping_add(ns);
        self.max = self.max.max(ns);
    }
}

/// What has happened since the pool was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Connections handed out.
    pub acquired: u64,
    /// Connections that came back, by whatever way.
    pub returned: u64,
    /// Connections opened.
    pub created: u64,
    /// Attempts to open one that failed.
    pub create_failed: u64,
    /// Connections that left the pool.
    pub discarded: u64,
    /// Of these, those that were too old.
    pub expired: u64,
    /// Of these, those that a check or a reset found dead.
    pub failed: u64,
    /// Acquires that ran out of time.
    pub timeouts: u64,
    /// Acquires refused since too many waited.
    pub refused: u64,
    /// Of the acquires that had to wait: how long they did.
    pub wait: Histogram,
    /// How long connections were out.
    pub used: Histogram,
    /// How long opening one took.
    pub create: Histogram,
}
