use super::*;
use crate::core::park::ThreadPark;
use proptest::prelude::*;
use std::convert::Infallible;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

type Received<T> = Result<T, Refusal<Infallible>>;

fn wait_until(fact: impl Fn() -> bool) {
    while !fact() {
        thread::yield_now();
    }
}

fn try_send<T>(channel: &Channel<T>, item: T) -> Result<(), Unsent<T, Infallible>> {
    channel.try_send(item)
}

fn try_recv<T>(channel: &Channel<T>) -> Received<T> {
    channel.try_recv(End::Front)
}

fn recv<T>(channel: &Channel<T>) -> Received<T> {
    channel.recv(End::Front, None, &ThreadPark)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

/// Raises instead of sleeping, after `first` has run.
struct Raise<F>(F);

impl<F: Fn()> Park for Raise<F> {
    type Interrupt = &'static str;

    fn park(&self, _: &Waiter, _: Option<Instant>) -> Result<Wake, &'static str> {
        (self.0)();
        Err("raised")
    }
}

/// Gives up instead of sleeping, after `first` has run.
struct GiveUp<F>(F);

impl<F: Fn()> Park for GiveUp<F> {
    type Interrupt = Infallible;

    fn park(&self, waiter: &Waiter, _: Option<Instant>) -> Result<Wake, Infallible> {
        (self.0)();
        Ok(waiter.time_out())
    }
}

#[test]
fn a_full_channel_refuses_and_hands_the_item_back() {
    let channel = Channel::new(1);
    assert_eq!(try_send(&channel, "a"), Ok(()));
    assert_eq!(try_send(&channel, "b"), Err(Unsent { why: Refusal::Unready, back: "b" }));
    let late = channel.send("c", Some(soon()), &ThreadPark);
    assert_eq!(late, Err(Unsent { why: Refusal::Unready, back: Some("c") }));
    assert_eq!((try_recv(&channel), try_recv(&channel)), (Ok("a"), Err(Refusal::Unready)));
    assert_eq!(channel.recv(End::Front, Some(soon()), &ThreadPark), Err(Refusal::Unready));
    assert_eq!((channel.sending(), channel.receiving(), channel.accepted()), (0, 0, 1));
}

#[test]
fn a_rendezvous_waits_for_the_other_side() {
    let channel = Channel::new(0);
    assert!(try_send(&channel, 1).is_err());
    thread::scope(|scope| {
        let receiver = scope.spawn(|| recv(&channel));
        wait_until(|| channel.receiving() == 1);
        assert_eq!(try_send(&channel, 1), Ok(()));
        assert_eq!(receiver.join().unwrap(), Ok(1));
        let sender = scope.spawn(|| channel.send(2, None, &ThreadPark));
        wait_until(|| channel.sending() == 1);
        assert_eq!((channel.len(), try_recv(&channel)), (0, Ok(2)));
        assert_eq!(sender.join().unwrap(), Ok(()));
    });
}

#[test]
fn receivers_are_served_in_the_order_of_their_arrival_and_so_are_senders() {
    let channel = Channel::new(0);
    thread::scope(|scope| {
        let receivers: Vec<_> = (0..4)
            .map(|number| {
                let receiver = scope.spawn(|| recv(&channel));
                wait_until(|| channel.receiving() == number + 1);
                receiver
            })
            .collect();
        assert_eq!(channel.send_all((0..4).collect(), None, &ThreadPark), Ok(()));
        let got: Vec<_> = receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect();
        assert_eq!(got, [Ok(0), Ok(1), Ok(2), Ok(3)]);
        for number in 0..4 {
            let mine = &channel;
            scope.spawn(move || mine.send(number, None, &ThreadPark).unwrap());
            wait_until(|| channel.sending() == number + 1);
        }
        assert_eq!(channel.recv_many(9, None, &ThreadPark), Ok(vec![0, 1, 2, 3]));
    });
}

#[test]
fn a_receiver_that_makes_room_takes_in_what_a_sender_waits_with() {
    let channel = Channel::new(2);
    thread::scope(|scope| {
        let sender = scope.spawn(|| channel.send_all((0..5).collect(), None, &ThreadPark));
        wait_until(|| channel.sending() == 1);
        assert_eq!((channel.len(), try_recv(&channel), channel.len()), (2, Ok(0), 2));
        assert_eq!(channel.sending(), 1);
        assert_eq!(channel.recv_many(2, None, &ThreadPark), Ok(vec![1, 2]));
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert_eq!((channel.len(), channel.accepted()), (2, 5));
        assert_eq!(channel.drain(), [3, 4]);
    });
}

