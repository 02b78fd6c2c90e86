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
    let threading = py.import("threading")?;
    let ident = threading.call_method0("get_ident")?.extract()?;
    let announced = is_pythons(&threading, ident)?;
    // A signal handler or a finalizer may have used a pool in these calls.
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let (thread, life) = THREADS.lock().insert(ident, announced);
    // It fails in a thread's very last moments: then this is one that has ended.
    let _ = LIFE.try_with(|kept| kept.set(life));
    KNOWN.set(Some(thread));
    Ok(thread)
}

/// Whether Python has started the calling thread. Others come to Python, go, and come again.
fn is_pythons(threading: &Bound<'_, PyModule>, ident: u64) -> PyResult<bool> {
    let (Some(active), Some(dummy)) =
        (threading.getattr_opt("_active")?, threading.getattr_opt("_DummyThread")?)
    else {
        return Ok(false);
    };
    let found = active.call_method1("get", (ident,))?;
    Ok(!found.is_none() && !found.is_instance(&dummy)?)
}

/// Who of the threads has ended.
pub struct Ended<'py> {
    py: Python<'py>,
    /// The threads that Python knows; asked for when that is needed, and once.
    frames: Option<Bound<'py, PyAny>>,
}

impl<'py> Ended<'py> {
    pub const fn new(py: Python<'py>) -> Self {
        Self { py, frames: None }
    }

    /// Whether a thread is no more.
    ///
    /// Python forgets a thread, and lets others join it, a little before the system does. The other way round the
    /// system knows better: Python may have another thread of the same identifier by then.
    pub fn contains(&mut self, thread: Thread) -> PyResult<bool> {
        if let Some(ended) = THREADS.lock().has_ended(thread) {
            return Ok(ended);
        }
        let frames = match self.frames.take() {
            Some(frames) => frames,
            None => self.py.import("sys")?.call_method0("_current_frames")?,
        };
        Ok(!self.frames.insert(frames).contains(thread.ident)?)
    }
}
