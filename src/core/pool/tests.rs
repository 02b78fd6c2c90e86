#![allow(clippy::unwrap_used, clippy::unnecessary_wraps)]

use super::*;
use crate::core::park::ThreadPark;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[derive(Clone, Debug)]
struct Conn(std::sync::Arc<(usize, AtomicUsize)>);

impl Conn {
    fn new(number: usize) -> Self {
        Self(std::sync::Arc::new((number, AtomicUsize::new(0))))
    }
}

impl Identity for Conn {
    fn key(&self) -> usize {
        std::sync::Arc::as_ptr(&self.0).addr()
    }
}

type Answer<'p> = Result<Taken<'p, Conn>, AcquireError<Infallible>>;

const POLICY: Policy =
    Policy { max: 2, min: 0, max_waiting: u32::MAX, lifo: true, max_idle: u64::MAX, check_after: u64::MAX };
const fn thread_number(number: u64) -> Thread {
    Thread { number, ident: 0 }
}

const ASK: Asking = Asking { thread: thread_number(1), create: true, deadlock: false };

fn pool(max: u32) -> Pool<Conn> {
    Pool::new(Policy { max, ..POLICY })
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(20))
}

fn open(permit: Permit<'_, Conn>, number: usize) -> Conn {
    permit.fill(Conn::new(number), u64::MAX).unwrap();
    permit.lend(thread_number(1)).unwrap().0
}

fn get(pool: &Pool<Conn>, number: usize) -> Conn {
    match pool.acquire(ASK, soon(), &ThreadPark).unwrap() {
        Taken::Lent(conn, _) => conn,
        Taken::Create(permit) => open(permit, number),
        Taken::Suspect { .. } => unreachable!(),
    }
}

fn kept(pool: &Pool<Conn>, conn: &Conn) -> bool {
    matches!(pool.give_back(conn.key(), Claim::Heir), Ok(GivenBack::Kept { .. }))
}

fn waiting(pool: &Pool<Conn>, n: u32) {
    while pool.sizes().waiting != n {
        thread::yield_now();
    }
}

#[test]
fn what_comes_back_is_handed_out_again_newest_first_or_oldest_first() {
    for lifo in [true, false] {
        let pool = Pool::new(Policy { lifo, ..POLICY });
        let (a, b) = (get(&pool, 1), get(&pool, 2));
        assert!(kept(&pool, &a) && kept(&pool, &b));
        assert_eq!(get(&pool, 3).key(), if lifo { b.key() } else { a.key() });
    }
}

#[test]
fn a_second_return_and_a_foreign_one_are_refused_and_change_nothing() {
    let (pool, other) = (pool(2), pool(2));
    let conn = get(&pool, 1);
    assert_eq!(other.give_back(conn.key(), Claim::Heir).unwrap_err(), NotOwned::Foreign);
    assert!(kept(&pool, &conn));
    assert_eq!(pool.give_back(conn.key(), Claim::Heir).unwrap_err(), NotOwned::Returned);
    assert_eq!(pool.sizes(), Sizes { size: 1, idle: 1, waiting: 0, max: 2, min: 0 });
}

#[test]
fn a_second_return_is_refused_while_another_has_the_connection() {
    let pool = pool(1);
    let conn = get(&pool, 1);
    assert!(kept(&pool, &conn));
    let Ok(Some(Taken::Lent(conn, loan))) =
        pool.try_acquire::<Infallible>(Asking { thread: thread_number(2), ..ASK })
    else {
        panic!()
    };
    assert_eq!(pool.give_back(conn.key(), Claim::Thread(thread_number(1))).unwrap_err(), NotOwned::Other);
    assert_eq!(pool.give_back(conn.key(), Claim::Loan(loan - 1)).unwrap_err(), NotOwned::Other);
    assert!(matches!(pool.give_back(conn.key(), Claim::Loan(loan)), Ok(GivenBack::Kept { .. })));
}

#[test]
fn a_dropped_permit_serves_the_next_waiter() {
    let pool = pool(1);
    let Ok(Some(Taken::Create(permit))) = pool.try_acquire::<Infallible>(ASK) else { panic!() };
    thread::scope(|scope| {
        let next = scope.spawn(|| matches!(pool.acquire(ASK, soon(), &ThreadPark), Ok(Taken::Create(_))));
        waiting(&pool, 1);
        drop(permit);
        assert!(next.join().unwrap());
    });
    assert_eq!(pool.sizes().size, 0);
}

#[test]
fn waiters_are_served_in_the_order_of_their_arrival() {
    let pool = pool(1);
    let conn = get(&pool, 1);
    let turn = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let (pool, turn) = (&pool, &turn);
            scope.spawn(move || {
                let conn = get(pool, 9);
                assert_eq!(turn.fetch_add(1, Ordering::Relaxed), number);
                thread::sleep(Duration::from_millis(1));
                assert!(kept(pool, &conn));
            });
            waiting(pool, u32::try_from(number).unwrap() + 1);
        }
        thread::sleep(QUICK);
        assert!(kept(&pool, &conn));
    });
    assert_eq!(pool.stats().created, 1);
}

