//! This process as one of a page's members.
//!
//! A member holds a kernel lock on its byte of the file, through a file description of its own: the lock ends when
//! the process does, however it ends. A fork's child has the parent's memory and descriptors, so before anything
//! else runs in it, its copy of the description is closed and its copy of the membership forgotten. In a named
//! semaphore it becomes a member at once: its parent, if it ends first, is not the last one out.
#![allow(unsafe_code)]

use super::liveness::Process;
use super::page::{MEMBERS, Member, Members, Page, members_at};
use super::{Error, sys};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where the members' lock bytes begin: beyond the end of the file, since locked bytes need not exist.
const LOCKS: u64 = 1 << 40;
/// The lock of whoever attaches or leaves: a named file is only unlinked while nobody is on the way in.
const DOOR: u64 = LOCKS - 1;
/// Where a fork leaves a lock that its child keeps until it is a member: one byte for each process id.
const NURSERY: u64 = LOCKS + MEMBERS as u64;
const NURSERY_LEN: u64 = 1 << 32;
/// A descriptor that is not open.
const CLOSED: RawFd = -1;

/// The word that stands in a slot for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u64);

impl Owner {
    const fn new(at: u32, generation: u32) -> Self {
        Self((at as u64 + 1) << 32 | generation as u64)
    }

    /// The owner's place in the member table, unless somebody wrote nonsense.
    pub const fn at(self) -> Option<u32> {
        match (self.0 >> 32).checked_sub(1) {
            #[allow(clippy::cast_possible_truncation)]
            Some(at) if at < MEMBERS as u64 => Some(at as u32),
            _ => None,
        }
    }

    pub const fn generation(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}

/// The membership of this process in one page.
///
/// It is never freed, but used again: a fork's child visits all there are, and must not find one half gone.
#[derive(Debug)]
pub struct Membership {
    /// The [`Owner`] that this process is; 0 while it is no member.
    me: AtomicU64,
    /// The description whose lock says that we live.
    lock: AtomicI32,
    /// During a fork, the description that child and parent share, with a lock in the nursery.
    cradle: AtomicI32,
    /// The page's file, to be opened anew.
    file: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    /// The page, from its beginning; null while this is not in use.
    base: AtomicPtr<AtomicU64>,
    /// A child of a fork becomes a member at once, so that its parent does not unlink the file as the last one.
    eager: AtomicBool,
    /// Somebody registers.
    busy: AtomicBool,
    next: AtomicPtr<Membership>,
}

static FIRST: AtomicPtr<Membership> = AtomicPtr::new(ptr::null_mut());

fn all() -> impl Iterator<Item = &'static Membership> {
    let at = |link: &AtomicPtr<Membership>| {
        // SAFETY: what is linked is leaked, so it lives for ever.
        unsafe { link.load(Ordering::Acquire).as_ref() }
    };
    std::iter::successors(at(&FIRST), move |here| at(&here.next))
}

/// Memberships whose fork's child becomes a member at once.
fn all_eager() -> impl Iterator<Item = &'static Membership> {
    all().filter(|here| here.eager.load(Ordering::Relaxed) && !here.base.load(Ordering::Acquire).is_null())
}

/// Before a fork: from now on until the child is a member, somebody is.
extern "C" fn before_fork() {
    for membership in all_eager() {
        let Ok(cradle) = sys::reopen(membership.file.load(Ordering::Relaxed)) else { continue };
        let at = NURSERY + u64::from(sys::process_id());
        if membership.is_ours(cradle.as_raw_fd()) && sys::lock(cradle.as_raw_fd(), at, 1).unwrap_or(false) {
            membership.cradle.store(cradle.into_raw_fd(), Ordering::Relaxed);
        }
    }
}

extern "C" fn after_fork_in_parent() {
    for membership in all() {
        membership.close(&membership.cradle);
    }
}

