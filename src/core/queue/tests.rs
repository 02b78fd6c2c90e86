use super::heap::Compare;
use super::*;
use crate::core::park::ThreadPark;
use std::convert::Infallible;
use std::time::Duration;

struct Ints;

impl Compare<i32> for Ints {
    type Raised = Infallible;

    fn copy(&self, item: &i32) -> i32 {
        *item
    }

    fn less(&self, left: &i32, right: &i32) -> Result<bool, Infallible> {
        Ok(left < right)
    }
}

/// Raises at the `n`th comparison from now.
struct Bomb(std::cell::Cell<u32>);

impl Compare<i32> for Bomb {
    type Raised = &'static str;

    fn copy(&self, item: &i32) -> i32 {
        *item
    }

    fn less(&self, left: &i32, right: &i32) -> Result<bool, &'static str> {
        self.0.set(self.0.get().wrapping_sub(1));
        if self.0.get() == 0 { Err("bang") } else { Ok(left < right) }
    }
}

fn put(queue: &Queue<i32>, item: i32) -> Result<(), Failure<Infallible>> {
    queue.in_turn(Side::Put, None, &ThreadPark, |claimed| {
        queue.try_put(item, claimed).map_err(|(why, _)| why.into())
    })
}

fn get(queue: &Queue<i32>, wait: Duration) -> Result<i32, Failure<Infallible>> {
    let deadline = Instant::now() + wait;
    queue.in_turn(Side::Get, Some(deadline), &ThreadPark, |claimed| Ok(queue.try_get(false, claimed)?))
}

const LONG: Duration = Duration::from_secs(60);

fn until(fact: impl Fn() -> bool) {
    while !fact() {
        std::thread::yield_now();
    }
}

#[test]
fn a_void_queue_refuses_everything() {
    let queue = Queue::default();
    assert_eq!(queue.try_put(1, false), Err((Refusal::Void, 1)));
    assert_eq!(queue.try_get(false, false), Err(Refusal::Void));
    assert_eq!(queue.task_done(), Err(Refusal::Void));
}

#[test]
fn nothing_is_lost_or_doubled_between_threads() {
    for capacity in [1, 3, 1024, UNBOUNDED] {
        let queue = Queue::new(capacity);
        let (producers, each) = (4, 2000);
        let mut seen: Vec<i32> = std::thread::scope(|scope| {
            for base in 0..producers {
                let queue = &queue;
                scope.spawn(move || (0..each).for_each(|i| put(queue, base * each + i).unwrap()));
            }
            let consumers: Vec<_> = (0..producers)
                .map(|_| scope.spawn(|| (0..each).map(|_| get(&queue, LONG).unwrap()).collect::<Vec<i32>>()))
                .collect();
            consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
        });
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..producers * each));
        assert_eq!(queue.unfinished(), u64::try_from(producers * each).unwrap());
    }
}

#[test]
fn a_timed_out_get_leaves_nothing_behind() {
    let queue = Queue::new(1);
    assert_eq!(get(&queue, Duration::from_millis(5)), Err(Refusal::NotNow.into()));
    assert_eq!(queue.waiting(Side::Get), 0);
    assert_eq!(queue.try_put(1, false), Ok(()));
    assert_eq!(queue.try_put(2, false), Err((Refusal::NotNow, 2)));
    assert_eq!(get(&queue, LONG), Ok(1));
}

#[test]
fn a_waiter_past_the_age_is_not_overtaken() {
    let queue = Queue::new(1);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| get(&queue, LONG));
        until(|| queue.waiting(Side::Get) == 1);
        std::thread::sleep(2 * HANDOFF_AGE);
        queue.try_put(1, false).unwrap();
        // Either the waiter has it already, or it is the waiter's.
        assert_eq!(queue.try_get(false, false), Err(Refusal::NotNow));
        assert_eq!(waiter.join().unwrap(), Ok(1));
    });
}

#[test]
fn shutting_wakes_both_sides_and_keeps_what_is_there() {
    let queue = Queue::new(1);
    queue.try_put(1, false).unwrap();
    std::thread::scope(|scope| {
        let putter = scope.spawn(|| put(&queue, 2));
        until(|| queue.waiting(Side::Put) == 1);
        assert!(queue.shut(false).unwrap().is_empty());
        assert_eq!(putter.join().unwrap(), Err(Refusal::ShutDown.into()));
    });
    assert_eq!(get(&queue, LONG), Ok(1));
    assert_eq!(get(&queue, LONG), Err(Refusal::ShutDown.into()));
    let empty = Queue::new(1);
    std::thread::scope(|scope| {
        let getters: Vec<_> = (0..3).map(|_| scope.spawn(|| get(&empty, LONG))).collect();
        until(|| empty.waiting(Side::Get) == 3);
        drop(empty.shut(true));
        for getter in getters {
            assert_eq!(getter.join().unwrap(), Err(Refusal::ShutDown.into()));
        }
    });
}

#[test]
fn opening_sends_everybody_elsewhere_with_the_items() {
    let queue = Queue::new(2);
    put(&queue, 1).unwrap();
    put(&queue, 2).unwrap();
    std::thread::scope(|scope| {
        let putter = scope.spawn(|| put(&queue, 3));
        until(|| queue.waiting(Side::Put) == 1);
        assert_eq!(queue.open().map(Vec::from), Some(vec![1, 2]));
        assert_eq!(putter.join().unwrap(), Err(Refusal::Opened.into()));
    });
    assert_eq!(queue.open(), None);
    assert_eq!(queue.try_get(false, false), Err(Refusal::Opened));
}

