//! What the kernel is asked for. Every call here is async-signal-safe and allocates nothing, for a fork's child.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Why a futex wait came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    Woken,
    TimedOut,
    Interrupted,
}

/// Sleeps while `word` is `expected`; a futex of the page, so that any process that maps it can wake.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Waited {
    // The types of these fields differ between architectures; nanoseconds, below 10^9, fit them all.
    #[allow(clippy::unnecessary_fallible_conversions)]
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().try_into().unwrap_or(999_999_999),
    };
    // SAFETY: * `word` is a live, aligned 32-bit word for the whole call, which only reads it.
    // * `timeout` outlives the call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_futex,
            ptr::from_ref(word),
            libc::FUTEX_WAIT,
            expected,
            ptr::from_ref(&timeout),
        )
    };
    match if code == 0 { None } else { io::Error::last_os_error().raw_os_error() } {
        Some(libc::ETIMEDOUT) => Waited::TimedOut,
        Some(libc::EINTR) => Waited::Interrupted,
        // EAGAIN: the word had changed before the sleep began.
        _ => Waited::Woken,
    }
}

/// Wakes up to `n` who sleep on `word`, in whatever process.
pub fn wake(word: &AtomicU32, n: u32) {
    let n = i32::try_from(n).unwrap_or(i32::MAX);
    // SAFETY: FUTEX_WAKE uses the address as a key and reads nothing; the caller holds the word.
    unsafe { libc::syscall(libc::SYS_futex, ptr::from_ref(word), libc::FUTEX_WAKE, n) };
}

/// The wall clock in nanoseconds, as of the last tick of the kernel: a few milliseconds old, a few nanoseconds dear.
#[inline]
pub fn wall() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills `now`, and cannot fail for a clock that exists since Linux 2.6.32.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    // After 1970 and for five centuries, and the nanoseconds below 10^9.
    #[allow(clippy::cast_sign_loss)]
    let (seconds, nanoseconds) = (now.tv_sec as u64, now.tv_nsec as u64);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// A file without a name, whose length nobody can change.
pub fn memfd(len: u64) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; a descriptor the call returns is nobody else's.
    let file = unsafe {
        owned(libc::memfd_create(c"sluicegate".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING))
    }?;
    resize(&file, len)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the call takes an int and touches no memory of ours.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

/// A file in `dir` that has no name until [`publish`] gives it one, with its room set aside: a page that cannot
/// be backed is an error now, not a SIGBUS later.
pub fn unnamed(dir: &CStr, len: u64) -> io::Result<OwnedFd> {
    let file = open(dir, libc::O_TMPFILE | libc::O_RDWR)?;
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes integers and touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(file),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Gives an unnamed file its name; `AlreadyExists` if somebody was faster.
pub fn publish(file: RawFd, path: &CStr) -> io::Result<()> {
    let mut buffer = [0; PROC_PATH];
    let from = proc_fd(file, &mut buffer);
    // SAFETY: both paths are C strings that outlive the call.
    check(unsafe {
        libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, path.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    })
    .map(drop)
}

/// Opens `path`, which must not be a symbolic link.
pub fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string; a descriptor the call returns is nobody else's.
    unsafe { owned(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NOFOLLOW, 0o600)) }
}

/// Takes the name away.
pub fn unlink(path: &CStr) -> io::Result<()> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

/// Opens the file of a descriptor anew: what is locked through the new one is not locked through the old.
pub fn reopen(fd: RawFd) -> io::Result<OwnedFd> {
    let mut buffer = [0; PROC_PATH];
    let path = proc_fd(fd, &mut buffer);
    // SAFETY: as in `open`, but a descriptor's entry in /proc is a link to be followed.
    unsafe { owned(libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC)) }
}

/// Closes a descriptor that is kept as a number.
pub fn close(fd: RawFd) {
    // SAFETY: the callers have just made sure that the number still names what they opened.
    unsafe { libc::close(fd) };
}

/// What a descriptor, or a path, leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    pub owner: u32,
    pub mode: u32,
    pub len: u64,
}

impl Stat {
    pub const fn is_same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}

pub fn stat_fd(fd: RawFd) -> io::Result<Stat> {
    // SAFETY: the call fills the buffer it is given.
    stat(|into| unsafe { libc::fstat(fd, into) })
}

pub fn stat_path(path: &CStr) -> io::Result<Stat> {
    // SAFETY: the path is a C string; the call fills the buffer it is given.
    stat(|into| unsafe { libc::lstat(path.as_ptr(), into) })
}

// The types of these fields differ between architectures.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
fn stat(fill: impl FnOnce(*mut libc::stat) -> i32) -> io::Result<Stat> {
    let mut raw = MaybeUninit::<libc::stat>::uninit();
    check(fill(raw.as_mut_ptr()))?;
    // SAFETY: the call succeeded, so it filled the buffer.
    let raw = unsafe { raw.assume_init() };
    Ok(Stat {
        device: raw.st_dev,
        inode: raw.st_ino,
        links: raw.st_nlink.try_into().unwrap_or(u64::MAX),
        owner: raw.st_uid,
        mode: raw.st_mode,
        len: raw.st_size.try_into().unwrap_or(0),
    })
}

