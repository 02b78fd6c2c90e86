//! Semaphores that processes share, and that a killed process cannot keep.
//!
//! An **owned** semaphore is a row of slots in a page of shared memory. One compare-and-swap takes a permit and
//! records its owner, one gives it back; there is no counter beside the slots, so there is no moment in which a
//! killed process leaves them at odds. Whoever finds all slots taken asks the kernel which owners are dead, and frees
//! theirs: see `liveness.rs`. A **signalling** semaphore is a counter: what one process adds another takes, so nobody
//! owns anything, and nothing comes back from the dead.
//!
//! The laws of this layer, beside those of the core:
//!
//! 1. **Nothing to repair.** Any process may die between any two instructions, and what it leaves in the page is
//!    a state that the others work with as it is. A wake-up can be lost this way, so nobody sleeps longer than
//!    a slice.
//! 2. **The page is not to be believed.** Every process that maps it can write it: see `page.rs`.
//! 3. **The asleep touch the page alone.** No lock of this process, and no memory that is not theirs.

mod gate;
mod liveness;
mod member;
mod named;
mod owned;
mod page;
mod sys;

use self::gate::Wait;
use self::member::Membership;
use self::page::Page;
use super::park::{Sleep, Slept};
use super::sync::{Arc, Leaf};
use std::ffi::CString;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Weak;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

pub use self::liveness::presume_dead;
pub use self::named::{DIRECTORY, attach, leave_all, path};
pub use self::owned::Holder;
pub use super::semaphore::MAX_PERMITS;

/// The most permits an owned semaphore can have.
pub const MAX_CAPACITY: u32 = 1 << 20;

/// Whose a taken permit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process's that took it: it alone gives it back, or its death does.
    Owned,
    /// Nobody's.
    Signalling,
}

impl Kind {
    const fn code(self) -> u64 {
        match self {
            Self::Owned => 1,
            Self::Signalling => 2,
        }
    }

    const fn decode(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Owned),
            2 => Some(Self::Signalling),
            _ => None,
        }
    }
}

/// Why a file is no page of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is too short.
    Short,
    /// It is something else, or was never finished.
    Magic,
    /// Another version, or a machine of another byte order, has written it.
    Format,
    /// It says of itself what cannot be.
    Shape,
}

/// Why a file is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsafe {
    /// It is a symbolic link, a directory, a device.
    NoFile,
    /// It belongs to another user.
    Foreign,
    /// Others may write it.
    Open,
    /// It is on a network file system.
    Remote,
}

/// Why an operation failed; the semaphore is unchanged.
#[derive(Debug)]
pub enum Error {
    /// The operating system's reason.
    Os(io::Error),
    /// The file is no page.
    Broken(Broken),
    /// The file is not to be trusted.
    Unsafe(Unsafe),
    /// The semaphore of this name has another capacity.
    Mismatch {
        /// What was asked for.
        asked: u32,
        /// What there is.
        found: u32,
    },
    /// The file of a named semaphore was unlinked: others of that name are another group now.
    Removed,
    /// This process holds fewer permits than it wants to give back.
    NotHeld,
    /// A signalling semaphore would exceed [`MAX_PERMITS`].
    Full,
    /// The member table is full.
    Crowded,
    /// The process has closed the descriptors of the semaphore.
    Lost,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Os(error)
    }
}

/// Why an acquire ended without an answer.
#[derive(Debug)]
pub enum AcquireError<I> {
    /// The semaphore's reason.
    Failed(Error),
    /// The sleep was interrupted; nothing was taken.
    Interrupted(I),
}

/// A descriptor whose number somebody may have closed and used again behind our back.
#[derive(Debug)]
struct File {
    fd: RawFd,
    stat: sys::Stat,
}

impl File {
    fn new(file: OwnedFd) -> io::Result<Self> {
        let stat = sys::stat_fd(file.as_raw_fd())?;
        Ok(Self { fd: file.into_raw_fd(), stat })
    }

    /// What it leads to now, if that is what it led to at first.
    fn stat(&self) -> Option<sys::Stat> {
        sys::stat_fd(self.fd).ok().filter(|stat| stat.is_same_file(&self.stat))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.stat().is_some() {
            sys::close(self.fd);
        }
    }
}

