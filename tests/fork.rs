//! A real fork, with threads asleep in a primitive: the child must not see them.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(all(unix, not(loom)))]

use sluicegate::core::fork;
use sluicegate::core::park::ThreadPark;
use sluicegate::core::semaphore::{AcquireError, Semaphore};
use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Runs `child` in a forked process: whether all it said was true.
fn in_a_child(child: impl FnOnce() -> bool) -> bool {
    #[allow(unsafe_code)]
    // SAFETY: the child runs `child` in the one thread it has, and leaves by `_exit` without unwinding into the
    // harness. It allocates, which glibc and musl allow after a fork of a threaded process.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(i32::from(!child())),
            pid => {
                let mut status = 0;
                libc::waitpid(pid, &raw mut status, 0) == pid && status == 0
            }
        }
    }
}

#[test]
fn a_child_sees_no_ghosts_and_gets_what_they_had_been_granted() {
    fork::install().unwrap();
    for fair in [false, true] {
        let semaphore = Arc::new(Semaphore::new(0, fair));
        let sleepers: Vec<_> = (0..4)
            .map(|number| {
                let mine = Arc::clone(&semaphore);
                let sleeper = thread::spawn(move || mine.acquire(2, None, &ThreadPark).unwrap());
                while semaphore.waiting() <= number {
                    thread::yield_now();
                }
                sleeper
            })
            .collect();
        semaphore.release(1).unwrap();
        assert!(in_a_child(|| {
            let soon = Some(Instant::now() + Duration::from_secs(5));
            let taken: Result<bool, AcquireError<Infallible>> = semaphore.try_acquire(1);
            taken == Ok(true)
                && semaphore.waiting() == 0
                && semaphore.release(1).is_ok()
                && semaphore.acquire(1, soon, &ThreadPark) == Ok(true)
                && thread::scope(|scope| {
                    let other = scope.spawn(|| semaphore.acquire(1, soon, &ThreadPark));
                    while semaphore.waiting() == 0 {
                        thread::yield_now();
                    }
                    semaphore.release(1).is_ok() && other.join().is_ok_and(|answer| answer == Ok(true))
                })
        }));
        semaphore.release(7).unwrap();
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap());
        }
        assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
    }
}
