//! What a pool was told at its making, and the calls of what it was given.

use super::errors;
use super::thread::thread;
use crate::core::pool::{Asking, Backoff, Nanos, nanos};
use crate::python::args::Arg;
use crate::python::wait::deadline;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use pyo3::{PyTraverseError, PyVisit};
use std::time::{Duration, Instant};

/// One of the user's functions; absent, it does nothing.
#[derive(Debug, Default)]
pub struct Hook(Option<Py<PyAny>>);

impl Hook {
    /// A callable, or None.
    pub fn new(name: &str, given: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        match given {
            Some(given) if !given.is_callable() => Err(PyTypeError::new_err(format!(
                "{name} must be callable, not {}",
                given.get_type().name()?
            ))),
            given => Ok(Self(given.map(|given| given.clone().unbind()))),
        }
    }

    #[inline]
    pub const fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Calls it with a connection.
    pub fn call<'py>(&self, conn: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.as_ref().map(|hook| hook.bind(conn.py()).call1((conn,))).transpose()
    }
}

/// How long an acquire may wait.
#[derive(Clone, Copy)]
pub enum Timeout<'a, 'py> {
    /// As the pool was told at its making.
    Own,
    /// Seconds, or None: for ever.
    Given(&'a Bound<'py, PyAny>),
}

impl<'a, 'py> Timeout<'a, 'py> {
    #[inline]
    pub fn new(arg: &'a Arg<'_, 'py>) -> Self {
        arg.given().map_or(Self::Own, Self::Given)
    }

    pub fn deadline(self, setup: &Setup) -> PyResult<Option<Instant>> {
        match self {
            Self::Own => Ok(after(setup.timeout)),
            Self::Given(given) => deadline(Some(given).filter(|given| !given.is_none())),
        }
    }
}

/// The deadline of a timeout in seconds.
pub fn after(seconds: Option<f64>) -> Option<Instant> {
    seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_nanos(span(seconds))))
}

/// A pool's settings that never change.
#[derive(Debug)]
pub struct Setup {
    pub factory: Py<PyAny>,
    pub check: Hook,
    pub reset: Hook,
    /// Absent, the connection's own `close()` is called.
    pub close: Hook,
    pub on_create: Hook,
    pub on_acquire: Hook,
    pub on_release: Hook,
    pub limit: Option<Py<PyAny>>,
    pub name: Option<String>,
    pub timeout: Option<f64>,
    pub create_timeout: Option<f64>,
    pub max_lifetime: Option<Nanos>,
    pub jitter: f64,
    pub retry: Option<Backoff>,
    pub leak_after: Option<f64>,
    pub detect_deadlock: bool,
    /// A helper thread looks after the pool.
    pub background: bool,
}

impl Setup {
    /// Whether something has to be done with a connection on its way to the user.
    #[inline]
    pub const fn watches_acquire(&self) -> bool {
        self.on_acquire.is_set() || self.leak_after.is_some()
    }

    /// Whether something has to be done with a connection that comes back.
    #[inline]
    pub const fn watches_release(&self) -> bool {
        self.reset.is_set() || self.on_release.is_set() || self.limit.is_some()
    }

    #[inline]
    pub fn asking(&self, py: Python<'_>) -> PyResult<Asking> {
        Ok(Asking { thread: thread(py)?, create: true, deadlock: self.detect_deadlock })
    }

    /// Whether a connection still works: the error that says no is reported, one that is no `Exception` raised.
    pub fn is_alive(&self, conn: &Bound<'_, PyAny>) -> PyResult<bool> {
        match self.check.call(conn) {
            Ok(answer) => {
                Ok(!answer.is_some_and(|answer| answer.cast::<PyBool>().is_ok_and(|alive| !alive.is_true())))
            }
            Err(error) if error.is_instance_of::<PyException>(conn.py()) => {
                errors::report(conn.py(), self.name.as_deref(), "check", &error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Closes a connection, and gives its permit of the limit back. An error is reported; one that is no
    /// `Exception` is raised.
    pub fn close(&self, conn: &Bound<'_, PyAny>) -> PyResult<()> {
        let closed = self.close_only(conn);
        closed.and(self.free_limit(conn.py()))
    }

    /// Closes a connection, and leaves the limit alone.
    pub fn close_only(&self, conn: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = conn.py();
        let closed = if self.close.is_set() {
            self.close.call(conn).map(drop)
        } else {
            match conn.getattr_opt("close") {
                Ok(Some(close)) => close.call0().map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            }
        };
        match closed {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                errors::report(py, self.name.as_deref(), "close", &error);
                Ok(())
            }
            closed => closed,
        }
    }

    /// Gives a permit of the limit back.
    pub fn free_limit(&self, py: Python<'_>) -> PyResult<()> {
        match &self.limit {
            Some(limit) => limit.call_method0(py, "release").map(drop),
            None => Ok(()),
        }
    }

    /// Whether somebody waits for a permit of the limit, so that an idle connection is one too many.
    pub fn is_pressed(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(limit) = &self.limit else { return Ok(false) };
        let limit = limit.bind(py);
        for name in ["pressure", "waiting"] {
            if let Some(waiting) = limit.getattr_opt(name)? {
                let waiting = if waiting.is_callable() { waiting.call0()? } else { waiting };
                return waiting.is_truthy();
            }
        }
        Ok(false)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.factory)?;
        for hook in
            [&self.check, &self.reset, &self.close, &self.on_create, &self.on_acquire, &self.on_release]
        {
            visit.call(&hook.0)?;
        }
        visit.call(&self.limit)
    }
}

/// A number of seconds that is not negative; None stays None.
pub fn seconds(name: &str, given: Option<f64>) -> PyResult<Option<f64>> {
    match given {
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => {
            Err(PyValueError::new_err(format!("{name} must be >= 0 or None, got {seconds}")))
        }
        given => Ok(given),
    }
}

/// Seconds, not negative, in the pool's unit.
pub fn span(seconds: f64) -> Nanos {
    Duration::try_from_secs_f64(seconds).map_or(Nanos::MAX, nanos)
}

/// `Backoff(first, most, jitter)` of `sluicegate.pool`, or anything with these attributes.
pub fn backoff(given: &Bound<'_, PyAny>) -> PyResult<Backoff> {
    let number = |name: &str| given.getattr(name)?.extract::<f64>();
    let [first, most, jitter] = [number("first")?, number("most")?, number("jitter")?];
    if !(first > 0.0 && most >= first && (0.0..=1.0).contains(&jitter)) {
        return Err(PyValueError::new_err(format!(
            "retry must have 0 < first <= most and 0 <= jitter <= 1, got {first}, {most} and {jitter}"
        )));
    }
    Ok(Backoff { first: span(first), most: span(most), jitter })
}
