//! Semaphores that unrelated processes find by a name: a file in a directory.
//!
//! The file gets its name when it is complete, so nobody sees half of one, and the last process to leave takes the
//! name away. If that process was killed, the file stays and the next one to come uses it: its permits belong to the
//! dead, so they are free.

use super::member::{Door, is_in_use};
use super::page::{self, Page};
use super::{Error, Handle, Kind, Semaphore, Unsafe, sys};
use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the files are, unless somebody wants them elsewhere.
pub const DIRECTORY: &str = "/dev/shm";

/// How long somebody may stand in the door: longer than any scheduler makes a process wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// A process on its way out has no time: a file that stays behind is no harm.
const HURRY: Duration = Duration::from_millis(20);
/// How often a file may vanish, or appear, just when we look for it.
const ATTEMPTS: u32 = 1000;

/// Where the semaphore of this name is.
#[must_use]
pub fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(file_name(name))
}

/// The owned semaphore at this path, created with `capacity` permits if there is none.
///
/// # Errors
/// [`Error::Mismatch`] if it is in use with another capacity; [`Error::Unsafe`] and [`Error::Broken`] if the file
/// of that name is not to be used; the operating system's.
pub fn attach(path: &Path, capacity: u32) -> Result<Handle, Error> {
    let directory = c_path(path.parent().ok_or(Error::Unsafe(Unsafe::NoFile))?)?;
    let path = c_path(path)?;
    if sys::is_remote(&directory)? {
        return Err(Error::Unsafe(Unsafe::Remote));
    }
    for _ in 0..ATTEMPTS {
        let attempt = match sys::open(&path, libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY) {
            Ok(file) => join(file, &path, capacity)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&directory, &path, capacity)?,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EISDIR | libc::ENXIO)) => {
                return Err(Error::Unsafe(Unsafe::NoFile));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Tell whose file it is, if it is there at all.
                check(&sys::stat_path(&path).map_err(|_| error)?)?;
                return Err(Error::Os(io::ErrorKind::PermissionDenied.into()));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(handle) = attempt {
            return Ok(handle);
        }
    }
    Err(Error::Os(io::Error::new(io::ErrorKind::ResourceBusy, "the file comes and goes")))
}

/// The semaphore in a file that has a name; `None` if it has lost it in the meantime.
fn join(file: OwnedFd, path: &CStr, capacity: u32) -> Result<Option<Handle>, Error> {
    check(&sys::stat_fd(file.as_raw_fd())?)?;
    let door = Door::enter(file.as_raw_fd(), PATIENCE)?;
    let stat = sys::stat_fd(file.as_raw_fd())?;
    if stat.links == 0 {
        return Ok(None);
    }
    let page = Page::attach(&file)?;
    if let Some(known) = Handle::find(&stat, &page) {
        return if known.capacity() == capacity { Ok(Some(known)) } else { Err(mismatch(capacity, &page)) };
    }
    if page.kind() != Kind::Owned || page.capacity() != capacity {
        if is_in_use(&file)? {
            return Err(mismatch(capacity, &page));
        }
        // Left behind by processes that wanted another capacity, and are all gone.
        sys::unlink(path)?;
        return Ok(None);
    }
    let semaphore = Semaphore::new(page, file, Some(path.to_owned()))?;
    semaphore.join()?;
    drop(door);
    Ok(Some(Handle::insert(semaphore)))
}

fn mismatch(asked: u32, page: &Page) -> Error {
    Error::Mismatch { asked, found: page.capacity() }
}

/// A new semaphore under a name; `None` if somebody was faster.
fn create(directory: &CStr, path: &CStr, capacity: u32) -> Result<Option<Handle>, Error> {
    let file = sys::unnamed(directory, page::size(Kind::Owned, capacity) as u64)?;
    let page = Page::create(&file, Kind::Owned, capacity)?;
    let semaphore = Semaphore::new(page, file, Some(path.to_owned()))?;
    // A member before it can be found: whoever finds it and leaves again is not the last.
    semaphore.join()?;
    match sys::publish(semaphore.file.fd, path) {
        Ok(()) => Ok(Some(Handle::insert(semaphore))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file is one that only this user can have made and can write.
fn check(stat: &sys::Stat) -> Result<(), Error> {
    if stat.mode & libc::S_IFMT != libc::S_IFREG {
        Err(Error::Unsafe(Unsafe::NoFile))
    } else if stat.owner != sys::user_id() {
        Err(Error::Unsafe(Unsafe::Foreign))
    } else if stat.mode & 0o077 != 0 {
        Err(Error::Unsafe(Unsafe::Open))
    } else {
        Ok(())
    }
}

/// Cleans up after every named semaphore of a process that is about to end.
pub fn leave_all() {
    for handle in Handle::all() {
        handle.clean_up();
    }
}

impl Semaphore {
    /// Takes the name away: who comes later starts a new group, and this one ends with [`Error::Removed`].
    ///
    /// # Errors
    /// [`Error::Removed`] if it has no name; the operating system's.
    pub fn unlink(&self) -> Result<(), Error> {
        let path = self.path.as_ref().ok_or(Error::Removed)?;
        let _door = Door::enter(self.descriptor()?, PATIENCE)?;
        if !self.has_name(path) {
            return Err(Error::Removed);
        }
        Ok(sys::unlink(path)?)
    }

    /// Whether the name was taken away; an anonymous semaphore has none to lose.
    pub(super) fn is_removed(&self) -> bool {
        self.path.is_some() && self.file.stat().is_some_and(|stat| stat.links == 0)
    }

    /// Whether the path leads to this semaphore.
    fn has_name(&self, path: &CStr) -> bool {
        sys::stat_path(path).is_ok_and(|stat| stat.is_same_file(&self.file.stat))
    }

    /// Takes the name away if nobody else is a member, and nothing is held.
    pub(super) fn clean_up(&self) {
        let (Some(path), Some(membership)) = (&self.path, self.membership) else { return };
        let Ok(fd) = self.descriptor() else { return };
        let Ok(_door) = Door::enter(fd, HURRY) else { return };
        if membership.has_company() == Some(false) && self.held_here() == 0 && self.has_name(path) {
            // If that fails the file stays, for the next one to use.
            let _ = sys::unlink(path);
        }
    }
}

/// A file name that no other semaphore, and no other user's, has: what is not a letter, a digit or one of `-_.` is
/// written as in a URL.
fn file_name(name: &str) -> String {
    let mut file_name = format!("sluicegate-{}-", sys::user_id());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            file_name.push(char::from(byte));
        } else {
            let _ = write!(file_name, "%{byte:02X}");
        }
    }
    file_name
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn different_names_are_different_files() {
        let names = ["a/b", "a%2Fb", "a.b", "a b", "ä", "..", ""];
        let files: std::collections::HashSet<String> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len());
        assert!(files.iter().all(|file| !file.contains('/') && file.is_ascii()));
    }
}
