//! The calling thread as a pool knows it.

use crate::core::pool::{Life, Thread, Threads};
use crate::core::sync::Leaf;
use pyo3::prelude::*;
use std::cell::{Cell, OnceCell};

static THREADS: Leaf<Threads> = Leaf::new(Threads::new());

thread_local! {
    static KNOWN: Cell<Option<Thread>> = const { Cell::new(None) };
    /// Dropped by the system when the thread ends.
    static LIFE: OnceCell<Life> = const { OnceCell::new() };
}

/// The calling thread.
#[inline]
pub fn thread(py: Python<'_>) -> PyResult<Thread> {
    match KNOWN.get() {
        Some(known) => Ok(known),
        None => new_thread(py),
    }
}

#[cold]
fn new_thread(py: Python<'_>) -> PyResult<Thread> {
    let ident = py.import("threading")?.call_method0("get_ident")?.extract()?;
    // A signal handler or a finalizer may have used a pool in that call.
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let (thread, life) = THREADS.lock().insert(ident);
    // It fails in a thread's very last moments: then this is one that has ended.
    let _ = LIFE.try_with(|kept| kept.set(life));
    KNOWN.set(Some(thread));
    Ok(thread)
}

/// Whether a thread is no more.
///
/// Python forgets a thread, and lets others join it, a little before the system does. The other way round the
/// system knows better: Python may have another thread of the same identifier by then.
pub fn has_ended(py: Python<'_>, thread: Thread) -> PyResult<bool> {
    if THREADS.lock().has_ended(thread) {
        return Ok(true);
    }
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    Ok(!frames.contains(thread.ident)?)
}
