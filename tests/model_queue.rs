//! Every interleaving of two or three threads over a queue.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --test model_queue`
//!
//! No waiter gets old enough for a claim here: loom repeats a run exactly, so nothing may depend on the time.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(loom)]

mod sleepers;

use loom::thread;
use sleepers::{Impatient, Interrupted};
use sluicegate::core::park::{Park, ThreadPark};
use sluicegate::core::queue::{Failure, Queue, Refusal, Side};
use sluicegate::core::sync::Arc;
use std::convert::Infallible;
use std::time::{Duration, Instant};

const SHUT_DOWN: Refusal = Refusal::ShutDown;

fn model(capacity: usize, body: impl Fn(&Arc<Queue<u32>>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || body(&Arc::new(Queue::new(capacity))));
}

fn put<P: Park>(queue: &Queue<u32>, item: u32, park: &P) -> Result<(), Failure<P::Interrupt>> {
    queue.in_turn(Side::Put, later(), park, |claimed| {
        Ok(queue.try_put(item, claimed).map_err(|(why, _)| why)?)
    })
}

fn get<P: Park>(queue: &Queue<u32>, park: &P) -> Result<u32, Failure<P::Interrupt>> {
    queue.in_turn(Side::Get, later(), park, |claimed| Ok(queue.try_get(false, claimed)?))
}

/// A deadline that does not pass by itself: only `Impatient` ends a wait by time.
fn later() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(1 << 20))
}

fn spawn<R: 'static>(
    queue: &Arc<Queue<u32>>,
    act: impl FnOnce(&Queue<u32>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let queue = Arc::clone(queue);
    thread::spawn(move || act(&queue))
}

fn nobody_waits(queue: &Queue<u32>) {
    assert_eq!((queue.waiting(Side::Get), queue.waiting(Side::Put), queue.joining()), (0, 0, 0));
}

#[test]
fn items_get_across_in_order() {
    model(1, |queue| {
        let putter = spawn(queue, |queue| {
            put(queue, 1, &ThreadPark).unwrap();
            put(queue, 2, &ThreadPark).unwrap();
        });
        assert_eq!(get(queue, &ThreadPark), Ok(1));
        assert_eq!(get(queue, &ThreadPark), Ok(2));
        putter.join().unwrap();
        nobody_waits(queue);
    });
}

#[test]
fn two_getters_get_two_items() {
    model(2, |queue| {
        let getters = [1, 2].map(|_| spawn(queue, |queue| get(queue, &ThreadPark).unwrap()));
        put(queue, 1, &ThreadPark).unwrap();
        put(queue, 2, &ThreadPark).unwrap();
        let mut got = getters.map(|getter| getter.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        nobody_waits(queue);
    });
}

#[test]
fn two_putters_share_one_place() {
    model(1, |queue| {
        let putters = [1, 2].map(|item| spawn(queue, move |queue| put(queue, item, &ThreadPark).unwrap()));
        let mut got = [0; 2].map(|_| get(queue, &ThreadPark).unwrap());
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        for putter in putters {
            putter.join().unwrap();
        }
        nobody_waits(queue);
    });
}

#[test]
fn an_item_that_meets_a_timeout_or_an_interrupt_goes_to_the_next_getter() {
    fn leaves<P: Park + Clone + Send + Sync + 'static>(park: P) {
        model(1, move |queue| {
            let park = park.clone();
            let leaver = spawn(queue, move |queue| get(queue, &park).ok());
            let stayer = spawn(queue, |queue| get(queue, &ThreadPark).unwrap());
            put(queue, 1, &ThreadPark).unwrap();
            if leaver.join().unwrap().is_some() {
                put(queue, 1, &ThreadPark).unwrap();
            }
            assert_eq!(stayer.join().unwrap(), 1);
            assert!(queue.is_empty());
            nobody_waits(queue);
        });
    }
    leaves(Impatient);
    leaves(Interrupted);
}

