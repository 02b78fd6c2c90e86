//! How long a put or get may wait, read as `queue` reads it.

use crate::core::queue::{Failure, Queue, Refusal, Side};
use crate::python::args::Arg;
use crate::python::wait::deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat};
use std::cell::Cell;
use std::time::Instant;

/// What `block` and `timeout` come to.
pub enum Patience {
    /// Not to wait.
    None,
    /// To wait until it succeeds.
    Endless,
    /// To wait so many seconds. The deadline is known once there is something to wait for.
    Seconds(f64, Cell<Option<Instant>>),
}

impl Patience {
    /// The arguments of a put or get that may have to wait: a timeout is looked at even if it will not be needed.
    pub fn new(block: &Arg<'_, '_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        match timeout {
            _ if !block.truth()? => Ok(Self::None),
            None => Ok(Self::Endless),
            Some(timeout) => Ok(Self::Seconds(seconds(timeout)?, Cell::new(None))),
        }
    }

    /// Attempts, and waits if that is what it takes.
    pub fn exert<T, R>(
        &self,
        py: Python<'_>,
        core: &Queue<T>,
        side: Side,
        mut attempt: impl FnMut(bool) -> Result<R, Failure<PyErr>>,
    ) -> Result<R, Failure<PyErr>> {
        match attempt(false) {
            Err(Failure::Refused(Refusal::NotNow)) if !matches!(self, Self::None) => {
                let deadline = self.deadline(py).map_err(Failure::Interrupted)?;
                core.in_turn(side, deadline, &py, attempt)
            }
            answer => answer,
        }
    }

    /// `block` and `timeout` for what is left of the time.
    pub fn rest<'py>(&self, py: Python<'py>) -> (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>) {
        let left = match self {
            Self::None | Self::Endless => None,
            Self::Seconds(seconds, deadline) => Some(deadline.get().map_or(*seconds, |deadline| {
                deadline.saturating_duration_since(Instant::now()).as_secs_f64()
            })),
        };
        let block = PyBool::new(py, !matches!(self, Self::None));
        (block.to_owned().into_any(), left.map(|left| PyFloat::new(py, left).into_any()))
    }

    fn deadline(&self, py: Python<'_>) -> PyResult<Option<Instant>> {
        let Self::Seconds(seconds, known) = self else { return Ok(None) };
        let found = deadline(Some(PyFloat::new(py, *seconds).as_any()))?;
        known.set(found);
        Ok(found)
    }
}

/// The steps of `queue.Queue` with a timeout, which fail where, and as, they fail there: `timeout < 0`, then
/// `time() + timeout`.
fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(seconds) = timeout.cast_exact::<PyFloat>() {
        let seconds = seconds.extract::<f64>()?;
        return if seconds < 0.0 { Err(negative()) } else { Ok(seconds) };
    }
    if timeout.lt(0)? {
        return Err(negative());
    }
    PyFloat::new(timeout.py(), 0.0).add(timeout)?.extract()
}

pub fn negative() -> PyErr {
    PyValueError::new_err("'timeout' must be a non-negative number")
}