#[test]
fn a_late_batch_hands_back_what_was_not_sent() {
    let channel = Channel::new(2);
    let late = channel.send_all((0..5).collect(), Some(soon()), &ThreadPark);
    assert_eq!(late, Err(Unsent { why: Refusal::Unready, back: [2, 3, 4].into() }));
    assert_eq!(channel.drain(), [0, 1]);
}

#[test]
fn close_fails_senders_and_leaves_the_rest_to_receivers() {
    let channel = Channel::new(1);
    assert_eq!(try_send(&channel, 0), Ok(()));
    thread::scope(|scope| {
        let sender = scope.spawn(|| channel.send(1, None, &ThreadPark));
        wait_until(|| channel.sending() == 1);
        assert!(channel.close());
        assert_eq!(sender.join().unwrap(), Err(Unsent { why: Refusal::Closed, back: Some(1) }));
    });
    assert_eq!(try_send(&channel, 2), Err(Unsent { why: Refusal::Closed, back: 2 }));
    assert_eq!((recv(&channel), recv(&channel)), (Ok(0), Err(Refusal::Closed)));
    assert!(!channel.close());
}

#[test]
fn close_wakes_every_receiver() {
    let channel = Channel::<u8>::new(1);
    thread::scope(|scope| {
        let receivers: Vec<_> = (0..4).map(|_| scope.spawn(|| recv(&channel))).collect();
        wait_until(|| channel.receiving() == 4);
        channel.close();
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Err(Refusal::Closed));
        }
    });
}

#[test]
fn an_interrupted_receiver_gives_back_what_it_was_handed() {
    let channel = Channel::new(2);
    let handed = Raise(|| {
        assert_eq!(try_send(&channel, 1), Ok(()));
        assert_eq!(try_send(&channel, 2), Ok(()));
        assert_eq!(channel.len(), 1);
    });
    assert_eq!(channel.recv(End::Front, None, &handed), Err(Refusal::Interrupted("raised")));
    assert_eq!((channel.drain(), channel.receiving(), channel.accepted()), ([1, 2].into(), 0, 2));
}

#[test]
fn what_comes_back_goes_to_the_next_receiver() {
    let channel = Channel::new(2);
    thread::scope(|scope| {
        let next = Leaf::new(None);
        let handed = Raise(|| {
            *next.lock() = Some(scope.spawn(|| recv(&channel)));
            wait_until(|| channel.receiving() == 2);
            assert_eq!(try_send(&channel, 1), Ok(()));
            assert_eq!(channel.receiving(), 1);
        });
        assert_eq!(channel.recv(End::Front, None, &handed), Err(Refusal::Interrupted("raised")));
        assert_eq!(next.lock().take().unwrap().join().unwrap(), Ok(1));
    });
}

#[test]
fn an_interrupted_sender_leaves_behind_only_what_was_taken() {
    let channel = Channel::new(1);
    assert_eq!(try_send(&channel, 0), Ok(()));
    let untouched = channel.send(1, None, &Raise(|| {}));
    assert_eq!(untouched, Err(Unsent { why: Refusal::Interrupted("raised"), back: Some(1) }));
    let taken = channel.send(2, None, &Raise(|| assert_eq!(try_recv(&channel), Ok(0))));
    assert_eq!(taken, Err(Unsent { why: Refusal::Interrupted("raised"), back: None }));
    assert_eq!((channel.drain(), channel.sending()), ([2].into(), 0));
}

#[test]
fn a_deadline_that_meets_the_other_side_is_a_success() {
    let channel = Channel::new(1);
    let meets = GiveUp(|| assert_eq!(try_send(&channel, 1), Ok(())));
    assert_eq!(channel.recv(End::Front, None, &meets), Ok(1));
    assert_eq!(try_send(&channel, 2), Ok(()));
    let meets = GiveUp(|| assert_eq!(try_recv(&channel), Ok(2)));
    assert_eq!(channel.send(3, None, &meets), Ok(()));
    assert_eq!(channel.drain(), [3]);
}

