//! When to try again to open a connection after an attempt has failed.

use super::Nanos;

/// How long to wait after a failure: `first`, then twice as long each time up to `most`, each shortened by a
/// random part of up to `jitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Nanos,
    /// At most.
    pub most: Nanos,
    /// 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    fn delay(&self, failures: u32, draw: f64) -> Nanos {
        let longer = self.first.saturating_mul(1 << failures.saturating_sub(1).min(32));
        shorten(longer.min(self.most), self.jitter, draw)
    }
}

/// `span` less a random part: `draw`, in 0..1, of `jitter`.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn shorten(span: Nanos, jitter: f64, draw: f64) -> Nanos {
    span.saturating_sub((span as f64 * (jitter * draw).clamp(0.0, 1.0)) as Nanos)
}

/// Shared by everybody who would open a connection: after a failure one tries at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gate {
    /// In a row.
    failures: u32,
    /// Closed until then.
    until: Nanos,
}

impl Gate {
    /// Lets one through, or says when to ask again.
    pub fn enter(&mut self, backoff: &Backoff, now: Nanos) -> Result<(), Nanos> {
        if self.failures == 0 {
            return Ok(());
        }
        if now < self.until {
            return Err(self.until);
        }
        // Whoever comes while this attempt is under way waits for its end; if it hangs, not for ever.
        self.until = now.saturating_add(backoff.most);
        Ok(())
    }

    /// Whether there was no failure since the last success.
    pub const fn is_open(&self) -> bool {
        self.failures == 0
    }

    /// The attempt led to a connection: whether that opens the gate.
    pub fn succeeded(&mut self) -> bool {
        !std::mem::take(self).is_open()
    }

    /// The attempt failed.
    pub fn failed(&mut self, backoff: &Backoff, now: Nanos, draw: f64) -> Nanos {
        self.failures = self.failures.saturating_add(1);
        self.until = now.saturating_add(backoff.delay(self.failures, draw));
        self.until
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: 100, most: 1000, jitter: 0.5 };

    #[test]
    fn delays_double_up_to_the_most_and_are_drawn() {
        let delays: Vec<Nanos> = (1..7).map(|failures| BACKOFF.delay(failures, 0.0)).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(BACKOFF.delay(1, 1.0), 50);
        assert_eq!(BACKOFF.delay(u32::MAX, 0.0), 1000);
    }

    #[test]
    fn after_a_failure_one_tries_at_a_time() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter(&BACKOFF, 0), Ok(()));
        assert_eq!(gate.enter(&BACKOFF, 0), Ok(()));
        assert_eq!(gate.failed(&BACKOFF, 0, 0.0), 100);
        assert_eq!(gate.enter(&BACKOFF, 50), Err(100));
        assert_eq!(gate.enter(&BACKOFF, 100), Ok(()));
        assert_eq!(gate.enter(&BACKOFF, 100), Err(1100));
        assert!(gate.succeeded());
        assert_eq!(gate.enter(&BACKOFF, 101), Ok(()));
    }
}
