use super::page::MEMBERS;
use super::*;
use crate::core::park::ThreadPark;
use proptest::prelude::*;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// The same page once more, as another process sees it: a membership of its own.
fn another(semaphore: &Semaphore) -> Semaphore {
    // SAFETY: the semaphore has not closed its descriptor.
    #[allow(unsafe_code)]
    let file = unsafe { BorrowedFd::borrow_raw(semaphore.file.fd) }.try_clone_to_owned().unwrap();
    let other = Semaphore::new(Page::attach(&file).unwrap(), file, semaphore.path.clone()).unwrap();
    other.join().unwrap();
    other
}

fn owned(capacity: u32) -> Semaphore {
    let file = sys::memfd(page::size(Kind::Owned, capacity) as u64).unwrap();
    let page = Page::create(&file, Kind::Owned, capacity).unwrap();
    let semaphore = Semaphore::new(page, file, None).unwrap();
    semaphore.join().unwrap();
    semaphore
}

/// What is left of a member whose process was killed: its lock is gone, and its process is none that runs.
fn kill(semaphore: &Semaphore) {
    let membership = semaphore.membership.unwrap();
    membership.place().unwrap().start().store(1, Ordering::SeqCst);
    membership.lose_lock();
}

/// Far enough for what must happen.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A directory of the test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluicegate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_permit_belongs_to_its_member() {
    let ours = owned(2);
    let theirs = another(&ours);
    assert!(ours.take() && theirs.take() && !theirs.take());
    assert!(matches!(theirs.release(2), Err(Error::NotHeld)));
    assert!(theirs.release(1).is_ok());
    assert!(matches!(theirs.release(1), Err(Error::NotHeld)));
    assert_eq!((ours.held_here(), ours.permits()), (1, 1));
}

#[test]
fn the_permits_of_the_dead_come_back_and_those_of_the_living_do_not() {
    let ours = owned(3);
    let (theirs, doomed) = (another(&ours), another(&ours));
    assert!(theirs.take() && doomed.take() && doomed.take());
    assert!(!ours.try_acquire().unwrap());
    kill(&doomed);
    assert!(ours.try_acquire().unwrap() && ours.try_acquire().unwrap());
    assert!(!ours.try_acquire().unwrap());
}

#[test]
fn of_two_sweeps_the_slower_one_does_no_harm() {
    let ours = owned(1);
    let theirs = another(&ours);
    assert!(theirs.take());
    // Both sweeps have seen this owner. One frees the permit, and we take it, before the other comes to that.
    kill(&theirs);
    let (dead, slot) = (theirs.membership.unwrap().me().unwrap(), ours.page.slots().get(0).unwrap());
    assert!(owned::free_slot(slot, dead) && ours.take());
    assert!(!owned::free_slot(slot, dead));
    assert_eq!((ours.held_here(), ours.permits()), (1, 0));
}