/// What the child of a fork does first.
extern "C" fn after_fork_in_child() {
    for membership in all() {
        // Who held this in the parent is not here.
        membership.busy.store(false, Ordering::Relaxed);
        membership.me.store(0, Ordering::Relaxed);
        membership.close(&membership.lock);
    }
    for membership in all_eager() {
        // If it fails now, the first use of the semaphore will try again and say why.
        let _ = membership.register();
    }
    after_fork_in_parent();
}

impl Membership {
    /// A membership, not yet registered, of `page` in `file`. Both must outlive it, until [`leave`](Self::leave).
    pub fn of(page: &Page, file: &OwnedFd, eager: bool) -> io::Result<&'static Self> {
        static INSTALLED: std::sync::Once = std::sync::Once::new();
        let mut result = Ok(());
        INSTALLED.call_once(|| result = sys::on_fork(before_fork, after_fork_in_parent, after_fork_in_child));
        result?;
        let stat = sys::stat_fd(file.as_raw_fd())?;
        let here = Self::vacant();
        here.me.store(0, Ordering::Relaxed);
        here.lock.store(CLOSED, Ordering::Relaxed);
        here.file.store(file.as_raw_fd(), Ordering::Relaxed);
        here.device.store(stat.device, Ordering::Relaxed);
        here.inode.store(stat.inode, Ordering::Relaxed);
        here.eager.store(eager, Ordering::Relaxed);
        here.base.store(page.base(), Ordering::Release);
        Ok(here)
    }

    /// One that is not in use, taken: its `base` is not null any more.
    fn vacant() -> &'static Self {
        let taken = ptr::dangling_mut();
        let free = |here: &&Self| {
            let base = &here.base;
            base.compare_exchange(ptr::null_mut(), taken, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if let Some(here) = all().find(free) {
            return here;
        }
        let new: &'static Self = Box::leak(Box::new(Self {
            me: AtomicU64::new(0),
            lock: AtomicI32::new(CLOSED),
            cradle: AtomicI32::new(CLOSED),
            file: AtomicI32::new(CLOSED),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            base: AtomicPtr::new(taken),
            eager: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let mut first = FIRST.load(Ordering::Relaxed);
        loop {
            new.next.store(first, Ordering::Relaxed);
            let link = ptr::from_ref(new).cast_mut();
            match FIRST.compare_exchange_weak(first, link, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return new,
                Err(seen) => first = seen,
            }
        }
    }

    /// Who we are in the page's slots, if a member.
    #[inline]
    pub fn me(&self) -> Option<Owner> {
        match self.me.load(Ordering::Relaxed) {
            0 => None,
            me => Some(Owner(me)),
        }
    }

    /// Becomes a member, if this process is none yet. Async-signal-safe, and allocates nothing.
    pub fn register(&self) -> Result<Owner, Error> {
        while self.busy.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        let registered = self.me().map_or_else(|| self.enter(), Ok);
        self.busy.store(false, Ordering::Release);
        registered
    }

    fn enter(&self) -> Result<Owner, Error> {
        let fd = sys::reopen(self.file.load(Ordering::Relaxed))?.into_raw_fd();
        self.lock.store(fd, Ordering::Relaxed);
        if !self.is_ours(fd) {
            self.lock.store(CLOSED, Ordering::Relaxed);
            sys::close(fd);
            return Err(Error::Lost);
        }
        let we = Process::current();
        for at in 0..MEMBERS {
            let Some(place) = self.members().get(at) else { break };
            if !sys::lock(fd, LOCKS + u64::from(at), 1)? {
                continue;
            }
            match Process::read(place) {
                // We were here before, and lost the lock but not the permits.
                Some(was) if was == we => {}
                Some(was) if was.is_neighbour_of(&we) && was.is_running() => {
                    sys::unlock(fd, LOCKS + u64::from(at), 1)?;
                    continue;
                }
                _ => we.settle_in(place),
            }
            #[allow(clippy::cast_possible_truncation)]
            let me = Owner::new(at, place.generation().load(Ordering::Relaxed) as u32);
            self.members().mark_used(at);
            self.me.store(me.0, Ordering::Release);
            return Ok(me);
        }
        self.close(&self.lock);
        Err(Error::Crowded)
    }

    /// Takes the lock again if the process has closed it, as a daemon does that closes all it finds open.
    ///
    /// What cannot be opened any more cannot be locked; the process then counts as alive by its entry in /proc.
    pub fn keep(&self, me: Owner) {
        let fd = self.lock.load(Ordering::Relaxed);
        if self.is_ours(fd) {
            return;
        }
        // The number may name another file by now, so it is not closed.
        let Ok(file) = sys::reopen(self.file.load(Ordering::Relaxed)) else { return };
        let fd = file.as_raw_fd();
        if let (true, Some(at)) = (self.is_ours(fd), me.at()) {
            if sys::lock(fd, LOCKS + u64::from(at), 1).unwrap_or(false) {
                self.lock.store(file.into_raw_fd(), Ordering::Relaxed);
            }
        }
    }

    /// Whether another process holds the lock of a place; `None` if we cannot ask.
    pub fn is_locked(&self, at: u32) -> Option<bool> {
        sys::is_locked(self.asking()?, LOCKS + u64::from(at), 1).ok()
    }

    /// Whether any other process is a member.
    pub fn has_company(&self) -> Option<bool> {
        sys::is_locked(self.asking()?, LOCKS, u64::from(MEMBERS) + NURSERY_LEN).ok()
    }

    /// A descriptor of the page's file that is certainly that.
    fn asking(&self) -> Option<RawFd> {
        [&self.lock, &self.file].map(|fd| fd.load(Ordering::Relaxed)).into_iter().find(|&fd| self.is_ours(fd))
    }

    fn is_ours(&self, fd: RawFd) -> bool {
        let Ok(stat) = sys::stat_fd(fd) else { return false };
        stat.inode == self.inode.load(Ordering::Relaxed) && stat.device == self.device.load(Ordering::Relaxed)
    }

    fn members(&self) -> Members<'_> {
        // SAFETY: between `of` and `leave` this is the beginning of a mapped page, and nobody calls this outside.
        unsafe { members_at(self.base.load(Ordering::Acquire)) }
    }

    /// Our own place.
    pub fn place(&self) -> Option<Member<'_>> {
        self.members().get(self.me()?.at()?)
    }

    fn close(&self, descriptor: &AtomicI32) {
        let fd = descriptor.swap(CLOSED, Ordering::Relaxed);
        if fd != CLOSED && self.is_ours(fd) {
            sys::close(fd);
        }
    }

    /// Loses the lock, as a killed process does.
    #[cfg(test)]
    pub fn lose_lock(&self) {
        self.close(&self.lock);
    }

    /// Ends the membership, and with it all use of the page and the file through this.
    pub fn leave(&self) {
        if let Some(place) = self.place() {
            place.pid().store(0, Ordering::Relaxed);
        }
        self.me.store(0, Ordering::Relaxed);
        self.close(&self.lock);
        self.base.store(ptr::null_mut(), Ordering::Release);
    }
}

/// Whether any process is a member of the page in this file.
pub fn is_in_use(file: &OwnedFd) -> io::Result<bool> {
    sys::is_locked(file.as_raw_fd(), LOCKS, u64::from(MEMBERS) + NURSERY_LEN)
}

/// Holds the door of a page's file: nobody else attaches or leaves.
#[derive(Debug)]
pub struct Door(OwnedFd);

impl Door {
    /// Waits until nobody else is in the door, which takes them microseconds.
    pub fn enter(file: RawFd, patience: Duration) -> io::Result<Self> {
        let own = sys::reopen(file)?;
        let begin = Instant::now();
        while !sys::lock(own.as_raw_fd(), DOOR, 1)? {
            if begin.elapsed() > patience {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process blocks the shared file",
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self(own))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Explicitly: a fork in this moment may have copied the descriptor.
        let _ = sys::unlock(self.0.as_raw_fd(), DOOR, 1);
    }
}
