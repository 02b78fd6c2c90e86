//! The least item first, with comparisons that may run anything.
//!
//! A comparison may raise, may use the same queue, or may let other threads do so; so none runs under the lock. An
//! operation first *plans*: it looks at the items one by one and compares copies of them, while the heap stays as
//! it is. Then it *commits* all its moves under the lock, if the heap is still the one it planned for, and plans
//! again otherwise. So a comparison that raises leaves everything in its place, and one that comes back to the
//! queue finds it whole.
//!
//! Plans could go stale for ever, if every comparison puts something in. So an operation whose plans did
//! [`PATIENCE`] times *holds* the heap: what others put in meanwhile stays loose, behind it, and is sifted in by a
//! later operation. A held heap only shrinks, so every operation ends.

use super::{Failure, Queue, Refusal, Side, State};

/// Plans that may go stale before the heap is held.
const PATIENCE: u32 = 4;

/// How items are copied and compared.
pub trait Compare<T> {
    /// What a comparison may raise.
    type Raised;

    /// Another reference to an item; it runs under the lock.
    fn copy(&self, item: &T) -> T;

    /// Whether `left` comes out before `right`.
    ///
    /// # Errors
    /// What the comparison raised.
    fn less(&self, left: &T, right: &T) -> Result<bool, Self::Raised>;
}

/// The heap was changed while the operation was planned.
struct Stale;

impl<T> Queue<T> {
    /// Puts an item in its order, if there is room.
    ///
    /// # Errors
    /// The reason, and the item.
    pub fn try_put_least<C: Compare<T>>(
        &self,
        item: T,
        claimed: bool,
        compare: &C,
    ) -> Result<(), (Failure<C::Raised>, T)> {
        let mut attempts = Attempts::new(self);
        loop {
            if let Err(raised) = attempts.sift_in(compare) {
                return Err((Failure::Interrupted(raised), item));
            }
            let (version, above) = {
                let mut state = self.lock();
                if let Err(refusal) = state.admit(Side::Put, claimed) {
                    return Err((refusal.into(), item));
                }
                if state.holds > 0 && !attempts.holding {
                    state.items.push_back(item);
                    state.loose += 1;
                    if let Some(woken) = state.came() {
                        drop(state);
                        woken.unpark();
                    }
                    return Ok(());
                }
                (state.version, state.above(state.heap(), compare))
            };
            let rises = match rises(&item, &above, compare) {
                Ok(rises) => rises,
                Err(raised) => return Err((Failure::Interrupted(raised), item)),
            };
            let mut state = self.lock();
            if state.version != version || state.admit(Side::Put, claimed).is_err() {
                drop(state);
                attempts.failed();
                continue;
            }
            let (at, end) = (state.heap(), state.items.len());
            state.items.push_back(item);
            state.items.swap(at, end);
            state.rise(at, rises);
            if let Some(woken) = state.came() {
                drop(state);
                woken.unpark();
            }
            return Ok(());
        }
    }

    /// Gets the least item.
    ///
    /// # Errors
    /// The reason; every item is where it was.
    pub fn try_get_least<C: Compare<T>>(&self, claimed: bool, compare: &C) -> Result<T, Failure<C::Raised>> {
        let mut attempts = Attempts::new(self);
        loop {
            attempts.sift_in(compare).map_err(Failure::Interrupted)?;
            let (version, heap, last) = {
                let mut state = self.lock();
                state.admit(Side::Get, claimed)?;
                if state.heap() == 0 && state.loose > 0 {
                    // A heap of one needs no comparison.
                    state.loose -= 1;
                    state.version = state.version.wrapping_add(1);
                }
                let heap = state.heap();
                let Some(last) = heap.checked_sub(1).and_then(|at| state.items.get(at)) else {
                    return Err(Refusal::NotNow.into());
                };
                (state.version, heap, compare.copy(last))
            };
            let Ok(path) = self.way_down(version, heap - 1, &last, compare)? else {
                attempts.failed();
                continue;
            };
            let mut state = self.lock();
            if state.version != version || state.admit(Side::Get, claimed).is_err() {
                drop(state);
                attempts.failed();
                continue;
            }
            let end = state.items.len() - 1;
            // The last of the heap goes to the root, and the root to the very end.
            state.items.swap(0, heap - 1);
            state.items.swap(heap - 1, end);
            let item = state.items.pop_back();
            let mut at = 0;
            for child in path {
                state.items.swap(at, child);
                at = child;
            }
            state.version = state.version.wrapping_add(1);
            if let Some(woken) = state.went() {
                drop(state);
                woken.unpark();
            }
            return item.ok_or(Failure::Refused(Refusal::NotNow));
        }
    }

