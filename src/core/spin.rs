//! Whether a thread that has to wait spins for a while before it sleeps.
//!
//! Waking up on a processor that went idle takes tens of microseconds, many times what two threads that pass work
//! back and forth do in one turn. So a thread whose waits are brief first watches for its notice, about as long as
//! waking up would take: at the worst that doubles the wait.
//!
//! Where threads run in turns (Python's, with a GIL) the notice alone is of no use: whoever gave it still has the
//! turn, and to ask for that is one more sleep, with one more wake-up. There the thread goes on watching until
//! somebody gives up the turn.
//!
//! All this takes a processor that nobody else needs, or it is in vain. Each thread keeps count: after a spin in
//! vain it rests, twice as long as the last time.

use super::fork;
use super::park::{Slept, Waiter};
use std::cell::Cell;
use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest spin for a notice, and the longest for the turn after it.
const LIMIT: Duration = Duration::from_micros(50);
/// A shorter wait may have been little more than wake-ups, its own and the other's.
const BRIEF: Duration = Duration::from_micros(200);
/// After so many brief waits in a row a thread begins to spin.
const TRUSTED: u8 = 2;
/// The longest rest, in waits: what a spin in vain costs is below a hundredth of what they take.
const LONGEST_REST: u16 = 4095;

/// How many threads may watch for a notice at once: one processor is for the one they wait for.
static SPARE: AtomicU32 = AtomicU32::new(0);
/// How many do, below the fork generation that they belong to: a child begins with none.
static SPINNERS: AtomicU64 = AtomicU64::new(0);
/// Whether threads run in turns.
static IN_TURNS: AtomicBool = AtomicBool::new(true);
/// How often a thread has given up its turn to wait.
static GIVEN_UP: AtomicU32 = AtomicU32::new(0);

thread_local!(static HABIT: Cell<Habit> = const { Cell::new(Habit::NEW) });

/// Called once, before the first wait. Until then nobody spins.
pub fn install(in_turns: bool) {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    SPARE.store(u32::try_from(processors - 1).unwrap_or(u32::MAX), Ordering::Relaxed);
    IN_TURNS.store(in_turns, Ordering::Relaxed);
}

/// Whether there is a processor on which somebody else can run meanwhile.
pub fn is_useful() -> bool {
    SPARE.load(Ordering::Relaxed) > 0
}

/// A turn that was given up.
#[derive(Clone, Copy, Debug)]
pub struct GivenUp(u32);

/// Called by a thread that has just given up its turn.
pub fn give_up_turn() -> GivenUp {
    GivenUp(GIVEN_UP.fetch_add(1, Ordering::AcqRel).wrapping_add(1))
}

/// [`Waiter::sleep`], after a spin if that promises to make it short; the thread has given up its turn for it.
pub fn spin_or_sleep(waiter: &Waiter, until: Option<Instant>, given_up: GivenUp) -> Slept {
    if !is_useful() {
        return waiter.sleep(until);
    }
    let mut habit = HABIT.get();
    if habit.rests() {
        HABIT.set(habit);
        return waiter.sleep(until);
    }
    let begin = Instant::now();
    let has_time = until.is_none_or(|until| until > begin + LIMIT);
    if !habit.is_trusted() || !has_time || !enter() {
        let slept = waiter.sleep(until);
        habit.slept(matches!(slept, Slept::Notified(_)) && begin.elapsed() < BRIEF);
        HABIT.set(habit);
        return slept;
    }
    habit.spun(waiter.watch(|| spin(waiter, begin, given_up)));
    HABIT.set(habit);
    waiter.sleep(until)
}

/// What a thread has learned about its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Habit {
    /// Brief waits in a row, up to [`TRUSTED`].
    brief: u8,
    /// How many of the next waits are neither measured nor begun with a spin.
    rest: u16,
    /// The rest after the latest spin in vain; a spin that paid off halves it.
    penalty: u16,
}

impl Habit {
    const NEW: Self = Self { brief: 0, rest: 0, penalty: 0 };

    fn rests(&mut self) -> bool {
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        rests
    }

    const fn is_trusted(self) -> bool {
        self.brief >= TRUSTED
    }

    fn slept(&mut self, brief: bool) {
        self.brief = if brief { TRUSTED.min(self.brief + 1) } else { 0 };
    }

