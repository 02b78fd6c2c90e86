//! Arguments, taken as the standard library takes them: late, and with its words.

use crate::core::semaphore::MAX_PERMITS;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyInt;
use std::convert::Infallible;

/// An argument as it was given, or not given at all, which `None` would be mistaken for.
pub struct Arg<'a, 'py>(Option<Borrowed<'a, 'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Arg<'a, 'py> {
    type Error = Infallible;

    #[inline]
    fn extract(given: Borrowed<'a, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(Some(given)))
    }
}

impl<'a, 'py> Arg<'a, 'py> {
    /// The default of an argument that was left out.
    pub const ABSENT: Self = Self(None);

    /// An argument as if it had been given.
    pub fn of<T>(object: &'a Bound<'py, T>) -> Self {
        Self(Some(object.as_any().as_borrowed()))
    }

    /// The argument itself, or its default.
    pub fn object_or(
        &self,
        py: Python<'py>,
        default: impl IntoPyObjectExt<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.0.as_ref().map_or_else(|| default.into_bound_py_any(py), |given| Ok((**given).clone()))
    }

    /// Whether the argument was left out.
    #[inline]
    pub const fn is_absent(&self) -> bool {
        self.0.is_none()
    }

    /// A flag: any object is true or false; left out, it is true.
    #[inline]
    pub fn truth(&self) -> PyResult<bool> {
        self.0.as_ref().map_or(Ok(true), |given| given.is_truthy())
    }

    /// What was given, if anything was.
    #[inline]
    pub fn given(&self) -> Option<&Bound<'py, PyAny>> {
        self.0.as_deref()
    }

    /// How many permits are asked for: one or more; left out, one.
    #[inline]
    pub fn permits(&self) -> PyResult<u32> {
        match &self.0 {
            None => Ok(1),
            Some(given) => count(given, "n", 1, "n must be one or more"),
        }
    }

    /// How many permits there are at first: zero or more; left out, one.
    pub fn value(&self) -> PyResult<u32> {
        match &self.0 {
            None => Ok(1),
            Some(given) => count(given, "value", 0, "semaphore initial value must be >= 0"),
        }
    }
}

/// An int between `least` and [`MAX_PERMITS`].
pub fn count(given: &Bound<'_, PyAny>, name: &str, least: u32, below: &'static str) -> PyResult<u32> {
    if !given.is_instance_of::<PyInt>() {
        // What cannot be compared fails here as it does in the standard library; what can is no int.
        given.lt(least)?;
        return Err(PyTypeError::new_err(format!(
            "{name} must be an int, not {}",
            given.get_type().getattr("__name__")?
        )));
    }
    match given.extract::<u32>() {
        Ok(n) if n >= least && n <= MAX_PERMITS => Ok(n),
        _ if given.lt(least)? => Err(PyValueError::new_err(below)),
        _ => Err(PyOverflowError::new_err(format!("{name} must be at most {MAX_PERMITS}, got {given}"))),
    }
}
