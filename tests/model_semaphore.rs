//! Every interleaving of two or three threads over a semaphore.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --test model_semaphore`
//!
//! loom knows no time. A timeout is a thread that cancels its wait wherever it happens to be, an interrupt one
//! that leaves with an error: the model tries every place.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(loom)]

mod sleepers;

use loom::thread;
use sleepers::{Impatient, Interrupted, Watchful};
use sluicegate::core::park::{Park, ThreadPark};
use sluicegate::core::semaphore::{AcquireError, ReleaseError, Semaphore};
use sluicegate::core::sync::Arc;
use std::convert::Infallible;

fn model(fair: bool, body: impl Fn(bool) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || body(fair));
}

/// Runs `body` for a barging semaphore and for a fair one.
fn both(body: impl Fn(bool) + Sync + Send + Clone + 'static) {
    model(false, body.clone());
    model(true, body);
}

fn acquire<P: Park + Send + 'static>(
    semaphore: &Arc<Semaphore>,
    n: u32,
    park: P,
) -> thread::JoinHandle<Result<bool, AcquireError<P::Interrupt>>>
where
    P::Interrupt: Send,
{
    let semaphore = Arc::clone(semaphore);
    thread::spawn(move || semaphore.acquire(n, None, &park))
}

fn assert_at_rest(semaphore: &Semaphore, permits: u32) {
    assert_eq!((semaphore.permits(), semaphore.waiting()), (permits, 0));
    // Nobody is on the way any more: the fast path is open again.
    assert_eq!(semaphore.release(1), Ok(()));
    assert_eq!(semaphore.try_acquire::<()>(permits + 1), Ok(true));
}

#[test]
fn a_release_wakes_the_waiter() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::new(0, fair));
        let waiter = acquire(&semaphore, 1, ThreadPark);
        semaphore.release(1).unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(true));
        assert_at_rest(&semaphore, 0);
    });
}

#[test]
fn a_release_that_meets_a_timeout_is_taken_or_kept() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::new(0, fair));
        let waiter = acquire(&semaphore, 1, Impatient);
        semaphore.release(1).unwrap();
        let taken = waiter.join().unwrap().unwrap();
        assert_at_rest(&semaphore, u32::from(!taken));
    });
}

#[test]
fn a_release_that_meets_a_cancelled_waiter_goes_to_the_next() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::new(0, fair));
        let leaver = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || match semaphore.acquire(1, None, &Interrupted) {
                Ok(_) => semaphore.release(1).unwrap(),
                Err(error) => assert_eq!(error, AcquireError::Interrupted(())),
            })
        };
        let stayer = acquire(&semaphore, 1, ThreadPark);
        semaphore.release(1).unwrap();
        leaver.join().unwrap();
        assert_eq!(stayer.join().unwrap(), Ok(true));
        assert_at_rest(&semaphore, 0);
    });
}

#[test]
fn two_releases_wake_two_waiters() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::new(0, fair));
        let waiters = [acquire(&semaphore, 1, ThreadPark), acquire(&semaphore, 1, ThreadPark)];
        semaphore.release(1).unwrap();
        semaphore.release(1).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(true));
        }
        assert_at_rest(&semaphore, 0);
    });
}

#[test]
fn a_waiter_that_watches_before_it_sleeps_is_told_or_woken() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::new(0, fair));
        let waiters = [acquire(&semaphore, 1, Watchful), acquire(&semaphore, 1, ThreadPark)];
        semaphore.release(1).unwrap();
        semaphore.release(1).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(true));
        }
        assert_at_rest(&semaphore, 0);
    });
}

#[test]
fn a_permit_goes_round() {
    fn round<P: Park<Interrupt = Infallible> + Copy + Send + Sync + 'static>(park: P) {
        both(move |fair| {
            let semaphore = Arc::new(Semaphore::bounded(1, fair));
            let threads = [0, 1].map(|_| {
                let semaphore = Arc::clone(&semaphore);
                thread::spawn(move || {
                    assert_eq!(semaphore.acquire(1, None, &park), Ok(true));
                    semaphore.release(1).unwrap();
                })
            });
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!((semaphore.permits(), semaphore.waiting()), (1, 0));
        });
    }
    round(ThreadPark);
    round(Watchful);
}

#[test]
fn a_close_that_meets_a_grant_loses_no_permit() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::new(0, fair));
        let waiter = acquire(&semaphore, 1, ThreadPark);
        let closer = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.close())
        };
        semaphore.release(1).unwrap();
        closer.join().unwrap();
        let permits = match waiter.join().unwrap() {
            Ok(taken) => u32::from(!taken),
            Err(error) => {
                assert_eq!(error, AcquireError::Closed);
                1
            }
        };
        assert_eq!((semaphore.permits(), semaphore.waiting()), (permits, 0));
    });
}

#[test]
fn a_large_waiter_that_leaves_makes_room_for_the_small_one_behind_it() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::new(1, fair));
        let large = acquire(&semaphore, 2, Impatient);
        let small = acquire(&semaphore, 1, ThreadPark);
        assert_eq!(large.join().unwrap(), Ok(false));
        assert_eq!(small.join().unwrap(), Ok(true));
        assert_at_rest(&semaphore, 0);
    });
}

#[test]
fn a_resize_wakes_who_now_fits() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::bounded(1, fair));
        assert_eq!(semaphore.try_acquire::<()>(1), Ok(true));
        let waiter = acquire(&semaphore, 1, ThreadPark);
        semaphore.resize(2);
        assert_eq!(waiter.join().unwrap(), Ok(true));
        assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
        assert_eq!(semaphore.release(2), Ok(()));
    });
}

#[test]
fn a_resize_that_meets_an_acquire_and_a_release_keeps_count() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::bounded(2, fair));
        assert_eq!(semaphore.try_acquire::<()>(1), Ok(true));
        let waiter = acquire(&semaphore, 1, Impatient);
        let resizer = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.resize(1))
        };
        semaphore.release(1).unwrap();
        resizer.join().unwrap();
        let held = u32::from(waiter.join().unwrap().unwrap());
        assert_eq!((semaphore.permits(), semaphore.waiting()), (1 - held, 0));
    });
}

#[test]
fn a_release_too_many_is_refused_at_every_moment_of_a_resize() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::bounded(1, fair));
        let resizer = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.resize(2))
        };
        assert!(matches!(semaphore.release(1), Err(ReleaseError::Full { .. })));
        resizer.join().unwrap();
        assert_eq!(semaphore.permits(), 2);
    });
}

#[test]
fn a_release_that_read_the_old_capacity_is_held_against_the_new_one() {
    both(|fair| {
        let semaphore = Arc::new(Semaphore::bounded(3, fair));
        assert_eq!(semaphore.try_acquire::<()>(1), Ok(true));
        let other = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.release(1))
        };
        semaphore.resize(2);
        // One permit was held, two releases: one is too many, even if the free permits look as they did before.
        let outcomes = [semaphore.release(1), other.join().unwrap()];
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert_eq!(semaphore.permits(), 2);
    });
}
