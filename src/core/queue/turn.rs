//! Waiting in line.

use super::{Failure, Queue, Refusal, Side};
use crate::core::park::{Notice, Park, Waiter, Wake};
use crate::core::sync::Arc;
use crate::core::waitlist::Key;
use std::time::Instant;

impl<T> Queue<T> {
    /// Attempts until the answer is another than [`Refusal::NotNow`], or the deadline has passed, waiting in line in
    /// between. The attempt is told whether it has a claim.
    ///
    /// # Errors
    /// The attempt's, or the interrupt.
    pub fn in_turn<P: Park, R>(
        &self,
        side: Side,
        deadline: Option<Instant>,
        park: &P,
        mut attempt: impl FnMut(bool) -> Result<R, Failure<P::Interrupt>>,
    ) -> Result<R, Failure<P::Interrupt>> {
        let mut turn = Turn { queue: self, side, place: None, notice: None, over: false };
        loop {
            let claimed = matches!(turn.notice, Some(Notice::Granted { .. }));
            match attempt(claimed) {
                Err(Failure::Refused(Refusal::NotNow)) if !turn.over => turn.wait(deadline, park)?,
                answer => return answer,
            }
        }
    }
}

/// A thread's way through a line. However it ends, the next in line learns what is left.
struct Turn<'a, T> {
    queue: &'a Queue<T>,
    side: Side,
    place: Option<(Arc<Waiter>, Key)>,
    /// How the last wait was ended.
    notice: Option<Notice>,
    /// The deadline has passed: the next attempt is the last.
    over: bool,
}

impl<T> Turn<'_, T> {
    /// Waits in line until an attempt makes sense.
    fn wait<P: Park>(&mut self, deadline: Option<Instant>, park: &P) -> Result<(), Failure<P::Interrupt>> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.over = true;
            return Ok(());
        }
        let mut state = self.queue.lock();
        state.end_turn(self.side, self.notice.take());
        if state.admit(self.side, false) != Err(Refusal::NotNow) {
            return Ok(());
        }
        let list = &mut state.line(self.side).list;
        let waiter = if let Some((waiter, key)) = &self.place {
            waiter.rearm();
            list.rejoin_front(key);
            Arc::clone(waiter)
        } else {
            let waiter = Arc::new(Waiter::new());
            let key = list.join(Arc::clone(&waiter), Instant::now());
            self.place = Some((Arc::clone(&waiter), key));
            waiter
        };
        drop(state);
        match park.park(&waiter, deadline) {
            Ok(Wake::Notified(notice)) => self.notice = Some(notice),
            Ok(Wake::TimedOut) => self.over = true,
            Err(interrupt) => {
                self.notice = waiter.cancel().err();
                return Err(Failure::Interrupted(interrupt));
            }
        }
        Ok(())
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let Some((_, key)) = &self.place else { return };
        let mut state = self.queue.lock();
        state.end_turn(self.side, self.notice.take());
        state.line(self.side).list.leave(key);
        let woken = state.settle();
        drop(state);
        woken.unpark();
    }
}
