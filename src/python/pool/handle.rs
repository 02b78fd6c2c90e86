//! A connection on its way to the user and back: what runs with no lock held.

use super::setup::{Setup, Timeout};
use super::thread::thread;
use super::{Conn, ConnectionPool, Ticket, errors};
use crate::core::pool::{AcquireError, Asking, Claim, Permit, Taken};
use crate::core::sync::Leaf;
use crate::python::semaphore::Semaphore;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// How long to wait for a permit of the limit before looking whether a connection of the pool's own is idle: at first,
/// at most, and where there is none that could be.
const LIMIT_SLICES: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(40), Duration::from_secs(1)];

/// What became of an attempt to open a connection.
enum Opening<'p> {
    Open(Permit<'p, Conn>),
    /// Not before then.
    NotYet(Instant),
    /// One was idle before the limit had a permit.
    Idle(Taken<'p, Conn>),
    OutOfTime,
}

/// A permit, unless a helper thread still has it, and what the factory gave.
type Elsewhere<'p, 'py> = (Option<Permit<'p, Conn>>, PyResult<Bound<'py, PyAny>>);

/// A connection and the number of its loan.
type Lent = (Py<PyAny>, u64);

impl ConnectionPool {
    /// Takes a connection for the user;
    #[inline]
    pub fn obtain(&self, this: &Bound<'_, Self>, timeout: Timeout<'_, '_>) -> PyResult<Lent> {
        let (py, setup) = (this.py(), self.setup()?);
        let asking = setup.asking(py)?;
        match self.core.try_acquire::<PyErr>(asking) {
            Ok(Some(Taken::Lent(conn, loan))) if !setup.watches_acquire() => Ok((conn.0, loan)),
            first => self.obtain_slowly(this, setup, asking, timeout, first),
        }
    }

    /// The same without waiting: None where there is nothing to take, or to open.
    pub fn obtain_now(&self, this: &Bound<'_, Self>) -> PyResult<Option<Lent>> {
        let (py, setup) = (this.py(), self.setup()?);
        let asking = setup.asking(py)?;
        match self.core.try_acquire::<PyErr>(asking) {
            Ok(None) => Ok(None),
            Ok(Some(Taken::Lent(conn, loan))) if !setup.watches_acquire() => Ok(Some((conn.0, loan))),
            first => self.pursue(this, setup, asking, Some(Instant::now()), first),
        }
    }

    #[cold]
    fn obtain_slowly<'p>(
        &'p self,
        this: &Bound<'_, Self>,
        setup: &Setup,
        asking: Asking,
        timeout: Timeout<'_, '_>,
        first: Result<Option<Taken<'p, Conn>>, AcquireError<PyErr>>,
    ) -> PyResult<Lent> {
        let py = this.py();
        let begin = Instant::now();
        let deadline = timeout.deadline(setup)?;
        if let Some(lent) = self.pursue(this, setup, asking, deadline, first)? {
            return Ok(lent);
        }
        self.core.count_timeout();
        let deadlocked = self.core.is_deadlocked(asking.thread);
        Err(errors::made(
            py,
            "_timeout",
            (this, begin.elapsed().as_secs_f64(), self.last_error(py), deadlocked),
        ))
    }

    /// Takes or opens a connection until the deadline: None when that came first.
    fn pursue<'p>(
        &'p self,
        this: &Bound<'_, Self>,
        setup: &Setup,
        asking: Asking,
        deadline: Option<Instant>,
        first: Result<Option<Taken<'p, Conn>>, AcquireError<PyErr>>,
    ) -> PyResult<Option<Lent>> {
        let py = this.py();
        let mut answer = first;
        // Closed for opening until then, by a failure before.
        let mut gate: Option<Instant> = None;
        loop {
            let until =
                gate.map_or(deadline, |gate| Some(deadline.map_or(gate, |deadline| deadline.min(gate))));
            if matches!(answer, Ok(None)) {
                self.reclaim_lost(this, setup)?;
                let asking = Asking { create: gate.is_none(), ..asking };
                answer = self.core.acquire(asking, until, &py).map(Some);
            }
            let taken = match answer {
                Ok(Some(taken)) => taken,
                // acquire() always has an answer.
                Ok(None) => return Ok(None),
                Err(AcquireError::TimedOut)
                    if gate.is_some() && deadline.is_none_or(|last| Instant::now() < last) =>
                {
                    gate = None;
                    answer = self.core.try_acquire(asking);
                    continue;
                }
                Err(error) => return self.not_obtained(this, setup, error).map_or(Ok(None), Err),
            };
            match self.ready(this, setup, taken, deadline)? {
                Ok(lent) => return self.hand_out(py, setup, lent).map(Some),
                Err(Opening::NotYet(until)) => gate = Some(until),
                Err(Opening::OutOfTime) => return Ok(None),
                Err(Opening::Idle(taken)) => {
                    answer = Ok(Some(taken));
                    continue;
                }
                Err(Opening::Open(_)) => {}
            }
            answer = Ok(None);
        }
    }

    /// The exception of an acquire that failed; None for one that ran out of time.
    fn not_obtained(
        &self,
        this: &Bound<'_, Self>,
        setup: &Setup,
        error: AcquireError<PyErr>,
    ) -> Option<PyErr> {
        let py = this.py();
        // A connection that was on its way to this thread may be idle now, and of no use any more.
        let swept = self.sweep(py).err();
        let error = match error {
            AcquireError::TimedOut => return swept,
            AcquireError::Closed => errors::closed(py, setup.name.as_deref()),
            AcquireError::Full => errors::made(py, "_full", (this,)),
            AcquireError::Deadlocked => errors::made(py, "_deadlock", (this,)),
            AcquireError::Interrupted(raised) => raised,
        };
        Some(error)
    }

    /// Makes of what the core answered a connection that is out.
    fn ready<'p>(
        &'p self,
        this: &Bound<'_, Self>,
        setup: &Setup,
        taken: Taken<'p, Conn>,
        deadline: Option<Instant>,
    ) -> PyResult<Result<Lent, Opening<'p>>> {
        let py = this.py();
        let permit = match taken {
            Taken::Lent(conn, loan) => return Ok(Ok((conn.0, loan))),
            Taken::Create(permit) => permit,
            Taken::Suspect { permit, spent } => match self.look(py, setup, permit, spent)? {
                Ok(permit) => return self.lend(py, setup, permit).map(Ok),
                Err(permit) => permit,
            },
        };
        match self.open(this, setup, permit, deadline)? {
            Opening::Open(permit) => self.lend(py, setup, permit).map(Ok),
            other => Ok(Err(other)),
        }
    }

    fn lend(&self, py: Python<'_>, setup: &Setup, permit: Permit<'_, Conn>) -> PyResult<Lent> {
        match permit.lend(thread(py)?) {
            Ok((conn, loan)) => Ok((conn.0, loan)),
            Err(permit) => {
                self.dispose(py, setup, permit)?;
                Err(errors::closed(py, setup.name.as_deref()))
            }
        }
    }

    /// Looks at a connection before its use: the slot with it, or, if it was no good, empty.
    fn look<'p>(
        &'p self,
        py: Python<'_>,
        setup: &Setup,
        permit: Permit<'p, Conn>,
        spent: bool,
    ) -> PyResult<Result<Permit<'p, Conn>, Permit<'p, Conn>>> {
        let Some(conn) = permit.conn() else { return Ok(Err(permit)) };
        let alive = if spent { Ok(false) } else { setup.is_alive(conn.0.bind(py)) };
        if let Ok(true) = alive {
            return Ok(Ok(permit));
        }
        drop(permit.empty());
        if !spent {
            self.core.count_failed();
            // What rested longer than this one is no better.
            self.core.suspect_idle();
        }
        let closed = setup.close(conn.0.bind(py));
        alive.and(closed.map(|()| Err(permit)))
    }

    /// Opens a connection in an empty slot.
    fn open<'p>(
        &'p self,
        this: &Bound<'_, Self>,
        setup: &Setup,
        permit: Permit<'p, Conn>,
        deadline: Option<Instant>,
    ) -> PyResult<Opening<'p>> {
        let py = this.py();
        if let Some(Err(until)) = setup.retry.as_ref().map(|retry| self.core.enter_gate(retry)) {
            return Ok(Opening::NotYet(until));
        }
        if let Some(limit) = &setup.limit {
            self.settle_inheritance(limit.bind(py))?;
            if let Some(other) = self.enter_limit(py, limit.bind(py), deadline)? {
                return Ok(other);
            }
            permit.pay();
        }
        if let Err(error) = Self::introduce(this) {
            return setup.free_limit(py).and(Err(error));
        }
        let begin = Instant::now();
        let (permit, made) = match setup.create_timeout {
            None => (permit, setup.factory.bind(py).call0()),
            Some(within) => match self.open_elsewhere(this, setup, permit, within, deadline)? {
                (Some(permit), made) => (permit, made),
                (None, made) => return made.map(|_| Opening::OutOfTime),
            },
        };
        let error = match made.and_then(|conn| self.take_in(setup, &permit, conn)) {
            Ok(()) => {
                self.core.tell_gate(None, Some(crate::core::pool::nanos(begin.elapsed())));
                self.set_last_error(py, None);
                return Ok(Opening::Open(permit));
            }
            Err(error) => error,
        };
        let until = self.core.tell_gate(setup.retry.as_ref(), None);
        setup.free_limit(py)?;
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        self.set_last_error(py, Some(&error));
        until.map_or(Err(error), |until| Ok(Opening::NotYet(until)))
    }

    /// In a child process, gives back the permits of connections that stayed the parent's: the child has a copy of a
    /// semaphore of threads. One that processes share still counts them for the parent.
    fn settle_inheritance(&self, limit: &Bound<'_, PyAny>) -> PyResult<()> {
        let forgotten = self.core.take_forgotten();
        if forgotten > 0 && limit.is_instance_of::<Semaphore>() {
            limit.call_method1("release", (forgotten,))?;
        }
        Ok(())
    }

    /// Waits for a permit of the limit; in between, for an idle connection. None: there is the permit.
    fn enter_limit(
        &self,
        py: Python<'_>,
        limit: &Bound<'_, PyAny>,
        deadline: Option<Instant>,
    ) -> PyResult<Option<Opening<'_>>> {
        let acquire = |slice: Duration| -> PyResult<bool> {
            let kwargs = pyo3::types::PyDict::new(py);
            kwargs.set_item("timeout", slice.as_secs_f64())?;
            limit.call_method("acquire", (), Some(&kwargs))?.is_truthy()
        };
        let [mut slice, longest, alone] = LIMIT_SLICES;
        loop {
            if self.core.loans().is_empty() {
                slice = alone;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if acquire(left.map_or(slice, |left| left.min(slice)))? {
                return Ok(None);
            }
            let asking = Asking { thread: thread(py)?, create: false, deadlock: false };
            match self.core.try_acquire::<PyErr>(asking) {
                Ok(Some(taken)) => return Ok(Some(Opening::Idle(taken))),
                Ok(None) => {}
                Err(_) => return Err(errors::closed(py, self.name())),
            }
            if left.is_some_and(|left| left <= slice) {
                return Ok(Some(Opening::OutOfTime));
            }
            slice = (slice * 2).min(longest);
        }
    }

    /// Has a helper thread call the factory: the permit and what it gave, or, if that took too long, no permit.
    fn open_elsewhere<'p, 'py>(
        &'p self,
        this: &Bound<'py, Self>,
        setup: &Setup,
        permit: Permit<'p, Conn>,
        within: f64,
        deadline: Option<Instant>,
    ) -> PyResult<Elsewhere<'p, 'py>> {
        let py = this.py();
        let left = deadline
            .map_or(f64::INFINITY, |last| last.saturating_duration_since(Instant::now()).as_secs_f64());
        let ticket =
            Bound::new(py, Ticket { pool: this.clone().unbind(), raw: Leaf::new(Some(permit.into_raw())) })?;
        let made = errors::module(py)?.getattr("_create_within")?.call1((
            setup.factory.bind(py),
            &ticket,
            within.min(left),
        ));
        let raw = match &made {
            // The thread that opens it has the ticket, and will put the connection into the pool.
            Err(error) if error.value(py).hasattr("__sluicegate_late__")? => None,
            _ => ticket.get().raw.lock().take(),
        };
        match raw {
            Some(raw) => Ok((Some(Permit::from_raw(&self.core, raw)), made)),
            None if left <= within
                && made.as_ref().is_err_and(|error| error.is_instance_of::<PyException>(py)) =>
            {
                self.set_last_error(py, made.err().as_ref());
                Ok((None, Ok(py.None().into_bound(py))))
            }
            None => Ok((None, made)),
        }
    }

    /// Puts a new connection into its slot; if that fails, it is closed (its permit of the limit is kept).
    fn take_in(&self, setup: &Setup, permit: &Permit<'_, Conn>, conn: Bound<'_, PyAny>) -> PyResult<()> {
        let py = conn.py();
        if conn.is_none() {
            return Err(PyTypeError::new_err("the factory returned None, not a connection"));
        }
        let expires =
            setup.max_lifetime.map_or(u64::MAX, |lifetime| self.core.draw_expiry(lifetime, setup.jitter));
        if let Err(error) = setup.on_create.call(&conn) {
            return setup.close_only(&conn).and(Err(error));
        }
        match permit.fill(Conn(conn.unbind()), expires) {
            Ok(()) => Ok(()),
            Err(conn) => {
                let what = conn.0.bind(py).repr()?;
                let pool = errors::called(self.name());
                Err(errors::failed(py, format!("the factory returned {what}, which {pool} has already")))
            }
        }
    }

    /// Does what is to be done with a connection on its way to the user; if that fails, it goes back.
    fn hand_out(&self, py: Python<'_>, setup: &Setup, (conn, loan): Lent) -> PyResult<Lent> {
        if !setup.watches_acquire() {
            return Ok((conn, loan));
        }
        let bound = conn.bind(py);
        let told = match setup.leak_after {
            Some(_) => {
                super::origin(py).map(|origin| drop(self.core.note_origin(super::key(bound), Conn(origin))))
            }
            None => Ok(()),
        };
        match told.and_then(|()| setup.on_acquire.call(bound)) {
            Ok(_) => Ok((conn, loan)),
            Err(error) => {
                self.try_give_back(bound, Claim::Loan(loan), true)?
                    .map_err(|why| self.not_owned(bound, why))?;
                Err(error)
            }
        }
    }

    /// Opens connections until there are as many as the least: whether there are.
    pub fn fill(&self, this: &Bound<'_, Self>, deadline: Option<Instant>) -> PyResult<bool> {
        let (py, setup) = (this.py(), self.setup()?);
        while let Some(permit) = self.core.try_open(self.core.sizes().min) {
            match self.open(this, setup, permit, deadline)? {
                Opening::Open(permit) => {
                    if let Err(permit) = permit.shelve() {
                        self.dispose(py, setup, permit)?;
                    }
                }
                Opening::Idle(Taken::Lent(conn, loan)) => {
                    self.give_back(conn.0.bind(py), Claim::Loan(loan), false)?;
                }
                Opening::Idle(_) | Opening::NotYet(_) | Opening::OutOfTime => break,
            }
        }
        let sizes = self.core.sizes();
        Ok(sizes.size >= sizes.min.min(sizes.max))
    }

    pub fn adopt(&self, py: Python<'_>, raw: (u32, u32), conn: Bound<'_, PyAny>) -> PyResult<()> {
        let (setup, permit) = (self.setup()?, Permit::from_raw(&self.core, raw));
        if let Err(error) = self.take_in(setup, &permit, conn) {
            setup.free_limit(py)?;
            return Err(error);
        }
        permit.shelve().or_else(|permit| self.dispose(py, setup, permit))
    }

    pub fn fail(&self, py: Python<'_>, raw: (u32, u32), error: Bound<'_, PyAny>) -> PyResult<()> {
        self.core.tell_gate(self.setup()?.retry.as_ref(), None);
        self.set_last_error(py, Some(&PyErr::from_value(error)));
        self.give_up(py, raw)
    }

    pub fn give_up(&self, py: Python<'_>, raw: (u32, u32)) -> PyResult<()> {
        drop(Permit::from_raw(&self.core, raw));
        self.setup()?.free_limit(py)
    }
}
