use super::*;
use crate::core::park::ThreadPark;
use proptest::prelude::*;
use std::convert::Infallible;
use std::thread;

type Answer = Result<bool, AcquireError<Infallible>>;

fn spawn(semaphore: &Arc<Semaphore>, n: u32) -> thread::JoinHandle<Answer> {
    let semaphore = Arc::clone(semaphore);
    thread::spawn(move || semaphore.acquire(n, None, &ThreadPark))
}

fn wait_until(fact: impl Fn() -> bool) {
    while !fact() {
        thread::yield_now();
    }
}

fn try_acquire(semaphore: &Semaphore, n: u32) -> Answer {
    semaphore.try_acquire(n)
}

#[test]
fn a_timed_out_acquire_leaves_nothing_behind() {
    let semaphore = Semaphore::new(0, false);
    assert_eq!(semaphore.acquire(1, Some(Instant::now()), &ThreadPark), Ok(false));
    assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
    assert_eq!(semaphore.load(), Word(0).next_epoch());
}

#[test]
fn a_fair_semaphore_serves_in_the_order_of_arrival() {
    let semaphore = Arc::new(Semaphore::new(0, true));
    let served = Arc::new(Leaf::new(Vec::new()));
    let threads: Vec<_> = (0..6)
        .map(|number| {
            let (mine, served) = (Arc::clone(&semaphore), Arc::clone(&served));
            let thread = thread::spawn(move || {
                assert_eq!(mine.acquire(1, None, &ThreadPark), Ok(true));
                served.lock().push(number);
                mine.release(1).unwrap();
            });
            wait_until(|| semaphore.waiting() == number + 1);
            thread
        })
        .collect();
    semaphore.release(1).unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*served.lock(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_large_acquire_is_not_starved_by_small_ones() {
    let semaphore = Arc::new(Semaphore::bounded(2, false));
    let large = {
        assert_eq!(try_acquire(&semaphore, 1), Ok(true));
        spawn(&semaphore, 2)
    };
    wait_until(|| semaphore.waiting() == 1);
    // Two small holders overlap for ever, unless the door is barred for the large one.
    while try_acquire(&semaphore, 1) == Ok(true) {
        semaphore.release(1).unwrap();
    }
    semaphore.release(1).unwrap();
    assert_eq!(large.join().unwrap(), Ok(true));
}

#[test]
fn a_hopeless_acquire_fails_at_once_and_at_a_resize() {
    let semaphore = Arc::new(Semaphore::bounded(3, false));
    assert_eq!(try_acquire(&semaphore, 4), Err(AcquireError::Hopeless { n: 4, capacity: 3 }));
    assert_eq!(try_acquire(&semaphore, 1), Ok(true));
    let waiting = spawn(&semaphore, 3);
    wait_until(|| semaphore.waiting() == 1);
    semaphore.resize(2);
    assert_eq!(waiting.join().unwrap(), Err(AcquireError::Hopeless { n: 3, capacity: 2 }));
    assert_eq!(semaphore.permits(), 1);
}

#[test]
fn capacity_zero_is_a_pause() {
    let semaphore = Arc::new(Semaphore::bounded(1, false));
    semaphore.resize(0);
    assert_eq!(try_acquire(&semaphore, 1), Ok(false));
    let waiting = spawn(&semaphore, 1);
    wait_until(|| semaphore.waiting() == 1);
    semaphore.resize(1);
    assert_eq!(waiting.join().unwrap(), Ok(true));
}

#[test]
fn shrinking_lets_holders_finish() {
    let semaphore = Semaphore::bounded(3, false);
    assert_eq!(try_acquire(&semaphore, 3), Ok(true));
    semaphore.resize(1);
    semaphore.release(2).unwrap();
    assert_eq!((semaphore.permits(), try_acquire(&semaphore, 1)), (0, Ok(false)));
    semaphore.release(1).unwrap();
    assert_eq!(semaphore.permits(), 1);
    assert_eq!(semaphore.release(1), Err(ReleaseError::Full { capacity: 1 }));
}

#[test]
fn close_wakes_everybody_and_release_still_works() {
    let semaphore = Arc::new(Semaphore::new(0, false));
    let waiting: Vec<_> = (0..4).map(|_| spawn(&semaphore, 1)).collect();
    wait_until(|| semaphore.waiting() == 4);
    semaphore.close();
    for thread in waiting {
        assert_eq!(thread.join().unwrap(), Err(AcquireError::Closed));
    }
    semaphore.release(2).unwrap();
    assert_eq!((semaphore.permits(), try_acquire(&semaphore, 1)), (2, Err(AcquireError::Closed)));
}

#[test]
fn the_limit_of_permits_is_kept() {
    let semaphore = Semaphore::new(MAX_PERMITS, false);
    assert_eq!(semaphore.release(1), Err(ReleaseError::TooMany { permits: MAX_PERMITS }));
    assert_eq!(semaphore.permits(), MAX_PERMITS);
}

/// The ten lines that the real thing must agree with.
#[derive(Debug)]
struct Model {
    free: i64,
    capacity: i64,
}

proptest! {
    #[test]
    fn it_agrees_with_the_model(capacity in 0_u32..6, steps in prop::collection::vec((0_u8..4, 1_u32..5), 0..60)) {
        let semaphore = Semaphore::bounded(capacity, false);
        let mut model = Model { free: capacity.into(), capacity: capacity.into() };
        for (step, n) in steps {
            let asked = i64::from(n);
            match step {
                0 => {
                    let expected = match asked {
                        asked if asked > model.capacity && model.capacity > 0 =>
                            Err(AcquireError::Hopeless { n, capacity: u32::try_from(model.capacity).unwrap() }),
                        asked => Ok(model.free >= asked),
                    };
                    if expected == Ok(true) { model.free -= asked; }
                    prop_assert_eq!(try_acquire(&semaphore, n), expected);
                }
                1 => {
                    let fits = model.free + asked <= model.capacity;
                    if fits { model.free += asked; }
                    prop_assert_eq!(semaphore.release(n).is_ok(), fits);
                }
                2 => {
                    model.free += asked - 1 - model.capacity;
                    model.capacity = asked - 1;
                    semaphore.resize(n - 1);
                }
                _ => {
                    let free = model.free.max(0);
                    model.free -= free;
                    prop_assert_eq!(i64::from(semaphore.drain()), free);
                }
            }
            prop_assert_eq!(i64::from(semaphore.permits()), model.free.max(0));
        }
    }
}
