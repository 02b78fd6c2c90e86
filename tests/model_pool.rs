//! Every interleaving of two or three threads over a pool.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --test model_pool`
//!
//! loom knows no time. A timeout is a thread that cancels its wait wherever it happens to be, an interrupt one
//! that leaves with an error: the model tries every place. Time stands still for the pool too, so a plain return
//! always tells the waiter to compete; a return by way of a permit hands the connection over.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(loom)]

mod sleepers;

use loom::thread;
use sleepers::{Impatient, Interrupted};
use sluicegate::core::park::{Park, ThreadPark};
use sluicegate::core::pool::{AcquireError, Asking, Claim, GivenBack, Identity, Policy, Pool, Taken, Thread};
use sluicegate::core::sync::Arc;

#[derive(Clone, Debug)]
struct Conn(std::sync::Arc<u8>);

impl Identity for Conn {
    fn key(&self) -> usize {
        std::sync::Arc::as_ptr(&self.0).addr()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Pulse,
    HandOver,
    Discard,
}

const ASK: Asking = Asking { thread: Thread { number: 0, ident: 0 }, create: true, deadlock: false };
const POLICY: Policy =
    Policy { max: 1, min: 0, max_waiting: u32::MAX, lifo: true, max_idle: u64::MAX, check_after: u64::MAX };

fn models(ways: &[Way], body: impl Fn(Way) + Sync + Send + Clone + 'static) {
    for &way in ways {
        let body = body.clone();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || body(way));
    }
}

const ALL: &[Way] = &[Way::Pulse, Way::HandOver, Way::Discard];

fn get<P: Park>(pool: &Pool<Conn>, park: &P) -> Result<Conn, AcquireError<P::Interrupt>> {
    match pool.acquire(ASK, None, park)? {
        Taken::Lent(conn, _) => Ok(conn),
        Taken::Create(permit) => {
            permit.fill(Conn(std::sync::Arc::new(0)), u64::MAX).unwrap();
            Ok(permit.lend(Thread::default()).unwrap().0)
        }
        Taken::Suspect { .. } => unreachable!(),
    }
}

fn put(pool: &Pool<Conn>, conn: &Conn, way: Way) {
    if way == Way::Pulse {
        assert!(matches!(pool.give_back(conn.key(), Claim::Heir), Ok(GivenBack::Kept { .. })));
        return;
    }
    let permit = pool.claim(conn.key(), Claim::Heir).unwrap().unwrap();
    if way == Way::HandOver {
        permit.shelve().unwrap();
    }
}

/// One connection, in this thread's hands, and a thread that asks for it and then does `then`.
fn taken() -> (Arc<Pool<Conn>>, Conn) {
    let pool = Arc::new(Pool::new(POLICY));
    let conn = get(&pool, &ThreadPark).unwrap();
    (pool, conn)
}

fn asks<P: Park + Send + 'static>(pool: &Arc<Pool<Conn>>, park: P, way: Way) -> thread::JoinHandle<bool> {
    let pool = Arc::clone(pool);
    thread::spawn(move || match get(&pool, &park) {
        Ok(conn) => {
            put(&pool, &conn, way);
            true
        }
        Err(AcquireError::TimedOut | AcquireError::Interrupted(_) | AcquireError::Closed) => false,
        Err(AcquireError::Full | AcquireError::Deadlocked) => unreachable!(),
    })
}

/// The one connection there may be can be had, and by one alone.
fn assert_whole(pool: &Pool<Conn>) {
    assert_eq!(pool.sizes().waiting, 0);
    let conn = get(pool, &Impatient).unwrap();
    assert!(pool.try_acquire::<()>(ASK).unwrap().is_none());
    put(pool, &conn, Way::Pulse);
    let sizes = pool.sizes();
    assert_eq!((sizes.size, sizes.idle), (1, 1));
}

#[test]
fn whatever_frees_capacity_serves_the_waiter() {
    models(ALL, |way| {
        let (pool, conn) = taken();
        let waiter = asks(&pool, ThreadPark, way);
        put(&pool, &conn, way);
        assert!(waiter.join().unwrap());
        assert_whole(&pool);
    });
}

#[test]
fn a_return_that_meets_a_timeout_loses_nothing() {
    models(ALL, |way| {
        let (pool, conn) = taken();
        let waiter = asks(&pool, Impatient, way);
        put(&pool, &conn, way);
        waiter.join().unwrap();
        assert_whole(&pool);
    });
}

#[test]
fn a_return_that_meets_an_interrupt_goes_to_the_next() {
    models(ALL, |way| {
        let (pool, conn) = taken();
        let leaver = asks(&pool, Interrupted, way);
        let stayer = asks(&pool, ThreadPark, way);
        put(&pool, &conn, way);
        leaver.join().unwrap();
        assert!(stayer.join().unwrap());
        assert_whole(&pool);
    });
}

#[test]
fn a_return_and_a_new_acquire_by_the_same_thread_starve_nobody() {
    models(&[Way::Pulse, Way::HandOver], |way| {
        let (pool, conn) = taken();
        let waiter = asks(&pool, ThreadPark, way);
        put(&pool, &conn, way);
        let again = get(&pool, &ThreadPark).unwrap();
        put(&pool, &again, way);
        assert!(waiter.join().unwrap());
        assert_whole(&pool);
    });
}

#[test]
fn close_ends_every_wait_and_nothing_stays_open() {
    models(ALL, |way| {
        let (pool, conn) = taken();
        let waiter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || match pool.acquire(ASK, None, &ThreadPark) {
                // Whoever comes back to a closed pool is told to close.
                Ok(Taken::Lent(conn, _)) => drop(pool.give_back(conn.key(), Claim::Heir)),
                Ok(_) => {}
                Err(error) => assert_eq!(error, AcquireError::Closed),
            })
        };
        pool.close();
        if way == Way::HandOver {
            drop(pool.claim(conn.key(), Claim::Heir).unwrap().unwrap().shelve());
        } else {
            put_closed(&pool, &conn, way);
        }
        assert_eq!(pool.wait_empty(None, &ThreadPark), Ok(true));
        waiter.join().unwrap();
        assert_eq!(pool.sizes().size, 0);
    });
}

fn put_closed(pool: &Pool<Conn>, conn: &Conn, way: Way) {
    match way {
        Way::Pulse => drop(pool.give_back(conn.key(), Claim::Heir)),
        _ => put(pool, conn, way),
    }
}

#[test]
fn the_last_to_leave_wakes_the_closer() {
    models(ALL, |way| {
        let (pool, conn) = taken();
        let closer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.wait_empty(None, &ThreadPark))
        };
        pool.close();
        put_closed(&pool, &conn, if way == Way::HandOver { Way::Discard } else { way });
        assert_eq!(closer.join().unwrap(), Ok(true));
    });
}
