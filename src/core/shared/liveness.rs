//! Who is alive.
//!
//! The kernel lock is the witness, and the process table is asked where the lock may mislead:
//!
//! | lock     | PID namespace | process            | verdict                                             |
//! |----------|---------------|--------------------|-----------------------------------------------------|
//! | held     | another       | cannot be seen     | alive                                               |
//! | held     | ours          | there              | alive, also while stopped                           |
//! | held     | ours          | gone               | dead: somebody inherited the description            |
//! | free     | another       | cannot be seen     | dead                                                |
//! | free     | ours          | the same, running  | alive: it has closed a descriptor it did not know   |
//! | free     | ours          | gone, another, new | dead: it ended, or became another program by exec   |
//!
//! A process id alone proves nothing, since ids are used again: the process is the one that began at the same tick.

use super::page::Member;
use super::sys;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A process, told apart from every other that had or will have its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    start: u64,
    stack: u64,
    /// 0 if /proc does not show our own namespace: then nothing is believed of it.
    namespace: u64,
}

impl Process {
    /// This process.
    pub fn current() -> Self {
        let pid = sys::process_id();
        let (life, namespace) = (sys::life(pid), sys::pid_namespace());
        Self {
            pid,
            start: life.map_or(0, |life| life.start),
            stack: life.map_or(0, |life| life.stack),
            namespace: if life.is_some() { namespace.unwrap_or(0) } else { 0 },
        }
    }

    /// Who has written itself into a place; `None` if nobody is there.
    pub fn read(place: Member<'_>) -> Option<Self> {
        let pid = u32::try_from(place.pid().load(Ordering::Acquire)).ok().filter(|&pid| pid != 0)?;
        let [start, stack, namespace] = [place.start(), place.stack(), place.namespace()];
        let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
        Some(Self { pid, start: read(start), stack: read(stack), namespace: read(namespace) })
    }

    /// Makes a place ours. Its lock is held; until its generation moves on, the former owner's permits count as a
    /// living process's, which is the safe mistake.
    pub fn settle_in(&self, place: Member<'_>) {
        place.pid().store(0, Ordering::Relaxed);
        place.waiting().store(0, Ordering::Relaxed);
        place.start().store(self.start, Ordering::Relaxed);
        place.stack().store(self.stack, Ordering::Relaxed);
        place.namespace().store(self.namespace, Ordering::Relaxed);
        let next = place.generation().load(Ordering::Relaxed).wrapping_add(1) & 0xffff_ffff;
        place.generation().store(next.max(1), Ordering::SeqCst);
        place.pid().store(u64::from(self.pid), Ordering::Release);
    }

    /// Whether this process's id means the same to `other`.
    pub const fn is_neighbour_of(&self, other: &Self) -> bool {
        self.namespace != 0 && self.namespace == other.namespace
    }

    /// Whether it is still there, and still the same program.
    pub fn is_running(&self) -> bool {
        sys::life(self.pid).is_some_and(|life| {
            let same_program = life.stack == self.stack || life.stack == 0 || self.stack == 0;
            !life.is_zombie && life.start == self.start && same_program
        })
    }

    /// Whether the process id is in use: much cheaper than [`is_running`](Self::is_running), and not proof.
    pub fn may_run(&self) -> bool {
        sys::has_process(self.pid)
    }
}

/// The table at the top of this file. `thorough` looks for inherited locks also where the process id is in use.
pub fn is_alive(place: Member<'_>, locked: bool, we: &Process, thorough: bool) -> bool {
    if PRESUMED_DEAD.load(Ordering::Relaxed) {
        return false;
    }
    let Some(process) = Process::read(place) else {
        // On its way in, or gone in good order.
        return locked;
    };
    if !process.is_neighbour_of(we) {
        return locked;
    }
    if locked { process.may_run() && (!thorough || process.is_running()) } else { process.is_running() }
}

static PRESUMED_DEAD: AtomicBool = AtomicBool::new(false);

/// Has this process take every other for dead: for the tests, which must see what happens then.
pub fn presume_dead(everybody: bool) {
    PRESUMED_DEAD.store(everybody, Ordering::Relaxed);
}