#[test]
fn a_waiter_that_gave_up_is_passed_over() {
    let channel = Channel::new(0);
    // Both have ended their wait, and neither has left its list yet.
    let (entered, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (channel, entered, gone) = (&channel, &entered, &gone);
    thread::scope(|scope| {
        scope.spawn(move || {
            struct Late<'a>(&'a AtomicUsize, &'a AtomicUsize);
            impl Park for Late<'_> {
                type Interrupt = Infallible;
                fn park(&self, waiter: &Waiter, _: Option<Instant>) -> Result<Wake, Infallible> {
                    let wake = waiter.time_out();
                    self.0.store(1, Ordering::SeqCst);
                    wait_until(|| self.1.load(Ordering::SeqCst) == 1);
                    Ok(wake)
                }
            }
            assert_eq!(channel.recv(End::Front, None, &Late(entered, gone)), Err(Refusal::Unready));
        });
        wait_until(|| entered.load(Ordering::SeqCst) == 1);
        assert_eq!(channel.receiving(), 1);
        assert!(try_send(channel, 1).is_err());
        assert_eq!(channel.receiving(), 0);
        gone.store(1, Ordering::SeqCst);
    });
}

#[test]
fn a_new_capacity_lets_in_who_waits_for_it() {
    let channel = Channel::new(0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| channel.send(1, None, &ThreadPark));
        wait_until(|| channel.sending() == 1);
        channel.set_capacity(1);
        assert_eq!(sender.join().unwrap(), Ok(()));
    });
    channel.set_capacity(0);
    assert!(try_send(&channel, 2).is_err());
    assert_eq!((channel.len(), try_recv(&channel)), (1, Ok(1)));
}

#[test]
fn a_diverted_channel_sends_everybody_away_until_it_reopens() {
    let channel = Channel::new(1);
    assert_eq!(try_send(&channel, 0), Ok(()));
    thread::scope(|scope| {
        let sender = scope.spawn(|| channel.send(1, None, &ThreadPark));
        wait_until(|| channel.sending() == 1);
        assert_eq!(channel.divert(), [0]);
        assert_eq!(sender.join().unwrap(), Err(Unsent { why: Refusal::Diverted, back: Some(1) }));
    });
    assert_eq!(recv(&channel), Err(Refusal::Diverted));
    assert_eq!(try_send(&channel, 2), Err(Unsent { why: Refusal::Diverted, back: 2 }));
    channel.reopen([3, 4].into());
    assert_eq!((channel.try_recv_many(5), channel.accepted()), (vec![3, 4], 1));
}

#[test]
fn a_diverted_channel_gets_back_what_an_interrupted_receiver_was_handed() {
    let channel = Channel::new(1);
    let handed = Raise(|| {
        assert_eq!(try_send(&channel, 1), Ok(()));
        assert!(channel.divert().is_empty());
    });
    assert_eq!(channel.recv(End::Front, None, &handed), Err(Refusal::Interrupted("raised")));
    assert_eq!((try_recv(&channel), channel.take_back()), (Err(Refusal::Diverted), [1].into()));
}

#[test]
fn shut_down_takes_what_was_left() {
    let channel = Channel::new(2);
    assert_eq!((try_send(&channel, 1), try_send(&channel, 2)), (Ok(()), Ok(())));
    assert_eq!(channel.shut_down(), [1, 2]);
    assert_eq!(recv(&channel), Err(Refusal::Closed));
}

#[test]
fn an_empty_channel_owns_no_memory_and_a_burst_gives_it_back() {
    let channel = Channel::new(UNBOUNDED);
    assert_eq!(channel.state.lock().ring.capacity(), 0);
    for number in 0..100_000 {
        assert_eq!(try_send(&channel, number), Ok(()));
    }
    while try_recv(&channel).is_ok() {}
    assert_eq!(channel.state.lock().ring.capacity(), 0);
}

/// Looks at the channel it dies in.
struct Caller(Weak<Channel<Caller>>, Arc<AtomicUsize>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        if let Some(channel) = self.0.upgrade() {
            assert!(channel.state.try_lock().is_some(), "dropped under the lock");
        }
    }
}

#[test]
fn no_item_is_dropped_under_the_lock() {
    let died = Arc::new(AtomicUsize::new(0));
    let channel = Arc::new(Channel::new(2));
    let item = || Caller(Arc::downgrade(&channel), Arc::clone(&died));
    for _ in 0..3 {
        drop(channel.try_send::<Infallible>(item()));
    }
    drop(channel.send(item(), Some(soon()), &ThreadPark));
    drop(channel.send(item(), None, &Raise(|| {})));
    drop(try_recv(&channel));
    drop(channel.recv_many(4, None, &ThreadPark));
    assert_eq!(died.load(Ordering::SeqCst), 5);
    drop(channel.try_send::<Infallible>(item()));
    drop(channel.drain());
    drop(channel.try_send::<Infallible>(item()));
    drop(channel.divert());
    channel.reopen([item()].into());
    drop(channel.shut_down());
    drop(channel.try_send::<Infallible>(item()));
    assert_eq!(died.load(Ordering::SeqCst), 9);
}

