//! `ConnectionPool`, and what its `connection()` and `lease()` return.

mod back;
mod conn;
mod errors;
mod handle;
mod lease;
mod setup;
mod thread;

use self::conn::{Conn, key, origin};
pub use self::lease::{Connection, Lease, Ticket};
use self::setup::{Hook, Setup, Timeout, backoff, seconds, span};
use self::thread::{Ended, thread};
use super::args::{Arg, count};
use crate::core::fork;
use crate::core::pool as core;
use crate::core::pool::{Claim, Policy, Sizes};
use crate::core::sync::Leaf;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A pool of connections, or of anything else that a factory makes and that is worth keeping.
///
/// >>> from sluicegate import ConnectionPool
/// >>> import sqlite3
/// >>> pool = ConnectionPool(lambda: sqlite3.connect(":memory:", check_same_thread=False), max_size=4)
/// >>> with pool.connection() as conn:
/// ...     conn.execute("select 6 * 7").fetchone()
/// (42,)
/// >>> pool.close()
/// True
///
/// At most `max_size` connections are open; an acquire beyond that waits up to `timeout` seconds, and waiters are
/// served in the order of their arrival. `max_lifetime` (shortened by a random part of up to `jitter`) and `max_idle`
/// are seconds too. `check(conn)` says by an error or by False that a connection is dead; it is called before the use
/// of one that was idle for `check_after` seconds, and after an exception in a `with` block. `reset(conn)` makes a
/// returned connection ready for the next user. None of the callbacks runs under a lock, and each may use the pool.
///
/// Raises TypeError and ValueError for arguments that make no sense. Corresponds to SQLAlchemy's `QueuePool` and
/// psycopg's `ConnectionPool`.
// No `dict`: CPython 3.11 makes one inside `object.__new__`, which may start a collection, and that would traverse a pool
// that is not there yet. A subclass may have one, made in another way.
#[pyclass(frozen, subclass, weakref, generic, module = "sluicegate")]
pub struct ConnectionPool {
    core: core::Pool<Conn>,
    setup: OnceLock<Setup>,
    last_error: Leaf<Option<Py<PyAny>>>,
    /// The fork generation, from one, in which the Python half learned of this pool; it does before the first
    /// connection.
    known: AtomicU32,
    /// Whether a reference count tells who else has an object: under a GIL it does.
    counts_references: bool,
}

const VOID: Policy =
    Policy { max: 0, min: 0, max_waiting: u32::MAX, lifo: true, max_idle: u64::MAX, check_after: u64::MAX };

impl ConnectionPool {
    #[inline]
    fn setup(&self) -> PyResult<&Setup> {
        self.setup.get().ok_or_else(super::void)
    }

    fn name(&self) -> Option<&str> {
        self.setup.get().and_then(|setup| setup.name.as_deref())
    }

    fn set_last_error(&self, py: Python<'_>, error: Option<&PyErr>) {
        let error = error.map(|error| error.value(py).clone().into_any().unbind());
        let before = std::mem::replace(&mut *self.last_error.lock(), error);
        drop(before);
    }

    fn last_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.last_error.lock().as_ref().map(|error| error.clone_ref(py))
    }

    /// Has the Python half know of this pool, and close what is left of it at exit.
    fn introduce(slf: &Bound<'_, Self>) -> PyResult<()> {
        let pool = slf.get();
        let now = fork::generation() + 1;
        if pool.known.swap(now, Ordering::Relaxed) != now {
            let background = pool.setup()?.background;
            errors::module(slf.py())?.getattr("_introduce")?.call1((slf, background))?;
        }
        Ok(())
    }
}

