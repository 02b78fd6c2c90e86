//! The only file in which a thread sleeps.
//!
//! A [`Waiter`] is one thread's wait: a word that says how the wait stands, and the means to wake the thread.
//! Who ends the wait is decided by one compare-and-swap on that word:
//!
//! ```text
//!                 notify(Granted)  the thing waited for is the waiter's   ──▶ GRANTED
//!   WAITING ───── notify(Pulsed)   come and compete for it                ──▶ PULSED ── rearm ──▶ WAITING
//!                 notify(Closed)   there will be none                     ──▶ CLOSED
//!                 notify(Hopeless) it was asked for more than can ever be ──▶ HOPELESS
//!                 cancel()         the waiter's own timeout or signal     ──▶ CANCELLED
//! ```
//!
//! A bit beside that says that the owner is awake and watches the word, so that nobody has to wake it.

use super::fork;
use super::sync::atomic::{AtomicU32, Ordering};
use std::convert::Infallible;
use std::time::Instant;

const WAITING: u32 = 0;
const CANCELLED: u32 = 1;
const PULSED: u32 = 2;
const CLOSED: u32 = 3;
const HOPELESS: u32 = 4;
/// `GRANTED + case`: which of the cases of a select was granted; 0 for a plain wait.
const GRANTED: u32 = 5;
/// Set beside the rest by an owner that will look at the word again before it sleeps: there is nobody to wake.
const WATCHED: u32 = 1 << 31;

/// How a wait was ended by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What was waited for has been handed over; `case` tells which, if the wait was for one of many.
    Granted {
        /// Index of the case that fired.
        case: u32,
    },
    /// There may be something to take: compete for it.
    Pulsed,
    /// The object was closed.
    Closed,
    /// The object was resized below what is waited for.
    Hopeless,
}

impl Notice {
    /// The notice of a wait that has only one case.
    pub const GRANTED: Self = Self::Granted { case: 0 };

    const fn encode(self) -> u32 {
        match self {
            Self::Pulsed => PULSED,
            Self::Closed => CLOSED,
            Self::Hopeless => HOPELESS,
            Self::Granted { case } => GRANTED + case,
        }
    }

    const fn decode(state: u32) -> Option<Self> {
        match state & !WATCHED {
            WAITING | CANCELLED => None,
            PULSED => Some(Self::Pulsed),
            CLOSED => Some(Self::Closed),
            HOPELESS => Some(Self::Hopeless),
            granted => Some(Self::Granted { case: granted - GRANTED }),
        }
    }
}

/// How a park ended for the thread that slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Somebody ended the wait.
    Notified(Notice),
    /// The deadline passed and the wait is cancelled: nobody can end it any more.
    TimedOut,
}

/// Why [`Waiter::sleep`], or another sleep like it, came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept<T = Notice> {
    /// Somebody ended the wait.
    Notified(T),
    /// The deadline passed; the wait goes on until it is cancelled.
    TimedOut,
    /// A signal handler ran in this thread; the wait goes on.
    Interrupted,
}

/// How a thread lays itself to sleep; what a caller of the blocking operations brings along.
pub trait Park {
    /// What may end a wait besides the two sides of the primitive: a raised signal handler.
    type Interrupt;

    /// Sleeps until `waiter` is notified or the deadline has passed.
    ///
    /// # Errors
    /// The interrupt. The wait still stands then: it is the caller's to cancel.
    fn park(&self, waiter: &Waiter, deadline: Option<Instant>) -> Result<Wake, Self::Interrupt>;
}

/// How a thread sleeps on something that is no [`Waiter`]: a word shared between processes.
pub trait Sleep {
    /// What may end a wait besides the two sides of the primitive: a raised signal handler.
    type Interrupt;

    /// Has `sleep` sleep, again and again, each time until a moment it is given or what it waits for has come.
    /// `None` once the deadline has passed.
    ///
    /// It may say that it was interrupted whenever it likes: where signals are heard, they are looked for then.
    ///
    /// # Errors
    /// The interrupt.
    fn sleep<T: Send>(
        &self,
        deadline: Option<Instant>,
        sleep: impl FnMut(Option<Instant>) -> Slept<T> + Send,
    ) -> Result<Option<T>, Self::Interrupt>;
}

/// Parks the calling thread and nothing else: no interpreter, no signals.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadPark;

impl Sleep for ThreadPark {
    type Interrupt = Infallible;

    fn sleep<T: Send>(
        &self,
        deadline: Option<Instant>,
        mut sleep: impl FnMut(Option<Instant>) -> Slept<T> + Send,
    ) -> Result<Option<T>, Infallible> {
        loop {
            match sleep(deadline) {
                Slept::Notified(result) => return Ok(Some(result)),
                Slept::TimedOut => return Ok(None),
                Slept::Interrupted => {}
            }
        }
    }
}

impl Park for ThreadPark {
    type Interrupt = Infallible;