    /// Takes in what is loose, as far as that can be done now: before the items go elsewhere.
    pub fn tidy<C: Compare<T>>(&self, compare: &C) {
        drop(Attempts::new(self).sift_in(compare));
    }

    /// The places that `last` goes through, from the root down, in a heap that has lost its root and has `len` items
    /// left. Down the lesser children to the end first, then back up, as `heapq` does: `last` belongs far down.
    fn way_down<C: Compare<T>>(
        &self,
        version: u64,
        len: usize,
        last: &T,
        compare: &C,
    ) -> Result<Result<Vec<usize>, Stale>, Failure<C::Raised>> {
        let mut path: Vec<(usize, T)> = Vec::new();
        let mut left = 1;
        while left < len {
            let Some((first, second)) = self.children(version, left, len, compare) else {
                return Ok(Err(Stale));
            };
            let (at, child) = match second {
                Some(second) if !compare.less(&first, &second).map_err(Failure::Interrupted)? => {
                    (left + 1, second)
                }
                _ => (left, first),
            };
            path.push((at, child));
            left = 2 * at + 1;
        }
        while let Some((_, child)) = path.last() {
            if !compare.less(last, child).map_err(Failure::Interrupted)? {
                break;
            }
            path.pop();
        }
        Ok(Ok(path.iter().map(|&(at, _)| at).collect()))
    }

    /// Copies of the children at `left` and beside it; `None` if the heap is another by now.
    fn children<C: Compare<T>>(
        &self,
        version: u64,
        left: usize,
        len: usize,
        compare: &C,
    ) -> Option<(T, Option<T>)> {
        let state: &State<T> = &self.lock();
        if state.version != version {
            return None;
        }
        let second = state.items.get(left + 1).filter(|_| left + 1 < len).map(|item| compare.copy(item));
        state.items.get(left).map(|item| (compare.copy(item), second))
    }
}

impl<T> State<T> {
    /// How many of the items are a heap.
    fn heap(&self) -> usize {
        self.items.len() - self.loose
    }

    /// Copies of the items above the place `at`, from the nearest up.
    fn above<C: Compare<T>>(&self, at: usize, compare: &C) -> Vec<T> {
        parents(at).filter_map(|at| self.items.get(at)).map(|item| compare.copy(item)).collect()
    }

    /// Has the item at `at` rise so many places; the heap is another then.
    fn rise(&mut self, mut at: usize, places: usize) {
        for parent in parents(at).take(places) {
            self.items.swap(at, parent);
            at = parent;
        }
        self.version = self.version.wrapping_add(1);
    }
}

/// The attempts of one operation.
struct Attempts<'a, T> {
    queue: &'a Queue<T>,
    stale: u32,
    holding: bool,
}

impl<'a, T> Attempts<'a, T> {
    const fn new(queue: &'a Queue<T>) -> Self {
        Self { queue, stale: 0, holding: false }
    }

    fn failed(&mut self) {
        self.stale += 1;
        if self.stale >= PATIENCE && !self.holding {
            self.holding = true;
            self.queue.lock().holds += 1;
        }
    }

    /// Sifts the loose items in, unless the heap is held.
    fn sift_in<C: Compare<T>>(&mut self, compare: &C) -> Result<(), C::Raised> {
        loop {
            let (version, item, above) = {
                let state = self.queue.lock();
                let first = state.items.get(state.heap()).filter(|_| state.holds == 0);
                let Some(item) = first else { return Ok(()) };
                (state.version, compare.copy(item), state.above(state.heap(), compare))
            };
            let rises = rises(&item, &above, compare)?;
            let mut state = self.queue.lock();
            if state.version == version && state.loose > 0 {
                let at = state.heap();
                state.loose -= 1;
                state.rise(at, rises);
            } else {
                drop(state);
                self.failed();
            }
        }
    }
}

impl<T> Drop for Attempts<'_, T> {
    fn drop(&mut self) {
        if self.holding {
            let mut state = self.queue.lock();
            // A fork may have forgotten it.
            state.holds = state.holds.saturating_sub(1);
        }
    }
}

/// How many of the items `above` it an item comes out before.
fn rises<T, C: Compare<T>>(item: &T, above: &[T], compare: &C) -> Result<usize, C::Raised> {
    for (rises, parent) in above.iter().enumerate() {
        if !compare.less(item, parent)? {
            return Ok(rises);
        }
    }
    Ok(above.len())
}

/// The places above `at`, from the nearest up.
fn parents(at: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(at), |&at| at.checked_sub(1).map(|at| at / 2)).skip(1)
}