#[test]
fn a_waiter_gets_a_dead_members_permit() {
    let ours = owned(1);
    let doomed = another(&ours);
    assert!(doomed.take());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| ours.acquire(Some(soon()), &ThreadPark).unwrap());
        while ours.waiting() == 0 {
            thread::yield_now();
        }
        kill(&doomed);
        let begin = Instant::now();
        assert!(waiter.join().unwrap());
        // Not by the last look before its time is over.
        assert!(begin.elapsed() < Duration::from_secs(10));
    });
    assert_eq!((ours.waiting(), ours.page.sweep().load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn a_sweeper_that_does_not_move_is_replaced() {
    let ours = owned(1);
    let doomed = another(&ours);
    assert!(doomed.take());
    ours.page.sweep().store(77 << 48 | 5, Ordering::SeqCst);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| ours.acquire(Some(soon()), &ThreadPark).unwrap());
        while ours.waiting() == 0 {
            thread::yield_now();
        }
        kill(&doomed);
        let begin = Instant::now();
        assert!(waiter.join().unwrap());
        // Not by the last look before its time is over.
        assert!(begin.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_lost_wake_up_costs_a_slice_and_no_more() {
    let ours = owned(1);
    let theirs = another(&ours);
    assert!(theirs.take());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| ours.acquire(Some(soon()), &ThreadPark).unwrap());
        while ours.page.gate().load(Ordering::SeqCst) & 1 == 0 {
            thread::yield_now();
        }
        // As of a process that was killed between the two steps of a release.
        theirs.give_owned(1).unwrap();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn a_place_of_the_dead_is_used_again_under_a_new_generation() {
    let ours = owned(2);
    let doomed = another(&ours);
    assert!(doomed.take());
    let before = doomed.membership.unwrap().me().unwrap();
    kill(&doomed);
    let heir = another(&ours);
    let after = heir.membership.unwrap().me().unwrap();
    assert_eq!(before.at(), after.at());
    assert_ne!(before, after);
    assert!(matches!(heir.release(1), Err(Error::NotHeld)));
    assert_eq!(ours.permits(), 2);
}

#[test]
fn a_living_member_that_lost_its_lock_keeps_its_permits_and_its_place() {
    let ours = owned(2);
    let theirs = another(&ours);
    assert!(theirs.take());
    let me = theirs.membership.unwrap().me().unwrap();
    theirs.membership.unwrap().lose_lock();
    assert_eq!(ours.permits(), 1);
    let third = another(&ours);
    // This process is the same as the one that lost the lock, so it finds its old place again.
    assert_eq!(third.membership.unwrap().me(), Some(me));
    assert!(third.release(1).is_ok());
}

#[test]
fn threads_that_wait_are_all_served() {
    let ours = owned(2);
    let theirs = another(&ours);
    thread::scope(|scope| {
        for number in 0..8 {
            let mine = if number % 2 == 0 { &ours } else { &theirs };
            scope.spawn(move || {
                for _ in 0..2000 {
                    assert!(mine.acquire(Some(soon()), &ThreadPark).unwrap());
                    mine.release(1).unwrap();
                }
            });
        }
    });
    assert_eq!((ours.permits(), ours.waiting(), ours.pressure()), (2, 0, 0));
}

#[test]
fn a_burst_of_releases_wakes_everybody() {
    let signal = Semaphore::create(Kind::Signalling, 0).unwrap();
    thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..16).map(|_| scope.spawn(|| signal.acquire(Some(soon()), &ThreadPark).unwrap())).collect();
        while signal.waiting() < 16 {
            thread::yield_now();
        }
        signal.release(16).unwrap();
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    });
    assert!(matches!(signal.release(MAX_PERMITS).and_then(|()| signal.release(1)), Err(Error::Full)));
    assert_eq!(signal.permits(), MAX_PERMITS);
}

#[test]
fn the_last_handle_of_a_process_that_holds_permits_leaves_the_page_behind() {
    let dir = Scratch::new("handle");
    let path = named::path(&dir.0, "held");
    let first = attach(&path, 1).unwrap();
    assert!(first.take());
    drop(first);
    let again = attach(&path, 1).unwrap();
    assert_eq!(again.held_here(), 1);
    again.release(1).unwrap();
    // The handle that was left behind keeps the page for the rest of this process.
    assert_eq!(dir.files(), 1);
}

#[test]
fn a_named_semaphore_is_one_and_is_gone_with_its_last_member() {
    let dir = Scratch::new("named");
    let path = named::path(&dir.0, "a name/with anything");
    let first = attach(&path, 2).unwrap();
    let second = attach(&path, 2).unwrap();
    assert!(Arc::ptr_eq(&first.0, &second.0));
    assert!(matches!(attach(&path, 3), Err(Error::Mismatch { asked: 3, found: 2 })));
    let theirs = another(&first);
    drop((first, second));
    assert_eq!(dir.files(), 1);
    drop(theirs);
    assert_eq!(dir.files(), 0);
}

#[test]
fn a_file_that_nobody_uses_takes_any_capacity() {
    let dir = Scratch::new("stale");
    let path = named::path(&dir.0, "stale");
    let first = attach(&path, 2).unwrap();
    assert!(first.take());
    kill(&first);
    // As in a process that knows nothing of the first.
    let stat = first.file.stat;
    ATTACHED.lock().retain(|(known, _, _)| !known.is_same_file(&stat));
    let other = attach(&path, 5).unwrap();
    assert_eq!((other.capacity(), other.permits()), (5, 5));
    assert!(first.is_removed());
    while first.take() {}
    assert!(matches!(first.try_acquire(), Err(Error::Removed)));
}