    fn park(&self, waiter: &Waiter, deadline: Option<Instant>) -> Result<Wake, Infallible> {
        loop {
            match waiter.sleep(deadline) {
                Slept::Notified(notice) => return Ok(Wake::Notified(notice)),
                Slept::TimedOut => return Ok(waiter.time_out()),
                Slept::Interrupted => {}
            }
        }
    }
}

/// What wakes the owner of a [`Waiter`]. An enum, so that another kind of owner (a future of an event loop) can
/// wait in the same lists: only [`Waiter::unpark`] would learn of it.
#[derive(Debug)]
enum Waker {
    /// A thread asleep on the waiter's word.
    Thread(imp::Sleeper),
}

/// One wait of one thread.
#[derive(Debug)]
pub struct Waiter {
    /// Leaves `WAITING` once until it is rearmed, by compare-and-swap; see the diagram at the top of this file.
    state: AtomicU32,
    waker: Waker,
    /// [`fork::this_thread`] of the owner.
    thread: usize,
}

impl Default for Waiter {
    fn default() -> Self {
        Self::new()
    }
}

impl Waiter {
    /// A wait of the calling thread.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: AtomicU32::new(WAITING),
            waker: Waker::Thread(imp::Sleeper::new()),
            thread: fork::this_thread(),
        }
    }

    /// Whether the owner was lost in the newest fork.
    #[must_use]
    pub fn is_ghost(&self) -> bool {
        !fork::survived(self.thread)
    }

    /// Ends the wait, unless it has ended otherwise; the winner is to [`unpark`](Self::unpark) after unlocking.
    #[must_use]
    pub fn notify(&self, notice: Notice) -> bool {
        self.end(notice.encode()).is_ok()
    }

    /// Ends the wait from the owner's side.
    ///
    /// # Errors
    /// The notice that came first: what it hands over is now the owner's to take or to give back.
    pub fn cancel(&self) -> Result<(), Notice> {
        match self.end(CANCELLED).err().and_then(Notice::decode) {
            None => Ok(()),
            Some(notice) => Err(notice),
        }
    }

    /// How the wait was ended by another thread, if it was.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        Notice::decode(self.state.load(Ordering::Acquire))
    }

    /// Starts the wait again after a pulse that led to nothing. The waiter is on no list then.
    pub fn rearm(&self) {
        self.state.store(WAITING, Ordering::Release);
    }

    /// Runs `watch`, which is to look for a [`notice`](Self::notice); whoever gives one meanwhile wakes nobody.
    ///
    /// It is one word that is marked, notified and unmarked. So a notice that came before the end of the watch is
    /// there to be found when the owner lays itself to sleep, and who gives one later finds no mark.
    pub fn watch<R>(&self, watch: impl FnOnce() -> R) -> R {
        self.state.fetch_or(WATCHED, Ordering::AcqRel);
        let seen = watch();
        // After a notice the mark stays: who gave it may be about to look whether there is somebody to wake.
        let unmark = |state| (state == WAITING | WATCHED).then_some(WAITING);
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, unmark);
        seen
    }

    /// Wakes the owner, who finds the notice, unless it watches. Not under a lock: its first act will be to take that
    /// lock.
    pub fn unpark(&self) {
        if self.state.load(Ordering::Relaxed) & WATCHED != 0 {
            return;
        }
        match &self.waker {
            Waker::Thread(sleeper) => sleeper.wake(&self.state),
        }
    }

    /// Sleeps until the wait has ended, the deadline has passed, or (on Linux) a signal handler has run.
    pub fn sleep(&self, deadline: Option<Instant>) -> Slept {
        let Waker::Thread(sleeper) = &self.waker;
        loop {
            if let Some(notice) = self.notice() {
                return Slept::Notified(notice);
            }
            match sleeper.wait(&self.state, WAITING, deadline) {
                imp::Waited::Woken => {}
                imp::Waited::TimedOut => return self.notice().map_or(Slept::TimedOut, Slept::Notified),
                imp::Waited::Interrupted => return Slept::Interrupted,
            }
        }
    }

    /// Cancels after the deadline, unless a notice came first: then that is how the park ended.
    pub fn time_out(&self) -> Wake {
        match self.cancel() {
            Ok(()) => Wake::TimedOut,
            Err(notice) => Wake::Notified(notice),
        }
    }

    fn end(&self, how: u32) -> Result<(), u32> {
        let end = |state| (state & !WATCHED == WAITING).then_some(how | state & WATCHED);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, end).map(drop)
    }
}

/// A futex on the waiter's own word: no table shared between objects, so nothing that a fork could leave behind,
/// and a wait that a signal interrupts.
#[cfg(all(target_os = "linux", not(any(loom, portable_park))))]
mod imp {
    use super::{AtomicU32, Instant};
    use std::ptr;

    pub enum Waited {
        Woken,
        TimedOut,
        Interrupted,
    }

    #[derive(Debug)]
    pub struct Sleeper;

    impl Sleeper {
        pub const fn new() -> Self {
            Self
        }

