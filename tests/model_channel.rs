//! Every interleaving of two or three threads over a channel.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --test model_channel`
//!
//! loom knows no time. A timeout is a thread that cancels its wait wherever it happens to be, an interrupt one
//! that leaves with an error: the model tries every place.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(loom)]

mod sleepers;

use loom::thread;
use sleepers::{Impatient, Interrupted, Watchful};
use sluicegate::core::channel::{Channel, End, Refusal, Unsent};
use sluicegate::core::park::{Park, ThreadPark};
use sluicegate::core::select::{Case, Fired, select};
use sluicegate::core::sync::Arc;
use std::time::Instant;

type Sent<I> = Result<(), Unsent<Option<u32>, I>>;
type Received<I> = Result<u32, Refusal<I>>;

fn model(capacities: &'static [usize], body: impl Fn(&Arc<Channel<u32>>) + Sync + Send + Clone + 'static) {
    for &capacity in capacities {
        let body = body.clone();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || body(&Arc::new(Channel::new(capacity))));
    }
}

fn send<P: Park + Send + 'static>(
    channel: &Arc<Channel<u32>>,
    item: u32,
    park: P,
) -> thread::JoinHandle<Sent<P::Interrupt>> {
    let channel = Arc::clone(channel);
    thread::spawn(move || channel.send(item, None, &park))
}

fn recv<P: Park + Send + 'static>(
    channel: &Arc<Channel<u32>>,
    park: P,
) -> thread::JoinHandle<Received<P::Interrupt>> {
    let channel = Arc::clone(channel);
    thread::spawn(move || channel.recv(End::Front, None, &park))
}

fn left(channel: &Channel<u32>) -> Vec<u32> {
    assert_eq!((channel.sending(), channel.receiving()), (0, 0));
    channel.drain().into()
}

#[test]
fn an_item_gets_across() {
    model(&[0, 1], |channel| {
        let sender = send(channel, 1, ThreadPark);
        assert_eq!(channel.recv(End::Front, None, &ThreadPark), Ok(1));
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert!(left(channel).is_empty());
    });
}

#[test]
fn an_item_gets_across_to_one_that_watches_before_it_sleeps() {
    model(&[0, 1], |channel| {
        let sender = send(channel, 1, Watchful);
        assert_eq!(channel.recv(End::Front, None, &Watchful), Ok(1));
        assert_eq!(sender.join().unwrap(), Ok(()));
        let receiver = recv(channel, Watchful);
        assert_eq!(channel.send(2, None, &ThreadPark), Ok(()));
        assert_eq!(receiver.join().unwrap(), Ok(2));
        assert!(left(channel).is_empty());
    });
}

#[test]
fn two_items_get_across_in_order() {
    model(&[0, 1], |channel| {
        let sender = {
            let channel = Arc::clone(channel);
            thread::spawn(move || {
                channel.send(1, None, &ThreadPark).unwrap();
                channel.send(2, None, &ThreadPark).unwrap();
            })
        };
        assert_eq!(channel.recv(End::Front, None, &ThreadPark), Ok(1));
        assert_eq!(channel.recv(End::Front, None, &ThreadPark), Ok(2));
        sender.join().unwrap();
        assert!(left(channel).is_empty());
    });
}

#[test]
fn a_batch_gets_across_to_two_receivers() {
    model(&[0, 1], |channel| {
        let receiver = recv(channel, ThreadPark);
        let sender = {
            let channel = Arc::clone(channel);
            thread::spawn(move || channel.send_all([1, 2].into(), None, &ThreadPark))
        };
        let mut got =
            [channel.recv(End::Front, None, &ThreadPark).unwrap(), receiver.join().unwrap().unwrap()];
        got.sort_unstable();
        assert_eq!((got, sender.join().unwrap()), ([1, 2], Ok(())));
        assert!(left(channel).is_empty());
    });
}

#[test]
fn a_timeout_that_meets_a_hand_over_is_a_success_or_leaves_the_item() {
    model(&[0, 1], |channel| {
        let receiver = recv(channel, Impatient);
        let sent = channel.try_send::<()>(1);
        let mut got: Vec<_> = receiver.join().unwrap().into_iter().collect();
        got.extend(left(channel));
        assert_eq!(got.len(), usize::from(sent.is_ok()));
    });
}

#[test]
fn a_late_sender_keeps_the_item_or_has_sent_it() {
    model(&[0, 1], |channel| {
        let filled = channel.try_send::<()>(0).is_ok();
        let sender = send(channel, 1, Impatient);
        let got = channel.try_recv::<()>(End::Front);
        let sent = sender.join().unwrap();
        let mut all: Vec<_> = got.into_iter().collect();
        all.extend(left(channel));
        all.extend(sent.err().and_then(|unsent| unsent.back));
        let expected: Vec<_> = (0..2).filter(|&item| item == 1 || filled).collect();
        assert_eq!(all, expected);
    });
}