    fn spun(&mut self, paid_off: bool) {
        if paid_off {
            self.penalty /= 2;
        } else {
            self.penalty = LONGEST_REST.min(self.penalty * 2 + 1);
            self.rest = self.penalty;
        }
    }
}

/// Spins until there is a notice, and then until there may be a turn: whether both came in time.
fn spin(waiter: &Waiter, begin: Instant, GivenUp(mut given_up): GivenUp) -> bool {
    let noticed = watch(begin, || {
        // Read before the look at the waiter: what is given up after the notice is to be seen as new.
        let before = GIVEN_UP.load(Ordering::Acquire);
        let noticed = waiter.notice().is_some();
        if !noticed {
            given_up = before;
        }
        noticed
    });
    // The next to run has a processor's use, and whoever it waits for now may spin in its place.
    leave();
    let in_turns = IN_TURNS.load(Ordering::Relaxed);
    noticed && (!in_turns || watch(Instant::now(), || GIVEN_UP.load(Ordering::Relaxed) != given_up))
}

/// Spins until something is true: whether it was in time.
fn watch(begin: Instant, mut is_true: impl FnMut() -> bool) -> bool {
    loop {
        for _ in 0..16 {
            if is_true() {
                return true;
            }
            hint::spin_loop();
        }
        if begin.elapsed() >= LIMIT {
            return false;
        }
    }
}

fn enter() -> bool {
    let (generation, spare) = (fork::generation(), SPARE.load(Ordering::Relaxed));
    let one_more = |spinners| one_more(spinners, generation, spare);
    SPINNERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
}

fn one_more(spinners: u64, generation: u32, spare: u32) -> Option<u64> {
    let generation = u64::from(generation) << 32;
    let count = if spinners & !u64::from(u32::MAX) == generation { spinners - generation } else { 0 };
    (count < u64::from(spare)).then_some(generation + count + 1)
}

fn leave() {
    // A thread that forks does not spin: the generation is still that of `enter`.
    SPINNERS.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::park::Notice;

    #[test]
    fn only_brief_waits_lead_to_a_spin() {
        let mut habit = Habit::NEW;
        for _ in 0..TRUSTED {
            assert!(!habit.rests() && !habit.is_trusted());
            habit.slept(true);
        }
        assert!(!habit.rests() && habit.is_trusted());
        habit.slept(false);
        assert!(!habit.is_trusted());
    }

    #[test]
    fn a_spin_in_vain_is_followed_by_a_rest_that_grows_and_one_that_pays_off_by_none() {
        let mut habit = Habit { brief: TRUSTED, ..Habit::NEW };
        let mut rests = Vec::new();
        for _ in 0..14 {
            habit.spun(false);
            let mut rest = 0;
            while habit.rests() {
                rest += 1;
            }
            rests.push(rest);
        }
        assert_eq!(rests[..4], [1, 3, 7, 15]);
        assert_eq!(rests[12..], [LONGEST_REST, LONGEST_REST]);
        habit.spun(true);
        assert!(!habit.rests() && habit.is_trusted());
        habit.spun(false);
        assert_eq!(habit.rest, LONGEST_REST);
        for _ in 0..12 {
            habit.spun(true);
        }
        assert_eq!(habit.penalty, 0);
    }

    #[test]
    fn as_many_spin_as_there_are_processors_to_spare_and_a_child_begins_with_none() {
        assert_eq!(one_more(0, 0, 0), None);
        let one = one_more(0, 0, 2).unwrap();
        let two = one_more(one, 0, 2).unwrap();
        assert_eq!((one, two, one_more(two, 0, 2)), (1, 2, None));
        assert_eq!(one_more(two, 1, 2), Some(1 << 32 | 1));
        assert_eq!(one_more(two, 1, 0), None);
    }

    #[test]
    fn a_spin_ends_in_time_and_sees_a_notice_and_then_the_turn() {
        SPARE.store(1, Ordering::Relaxed);
        let waiter = Waiter::new();
        assert!(enter() && !enter());
        assert!(!spin(&waiter, Instant::now(), give_up_turn()));
        assert!(waiter.notify(Notice::GRANTED));
        assert!(enter());
        assert!(!spin(&waiter, Instant::now(), give_up_turn()), "nobody has given up a turn");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = give_up_turn();
                }
            });
            while !(enter() && spin(&waiter, Instant::now(), give_up_turn())) {}
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(SPINNERS.load(Ordering::Relaxed), 0);
    }
}