/// A semaphore in a page that other processes may share.
#[derive(Debug)]
pub struct Semaphore {
    page: Page,
    /// Of an owned semaphore only.
    membership: Option<&'static Membership>,
    /// The slot this process took or gave back last: the likeliest to be free, or ours.
    hint: AtomicU32,
    /// When the file was last seen to still have its name, by [`sys::wall`].
    seen: AtomicU64,
    file: File,
    /// The path of a named semaphore.
    path: Option<CString>,
}

/// Every semaphore of this process, so that two ways to the same page lead to the same membership. Locked only by
/// threads that hold the interpreter, as a leaf.
static ATTACHED: Leaf<Vec<(sys::Stat, u64, Weak<Semaphore>)>> = Leaf::new(Vec::new());

impl Semaphore {
    /// A semaphore that nobody else knows, with `permits` free.
    ///
    /// # Errors
    /// The operating system's.
    pub fn create(kind: Kind, permits: u32) -> Result<Handle, Error> {
        let file = sys::memfd(page::size(kind, permits) as u64)?;
        let page = Page::create(&file, kind, permits)?;
        Ok(Handle::insert(Self::new(page, file, None)?))
    }

    /// The semaphore in a file that another process has created and passed on.
    ///
    /// # Errors
    /// [`Error::Broken`] if there is none in it; the operating system's.
    pub fn open(file: OwnedFd) -> Result<Handle, Error> {
        let page = Page::attach(&file)?;
        let Some(known) = Handle::find(&sys::stat_fd(file.as_raw_fd())?, &page) else {
            return Ok(Handle::insert(Self::new(page, file, None)?));
        };
        if known.file.fd == file.as_raw_fd() {
            // `spawn` passes a descriptor on once, however many objects it was given for.
            let _ = file.into_raw_fd();
        }
        Ok(known)
    }

    fn new(page: Page, file: OwnedFd, path: Option<CString>) -> io::Result<Self> {
        let membership = match page.kind() {
            Kind::Owned => Some(Membership::of(&page, &file, path.is_some())?),
            Kind::Signalling => None,
        };
        let seen = AtomicU64::new(sys::wall());
        Ok(Self { page, membership, hint: AtomicU32::new(0), seen, file: File::new(file)?, path })
    }