#[test]
fn room_that_appears_by_a_resize_is_given_away() {
    let queue = Queue::new(1);
    put(&queue, 1).unwrap();
    std::thread::scope(|scope| {
        let putter = scope.spawn(|| put(&queue, 2));
        until(|| queue.waiting(Side::Put) == 1);
        queue.set_capacity(2);
        assert_eq!(putter.join().unwrap(), Ok(()));
    });
}

#[test]
fn join_waits_for_the_last_task() {
    let queue = Queue::new(4);
    put(&queue, 1).unwrap();
    put(&queue, 2).unwrap();
    std::thread::scope(|scope| {
        let joiner = scope.spawn(|| queue.join(&ThreadPark));
        assert_eq!(queue.task_done(), Ok(true));
        until(|| queue.joining() == 1);
        assert_eq!(queue.task_done(), Ok(true));
        assert_eq!(joiner.join().unwrap(), Ok(()));
    });
    assert_eq!(queue.task_done(), Ok(false));
    assert_eq!(queue.join(&ThreadPark), Ok(()));
}

#[test]
fn a_burst_gives_its_memory_back() {
    let queue = Queue::new(UNBOUNDED);
    for item in 0..100_000 {
        queue.try_put(item, false).unwrap();
    }
    while queue.try_get(false, false).is_ok() {}
    assert!(queue.lock().items.capacity() <= KEPT);
}

proptest::proptest! {
    #[test]
    fn the_least_comes_first(items in proptest::collection::vec(0_i32..50, 0..100), gets in proptest::collection::vec(proptest::bool::ANY, 200)) {
        let queue = Queue::new(UNBOUNDED);
        let mut model = std::collections::BinaryHeap::new();
        let mut items = items.into_iter();
        for get in gets {
            if get {
                let expected = model.pop().map(|std::cmp::Reverse(item)| item);
                proptest::prop_assert_eq!(queue.try_get_least(false, &Ints).ok(), expected);
            } else if let Some(item) = items.next() {
                queue.try_put_least(item, false, &Ints).unwrap();
                model.push(std::cmp::Reverse(item));
            }
        }
    }

    #[test]
    fn a_comparison_that_raises_moves_nothing(items in proptest::collection::vec(0_i32..50, 1..60), at in 1_u32..8) {
        let queue = Queue::new(UNBOUNDED);
        for &item in &items {
            queue.try_put_least(item, false, &Ints).unwrap();
        }
        let before = queue.lock().items.clone();
        if queue.try_put_least(-1, false, &Bomb(at.into())) == Err((Failure::Interrupted("bang"), -1)) {
            proptest::prop_assert_eq!(&queue.lock().items, &before);
        } else {
            proptest::prop_assert_eq!(queue.try_get_least(false, &Ints), Ok(-1));
        }
        let before = queue.lock().items.clone();
        if let Ok(item) = queue.try_get_least(false, &Bomb(at.into())) {
            proptest::prop_assert_eq!(Some(item), items.iter().copied().min());
        } else {
            proptest::prop_assert_eq!(&queue.lock().items, &before);
        }
    }
}

#[test]
fn a_comparison_may_use_the_queue() {
    /// Puts one more item from within its first comparison.
    struct Guest<'a>(&'a Queue<i32>, std::cell::Cell<bool>);
    impl Compare<i32> for Guest<'_> {
        type Raised = Infallible;
        fn copy(&self, item: &i32) -> i32 {
            *item
        }
        fn less(&self, left: &i32, right: &i32) -> Result<bool, Infallible> {
            if !self.1.replace(true) {
                self.0.try_put_least(0, false, &Ints).unwrap();
            }
            Ok(left < right)
        }
    }
    let queue = Queue::new(UNBOUNDED);
    for item in [5, 7, 6, 9] {
        queue.try_put_least(item, false, &Ints).unwrap();
    }
    queue.try_put_least(1, false, &Guest(&queue, false.into())).unwrap();
    assert_eq!(queue.try_get_least(false, &Guest(&queue, false.into())), Ok(0));
    let rest: Vec<i32> = std::iter::from_fn(|| queue.try_get_least(false, &Ints).ok()).collect();
    assert_eq!(rest, [0, 1, 5, 6, 7, 9]);
}

#[test]
fn comparisons_that_always_put_do_not_go_on_for_ever() {
    /// Puts one more item from within each comparison.
    struct Crowd<'a>(&'a Queue<i32>);
    impl Compare<i32> for Crowd<'_> {
        type Raised = Infallible;
        fn copy(&self, item: &i32) -> i32 {
            *item
        }
        fn less(&self, left: &i32, right: &i32) -> Result<bool, Infallible> {
            self.0.try_put_least(1000, false, &Ints).unwrap();
            Ok(left < right)
        }
    }
    let queue = Queue::new(UNBOUNDED);
    for item in (1..=40).rev() {
        queue.try_put_least(item, false, &Crowd(&queue)).unwrap();
    }
    for item in 1..=40 {
        assert_eq!(queue.try_get_least(false, &Crowd(&queue)), Ok(item));
    }
    let rest = queue.len();
    assert_eq!(queue.unfinished(), 40 + u64::try_from(rest).unwrap());
    assert!((0..rest).all(|_| queue.try_get_least(false, &Ints) == Ok(1000)));
    assert!(queue.is_empty());
}