        #[allow(clippy::unused_self)]
        pub fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Waited {
            let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => None,
                Some(left) if left.is_zero() => return Waited::TimedOut,
                Some(left) => Some(libc::timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                    // Below 10^9, so it fits every platform's `c_long`, which may be an i32.
                    #[allow(clippy::unnecessary_fallible_conversions)]
                    tv_nsec: left.subsec_nanos().try_into().unwrap_or(999_999_999),
                }),
            };
            #[allow(unsafe_code)]
            // SAFETY: * `word` is a live, aligned 32-bit word for the whole call, which only reads it.
            // * `timeout` is null or points at a timespec that outlives the call.
            let code = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    ptr::from_ref(word),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    expected,
                    timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
                )
            };
            if code == 0 {
                return Waited::Woken;
            }
            match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::ETIMEDOUT) => Waited::TimedOut,
                Some(libc::EINTR) => Waited::Interrupted,
                // EAGAIN: the word had changed before the sleep began.
                _ => Waited::Woken,
            }
        }

        #[allow(clippy::unused_self)]
        pub fn wake(&self, word: &AtomicU32) {
            #[allow(unsafe_code)]
            // SAFETY: FUTEX_WAKE uses the address as a key and reads nothing; the caller holds the waiter.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    ptr::from_ref(word),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1_i32,
                );
            }
        }
    }
}

/// A condition of the waiter's own, from `std`: self-contained like the futex, but deaf to signals.
///
/// For every other platform; `--cfg portable_park` has Linux use it, so that it is tested.
#[cfg(all(any(not(target_os = "linux"), portable_park), not(loom)))]
mod imp {
    use super::{AtomicU32, Instant};
    use std::sync::atomic::Ordering;
    use std::sync::{Condvar, Mutex, PoisonError};

    #[allow(dead_code)]
    pub enum Waited {
        Woken,
        TimedOut,
        Interrupted,
    }

    #[derive(Debug)]
    pub struct Sleeper {
        gate: Mutex<()>,
        moved: Condvar,
    }

    impl Sleeper {
        pub const fn new() -> Self {
            Self { gate: Mutex::new(()), moved: Condvar::new() }
        }

        pub fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Waited {
            let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            if word.load(Ordering::Acquire) != expected {
                return Waited::Woken;
            }
            let Some(deadline) = deadline else {
                drop(self.moved.wait(gate).unwrap_or_else(PoisonError::into_inner));
                return Waited::Woken;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            drop(self.moved.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner));
            Waited::Woken
        }

        pub fn wake(&self, _word: &AtomicU32) {
            // The gate orders this wake after the sleeper's last look at the word.
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.moved.notify_one();
        }
    }
}

/// loom's own sleep. It knows no time: a deadline is modelled by a `Park` that cancels whenever it likes.
#[cfg(loom)]
mod imp {
    use super::{AtomicU32, Instant};

    #[allow(dead_code)]
    pub enum Waited {
        Woken,
        TimedOut,
        Interrupted,
    }

    #[derive(Debug)]
    pub struct Sleeper(loom::sync::Notify);

    impl Sleeper {
        pub fn new() -> Self {
            Self(loom::sync::Notify::new())
        }

        pub fn wait(&self, _word: &AtomicU32, _expected: u32, _deadline: Option<Instant>) -> Waited {
            self.0.wait();
            Waited::Woken
        }

        pub fn wake(&self, _word: &AtomicU32) {
            self.0.notify();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_first_to_end_a_wait_wins() {
        let waiter = Waiter::new();
        assert!(waiter.notify(Notice::Granted { case: 7 }));
        assert!(!waiter.notify(Notice::Pulsed));
        assert_eq!(waiter.cancel(), Err(Notice::Granted { case: 7 }));
        let waiter = Waiter::new();
        assert_eq!(waiter.cancel(), Ok(()));
        assert!(!waiter.notify(Notice::Closed));
    }

    #[test]
    fn a_park_ends_at_its_deadline_and_not_before() {
        let (begin, nap) = (Instant::now(), Duration::from_millis(20));
        let wake = ThreadPark.park(&Waiter::new(), Some(begin + nap));
        assert_eq!(wake, Ok(Wake::TimedOut));
        assert!(begin.elapsed() >= nap);
    }

    #[test]
    fn a_notice_before_the_park_is_found_at_once() {
        let waiter = Waiter::new();
        assert!(waiter.notify(Notice::Closed));
        assert_eq!(ThreadPark.park(&waiter, None), Ok(Wake::Notified(Notice::Closed)));
    }

    #[test]
    fn unpark_wakes_the_sleeper() {
        let waiter = Arc::new(Waiter::new());
        let sleeper = std::thread::spawn({
            let waiter = Arc::clone(&waiter);
            move || ThreadPark.park(&waiter, None)
        });
        assert!(waiter.notify(Notice::GRANTED));
        waiter.unpark();
        assert_eq!(sleeper.join().unwrap(), Ok(Wake::Notified(Notice::GRANTED)));
    }
}