#[test]
fn two_late_ones_may_miss_each_other_and_lose_nothing() {
    model(&[0], |channel| {
        let receiver = recv(channel, Impatient);
        let sent = channel.send(1, None, &Impatient);
        let got = receiver.join().unwrap();
        assert_eq!(sent.is_ok(), got.is_ok());
        assert!(left(channel).is_empty());
    });
}

#[test]
fn an_interrupt_that_meets_a_hand_over_leaves_the_item_to_the_next() {
    model(&[0, 1], |channel| {
        let leaver = recv(channel, Interrupted);
        let stayer = recv(channel, ThreadPark);
        assert_eq!(channel.send(1, None, &ThreadPark), Ok(()));
        match leaver.join().unwrap() {
            Ok(item) => channel.send(item, None, &ThreadPark).unwrap(),
            Err(why) => assert_eq!(why, Refusal::Interrupted(())),
        }
        assert_eq!(stayer.join().unwrap(), Ok(1));
        assert!(left(channel).is_empty());
    });
}

#[test]
fn an_interrupted_sender_has_sent_its_item_or_keeps_it() {
    model(&[0, 1], |channel| {
        let sender = send(channel, 1, Interrupted);
        let got = channel.recv(End::Front, None, &Impatient);
        let back = match sender.join().unwrap() {
            Ok(()) => None,
            Err(unsent) => {
                assert_eq!(unsent.why, Refusal::Interrupted(()));
                unsent.back
            }
        };
        let mut all: Vec<_> = got.into_iter().collect();
        all.extend(left(channel));
        all.extend(back);
        assert_eq!(all, [1]);
    });
}

#[test]
fn a_close_that_meets_a_sender_sends_or_refuses() {
    model(&[0, 1], |channel| {
        let sender = send(channel, 1, ThreadPark);
        let closer = {
            let channel = Arc::clone(channel);
            thread::spawn(move || channel.close())
        };
        let got = channel.recv(End::Front, None, &ThreadPark);
        let sent = sender.join().unwrap();
        assert!(closer.join().unwrap());
        match got {
            Ok(item) => assert_eq!((item, sent), (1, Ok(()))),
            Err(why) => {
                assert_eq!(why, Refusal::Closed);
                assert_eq!(sent, Err(Unsent { why: Refusal::Closed, back: Some(1) }));
            }
        }
        assert!(left(channel).is_empty());
    });
}

#[test]
fn a_close_wakes_a_parked_sender_and_a_parked_receiver() {
    model(&[0, 1], |channel| {
        let filled = channel.try_send::<()>(0).is_ok();
        let sender = send(channel, 1, ThreadPark);
        channel.close();
        let sent = sender.join().unwrap();
        assert!(sent.is_err());
        assert_eq!(left(channel).len(), usize::from(filled));
    });
    model(&[0, 1], |channel| {
        let receivers = [recv(channel, ThreadPark), recv(channel, ThreadPark)];
        channel.close();
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Err(Refusal::Closed));
        }
        assert!(left(channel).is_empty());
    });
}

#[test]
fn a_divert_that_meets_a_hand_over_loses_nothing() {
    model(&[0, 1], |channel| {
        let receiver = recv(channel, Interrupted);
        let sender = send(channel, 1, ThreadPark);
        let mut all: Vec<u32> = channel.divert().into();
        all.extend(receiver.join().unwrap());
        if let Err(unsent) = sender.join().unwrap() {
            assert_eq!(unsent.why, Refusal::Diverted);
            all.extend(unsent.back);
        }
        all.extend(channel.take_back());
        assert_eq!(all, [1]);
    });
}

#[test]
fn new_room_lets_in_the_sender() {
    model(&[0], |channel| {
        let sender = send(channel, 1, ThreadPark);
        channel.set_capacity(1);
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert_eq!(left(channel), [1]);
    });
}

/// In one place, so that their addresses, in whose order a select locks them, are in the same order in every run.
type Two = Arc<[Channel<u32>; 2]>;

fn send_to(channels: &Two, at: usize) -> thread::JoinHandle<Sent<std::convert::Infallible>> {
    let channels = Arc::clone(channels);
    thread::spawn(move || channels[at].send(u32::try_from(at).unwrap() + 1, None, &ThreadPark))
}

/// A select over both channels, to receive.
fn select_recv<P: Park + Send + 'static>(
    channels: &Two,
    park: P,
) -> thread::JoinHandle<Result<u32, Refusal<P::Interrupt>>> {
    let channels = Arc::clone(channels);
    thread::spawn(move || {
        match select(&mut [Case::Recv(&channels[0]), Case::Recv(&channels[1])], None, &park) {
            Ok((_, Fired::Received(item))) => Ok(item),
            Ok(_) => Err(Refusal::Closed),
            Err(why) => Err(why),
        }
    })
}