    /// Whose a taken permit is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.page.kind()
    }

    /// The permits there are; of a signalling semaphore, those there were at first.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.page.capacity()
    }

    /// The path of a named semaphore.
    #[must_use]
    pub fn path(&self) -> Option<&std::ffi::CStr> {
        self.path.as_deref()
    }

    /// The descriptor to pass on to another process.
    ///
    /// # Errors
    /// [`Error::Lost`] if this process has closed it.
    pub fn descriptor(&self) -> Result<RawFd, Error> {
        self.file.stat().map(|_| self.file.fd).ok_or(Error::Lost)
    }

    /// Takes a permit that is free, without a call to the kernel: whether there was one to be seen.
    ///
    /// If not, [`try_acquire`](Self::try_acquire) knows better: there may be permits of the dead.
    #[inline]
    pub fn take(&self) -> bool {
        match self.kind() {
            Kind::Owned => self.take_owned(),
            Kind::Signalling => self.take_counted(),
        }
    }

    /// Takes a permit that is free, or a dead process's.
    ///
    /// # Errors
    /// Those of becoming a member, and [`Error::Removed`].
    pub fn try_acquire(&self) -> Result<bool, Error> {
        self.join()?;
        if self.take() || self.sweep(true) > 0 && self.take_and_pass_on() {
            return Ok(true);
        }
        if self.is_removed() { Err(Error::Removed) } else { Ok(false) }
    }

    /// Takes a permit, waiting for one: whether it came before the deadline.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire); and the interrupt of the sleep.
    pub fn acquire<S: Sleep>(
        &self,
        deadline: Option<Instant>,
        sleep: &S,
    ) -> Result<bool, AcquireError<S::Interrupt>> {
        self.join().map_err(AcquireError::Failed)?;
        if self.take() || self.spin() {
            return Ok(true);
        }
        self.prepare().map_err(AcquireError::Failed)?;
        let mut wait = None;
        let slept = sleep.sleep(deadline, |until| {
            let slept = self.sleep(wait.get_or_insert_with(|| Wait::begin(self)), until);
            // It is over before this thread touches anything but the page: it may not be let back in.
            if matches!(slept, Slept::Notified(_))
                || deadline.is_some_and(|deadline| deadline <= Instant::now())
            {
                wait = None;
            }
            slept
        });
        match slept {
            Ok(Some(Ok(()))) => Ok(true),
            Ok(Some(Err(error))) => Err(AcquireError::Failed(error)),
            // The last slice was perhaps too short for a sweep.
            Ok(None) => self.try_acquire().map_err(AcquireError::Failed),
            Err(interrupt) => Err(AcquireError::Interrupted(interrupt)),
        }
    }

    /// Gives `n` permits back.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if this process does not hold so many, [`Error::Full`] if they would be too many.
    #[inline]
    pub fn release(&self, n: u32) -> Result<(), Error> {
        match self.kind() {
            Kind::Owned => self.give_owned(n)?,
            Kind::Signalling => self.give_counted(n)?,
        }
        self.wake(n);
        Ok(())
    }

    /// The permits that are free.
    #[must_use]
    pub fn permits(&self) -> u32 {
        match self.kind() {
            Kind::Owned => {
                self.sweep(true);
                self.free_slots()
            }
            Kind::Signalling => self.page.permits().load(Ordering::SeqCst).try_into().unwrap_or(MAX_PERMITS),
        }
    }

    /// Makes this process a member, if it is none.
    fn join(&self) -> Result<(), Error> {
        if let Some(membership) = self.membership.filter(|membership| membership.me().is_none()) {
            let at = membership.register()?.at().unwrap_or(0);
            // Processes that begin at different slots seldom meet.
            self.hint.store(at.checked_rem(self.capacity()).unwrap_or(0), Ordering::Relaxed);
        }
        Ok(())
    }

    /// What has to be so before a thread may wait: its process's lock is there, and the page is the one that newcomers
    /// find.
    fn prepare(&self) -> Result<(), Error> {
        if let Some((membership, me)) = self.membership.and_then(|here| Some((here, here.me()?))) {
            membership.keep(me);
        }
        if self.is_removed() { Err(Error::Removed) } else { Ok(()) }
    }

    #[inline]
    fn take_counted(&self) -> bool {
        let mut permits = self.page.permits().load(Ordering::SeqCst);
        while permits > 0 {
            let less = self.page.permits().compare_exchange_weak(
                permits,
                permits - 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            match less {
                Ok(_) => return true,
                Err(seen) => permits = seen,
            }
        }
        false
    }

    fn give_counted(&self, n: u32) -> Result<(), Error> {
        let more = |permits: u64| permits.checked_add(n.into()).filter(|&sum| sum <= MAX_PERMITS.into());
        self.page
            .permits()
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .map_or(Err(Error::Full), |_| Ok(()))
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        self.clean_up();
        if let Some(membership) = self.membership {
            membership.leave();
        }
    }
}

/// A semaphore as one object of this process holds it.
///
/// While this process holds permits, the last handle leaves the semaphore behind: the permits are the process's,
/// not the object's, and the next way to the page leads to them again.
#[derive(Debug)]
pub struct Handle(Arc<Semaphore>);

impl Handle {
    fn find(stat: &sys::Stat, page: &Page) -> Option<Self> {
        let attached = ATTACHED.lock();
        let same = |known: &&(sys::Stat, u64, Weak<Semaphore>)| {
            known.0.is_same_file(stat) && known.1 == page.identity()
        };
        attached.iter().find(same).and_then(|(_, _, weak)| weak.upgrade()).map(Self)
    }

    fn insert(semaphore: Semaphore) -> Self {
        let (stat, identity) = (semaphore.file.stat, semaphore.page.identity());
        let handle = Self(Arc::new(semaphore));
        let mut attached = ATTACHED.lock();
        attached.retain(|(_, _, weak)| weak.strong_count() > 0);
        attached.push((stat, identity, Arc::downgrade(&handle.0)));
        handle
    }

    /// Every semaphore of this process.
    fn all() -> Vec<Self> {
        ATTACHED.lock().iter().filter_map(|(_, _, weak)| weak.upgrade().map(Self)).collect()
    }
}

impl Deref for Handle {
    type Target = Semaphore;

    #[inline]
    fn deref(&self) -> &Semaphore {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1 && self.0.held_here() > 0 {
            std::mem::forget(Arc::clone(&self.0));
        }
    }
}

#[cfg(test)]
mod tests;