#[test]
fn room_that_meets_a_timeout_goes_to_the_next_putter() {
    model(1, |queue| {
        put(queue, 0, &ThreadPark).unwrap();
        let leaver = spawn(queue, |queue| put(queue, 1, &Impatient).is_ok());
        let stayer = spawn(queue, |queue| put(queue, 2, &ThreadPark).unwrap());
        assert_eq!(get(queue, &ThreadPark), Ok(0));
        let mut left = if leaver.join().unwrap() { vec![1, 2] } else { vec![2] };
        while !left.is_empty() {
            let item = get(queue, &ThreadPark).unwrap();
            assert!(left.contains(&item));
            left.retain(|&other| other != item);
        }
        stayer.join().unwrap();
        assert!(queue.is_empty());
        nobody_waits(queue);
    });
}

#[test]
fn shutting_down_ends_every_wait() {
    model(1, |queue| {
        let getter = spawn(queue, |queue| get(queue, &ThreadPark));
        let putter = spawn(queue, |queue| [1, 2].map(|item| put(queue, item, &ThreadPark)));
        queue.shut(false).unwrap();
        let got = getter.join().unwrap();
        let put = putter.join().unwrap();
        match got {
            Ok(item) => assert_eq!((item, put[0].is_ok()), (1, true)),
            Err(why) => assert_eq!((why, put[0].is_ok()), (SHUT_DOWN.into(), false)),
        }
        assert_eq!(queue.len(), usize::from(put[1].is_ok()));
        nobody_waits(queue);
    });
}

#[test]
fn shutting_down_a_full_queue_sends_putters_away() {
    model(1, |queue| {
        put(queue, 1, &ThreadPark).unwrap();
        let putters = [2, 3].map(|item| spawn(queue, move |queue| put(queue, item, &ThreadPark)));
        queue.shut(false).unwrap();
        for putter in putters {
            assert_eq!(putter.join().unwrap(), Err(SHUT_DOWN.into()));
        }
        assert_eq!(get(queue, &ThreadPark), Ok(1));
        assert_eq!(get(queue, &ThreadPark), Err(SHUT_DOWN.into()));
        nobody_waits(queue);
    });
}

#[test]
fn shutting_down_at_once_leaves_nothing_and_nobody() {
    model(1, |queue| {
        put(queue, 1, &ThreadPark).unwrap();
        let putter = spawn(queue, |queue| put(queue, 2, &ThreadPark));
        let joiner = spawn(queue, |queue| queue.join(&ThreadPark));
        let left = queue.shut(true).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(putter.join().unwrap(), Err(SHUT_DOWN.into()));
        assert_eq!(joiner.join().unwrap(), Ok(()));
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
        nobody_waits(queue);
    });
}

#[test]
fn the_last_task_done_wakes_all_who_join() {
    model(2, |queue| {
        put(queue, 1, &ThreadPark).unwrap();
        let joiners = [1, 2].map(|_| spawn(queue, |queue| queue.join(&ThreadPark)));
        assert_eq!(queue.task_done(), Ok(true));
        for joiner in joiners {
            assert_eq!(joiner.join().unwrap(), Ok(()));
        }
        nobody_waits(queue);
    });
}

#[test]
fn opening_sends_everybody_elsewhere() {
    model(1, |queue| {
        let getter = spawn(queue, |queue| get(queue, &ThreadPark));
        let putter = spawn(queue, |queue| put(queue, 1, &ThreadPark));
        let items = queue.open().unwrap();
        let (got, put) = (getter.join().unwrap(), putter.join().unwrap());
        let elsewhere: Failure<Infallible> = Refusal::Opened.into();
        // The item is with the getter, was taken along, or never came.
        assert_eq!(put.is_ok(), got.is_ok() || !items.is_empty());
        assert!(got == Ok(1) || got == Err(elsewhere));
        assert!(queue.is_empty());
        nobody_waits(queue);
    });
}

#[test]
fn more_room_is_given_to_who_waits_for_it() {
    model(1, |queue| {
        put(queue, 0, &ThreadPark).unwrap();
        let putters = [1, 2].map(|item| spawn(queue, move |queue| put(queue, item, &ThreadPark).unwrap()));
        queue.set_capacity(3);
        for putter in putters {
            putter.join().unwrap();
        }
        assert_eq!(queue.len(), 3);
        nobody_waits(queue);
    });
}
