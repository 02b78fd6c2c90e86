//! The page that the processes share, as a row of atomic words.
//!
//! ```text
//! word 0     magic, version and byte order, kind and capacity, identity, ready
//!      8     gate: the futex all waiters sleep on        (every word that is written to often
//!     16     sweep: who looks for the dead, and its beat  has a cache line of its own)
//!     24     permits that are free, of a signalling semaphore
//!     32     how many places of the member table were ever taken
//!     40     how many threads wait, of a signalling semaphore
//!    512     member table: 1024 places of 8 words
//!   8704     slots: the owner (0 = free) and since when; a cache line each unless they are many
//! ```
//!
//! Another process may write anything here at any time. So nothing in it is an address or an offset, an index
//! read from it is checked, and what has to be trusted (kind, capacity) is copied out once, on attaching.
#![allow(unsafe_code)]

use super::sys;
use super::{Broken, Error, Kind};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Places in the member table: the most processes that can use one owned semaphore at a time.
pub const MEMBERS: u32 = 1024;
/// Words of a member's place.
const MEMBER_WORDS: usize = 8;

const GATE: usize = 8;
const SWEEP: usize = 16;
const PERMITS: usize = 24;
const HIGH: usize = 32;
const WAITING: usize = 40;
const TABLE: usize = 512;
const SLOTS: usize = TABLE + MEMBERS as usize * MEMBER_WORDS;

const MAGIC: u64 = u64::from_be_bytes(*b"sluice\r\n");
const LAYOUT: u64 = 2;
/// Read back as another number by a machine of the other byte order.
const FORMAT: u64 = 0x0102_0304 << 32 | LAYOUT;

/// Words of a slot. Processes that use different permits at a time do not slow each other down if each permit has a
/// cache line of its own; for more than these that would be a waste of memory.
const fn slot_words(capacity: u32) -> usize {
    if capacity <= 1024 { 8 } else { 2 }
}

/// Words of the page of a semaphore.
const fn words(kind: Kind, capacity: u32) -> usize {
    match kind {
        Kind::Owned => SLOTS + slot_words(capacity) * capacity as usize,
        Kind::Signalling => TABLE,
    }
}

/// Bytes of the page of a semaphore.
pub const fn size(kind: Kind, capacity: u32) -> usize {
    words(kind, capacity) * size_of::<u64>()
}

/// One process's place in the member table.
#[derive(Clone, Copy)]
pub struct Member<'a>(&'a [AtomicU64]);

impl<'a> Member<'a> {
    /// Counts who had this place; an owner word of another generation is a dead one's.
    pub fn generation(self) -> &'a AtomicU64 {
        &self.0[0]
    }

    pub fn pid(self) -> &'a AtomicU64 {
        &self.0[1]
    }

    /// When the process began.
    pub fn start(self) -> &'a AtomicU64 {
        &self.0[2]
    }

    /// Where its stack began.
    pub fn stack(self) -> &'a AtomicU64 {
        &self.0[3]
    }

    /// Its PID namespace; 0 if that cannot be told.
    pub fn namespace(self) -> &'a AtomicU64 {
        &self.0[4]
    }

    /// How many of its threads wait.
    pub fn waiting(self) -> &'a AtomicU64 {
        &self.0[5]
    }
}

/// The member table.
#[derive(Clone, Copy)]
pub struct Members<'a> {
    high: &'a AtomicU64,
    places: &'a [AtomicU64],
}

impl<'a> Members<'a> {
    pub fn get(self, at: u32) -> Option<Member<'a>> {
        let start = at as usize * MEMBER_WORDS;
        self.places.get(start..start + MEMBER_WORDS).map(Member)
    }

    /// Every place that was ever taken.
    pub fn used(self) -> impl Iterator<Item = (u32, Member<'a>)> {
        let high = self.high.load(Ordering::Relaxed).try_into().unwrap_or(MEMBERS);
        (0..high.min(MEMBERS)).filter_map(move |at| Some((at, self.get(at)?)))
    }

    pub fn mark_used(self, at: u32) {
        self.high.fetch_max(u64::from(at) + 1, Ordering::Relaxed);
    }
}

/// One permit.
#[derive(Clone, Copy)]
pub struct Slot<'a>(&'a [AtomicU64]);

impl<'a> Slot<'a> {
    /// Whose permit it is, the whole truth in one word: 0 when it is free.
    #[inline]
    pub fn owner(self) -> &'a AtomicU64 {
        &self.0[0]
    }

    /// The wall clock when it was taken; 0 before that is known.
    #[inline]
    pub fn since(self) -> &'a AtomicU64 {
        &self.0[1]
    }
}

/// The mapped page.
#[derive(Debug)]
pub struct Page {
    base: NonNull<AtomicU64>,
    kind: Kind,
    capacity: u32,
    identity: u64,
}