#[test]
fn close_tells_every_waiter_and_what_comes_back_is_to_be_closed() {
    let pool = pool(1);
    let conn = get(&pool, 1);
    thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..3).map(|_| scope.spawn(|| pool.acquire(ASK, None, &ThreadPark).map(drop))).collect();
        waiting(&pool, 3);
        assert!(pool.close());
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap_err(), AcquireError::Closed);
        }
        let last = scope.spawn(|| pool.wait_empty(soon(), &ThreadPark));
        assert!(matches!(pool.give_back(conn.key(), Claim::Heir), Ok(GivenBack::Spent(_))));
        assert_eq!(last.join().unwrap(), Ok(true));
    });
    assert!(!pool.close());
}

#[test]
fn a_connection_forced_out_is_returned_once_without_effect() {
    let pool = pool(1);
    let conn = get(&pool, 1);
    assert_eq!(pool.force_out().len(), 1);
    assert_eq!(pool.sizes().size, 0);
    assert!(matches!(pool.give_back(conn.key(), Claim::Heir), Ok(GivenBack::Gone(Some(_)))));
    assert_eq!(pool.give_back(conn.key(), Claim::Heir).unwrap_err(), NotOwned::Foreign);
    assert_eq!(pool.sizes().size, 0);
}

#[test]
fn the_same_connection_is_not_taken_in_twice() {
    let pool = pool(2);
    let conn = get(&pool, 1);
    let Ok(Some(Taken::Create(permit))) = pool.try_acquire::<Infallible>(ASK) else { panic!() };
    assert_eq!(permit.fill(conn.clone(), u64::MAX).unwrap_err().key(), conn.key());
    drop(permit);
    assert_eq!(pool.sizes().size, 1);
}

#[test]
fn what_is_old_or_rested_is_looked_at_first_and_its_slot_is_kept() {
    let pool = pool(1);
    let conn = get(&pool, 1);
    assert!(kept(&pool, &conn));
    pool.set_policy(|policy| policy.check_after = 0);
    let Ok(Some(Taken::Suspect { permit, spent: false })) = pool.try_acquire::<Infallible>(ASK) else {
        panic!()
    };
    assert!(pool.try_acquire::<Infallible>(ASK).unwrap().is_none());
    assert_eq!(permit.empty().unwrap().key(), conn.key());
    let other = open(permit, 2);
    pool.retire();
    assert!(matches!(pool.give_back(other.key(), Claim::Heir), Ok(GivenBack::Spent(_))));
}

#[test]
fn a_smaller_pool_closes_what_is_too_many_and_a_larger_one_serves_who_waits() {
    let pool = pool(2);
    let (a, b) = (get(&pool, 1), get(&pool, 2));
    pool.set_policy(|policy| policy.max = 1);
    assert!(matches!(pool.give_back(a.key(), Claim::Heir), Ok(GivenBack::Spent(_))));
    thread::scope(|scope| {
        let next = scope.spawn(|| matches!(pool.acquire(ASK, soon(), &ThreadPark), Ok(Taken::Create(_))));
        waiting(&pool, 1);
        pool.set_policy(|policy| policy.max = 2);
        assert!(next.join().unwrap());
    });
    assert!(kept(&pool, &b));
}

#[test]
fn threads_that_hold_everything_and_wait_for_more_are_told() {
    let pool = pool(2);
    let ask = Asking { deadlock: true, ..ASK };
    let held = (get(&pool, 1), get(&pool, 2));
    assert_eq!(pool.acquire(ask, None, &ThreadPark).unwrap_err(), AcquireError::Deadlocked);
    let other = Asking { thread: thread_number(2), ..ask };
    let late = Some(Instant::now() + Duration::from_millis(5));
    assert_eq!(pool.acquire(other, late, &ThreadPark).unwrap_err(), AcquireError::TimedOut);
    assert!(kept(&pool, &held.0) && kept(&pool, &held.1));
}

#[test]
fn more_waiters_than_allowed_are_refused_at_once() {
    let pool: Pool<Conn> = Pool::new(Policy { max: 0, max_waiting: 0, ..POLICY });
    assert_eq!(pool.acquire(ASK, None, &ThreadPark).unwrap_err(), AcquireError::Full);
}

/// Eight threads that time out, fail to open, drop and return at random: no connection is with two of them, and
/// afterwards everything is there.
#[test]
fn a_storm_leaves_the_pool_whole() {
    let pool = pool(3);
    let opened = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 1..=8_u64 {
            let (pool, opened) = (&pool, &opened);
            scope.spawn(move || storm(pool, opened, seed));
        }
    });
    let sizes = pool.sizes();
    assert_eq!((sizes.size, sizes.waiting), (sizes.idle, 0));
    assert_eq!(pool.stats().acquired, pool.stats().returned);
    let all: Vec<Conn> = (0..3).map(|number| get(&pool, number)).collect();
    assert!(all.iter().all(|conn| kept(&pool, conn)));
}

