use super::*;
use crate::core::park::{ThreadPark, Wake};
use std::convert::Infallible;
use std::thread;
use std::time::Duration;

type Selected<T> = Result<(usize, Fired<T>), Refusal<Infallible>>;

fn wait_until(fact: impl Fn() -> bool) {
    while !fact() {
        thread::yield_now();
    }
}

fn now_or_never<T>(cases: &mut [Case<'_, T>]) -> Selected<T> {
    select(cases, Some(Instant::now()), &ThreadPark)
}

fn filled(capacity: usize, items: &[u32]) -> Channel<u32> {
    let channel = Channel::new(capacity);
    for &item in items {
        assert_eq!(channel.try_send::<Infallible>(item), Ok(()));
    }
    channel
}

#[test]
fn only_the_case_that_is_ready_fires() {
    let (empty, full) = (filled(1, &[]), filled(1, &[7]));
    assert_eq!(now_or_never(&mut [Case::Recv(&empty), Case::Recv(&full)]), Ok((1, Fired::Received(7))));
    let mut cases = [Case::Send(&empty, Some(8)), Case::Recv(&full)];
    assert_eq!(now_or_never(&mut cases), Ok((0, Fired::Sent)));
    let mut cases = [Case::Send(&empty, Some(9)), Case::Recv(&full)];
    assert_eq!(now_or_never(&mut cases), Err(Refusal::Unready));
    assert!(matches!(cases[0], Case::Send(_, Some(9))));
    assert_eq!((empty.drain(), full.len()), ([8].into(), 0));
}

#[test]
fn ready_cases_fire_equally_often() {
    let channels = [filled(1, &[]), filled(1, &[]), filled(1, &[]), filled(1, &[])];
    let mut fired = [0_u32; 4];
    for _ in 0..4000 {
        for ready in [0, 2, 3] {
            let _ = channels[ready].try_send::<Infallible>(0);
        }
        let mut cases = channels.each_ref().map(Case::Recv);
        fired[now_or_never(&mut cases).unwrap().0] += 1;
    }
    assert_eq!(fired[1], 0);
    assert!([0, 2, 3].iter().all(|&ready| fired[ready] > 1150), "{fired:?}");
}

#[test]
fn a_parked_select_takes_one_item_and_leaves_every_list() {
    let channels = [filled(0, &[]), filled(0, &[]), filled(0, &[]), filled(1, &[1])];
    let [a, b, c, full] = &channels;
    thread::scope(|scope| {
        let selecting = scope.spawn(|| {
            let mut cases = [Case::Recv(a), Case::Recv(b), Case::Recv(c), Case::Send(full, Some(2))];
            let fired = select(&mut cases, None, &ThreadPark);
            (fired, matches!(cases[3], Case::Send(_, Some(2))))
        });
        wait_until(|| full.sending() == 1);
        assert_eq!((a.receiving(), b.receiving(), c.receiving()), (1, 1, 1));
        assert_eq!(b.try_send::<Infallible>(5), Ok(()));
        assert!(a.try_send::<Infallible>(6).is_err());
        assert_eq!(selecting.join().unwrap(), (Ok((1, Fired::Received(5))), true));
    });
    assert!(channels.iter().all(|channel| (channel.sending(), channel.receiving()) == (0, 0)));
    assert_eq!(full.drain(), [1]);
}

#[test]
fn two_selects_meet_and_neither_meets_itself() {
    let (a, b) = (&filled(0, &[]), &filled(0, &[]));
    assert_eq!(now_or_never(&mut [Case::Recv(a), Case::Send(a, Some(1))]), Err(Refusal::Unready));
    thread::scope(|scope| {
        let one = scope.spawn(|| select(&mut [Case::Send(a, Some(1)), Case::Recv(b)], None, &ThreadPark));
        let two = select(&mut [Case::Recv(a), Case::Send(b, Some(2))], None, &ThreadPark);
        let expected = match one.join().unwrap() {
            Ok((0, Fired::Sent)) => Ok((0, Fired::Received(1))),
            Ok((1, Fired::Received(2))) => Ok((1, Fired::Sent)),
            other => panic!("{other:?}"),
        };
        assert_eq!(two, expected);
    });
}

#[test]
fn a_channel_may_be_named_twice() {
    let channel = &filled(0, &[]);
    thread::scope(|scope| {
        let selecting =
            scope.spawn(|| select(&mut [Case::Recv(channel), Case::Recv(channel)], None, &ThreadPark));
        wait_until(|| channel.receiving() == 2);
        assert_eq!(channel.try_send::<Infallible>(1), Ok(()));
        assert!(channel.try_send::<Infallible>(2).is_err());
        assert!(matches!(selecting.join().unwrap(), Ok((_, Fired::Received(1)))));
    });
    assert_eq!(channel.receiving(), 0);
}

#[test]
fn a_closed_channel_is_ready() {
    let (closed, open) = (&filled(1, &[1]), &filled(1, &[]));
    closed.close();
    assert_eq!(now_or_never(&mut [Case::Recv(closed), Case::Recv(open)]), Ok((0, Fired::Received(1))));
    assert_eq!(now_or_never(&mut [Case::Recv(closed), Case::Recv(open)]), Ok((0, Fired::Closed)));
    let mut cases = [Case::Send(closed, Some(3))];
    assert_eq!(now_or_never(&mut cases), Ok((0, Fired::Closed)));
    assert!(matches!(cases, [Case::Send(_, Some(3))]));
    thread::scope(|scope| {
        let selecting = scope.spawn(|| select(&mut [Case::Recv(open)], None, &ThreadPark));
        wait_until(|| open.receiving() == 1);
        open.close();
        assert_eq!(selecting.join().unwrap(), Ok((0, Fired::Closed)));
    });
}

#[test]
fn an_interrupted_select_gives_back_what_it_was_handed() {
    struct Raise<'a>(&'a Channel<u32>);
    impl Park for Raise<'_> {
        type Interrupt = ();
        fn park(&self, _: &Waiter, _: Option<Instant>) -> Result<Wake, ()> {
            self.0.try_send::<()>(1).unwrap();
            Err(())
        }
    }
    let (a, b) = (&filled(1, &[]), &filled(1, &[]));
    let interrupted = select(&mut [Case::Recv(a), Case::Recv(b)], None, &Raise(b));
    assert_eq!(interrupted, Err(Refusal::Interrupted(())));
    assert_eq!((a.receiving(), b.receiving(), b.drain()), (0, 0, [1].into()));
}

