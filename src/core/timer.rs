//! Moments to wait for, without a thread: whoever waits sleeps until the moment, and the first to wake takes it.

use super::select::Fired;
use super::sync::Leaf;
use std::time::{Duration, Instant};

/// One moment, or one in every period.
#[derive(Debug)]
pub struct Timer {
    period: Option<Duration>,
    /// `None` when it is spent.
    next: Leaf<Option<Instant>>,
}

impl Timer {
    /// A timer for one moment; `None` is a moment that the clock cannot express.
    #[must_use]
    pub fn at(moment: Option<Instant>) -> Self {
        Self { period: None, next: Leaf::new(moment) }
    }

    /// A timer for the end of every period from now on. Periods that nobody waited for are skipped.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self { period: Some(period), next: Leaf::new(Instant::now().checked_add(period)) }
    }

    /// The period, if there is one.
    pub fn period(&self) -> Option<Duration> {
        self.period
    }

    /// The next moment, unless the timer is spent.
    pub fn due(&self) -> Option<Instant> {
        *self.next.lock()
    }

    /// Takes the moment if it has come.
    pub fn fire<T>(&self, now: Instant) -> Option<Fired<T>> {
        let mut next = self.next.lock();
        let Some(moment) = *next else { return Some(Fired::Closed) };
        if moment > now {
            return None;
        }
        *next = self.period.and_then(|period| {
            let missed = (now - moment).as_nanos() / period.as_nanos().max(1);
            // Beyond 2^32 missed periods the rhythm starts anew.
            let periods = u32::try_from(missed + 1).unwrap_or(u32::MAX);
            moment.checked_add(period.saturating_mul(periods)).map(|next| next.max(now))
        });
        Some(Fired::Ticked(moment))
    }
}