fn storm(pool: &Pool<Conn>, opened: &AtomicUsize, seed: u64) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let deadline = Some(Instant::now() + Duration::from_micros(random % 300));
        let answer: Answer<'_> =
            pool.acquire(Asking { thread: thread_number(seed), ..ASK }, deadline, &ThreadPark);
        let conn = match answer {
            Ok(Taken::Lent(conn, _)) => conn,
            Ok(Taken::Create(_)) if random & 0x100 == 0 => continue,
            Ok(Taken::Create(permit)) => open(permit, opened.fetch_add(1, Ordering::Relaxed)),
            Ok(Taken::Suspect { .. }) => unreachable!(),
            Err(error) => {
                assert_eq!(error, AcquireError::TimedOut);
                continue;
            }
        };
        assert_eq!(conn.0.1.fetch_add(1, Ordering::Relaxed), 0, "connection {} has two users", conn.0.0);
        if random & 0x1800 == 0 {
            thread::yield_now();
        }
        conn.0.1.fetch_sub(1, Ordering::Relaxed);
        if random & 0x600 == 0 {
            drop(pool.claim(conn.key(), Claim::Heir).unwrap().unwrap());
        } else {
            assert!(kept(pool, &conn));
        }
    }
}

/// Dropping a connection calls back into the pool: under the pool's lock that would never end.
#[derive(Clone)]
struct Caller(std::sync::Arc<Pool<Self>>, std::sync::Arc<()>);

impl Identity for Caller {
    fn key(&self) -> usize {
        std::sync::Arc::as_ptr(&self.1).addr()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.sizes();
    }
}

#[test]
fn no_connection_is_dropped_under_the_lock() {
    let pool = std::sync::Arc::new(Pool::new(POLICY));
    let make = || Caller(std::sync::Arc::clone(&pool), std::sync::Arc::new(()));
    for _ in 0..2 {
        let Ok(Some(Taken::Create(permit))) = pool.try_acquire::<Infallible>(ASK) else { panic!() };
        assert!(permit.fill(make(), u64::MAX).is_ok());
        let key = permit.lend(thread_number(1)).map(|(conn, _)| conn.key()).ok().unwrap();
        drop(pool.note_origin(key, make()));
        drop(pool.claim(key, Claim::Heir).ok().unwrap().ok().unwrap());
    }
    let Ok(Some(Taken::Create(permit))) = pool.try_acquire::<Infallible>(ASK) else { panic!() };
    assert!(permit.fill(make(), u64::MAX).is_ok());
    assert!(permit.shelve().is_ok());
    drop(pool.take_idle(0));
    pool.clear();
}

proptest::proptest! {
    /// Against a model: what is out, what is idle, and the order of it.
    #[test]
    fn it_behaves_like_a_list_and_a_set(lifo: bool, steps in proptest::collection::vec((0_u8..6, 0_usize..8), 0..120)) {
        let pool: Pool<Conn> = Pool::new(Policy { max: 3, lifo, ..POLICY });
        let (mut out, mut idle): (Vec<Conn>, VecDeque<Conn>) = (Vec::new(), VecDeque::new());
        for (number, (step, pick)) in steps.into_iter().enumerate() {
            match step {
                0..=2 => match pool.try_acquire::<Infallible>(ASK).unwrap() {
                    Some(Taken::Lent(conn, _)) => {
                        let expected = if lifo { idle.pop_back() } else { idle.pop_front() };
                        proptest::prop_assert_eq!(expected.map(|conn| conn.key()), Some(conn.key()));
                        out.push(conn);
                    }
                    Some(Taken::Create(permit)) => {
                        proptest::prop_assert!(idle.is_empty() && out.len() < 3);
                        if pick > 1 { out.push(open(permit, number)); }
                    }
                    _ => proptest::prop_assert!(idle.is_empty() && out.len() == 3),
                },
                3 | 4 if !out.is_empty() => {
                    let conn = out.remove(pick % out.len());
                    proptest::prop_assert!(kept(&pool, &conn));
                    proptest::prop_assert!(pool.give_back(conn.key(), Claim::Heir).is_err());
                    idle.push_back(conn);
                }
                5 if !out.is_empty() => drop(pool.claim(out.remove(pick % out.len()).key(), Claim::Heir).unwrap().unwrap()),
                _ => {}
            }
            let sizes = pool.sizes();
            proptest::prop_assert_eq!((sizes.size as usize, sizes.idle as usize), (out.len() + idle.len(), idle.len()));
            proptest::prop_assert_eq!(pool.loans().len(), out.len());
        }
    }
}
