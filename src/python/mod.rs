//! What Python sees: arguments in, core call, errors out.

// Doc comments here are docstrings, and arguments come by value from pyo3.
#![allow(clippy::doc_markdown, clippy::needless_pass_by_value)]

mod args;
mod channel;
mod fast;
mod pool;
mod queue;
mod select;
mod semaphore;
#[cfg(target_os = "linux")]
mod shared;
mod wait;

use crate::core::channel::Refusal;
use crate::core::semaphore::{AcquireError, MAX_PERMITS, ReleaseError};
use pyo3::exceptions::{PyAttributeError, PyException, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pyo3::create_exception!(
    sluicegate,
    Closed,
    PyException,
    "The semaphore, channel or pool was closed; nothing was taken."
);

#[cfg(target_os = "linux")]
pyo3::create_exception!(
    sluicegate,
    SegmentRemoved,
    pyo3::exceptions::PyOSError,
    "The name of a shared semaphore was taken away: processes that ask for it now get another one."
);
// Lazy cells are filled at import, and nowhere else (so no `intern!`, either): a fork may come while another thread
// fills one, and the child would wait for that thread for ever.
static EMPTY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static FULL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static MONOTONIC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The native half of `sluicegate`.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::Closed;
    #[pymodule_export]
    use super::channel::Channel;
    #[pymodule_export]
    use super::pool::{Connection, ConnectionPool, Lease, Ticket};
    #[pymodule_export]
    use super::queue::{LifoQueue, PriorityQueue, Queue, SimpleQueue};
    #[pymodule_export]
    use super::select::{Timer, after, select, tick};
    #[pymodule_export]
    use super::semaphore::{BoundedSemaphore, Permits, Semaphore};
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use super::{
        SegmentRemoved,
        shared::{_leave_all, _presume_dead, Holder},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        // Up to Python 3.12, the thread that imports it first is the main one to `threading`: let it not be a
        // worker's first wait, where it would be imported otherwise.
        py.import("threading")?;
        let sys = py.import("sys")?;
        let is_gil_enabled = sys.getattr_opt("_is_gil_enabled")?.map(|asked| asked.call0()?.is_truthy());
        crate::core::spin::install(is_gil_enabled.unwrap_or(Ok(true))?);
        super::FULL.import(py, "queue", "Full")?;
        super::EMPTY.import(py, "queue", "Empty")?;
        super::MONOTONIC.import(py, "time", "monotonic")?;
        module.add("ShutDown", super::queue::shut_down(py)?)?;
        super::channel::install_fast_methods(py)?;
        super::queue::install_fast_methods(py)?;
        super::semaphore::install_fast_methods(py)?;
        // They share their names with the semaphores between threads.
        #[cfg(target_os = "linux")]
        {
            super::shared::install_fast_methods(py)?;
            module.add("SharedSemaphore", py.get_type::<super::shared::SharedSemaphore>())?;
            module.add("SharedBoundedSemaphore", py.get_type::<super::shared::SharedBoundedSemaphore>())?;
        }
        Ok(crate::core::fork::install()?)
    }
}

// ---- the table: core error -> exception ----

fn void() -> PyErr {
    PyAttributeError::new_err("not initialised: a subclass's __init__ has to call super().__init__()")
}

impl From<AcquireError<PyErr>> for PyErr {
    fn from(error: AcquireError<PyErr>) -> Self {
        match error {
            AcquireError::Closed => Closed::new_err("the semaphore is closed"),
            AcquireError::Hopeless { n, capacity } => {
                PyValueError::new_err(format!("n={n} is more than the capacity of {capacity}"))
            }
            AcquireError::Void => void(),
            AcquireError::Interrupted(raised) => raised,
        }
    }
}

impl From<ReleaseError> for PyErr {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Full { .. } => PyValueError::new_err("Semaphore released too many times"),
            ReleaseError::TooMany { permits } => PyOverflowError::new_err(format!(
                "a semaphore counts at most {MAX_PERMITS} permits, and {permits} are free already"
            )),
            ReleaseError::Void => void(),
        }
    }
}

/// Why nothing was received.
fn refused(py: Python<'_>, why: Refusal<PyErr>) -> PyErr {
    match why {
        Refusal::Unready => match EMPTY.import(py, "queue", "Empty") {
            Ok(empty) => PyErr::from_type(empty.clone(), "the channel is empty"),
            Err(error) => error,
        },
        Refusal::Closed | Refusal::Diverted => Closed::new_err("the channel is closed"),
        Refusal::Interrupted(raised) => raised,
    }
}

/// Why an item was not sent; the exception keeps the item.
fn unsent(py: Python<'_>, why: Refusal<PyErr>, item: Option<Py<PyAny>>) -> PyErr {
    let error = match why {
        Refusal::Unready => match FULL.import(py, "queue", "Full") {
            Ok(full) => PyErr::from_type(full.clone(), "the channel is full"),
            Err(error) => return error,
        },
        Refusal::Closed | Refusal::Diverted => Closed::new_err("the channel is closed"),
        Refusal::Interrupted(raised) => return raised,
    };
    match error.value(py).setattr("item", item) {
        Ok(()) => error,
        Err(failed) => failed,
    }
}