#[pymethods]
impl ConnectionPool {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(factory, max_size=10, *, min_size=0, timeout=30.0, max_waiting=None, max_lifetime=3600.0, \
                          max_idle=600.0, jitter=0.1, lifo=True, check=None, check_after=1.0, reset=None, close=None, \
                          on_create=None, on_acquire=None, on_release=None, retry=None, create_timeout=None, \
                          leak_after=None, limit=None, detect_deadlock=False, background=None, name=None)"
    )]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let sys = py.import("sys")?;
        let counts_references = match sys.getattr_opt("_is_gil_enabled")? {
            Some(enabled) => enabled.call0()?.is_truthy()?,
            None => true,
        };
        Ok(Self {
            core: core::Pool::new(VOID),
            setup: OnceLock::new(),
            last_error: Leaf::new(None),
            known: AtomicU32::new(0),
            counts_references,
        })
    }

    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    #[pyo3(signature = (
        factory, max_size=Arg::ABSENT, *, min_size=Arg::ABSENT, timeout=Some(30.0), max_waiting=None,
        max_lifetime=Some(3600.0), max_idle=Some(600.0), jitter=0.1, lifo=true, check=None, check_after=1.0,
        reset=None, close=None, on_create=None, on_acquire=None, on_release=None, retry=None, create_timeout=None,
        leak_after=None, limit=None, detect_deadlock=false, background=None, name=None
    ))]
    fn __init__(
        slf: &Bound<'_, Self>,
        factory: &Bound<'_, PyAny>,
        max_size: Arg<'_, '_>,
        min_size: Arg<'_, '_>,
        timeout: Option<f64>,
        max_waiting: Option<&Bound<'_, PyAny>>,
        max_lifetime: Option<f64>,
        max_idle: Option<f64>,
        jitter: f64,
        lifo: bool,
        check: Option<&Bound<'_, PyAny>>,
        check_after: f64,
        reset: Option<&Bound<'_, PyAny>>,
        close: Option<&Bound<'_, PyAny>>,
        on_create: Option<&Bound<'_, PyAny>>,
        on_acquire: Option<&Bound<'_, PyAny>>,
        on_release: Option<&Bound<'_, PyAny>>,
        retry: Option<&Bound<'_, PyAny>>,
        create_timeout: Option<f64>,
        leak_after: Option<f64>,
        limit: Option<&Bound<'_, PyAny>>,
        detect_deadlock: bool,
        background: Option<bool>,
        name: Option<String>,
    ) -> PyResult<()> {
        if !factory.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "factory must be callable, not {}",
                factory.get_type().name()?
            )));
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(PyValueError::new_err(format!("jitter must be in 0..1, got {jitter}")));
        }
        let max = max_size
            .given()
            .map_or(Ok(10), |given| count(given, "max_size", 1, "max_size must be one or more"))?;
        let min =
            min_size.given().map_or(Ok(0), |given| count(given, "min_size", 0, "min_size must be >= 0"))?;
        if min > max {
            return Err(PyValueError::new_err(format!("min_size={min} is more than max_size={max}")));
        }
        let max_waiting = max_waiting
            .map(|given| count(given, "max_waiting", 0, "max_waiting must be >= 0 or None"))
            .transpose()?;
        let check_after = seconds("check_after", Some(check_after))?.map_or(0, span);
        let policy = Policy {
            max,
            min,
            max_waiting: max_waiting.unwrap_or(u32::MAX),
            lifo,
            max_idle: seconds("max_idle", max_idle)?.map_or(u64::MAX, span),
            check_after: if check.is_some() { check_after } else { u64::MAX },
        };
        let setup = Setup {
            factory: factory.clone().unbind(),
            check: Hook::new("check", check)?,
            reset: Hook::new("reset", reset)?,
            close: Hook::new("close", close)?,
            on_create: Hook::new("on_create", on_create)?,
            on_acquire: Hook::new("on_acquire", on_acquire)?,
            on_release: Hook::new("on_release", on_release)?,
            limit: limit.map(|limit| limit.clone().unbind()),
            name,
            timeout: seconds("timeout", timeout)?,
            create_timeout: seconds("create_timeout", create_timeout)?,
            max_lifetime: seconds("max_lifetime", max_lifetime)?.map(span),
            jitter,
            retry: retry.map(backoff).transpose()?,
            leak_after: seconds("leak_after", leak_after)?,
            detect_deadlock,
            background: background.unwrap_or(min > 0),
        };
        let (pool, background) = (slf.get(), setup.background);
        if pool.setup.set(setup).is_err() {
            return Err(PyRuntimeError::new_err("a pool is initialised once"));
        }
        pool.core.set_policy(|its| *its = policy);
        if background { Self::introduce(slf) } else { Ok(()) }
    }

    /// A context that has a connection: entering it acquires one, leaving it returns it.
    ///
    /// >>> from sluicegate import ConnectionPool
    /// >>> pool = ConnectionPool(dict)
    /// >>> with pool.connection(timeout=1.0) as conn:
    /// ...     conn.update(x=1)
    ///
    /// After an exception in the block the connection is checked (with `check`) and reset, or closed if it is dead.
    /// Entering it raises what acquire() raises. Corresponds to psycopg_pool's `ConnectionPool.connection()`.
    #[pyo3(signature = (timeout=Arg::ABSENT), text_signature = "($self, timeout=...)")]
    #[allow(clippy::needless_pass_by_value)]
    fn connection(slf: Bound<'_, Self>, timeout: Arg<'_, '_>) -> Connection {
        Connection::new(slf.unbind(), timeout.given().map(|given| given.clone().unbind()))
    }

    /// Take a connection, waiting for one up to `timeout` seconds (None: for ever; left out: the pool's own timeout).
    ///
    /// >>> from sluicegate import ConnectionPool
    /// >>> pool = ConnectionPool(dict)
    /// >>> conn = pool.acquire()
    /// >>> pool.release(conn)
    ///
    /// It is to be returned by the thread that took it: release() or discard(). Raises PoolTimeout when the time runs
    /// out, PoolClosed, PoolFull beyond max_waiting, and what the factory raises; nothing was taken then.
    /// Corresponds to psycopg_pool's `getconn()`.
    #[pyo3(signature = (timeout=Arg::ABSENT), text_signature = "($self, timeout=...)")]
    #[allow(clippy::needless_pass_by_value)]
    fn acquire(slf: &Bound<'_, Self>, timeout: Arg<'_, '_>) -> PyResult<Py<PyAny>> {
        Ok(slf.get().obtain(slf, Timeout::new(&timeout))?.0)
    }

    /// Take a connection if one is idle or may be opened now: it, or None.
    ///
    /// >>> from sluicegate import ConnectionPool
    /// >>> pool = ConnectionPool(dict, max_size=1)
    /// >>> conn = pool.try_acquire()
    /// >>> pool.try_acquire() is None
    /// True
    ///
    /// It never waits for another user, but may for the factory. Raises PoolClosed and what the factory raises.
    fn try_acquire(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Ok(slf.get().obtain_now(slf)?.map(|(conn, _)| conn))
    }

    /// Return a connection; the first waiter gets it.
    ///
    /// Raises NotOwned at a second return, for a connection of another pool, and for one that another thread took and
    /// still may return; nothing has changed then. Corresponds to psycopg_pool's `putconn()`.
    fn release(&self, conn: &Bound<'_, PyAny>) -> PyResult<()> {
        self.give_back(conn, Claim::Thread(thread(conn.py())?), false)
    }

    /// release() for an integration that knows by itself whose a connection is, whatever thread it comes from.
    fn _give_back(&self, conn: &Bound<'_, PyAny>) -> PyResult<()> {
        self.give_back(conn, Claim::Heir, false)
    }

    /// Close a connection that is broken, and let another one be opened in its place.
    ///
    /// Raises NotOwned as release() does.
    fn discard(&self, conn: &Bound<'_, PyAny>) -> PyResult<()> {
        self.throw_away(conn, Claim::Thread(thread(conn.py())?))
    }

    /// acquire() by another name.
    #[pyo3(signature = (timeout=Arg::ABSENT), text_signature = "($self, timeout=...)")]
    fn get_conn(slf: &Bound<'_, Self>, timeout: Arg<'_, '_>) -> PyResult<Py<PyAny>> {
        Self::acquire(slf, timeout)
    }

    /// release() by another name: it returns the connection to the pool, and closes nothing.
    fn close_conn(&self, conn: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release(conn)
    }

    /// Take a connection as a Lease, which returns it by itself when it is collected, with a ResourceWarning.
    ///
    /// Raises what acquire() raises.
    #[pyo3(signature = (timeout=Arg::ABSENT), text_signature = "($self, timeout=...)")]
    #[allow(clippy::needless_pass_by_value)]
    fn lease(slf: &Bound<'_, Self>, timeout: Arg<'_, '_>) -> PyResult<Lease> {
        let origin = origin(slf.py())?;
        let (conn, loan) = slf.get().obtain(slf, Timeout::new(&timeout))?;
        Ok(Lease::new(slf.clone().unbind(), conn, loan, origin))
    }

    /// Change the most connections, and the least.
    ///
    /// More can be opened at once, and waiters are served. Fewer: idle ones are closed at once, others when they are
    /// returned. Raises ValueError for sizes that make no sense; nothing has changed then.
    #[pyo3(signature = (max_size, min_size=None))]
    fn resize(
        slf: &Bound<'_, Self>,
        max_size: &Bound<'_, PyAny>,
        min_size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let pool = slf.get();
        pool.setup()?;
        let max = count(max_size, "max_size", 1, "max_size must be one or more")?;
        let min = match min_size {
            Some(given) => count(given, "min_size", 0, "min_size must be >= 0")?,
            None => pool.core.sizes().min.min(max),
        };
        if min > max {
            return Err(PyValueError::new_err(format!("min_size={min} is more than max_size={max}")));
        }
        pool.core.set_policy(|policy| (policy.max, policy.min) = (max, min));
        pool.sweep(slf.py())
    }

    /// Check every idle connection now, and close the dead: how many there were.
    ///
    /// Without a `check` it does nothing.
    fn check(&self, py: Python<'_>) -> PyResult<usize> {
        let setup = self.setup()?;
        if !setup.check.is_set() {
            return Ok(0);
        }
        let (mut dead, mut raised) = (0, None);
        for permit in self.core.take_idle(0) {
            let alive = match (&raised, permit.conn()) {
                (None, Some(conn)) => setup.is_alive(conn.0.bind(py)),
                _ => Ok(true),
            };
            let done = match alive {
                Ok(true) => permit.shelve().or_else(|permit| self.dispose(py, setup, permit)),
                Ok(false) => {
                    dead += 1;
                    self.core.count_failed();
                    self.dispose(py, setup, permit)
                }
                Err(error) => self.dispose(py, setup, permit).and(Err(error)),
            };
            raised = raised.or(done.err());
        }
        raised.map_or(Ok(dead), Err)
    }

    /// Close every idle connection now, and every other one when it is returned: new ones take their place.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        self.setup()?;
        self.core.retire();
        self.sweep(py)
    }

    /// Open connections until there are `min_size`, within `timeout` seconds.
    ///
    /// Raises PoolTimeout when the time runs out, and what the factory raises.
    #[pyo3(signature = (timeout=Some(30.0)), text_signature = "($self, timeout=30.0)")]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<()> {
        let pool = slf.get();
        let deadline = setup::after(seconds("timeout", timeout)?);
        if pool.fill(slf, deadline)? {
            return Ok(());
        }
        if pool.core.is_closed() {
            return Err(errors::closed(slf.py(), pool.name()));
        }
        let last = pool.last_error(slf.py());
        Err(errors::made(slf.py(), "_timeout", (slf, timeout.unwrap_or(0.0), last, false)))
    }

    /// Close the pool: waiters and later acquires get PoolClosed, idle connections are closed now, others when they
    /// are returned.
    ///
    /// Waits up to `timeout` seconds for these; with `force` it closes those that are still out then. Whether all are
    /// closed. Closing again is allowed. Corresponds to psycopg_pool's `close()`.
    #[pyo3(
        signature = (timeout=Some(5.0), *, force=false),
        text_signature = "($self, timeout=5.0, *, force=False)"
    )]
    fn close(&self, py: Python<'_>, timeout: Option<f64>, force: bool) -> PyResult<bool> {
        let (setup, deadline) = (self.setup()?, setup::after(seconds("timeout", timeout)?));
        self.core.close();
        let mut raised = None;
        for permit in self.core.take_idle(0) {
            raised = raised.or(self.dispose(py, setup, permit).err());
        }
        if let Some(error) = raised {
            return Err(error);
        }
        let me = thread(py)?;
        let loans = self.core.loans();
        // Nobody else can return what this thread has.
        let hopeless = !loans.is_empty()
            && loans.iter().all(|loan| loan.thread == me)
            && loans.len() == self.core.sizes().size as usize;
        drop(loans);
        let now = Some(std::time::Instant::now());
        let all = self.core.wait_empty(if hopeless { now } else { deadline }, &py)?;
        if all || !force {
            return Ok(all);
        }
        for conn in self.core.force_out() {
            raised = raised.or(setup.close(conn.0.bind(py)).err());
        }
        raised.map_or(Ok(self.core.sizes().size == 0), Err)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (t, v, tb, /))]
    #[allow(unused_variables)]
    fn __exit__(&self, t: &Bound<'_, PyAny>, v: &Bound<'_, PyAny>, tb: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(t.py(), Some(5.0), false).map(drop)
    }

    /// Open connections: idle, in use, and being opened.
    #[getter]
    fn size(&self) -> u32 {
        self.core.sizes().size
    }

    /// Connections that wait for a user.
    #[getter]
    fn idle(&self) -> u32 {
        self.core.sizes().idle
    }

    /// Connections that are out, or being opened, checked or reset.
    #[getter]
    fn in_use(&self) -> u32 {
        let Sizes { size, idle, .. } = self.core.sizes();
        size - idle
    }

    /// Threads that wait for a connection.
    #[getter]
    fn waiting(&self) -> u32 {
        self.core.sizes().waiting
    }

    /// The most connections.
    #[getter]
    fn max_size(&self) -> u32 {
        self.core.sizes().max
    }

    /// The least.
    #[getter]
    fn min_size(&self) -> u32 {
        self.core.sizes().min
    }

    /// Whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    /// The name given to the pool, for messages.
    #[getter(name)]
    fn its_name(&self) -> Option<&str> {
        self.name()
    }

    /// What has happened since the pool was made, as PoolStats: counters, and histograms of wait, use and create times.
    fn stats<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, stats, sizes) = (slf.py(), slf.get().core.stats(), slf.get().core.sizes());
        let histogram = |one: &core::Histogram| (one.buckets.to_vec(), one.sum, one.max);
        let counters = [
            ("acquired", stats.acquired),
            ("returned", stats.returned),
            ("created", stats.created),
            ("create_failed", stats.create_failed),
            ("discarded", stats.discarded),
            ("expired", stats.expired),
            ("failed", stats.failed),
            ("timeouts", stats.timeouts),
            ("refused", stats.refused),
            ("size", sizes.size.into()),
            ("idle", sizes.idle.into()),
            ("waiting", sizes.waiting.into()),
        ];
        let times = (histogram(&stats.wait), histogram(&stats.used), histogram(&stats.create));
        errors::module(py)?.getattr("_stats")?.call1((counters.to_vec(), times))
    }

    /// Who has a connection: a list of Holder(conn, thread, held, where, loan, ended), the longest first.
    ///
    /// `held` is in seconds; `where` is known if `leak_after` was given; `ended` says that the thread is no more.
    fn holders<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let mut loans = slf.get().core.loans();
        loans.sort_by_key(|loan| std::cmp::Reverse(loan.held));
        let mut threads = Ended::new(slf.py());
        #[allow(clippy::cast_precision_loss)]
        let loans: Vec<_> = loans
            .into_iter()
            .map(|loan| {
                let (held, origin) = (loan.held as f64 / 1e9, loan.origin.map(|origin| origin.0));
                let ended = threads.contains(loan.thread)?;
                Ok((loan.conn.0, loan.thread.ident, held, origin, loan.number, ended))
            })
            .collect::<PyResult<_>>()?;
        errors::module(slf.py())?.getattr("_holders")?.call1((loans,))
    }

    /// What the helper thread does for a pool: closes what is overdue, opens what is missing; what `leak_after` is.
    fn _tend(slf: &Bound<'_, Self>) -> PyResult<Option<f64>> {
        let pool = slf.get();
        let setup = pool.setup()?;
        pool.sweep(slf.py())?;
        if !pool.core.is_closed() {
            pool.fill(slf, setup::after(Some(1.0)))?;
        }
        Ok(setup.leak_after)
    }

    /// What happens to a pool at the interpreter's exit.
    fn _close_idle(&self, py: Python<'_>) -> PyResult<()> {
        let Some(setup) = self.setup.get() else { return Ok(()) };
        self.core.close();
        self.core.take_idle(0).into_iter().try_for_each(|permit| self.dispose(py, setup, permit))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (class, sizes) = (slf.get_type(), slf.get().core.sizes());
        let (module, class) = (class.module()?, class.qualname()?);
        let name = slf.get().name().map_or(String::new(), |name| format!(" {name:?}"));
        let closed = if slf.get().core.is_closed() { ", closed" } else { "" };
        Ok(format!(
            "<{module}.{class}{name} at {:#x}: in_use={}, idle={}, waiting={}, max_size={}{closed}>",
            slf.as_ptr().addr(),
            sizes.size - sizes.idle,
            sizes.idle,
            sizes.waiting,
            sizes.max
        ))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(PyTypeError::new_err(format!("cannot pickle '{}' object", slf.get_type().name()?)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(setup) = self.setup.get() {
            setup.traverse(&visit)?;
        }
        if let Some(error) = self.last_error.try_lock() {
            visit.call(&*error)?;
        }
        self.core.visit(|conn| visit.call(&conn.0))
    }

    fn __clear__(&self) {
        let (conns, error) = (self.core.clear(), self.last_error.lock().take());
        drop((conns, error));
    }
}

impl Drop for ConnectionPool {
    /// A pool that nobody has any more closes what is idle; what is out keeps the pool alive, or is lost anyway.
    fn drop(&mut self) {
        let Some(setup) = self.setup.get() else { return };
        if self.core.sizes().idle == 0 {
            return;
        }
        Python::try_attach(|py| {
            let raised = PyErr::take(py);
            for permit in self.core.take_idle(0) {
                if let Err(error) = self.dispose(py, setup, permit) {
                    error.write_unraisable(py, None);
                }
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}
