//! The exceptions of `sluicegate.pool`, and what is said to the log. All of it off the fast path.

use crate::core::pool::NotOwned;
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::types::PyModule;

/// The module `sluicegate.pool`, whose native half this is. It is looked up anew each time: whoever fills a lazy cell at
/// the moment of a fork leaves the child to wait for it for ever.
pub fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("sluicegate.pool")
}

fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    match module(py).and_then(|module| module.getattr(class)?.call1((message,))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// The error that a function of `sluicegate.pool` makes of these arguments.
pub fn made<'py>(py: Python<'py>, maker: &str, args: impl PyCallArgs<'py>) -> PyErr {
    match module(py).and_then(|module| module.getattr(maker)?.call1(args)) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

pub fn failed(py: Python<'_>, message: String) -> PyErr {
    raise(py, "PoolError", message)
}

pub fn closed(py: Python<'_>, name: Option<&str>) -> PyErr {
    raise(py, "PoolClosed", format!("{} is closed", called(name)))
}

pub fn not_owned(conn: &Bound<'_, PyAny>, name: Option<&str>, why: NotOwned) -> PyErr {
    let pool = called(name);
    let what = conn.repr().map_or_else(|_| "the connection".to_owned(), |repr| repr.to_string());
    let message = match why {
        NotOwned::Returned => format!("{what} was returned to {pool} before"),
        NotOwned::Foreign => format!("{what} does not belong to {pool}, or not any more"),
        NotOwned::Other => format!(
            "{what} was returned to {pool} before, and is with another user now (hand a connection from thread to \
             thread as a lease())"
        ),
    };
    raise(conn.py(), "NotOwned", message)
}

pub fn called(name: Option<&str>) -> String {
    name.map_or_else(|| "the pool".to_owned(), |name| format!("pool {name:?}"))
}

/// Tells the log of an error that nobody can be given: a callback's, on a path that goes on.
pub fn report(py: Python<'_>, name: Option<&str>, what: &str, error: &PyErr) {
    let told =
        module(py).and_then(|module| module.getattr("_report")?.call1((called(name), what, error.value(py))));
    if let Err(error) = told {
        error.write_unraisable(py, None);
    }
}