fn two(capacities: [usize; 2], body: impl Fn(&Two) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || body(&Arc::new(capacities.map(Channel::new))));
}

#[test]
fn one_token_decides_between_two_senders() {
    two([0, 0], |channels| {
        let senders = [0, 1].map(|at| send_to(channels, at));
        let [a, b] = &**channels;
        let fired = select(&mut [Case::Recv(a), Case::Recv(b)], None, &ThreadPark).unwrap();
        // Whoever was not picked still has its item.
        let (item, other) = match fired {
            (0, Fired::Received(1)) => (2, b),
            (1, Fired::Received(2)) => (1, a),
            other => panic!("{other:?}"),
        };
        assert_eq!(other.recv(End::Front, None, &ThreadPark), Ok(item));
        for sender in senders {
            assert_eq!(sender.join().unwrap(), Ok(()));
        }
        assert!(channels.iter().all(|channel| left(channel).is_empty()));
    });
}

#[test]
fn a_token_that_is_not_won_leaves_the_item_in_the_ring() {
    two([1, 1], |channels| {
        let senders = [0, 1].map(|at| send_to(channels, at));
        let [a, b] = &**channels;
        let fired = select(&mut [Case::Recv(a), Case::Recv(b)], None, &ThreadPark).unwrap();
        for sender in senders {
            assert_eq!(sender.join().unwrap(), Ok(()));
        }
        let rest = [left(a), left(b)];
        match fired {
            (0, Fired::Received(1)) => assert_eq!(rest, [vec![], vec![2]]),
            (1, Fired::Received(2)) => assert_eq!(rest, [vec![1], vec![]]),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_token_taken_by_a_timeout_leaves_the_item_with_its_sender() {
    two([0, 1], |channels| {
        // The deadline has passed, so that the look after the sleep is the last one.
        let both = Arc::clone(channels);
        let selecting = thread::spawn(move || {
            let mut cases = [Case::Recv(&both[0]), Case::Recv(&both[1])];
            select(&mut cases, Some(Instant::now()), &Impatient)
        });
        let sent = [channels[0].try_send::<()>(1).is_ok(), channels[1].try_send::<()>(2).is_ok()];
        let got = usize::from(selecting.join().unwrap().is_ok());
        let rest: usize = channels.iter().map(|channel| left(channel).len()).sum();
        assert_eq!(got + rest, sent.iter().filter(|&&sent| sent).count());
    });
}

#[test]
fn a_select_that_watches_before_it_sleeps_is_told_or_woken_by_either() {
    two([0, 1], |channels| {
        let selecting = select_recv(channels, Watchful);
        let sender = send_to(channels, 1);
        let sent = channels[0].try_send::<()>(1).is_ok();
        assert_eq!(selecting.join().unwrap(), Ok(if sent { 1 } else { 2 }));
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert_eq!(left(&channels[1]).len(), usize::from(sent));
    });
}

#[test]
fn an_interrupted_select_gives_back_what_it_was_handed() {
    two([0, 1], |channels| {
        let selecting = select_recv(channels, Interrupted);
        let sent = usize::from(channels[0].try_send::<()>(1).is_ok())
            + usize::from(channels[1].try_send::<()>(2).is_ok());
        let got = usize::from(selecting.join().unwrap().is_ok());
        let rest: usize = channels.iter().map(|channel| left(channel).len()).sum();
        assert_eq!(got + rest, sent);
    });
}

#[test]
fn two_selects_meet_in_whatever_order_they_name_the_channels() {
    two([0, 0], |channels| {
        let both = Arc::clone(channels);
        let one = thread::spawn(move || {
            matches!(
                select(&mut [Case::Send(&both[0], Some(1)), Case::Recv(&both[1])], None, &ThreadPark),
                Ok((0, Fired::Sent))
            )
        });
        let [a, b] = &**channels;
        let mut cases = [Case::Send(b, Some(2)), Case::Recv(a)];
        let received = matches!(select(&mut cases, None, &ThreadPark), Ok((1, Fired::Received(1))));
        assert_eq!(one.join().unwrap(), received);
        assert!(channels.iter().all(|channel| left(channel).is_empty()));
    });
}

#[test]
fn a_close_wakes_a_select() {
    two([0, 0], |channels| {
        let selecting = select_recv(channels, ThreadPark);
        channels[1].close();
        assert_eq!(selecting.join().unwrap(), Err(Refusal::Closed));
        assert!(channels.iter().all(|channel| left(channel).is_empty()));
    });
}
