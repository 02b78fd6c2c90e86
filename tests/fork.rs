//! A real fork, with threads asleep in a primitive: the child must not see them.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(all(unix, not(loom)))]

use sluicegate::core::channel::{Channel, End};
use sluicegate::core::fork;
use sluicegate::core::park::{Park, ThreadPark, Waiter, Wake};
use sluicegate::core::select::{Case, select};
use sluicegate::core::semaphore::{AcquireError, Semaphore};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Sleeps until the gate opens, however early it is woken.
struct Late<'a>(&'a AtomicBool);

impl Park for Late<'_> {
    type Interrupt = Infallible;

    fn park(&self, waiter: &Waiter, deadline: Option<Instant>) -> Result<Wake, Infallible> {
        while !self.0.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        ThreadPark.park(waiter, deadline)
    }
}

#[test]
fn a_child_gets_what_ghosts_had_been_handed_and_forgets_what_they_wanted_to_send() {
    fork::install().unwrap();
    let (channel, other, gate) = (Channel::new(2), Channel::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let receivers: Vec<_> = (0..3)
            .map(|number| {
                let receiver = scope.spawn(|| channel.recv(End::Front, None, &Late(&gate)));
                while channel.receiving() <= number {
                    thread::yield_now();
                }
                receiver
            })
            .collect();
        let selecting = scope.spawn(|| {
            let mut cases = [Case::Recv(&channel), Case::Send(&other, Some(9))];
            select(&mut cases, None, &Late(&gate)).is_ok()
        });
        while other.sending() == 0 {
            thread::yield_now();
        }
        for number in 0..6 {
            channel.try_send::<Infallible>(number).unwrap();
        }
        assert_eq!((channel.len(), channel.receiving()), (2, 0));
        let sender = scope.spawn(|| channel.send(6, None, &Late(&gate)));
        while channel.sending() == 0 {
            thread::yield_now();
        }
        let well = in_a_child(|| {
            let soon = Some(Instant::now() + Duration::from_secs(5));
            channel.drain() == [0, 1, 2, 3, 4, 5]
                && (channel.sending(), channel.receiving(), other.sending()) == (0, 0, 0)
                && other.try_recv::<Infallible>(End::Front).is_err()
                && thread::scope(|scope| {
                    let sender = scope.spawn(|| other.send(7, soon, &ThreadPark));
                    other.recv(End::Front, soon, &ThreadPark) == Ok(7)
                        && sender.join().is_ok_and(|sent| sent.is_ok())
                })
        });
        // Whatever came of it, let them go.
        gate.store(true, Ordering::SeqCst);
        assert!(well);
        let got: Vec<_> = receivers.into_iter().map(|receiver| receiver.join().unwrap().unwrap()).collect();
        assert_eq!(got, [0, 1, 2]);
        assert!(selecting.join().unwrap());
        assert_eq!(channel.drain(), [4, 5, 6]);
        assert_eq!(sender.join().unwrap(), Ok(()));
    });
}