/// Whether the directory is on a network file system, where these locks and shared pages mean little.
pub fn is_remote(dir: &CStr) -> io::Result<bool> {
    let mut raw = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is a C string; the call fills the buffer it is given.
    check(unsafe { libc::statfs(dir.as_ptr(), raw.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the buffer.
    let kind = unsafe { raw.assume_init() }.f_type;
    Ok([libc::NFS_SUPER_MAGIC, libc::SMB_SUPER_MAGIC].contains(&kind))
}

/// Locks `len` bytes from `start`, through this descriptor's open file description: whether that was possible.
/// The lock ends with the last copy of the description, so with the process.
pub fn lock(fd: RawFd, start: u64, len: u64) -> io::Result<bool> {
    match range_lock(fd, libc::F_OFD_SETLK, libc::F_WRLCK, start, len) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn unlock(fd: RawFd, start: u64, len: u64) -> io::Result<()> {
    range_lock(fd, libc::F_OFD_SETLK, libc::F_UNLCK, start, len).map(drop)
}

/// Whether another open file description has a lock in the range.
pub fn is_locked(fd: RawFd, start: u64, len: u64) -> io::Result<bool> {
    let found = range_lock(fd, libc::F_OFD_GETLK, libc::F_WRLCK, start, len)?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

fn range_lock(fd: RawFd, command: i32, kind: i32, start: u64, len: u64) -> io::Result<libc::flock> {
    // SAFETY: a struct of integers, of which zero is a value.
    let mut range: libc::flock = unsafe { MaybeUninit::zeroed().assume_init() };
    range.l_type = kind.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    range.l_whence = libc::SEEK_SET.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    range.l_start = start.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    range.l_len = len.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `range` outlives the call, which reads and writes nothing else.
    check(unsafe { libc::fcntl(fd, command, &raw mut range) })?;
    Ok(range)
}

pub fn process_id() -> u32 {
    std::process::id()
}

pub fn user_id() -> u32 {
    // SAFETY: the call cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

/// Whether some process of our PID namespace has this id; a zombie has.
pub fn has_process(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 is not sent; the call only looks the process up.
    let code = unsafe { libc::kill(pid, 0) };
    pid > 0 && (code == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}

/// The number of our PID namespace, if /proc shows this namespace and no other.
pub fn pid_namespace() -> Option<u64> {
    let mut target = [0_u8; 20];
    // SAFETY: the path is a C string, and the call writes at most the length of the buffer.
    let len = unsafe { libc::readlink(c"/proc/self".as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    let seen = number(target.get(..usize::try_from(len).ok()?)?)?;
    if seen != u64::from(process_id()) {
        return None;
    }
    // SAFETY: the path is a C string; the call fills the buffer it is given.
    stat(|into| unsafe { libc::stat(c"/proc/self/ns/pid".as_ptr(), into) }).ok().map(|stat| stat.inode)
}

/// What /proc says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// It has ended, and only its parent has not asked for it yet.
    pub is_zombie: bool,
    /// When it began, in clock ticks since the boot.
    pub start: u64,
    /// Where its stack began, which an exec changes; 0 if we may not know.
    pub stack: u64,
}

/// A process of our PID namespace, unless it is gone.
pub fn life(pid: u32) -> Option<Life> {
    let mut path = [0; PROC_PATH];
    let file =
        open(proc_path(&[b"/proc/", digits(pid, &mut [0; 10]), b"/stat"], &mut path), libc::O_RDONLY).ok()?;
    let mut text = [0_u8; 1024];
    // SAFETY: the call writes at most the length of the buffer.
    let len = unsafe { libc::read(file.as_raw_fd(), text.as_mut_ptr().cast(), text.len()) };
    let text = text.get(..usize::try_from(len).ok()?)?;
    // The second field is the name in parentheses, which may contain anything; the third follows the last one.
    let after = text.iter().rposition(|&byte| byte == b')')? + 2;
    let mut fields = text.get(after..)?.split(|&byte| byte == b' ');
    let state = *fields.next()?.first()?;
    let mut field = |skipped: usize| fields.nth(skipped).and_then(number);
    let (threads, start, stack) = (field(16)?, field(1)?, field(5)?);
    // A main thread that has left its process running is a zombie with living siblings.
    Some(Life { is_zombie: matches!(state, b'Z' | b'X' | b'x') && threads <= 1, start, stack })
}

/// Runs these before every later fork, after it in the parent, and in the child.
pub fn on_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the caller's handlers are async-signal-safe, and this library is never unloaded: CPython keeps
    // extension modules mapped until the process ends.
    match unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// A number nobody else has drawn.
pub fn random() -> io::Result<u64> {
    let mut drawn = [0_u8; 8];
    // SAFETY: the call writes at most the length of the buffer.
    let len = unsafe { libc::getrandom(drawn.as_mut_ptr().cast(), drawn.len(), 0) };
    if len == 8 { Ok(u64::from_ne_bytes(drawn)) } else { Err(io::Error::last_os_error()) }
}

fn resize(file: &OwnedFd, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes integers and touches no memory of ours.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), len) }).map(drop)
}

fn check(code: i32) -> io::Result<i32> {
    if code == -1 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

/// # Safety
/// `fd` is -1 or a descriptor that the caller owns.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: it is not -1, so the caller's to give.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const PROC_PATH: usize = 40;

fn proc_fd(fd: RawFd, buffer: &mut [u8; PROC_PATH]) -> &CStr {
    proc_path(&[b"/proc/self/fd/", digits(fd.unsigned_abs(), &mut [0; 10])], buffer)
}

/// The parts, one after another: none of the paths made here is longer than the buffer.
fn proc_path<'a>(parts: &[&[u8]], buffer: &'a mut [u8; PROC_PATH]) -> &'a CStr {
    let mut at = 0;
    for part in parts {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"")
}

fn digits(mut number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().take_while(|&&byte| byte != b'\n').try_fold(0_u64, |sum, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
