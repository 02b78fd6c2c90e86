//! The least item first, with comparisons that may run anything.
//!
//! A comparison may raise, may use the same queue, or may let other threads do so; so none runs under the lock. An
//! operation first *plans*: it looks at the items one by one and compares copies of them, while the heap stays as
//! it is. Then it *commits* all its moves under the lock, if the heap is still the one it planned for, and plans
//! again otherwise. So a comparison that raises leaves everything in its place, and one that comes back to the
//! queue finds it whole.

use super::{Failure, Queue, Refusal, Side, State};

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
        loop {
            let plan = {
                let state = self.lock();
                state.admit(Side::Put, claimed).map(|()| {
                    let above = parents(state.items.len()).filter_map(|at| state.items.get(at));
                    (state.version, above.map(|item| compare.copy(item)).collect::<Vec<T>>())
                })
            };
            let (version, above) = match plan {
                Ok(plan) => plan,
                Err(refusal) => return Err((refusal.into(), item)),
            };
            let mut rises = 0;
            for parent in &above {
                match compare.less(&item, parent) {
                    Ok(true) => rises += 1,
                    Ok(false) => break,
                    Err(raised) => return Err((Failure::Interrupted(raised), item)),
                }
            }
            let mut state = self.lock();
            if state.version != version || state.admit(Side::Put, claimed).is_err() {
                continue;
            }
            let mut at = state.items.len();
            state.items.push_back(item);
            for parent in parents(at).take(rises) {
                state.items.swap(at, parent);
                at = parent;
            }
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
        loop {
            let (version, len, last) = {
                let state = self.lock();
                state.admit(Side::Get, claimed)?;
                let Some(last) = state.items.back() else { return Err(Refusal::NotNow.into()) };
                (state.version, state.items.len(), compare.copy(last))
            };
            let Ok(path) = self.way_down(version, len - 1, &last, compare)? else { continue };
            let mut state = self.lock();
            if state.version != version || state.admit(Side::Get, claimed).is_err() {
                continue;
            }
            let mut item = state.items.pop_back();
            if let (Some(root), Some(item)) = (state.items.front_mut(), &mut item) {
                std::mem::swap(root, item);
            }
            let mut at = 0;
            for child in path {
                state.items.swap(at, child);
                at = child;
            }
            if let Some(woken) = state.went() {
                drop(state);
                woken.unpark();
            }
            return item.ok_or(Failure::Refused(Refusal::NotNow));
        }
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

/// The places above `at`, from the nearest up.
fn parents(at: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(at), |&at| at.checked_sub(1).map(|at| at / 2)).skip(1)
}