#[test]
fn what_is_no_page_is_refused() {
    let dir = Scratch::new("broken");
    let path = named::path(&dir.0, "broken");
    let write = |bytes: &[u8], mode: u32| {
        use std::os::unix::fs::OpenOptionsExt;
        let _ = std::fs::remove_file(&path);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&path)
            .unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    };
    write(b"", 0o600);
    assert!(matches!(attach(&path, 1), Err(Error::Broken(Broken::Short))));
    write(&vec![7; 1 << 17], 0o600);
    assert!(matches!(attach(&path, 1), Err(Error::Broken(Broken::Magic))));
    write(b"", 0o644);
    assert!(matches!(attach(&path, 1), Err(Error::Unsafe(Unsafe::Open))));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert!(matches!(attach(&path, 1), Err(Error::Unsafe(Unsafe::NoFile))));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(attach(&path, 1), Err(Error::Unsafe(Unsafe::NoFile))));
}

#[test]
fn the_header_is_believed_only_as_far_as_the_file_goes() {
    let semaphore = owned(4);
    let lies = [(0, 1), (1, 1), (2, 1 << 32 | 4096), (2, 9 << 32 | 4), (2, 2 << 32 | 0xffff_ffff), (4, 0)];
    for (word, value) in lies {
        let before = semaphore.page.word(word).swap(value, Ordering::SeqCst);
        let duplicate = sys::reopen(semaphore.file.fd).unwrap();
        assert!(matches!(Page::attach(&duplicate), Err(Error::Broken(_))), "word {word}");
        semaphore.page.word(word).store(before, Ordering::SeqCst);
    }
    assert!(Page::attach(&sys::reopen(semaphore.file.fd).unwrap()).is_ok());
}

#[test]
fn a_process_is_not_another_with_its_id() {
    let we = sys::life(sys::process_id()).unwrap();
    assert!(!we.is_zombie && we.start > 0 && we.stack > 0);
    assert!(sys::life(u32::MAX).is_none() && !sys::has_process(u32::MAX) && !sys::has_process(0));
    assert!(sys::has_process(sys::process_id()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_behave_like_counters(
        capacity in 0_u32..6,
        steps in proptest::collection::vec((0_usize..4, 0_u8..6, 1_u32..4), 0..80),
    ) {
        let witness = owned(capacity);
        let mut members: Vec<(Semaphore, u32)> = (0..4).map(|_| (another(&witness), 0)).collect();
        for (who, step, n) in steps {
            let free = capacity - members.iter().map(|(_, held)| held).sum::<u32>();
            let (semaphore, held) = &mut members[who];
            match step {
                0..=2 => {
                    let taken = if step == 0 { semaphore.try_acquire().unwrap() } else { semaphore.take() };
                    prop_assert_eq!(taken, free > 0);
                    *held += u32::from(taken);
                }
                3 | 4 => {
                    let released = semaphore.release(n).is_ok();
                    prop_assert_eq!(released, *held >= n);
                    if released { *held -= n; }
                }
                _ => {
                    kill(semaphore);
                    members[who] = (another(&witness), 0);
                }
            }
            let held = members.iter().map(|(_, held)| held).sum::<u32>();
            prop_assert_eq!(members[who].0.held_here(), members[who].1);
            prop_assert_eq!(witness.permits(), capacity - held);
            prop_assert_eq!(witness.holders().len(), held as usize);
        }
    }

    #[test]
    fn nonsense_in_the_page_breaks_nothing_else(
        writes in proptest::collection::vec((0_usize..700, any::<u64>(), 0_u8..4), 1..60),
        far in any::<bool>(),
    ) {
        let ours = owned(4);
        let theirs = another(&ours);
        for (at, value, step) in writes {
            let at = if far { 512 + 8 * MEMBERS as usize - 200 + at % 208 } else { at };
            // The gate is 32 bits wide, and is written as such.
            if at == 8 {
                #[allow(clippy::cast_possible_truncation)]
                ours.page.gate().store(value as u32, Ordering::SeqCst);
            } else {
                ours.page.word(at).store(value, Ordering::SeqCst);
            }
            match step {
                0 => { let _ = ours.try_acquire(); }
                1 => { let _ = theirs.release(1); }
                2 => { let _ = (ours.holders(), ours.permits(), ours.waiting(), theirs.pressure()); }
                _ => {
                    let _ = theirs.acquire(Some(Instant::now() + Duration::from_millis(1)), &ThreadPark);
                    let _ = Page::attach(&sys::reopen(ours.file.fd).unwrap());
                }
            }
        }
    }
}