// SAFETY: the page is a row of atomics, which any thread may use; the mapping is not bound to a thread.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// Maps a new page and fills it in: nobody else knows the file yet.
    pub fn create(file: &OwnedFd, kind: Kind, capacity: u32) -> io::Result<Self> {
        let page = Self { base: map(file, size(kind, capacity))?, kind, capacity, identity: sys::random()? };
        for (at, value) in [
            (0, MAGIC),
            (1, FORMAT),
            (2, kind.code() << 32 | u64::from(capacity)),
            (3, page.identity),
            (PERMITS, u64::from(capacity)),
        ] {
            page.words()[at].store(value, Ordering::Relaxed);
        }
        page.words()[4].store(1, Ordering::Release);
        Ok(page)
    }

    /// Maps a page that another process has filled in.
    pub fn attach(file: &OwnedFd) -> Result<Self, Error> {
        let len = sys::stat_fd(file.as_raw_fd())?.len;
        let header = size(Kind::Signalling, 0);
        if len < header as u64 {
            return Err(Error::Broken(Broken::Short));
        }
        // The header first: it says how much there is.
        let mut page = Self { base: map(file, header)?, kind: Kind::Signalling, capacity: 0, identity: 0 };
        let read = |at: usize| page.words()[at].load(Ordering::Relaxed);
        if page.words()[4].load(Ordering::Acquire) != 1 || read(0) != MAGIC {
            return Err(Error::Broken(Broken::Magic));
        }
        if read(1) != FORMAT {
            return Err(Error::Broken(Broken::Format));
        }
        let (shape, identity) = (read(2), read(3));
        let (Some(kind), Ok(capacity)) = (Kind::decode(shape >> 32), u32::try_from(shape & 0xffff_ffff))
        else {
            return Err(Error::Broken(Broken::Shape));
        };
        let limit = match kind {
            Kind::Owned => super::MAX_CAPACITY,
            Kind::Signalling => super::MAX_PERMITS,
        };
        if capacity > limit || len < size(kind, capacity) as u64 {
            return Err(Error::Broken(Broken::Shape));
        }
        if kind == Kind::Owned {
            page = Self { base: map(file, size(kind, capacity))?, kind, capacity, identity };
        }
        page.identity = identity;
        page.capacity = capacity;
        Ok(page)
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    #[inline]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// A number that no other page has.
    pub const fn identity(&self) -> u64 {
        self.identity
    }

    /// The word that all waiters sleep on.
    #[inline]
    pub fn gate(&self) -> &AtomicU32 {
        let word = &raw const self.words()[GATE];
        // SAFETY: the first half of an aligned 64-bit word of the mapping is an aligned 32-bit word of it, alive as
        // long as `self`, and nothing ever reads or writes the word as 64 bits.
        unsafe { &*word.cast() }
    }

    pub fn sweep(&self) -> &AtomicU64 {
        &self.words()[SWEEP]
    }

    #[inline]
    pub fn permits(&self) -> &AtomicU64 {
        &self.words()[PERMITS]
    }

    pub fn waiting(&self) -> &AtomicU64 {
        &self.words()[WAITING]
    }

    /// The member table; of an owned semaphore only.
    pub fn members(&self) -> Members<'_> {
        let words = self.words();
        Members { high: &words[HIGH], places: words.get(TABLE..SLOTS).unwrap_or_default() }
    }

    /// The slots; a signalling semaphore has none.
    #[inline]
    pub fn slots(&self) -> Slots<'_> {
        Slots { words: self.words().get(SLOTS..).unwrap_or_default(), each: slot_words(self.capacity) }
    }

    /// Where the page begins, for [`members_at`].
    pub const fn base(&self) -> *mut AtomicU64 {
        self.base.as_ptr()
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: * `map` mapped this many words, page-aligned, and `drop` alone unmaps them.
        // * Whoever else writes them, in this or another process, does so by atomic accesses; a process that does
        //   not can change the numbers, which nothing here trusts.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), words(self.kind, self.capacity)) }
    }

    /// Any word, for tests that play a hostile process.
    #[cfg(test)]
    pub fn word(&self, at: usize) -> &AtomicU64 {
        &self.words()[at]
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this is what `map` mapped, and with `self` the last reference to it goes.
        unsafe { libc::munmap(self.base.as_ptr().cast(), size(self.kind, self.capacity)) };
    }
}

/// All the slots of a page.
#[derive(Clone, Copy)]
pub struct Slots<'a> {
    words: &'a [AtomicU64],
    each: usize,
}

impl<'a> Slots<'a> {
    #[inline]
    pub fn get(self, at: usize) -> Option<Slot<'a>> {
        self.words.get(self.each * at..self.each * at + 2).map(Slot)
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = Slot<'a>> + ExactSizeIterator {
        self.words.chunks_exact(self.each).map(Slot)
    }
}

/// The member table of a page that is kept as an address.
///
/// # Safety
/// `base` is the [`base`](Page::base) of an owned semaphore's page that stays mapped for `'a`.
pub unsafe fn members_at<'a>(base: *mut AtomicU64) -> Members<'a> {
    // SAFETY: the page of an owned semaphore has at least this many words, as in `Page::words`.
    let words = unsafe { std::slice::from_raw_parts(base, SLOTS) };
    Members { high: &words[HIGH], places: &words[TABLE..] }
}

fn map(file: &OwnedFd, len: usize) -> io::Result<NonNull<AtomicU64>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at an address of the kernel's choice, of a file that is at least `len` bytes long:
    // created so, or checked by `attach`.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
