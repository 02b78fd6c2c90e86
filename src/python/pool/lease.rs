//! What `connection()` and `lease()` return.

use super::setup::Timeout;
use super::{ConnectionPool, errors};
use crate::core::pool::{Claim, NotOwned};
use crate::core::sync::Leaf;
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};

/// A connection that is out, and the number of its loan.
type Loan = Option<(Py<PyAny>, u64)>;

/// What `ConnectionPool.connection()` returns: entering it acquires a connection, leaving it returns it.
#[pyclass(frozen, module = "sluicegate")]
pub struct Connection {
    pool: Py<ConnectionPool>,
    timeout: Option<Py<PyAny>>,
    loan: Leaf<Loan>,
}

impl Connection {
    pub fn new(pool: Py<ConnectionPool>, timeout: Option<Py<PyAny>>) -> Self {
        Self { pool, timeout, loan: Leaf::new(None) }
    }
}

#[pymethods]
impl Connection {
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.loan.lock().is_some() {
            return Err(PyRuntimeError::new_err(
                "this connection() is entered already; each `with` needs its own",
            ));
        }
        let timeout = self.timeout.as_ref().map_or(Timeout::Own, |timeout| Timeout::Given(timeout.bind(py)));
        let (conn, loan) = self.pool.get().obtain(self.pool.bind(py), timeout)?;
        let yielded = conn.clone_ref(py);
        let before = self.loan.lock().replace((conn, loan));
        drop(before);
        Ok(yielded)
    }

    #[pyo3(signature = (t, v, tb, /))]
    #[allow(unused_variables)]
    fn __exit__(&self, t: &Bound<'_, PyAny>, v: &Bound<'_, PyAny>, tb: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some((conn, loan)) = self.loan.lock().take() else { return Ok(()) };
        leave(&self.pool, conn.bind(t.py()), loan, !t.is_none())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        visit.call(&self.timeout)?;
        visit_loan(&self.loan, &visit)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop_loan(&self.pool, self.loan.get_mut(), None);
    }
}

/// A connection that is out and comes back by itself: what ConnectionPool.lease() returns.
///
/// `conn` is the connection; release() returns it, discard() closes it, and so does leaving a `with` block. A lease
/// that is collected while it has its connection returns it, with a ResourceWarning that says where it was taken.
/// Unlike a connection from acquire(), a lease may be released by any thread.
///
/// >>> from sluicegate import ConnectionPool
/// >>> pool = ConnectionPool(object)
/// >>> lease = pool.lease()
/// >>> pool.in_use
/// 1
/// >>> lease.release()
/// >>> pool.in_use
/// 0
#[pyclass(frozen, weakref, generic, module = "sluicegate")]
pub struct Lease {
    pool: Py<ConnectionPool>,
    loan: Leaf<Loan>,
    origin: Py<PyAny>,
}

impl Lease {
    pub fn new(pool: Py<ConnectionPool>, conn: Py<PyAny>, loan: u64, origin: Py<PyAny>) -> Self {
        Self { pool, loan: Leaf::new(Some((conn, loan))), origin }
    }

    fn take(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, u64)> {
        self.loan.lock().take().ok_or_else(|| errors::made(py, "_lease_ended", ()))
    }
}

#[pymethods]
impl Lease {
    /// The connection.
    ///
    /// Raises NotOwned once the lease has ended.
    #[getter]
    fn conn(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let conn = self.loan.lock().as_ref().map(|(conn, _)| conn.clone_ref(py));
        conn.ok_or_else(|| errors::made(py, "_lease_ended", ()))
    }

    /// Return the connection.
    ///
    /// Raises NotOwned if the lease has ended before; nothing has changed then.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let (conn, loan) = self.take(py)?;
        self.pool.get().give_back(conn.bind(py), Claim::Loan(loan), false)
    }

    /// Close the connection, and let another one be opened in its place.
    ///
    /// Raises NotOwned if the lease has ended before; nothing has changed then.
    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        let (conn, loan) = self.take(py)?;
        self.pool.get().throw_away(conn.bind(py), Claim::Loan(loan))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.conn(py)
    }

    #[pyo3(signature = (t, v, tb, /))]
    #[allow(unused_variables)]
    fn __exit__(&self, t: &Bound<'_, PyAny>, v: &Bound<'_, PyAny>, tb: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some((conn, loan)) = self.loan.lock().take() else { return Ok(()) };
        leave(&self.pool, conn.bind(t.py()), loan, !t.is_none())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        visit.call(&self.origin)?;
        visit_loan(&self.loan, &visit)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop_loan(&self.pool, self.loan.get_mut(), Some(&self.origin));
    }
}

/// Returns a connection at the end of a `with` block; one that was discarded inside is not missed.
fn leave(pool: &Py<ConnectionPool>, conn: &Bound<'_, PyAny>, loan: u64, failed: bool) -> PyResult<()> {
    match pool.get().try_give_back(conn, Claim::Loan(loan), failed)? {
        Ok(()) | Err(NotOwned::Foreign) => Ok(()),
        Err(why) => Err(pool.get().not_owned(conn, why)),
    }
}

fn visit_loan(loan: &Leaf<Loan>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match loan.try_lock() {
        Some(loan) => loan.as_ref().map_or(Ok(()), |(conn, _)| visit.call(conn)),
        None => Ok(()),
    }
}

/// Returns the connection of a holder that was collected.
fn drop_loan(pool: &Py<ConnectionPool>, loan: &mut Loan, origin: Option<&Py<PyAny>>) {
    let Some((conn, number)) = loan.take() else { return };
    // Not at the end of the interpreter, which closes everything by itself.
    let attached = Python::try_attach(|py| {
        // Whoever dropped the last reference may be on his way to raise.
        let raised = PyErr::take(py);
        let (pool, conn) = (pool.get(), conn.bind(py));
        if let Err(error) = pool.try_give_back(conn, Claim::Loan(number), true).map(drop) {
            error.write_unraisable(py, None);
        }
        if let Err(error) = warn(py, conn, origin) {
            error.write_unraisable(py, None);
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
    if attached.is_none() {
        std::mem::forget(conn);
    }
}

fn warn(py: Python<'_>, conn: &Bound<'_, PyAny>, origin: Option<&Py<PyAny>>) -> PyResult<()> {
    let place = match origin {
        Some(origin) => errors::module(py)?.getattr("_place")?.call1((origin,))?,
        None => PyString::new(py, "in a with block that was never left").into_any(),
    };
    let text =
        format!("{} was not returned to its pool, but collected; taken {}", conn.repr()?, place.str()?);
    py.import("warnings")?.call_method1("warn", (text, py.get_type::<PyResourceWarning>())).map(drop)
}

/// The right to one connection in the hands of a helper thread that opens it.
#[pyclass(frozen, module = "sluicegate")]
pub struct Ticket {
    pub pool: Py<ConnectionPool>,
    pub raw: Leaf<Option<(u32, u32)>>,
}

#[pymethods]
impl Ticket {
    /// Put the connection, opened after all, into the pool.
    fn adopt(&self, py: Python<'_>, conn: Bound<'_, PyAny>) -> PyResult<()> {
        match self.raw.lock().take() {
            Some(raw) => self.pool.get().adopt(py, raw, conn),
            None => Ok(()),
        }
    }

    /// Tell that it could not be opened.
    fn fail(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        match self.raw.lock().take() {
            Some(raw) => self.pool.get().fail(py, raw, error),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(raw) = self.raw.lock().take() else { return };
        Python::try_attach(|py| {
            if let Err(error) = self.pool.get().give_up(py, raw) {
                error.write_unraisable(py, None);
            }
        });
    }
}
