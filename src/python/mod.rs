//! What Python sees: arguments in, core call, errors out.

// Doc comments here are docstrings, and arguments come by value from pyo3.
#![allow(clippy::doc_markdown, clippy::needless_pass_by_value)]

mod args;
mod semaphore;
#[cfg(target_os = "linux")]
mod shared;
mod wait;

use crate::core::semaphore::{AcquireError, MAX_PERMITS, ReleaseError};
use pyo3::exceptions::{PyAttributeError, PyException, PyOverflowError, PyValueError};
use pyo3::prelude::*;

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

/// The native half of `sluicegate`.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::Closed;
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
        // Up to Python 3.12, the thread that imports it first is the main one to `threading`: let it not be a
        // worker's first wait, where it would be imported otherwise.
        module.py().import("threading")?;
        // They share their names with the semaphores between threads.
        #[cfg(target_os = "linux")]
        {
            let py = module.py();
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