#[test]
fn a_timer_fires_once_or_in_its_rhythm() {
    let begin = Instant::now();
    let timer = Timer::at(Some(begin + Duration::from_millis(20)));
    let mut cases = [Case::<u32>::Tick(&timer)];
    assert_eq!(now_or_never(&mut cases), Err(Refusal::Unready));
    let fired = select(&mut cases, None, &ThreadPark);
    assert_eq!(fired, Ok((0, Fired::Ticked(begin + Duration::from_millis(20)))));
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert_eq!(select(&mut cases, None, &ThreadPark), Ok((0, Fired::Closed)));

    let period = Duration::from_millis(10);
    let timer = Timer::every(period);
    let first = timer.due().unwrap();
    // Two and a half periods late: one tick, and the next one is in step.
    assert_eq!(timer.fire::<u32>(first + period * 5 / 2), Some(Fired::Ticked(first)));
    assert_eq!(timer.due(), Some(first + period * 3));
}

#[test]
fn nothing_is_lost_or_doubled_between_selects() {
    const EACH: u32 = 2000;
    let channels = [filled(0, &[]), filled(1, &[]), filled(0, &[])];
    let channels = &channels;
    let mut all: Vec<u32> = thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                scope.spawn(move || {
                    for number in 0..EACH {
                        let item = sender * EACH + number;
                        let mut cases = channels.each_ref().map(|channel| Case::Send(channel, Some(item)));
                        while select(&mut cases, (item % 3 == 0).then(Instant::now), &ThreadPark).is_err() {}
                    }
                })
            })
            .collect();
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let mut got = Vec::new();
                    loop {
                        let mut cases = channels.each_ref().map(Case::Recv);
                        match select(&mut cases, None, &ThreadPark) {
                            Ok((_, Fired::Received(item))) => got.push(item),
                            other => {
                                return (assert_eq!(other.map(|fired| fired.1), Ok(Fired::Closed)), got).1;
                            }
                        }
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        // One item may still lie in the channel that has room for it.
        wait_until(|| channels[1].is_empty());
        channels[0].close();
        receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect()
    });
    all.sort_unstable();
    assert_eq!(all, (0..3 * EACH).collect::<Vec<_>>());
    assert!(channels.iter().all(|channel| (channel.sending(), channel.receiving()) == (0, 0)));
}
