//! A connection as the pool's core sees it, and where in the user's program it was taken.

use crate::core::pool::Identity;
use pyo3::prelude::*;

/// The pool's handle of a connection.
#[derive(Clone, Debug)]
pub struct Conn(pub Py<PyAny>);

impl Identity for Conn {
    #[inline]
    fn key(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

/// The same for a connection that a user has.
#[inline]
pub fn key(conn: &Bound<'_, PyAny>) -> usize {
    conn.as_ptr().addr()
}

/// The line of Python that is running: a code object and a line number.
pub fn origin(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let frame = py.import("sys")?.call_method0("_getframe")?;
    let (code, line) = (frame.getattr("f_code")?, frame.getattr("f_lineno")?);
    Ok((code, line).into_pyobject(py)?.into_any().unbind())
}
