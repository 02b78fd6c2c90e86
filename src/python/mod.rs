//! What Python sees: arguments in, core call, errors out.

// Doc comments here are docstrings, and arguments come by value from pyo3.
#![allow(clippy::doc_markdown, clippy::needless_pass_by_value)]

mod args;
mod semaphore;
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

/// The native half of `sluicegate`.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::Closed;
    #[pymodule_export]
    use super::semaphore::{BoundedSemaphore, Permits, Semaphore};

    #[pymodule_init]
    fn init() -> std::io::Result<()> {
        crate::core::fork::install()
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