#[test]
fn nothing_is_lost_or_doubled_in_a_crowd() {
    const EACH: usize = 3000;
    for capacity in [0, 1, 3, UNBOUNDED] {
        let channel = Channel::new(capacity);
        let seen = thread::scope(|scope| {
            let senders: Vec<_> = (0..3)
                .map(|sender| {
                    let channel = &channel;
                    scope.spawn(move || {
                        let mut unsent = VecDeque::new();
                        for number in 0..EACH {
                            unsent.push_back((sender, number));
                            if number % 7 < 3 {
                                continue;
                            }
                            let deadline = (number % 5 == 0).then(Instant::now);
                            while let Err(back) =
                                channel.send_all(std::mem::take(&mut unsent), deadline, &ThreadPark)
                            {
                                assert_eq!(back.why, Refusal::Unready);
                                unsent = back.back;
                            }
                        }
                        channel.send_all(unsent, None, &ThreadPark).unwrap();
                    })
                })
                .collect();
            let receivers: Vec<_> = (0..3)
                .map(|receiver| {
                    let channel = &channel;
                    scope.spawn(move || {
                        let mut got: Vec<(usize, usize)> = Vec::new();
                        loop {
                            let deadline = (got.len() % 3 == receiver).then(Instant::now);
                            let step = match receiver {
                                0 => channel.recv_many(4, deadline, &ThreadPark),
                                _ => channel.recv(End::Front, deadline, &ThreadPark).map(|item| vec![item]),
                            };
                            match step {
                                Ok(items) => got.extend(items),
                                Err(Refusal::Closed) => return got,
                                Err(_) => thread::yield_now(),
                            }
                        }
                    })
                })
                .collect();
            for sender in senders {
                sender.join().unwrap();
            }
            channel.close();
            receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect::<Vec<_>>()
        });
        for got in &seen {
            for sender in 0..3 {
                let order: Vec<_> =
                    got.iter().filter(|(from, _)| *from == sender).map(|item| item.1).collect();
                assert!(order.is_sorted(), "capacity {capacity}");
            }
        }
        let mut all: Vec<_> = seen.into_iter().flatten().collect();
        all.sort_unstable();
        let sent: Vec<_> = (0..3).flat_map(|sender| (0..EACH).map(move |number| (sender, number))).collect();
        assert!(all == sent, "capacity {capacity}");
        assert_eq!((channel.sending(), channel.receiving(), channel.len()), (0, 0, 0));
    }
}

proptest! {
    #[test]
    fn it_agrees_with_a_deque(capacity in 0_usize..5, steps in prop::collection::vec((0_u8..10, 0_usize..6), 0..80)) {
        let channel = Channel::new(capacity);
        let (mut model, mut capacity, mut closed) = (VecDeque::new(), capacity, false);
        for (number, (step, n)) in steps.into_iter().enumerate() {
            let room = if closed { 0 } else { capacity.saturating_sub(model.len()) };
            let refusal = if closed { Refusal::Closed } else { Refusal::Unready };
            match step {
                0..=2 => {
                    let expected = if room > 0 { Ok(()) } else { Err(Unsent { why: refusal, back: number }) };
                    if room > 0 { model.push_back(number); }
                    prop_assert_eq!(try_send(&channel, number), expected);
                }
                3 => prop_assert_eq!(try_recv(&channel), model.pop_front().ok_or(refusal)),
                4 => prop_assert_eq!(channel.try_recv(End::Back), model.pop_back().ok_or(refusal)),
                5 => {
                    let items: VecDeque<_> = (0..n).map(|i| number * 100 + i).collect();
                    let fits = room.min(n);
                    model.extend(items.iter().take(fits));
                    let sent = channel.send_all(items.clone(), Some(Instant::now()), &ThreadPark);
                    let back: VecDeque<_> = items.into_iter().skip(fits).collect();
                    let expected = if back.is_empty() { Ok(()) } else { Err(Unsent { why: refusal, back }) };
                    prop_assert_eq!(sent, expected);
                }
                6 => {
                    let expected: Vec<_> = model.drain(..n.min(model.len())).collect();
                    prop_assert_eq!(channel.try_recv_many(n), expected);
                }
                7 => { channel.set_capacity(n); capacity = n; }
                8 if n == 0 => { channel.close(); closed = true; }
                8 if n == 1 => prop_assert_eq!(channel.drain(), std::mem::take(&mut model)),
                _ => {}
            }
            prop_assert_eq!(channel.len(), model.len());
        }
    }
}
