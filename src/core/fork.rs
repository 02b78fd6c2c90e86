//! How a child process learns that it is one.
//!
//! A fork copies every object and one thread. Locks need no care: they are only held by threads attached to the
//! interpreter, and the forking thread holds that attachment (or has stopped the world). Wait lists do: they
//! name sleepers that exist in the parent alone. Each list remembers the generation its sleepers belong to, and
//! removes the ghosts when it is next looked at.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Forks this process is away from the one that loaded the library.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// The one thread that came through the newest fork.
static SURVIVOR: AtomicUsize = AtomicUsize::new(0);

/// A name for the calling thread that stays its own through a fork and is no other living thread's.
#[must_use]
pub fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// The fork generation that threads living now belong to.
#[inline]
#[must_use]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Whether `thread` came through the newest fork.
#[must_use]
pub fn survived(thread: usize) -> bool {
    SURVIVOR.load(Ordering::Relaxed) == thread
}

/// What the child does before anything else runs in it.
pub(crate) extern "C" fn enter_child() {
    SURVIVOR.store(this_thread(), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Has every later fork, from Python or from C, start a new generation in its child.
///
/// # Errors
/// The operating system's, if it cannot remember one more handler.
#[cfg(unix)]
pub fn install() -> std::io::Result<()> {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    let mut result = Ok(());
    INSTALLED.call_once(|| {
        #[allow(unsafe_code)]
        // SAFETY: `enter_child` is async-signal-safe (two atomic stores and a thread-local address), and this
        // library is never unloaded: CPython keeps extension modules mapped until the process ends.
        let code = unsafe { libc::pthread_atfork(None, None, Some(enter_child)) };
        if code != 0 {
            result = Err(std::io::Error::from_raw_os_error(code));
        }
    });
    result
}

/// Nothing forks here.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn install() -> std::io::Result<()> {
    Ok(())
}
