//! A connection on its way back from the user: what runs with no lock held.

use super::setup::Setup;
use super::thread::Ended;
use super::{Conn, ConnectionPool, errors};
use crate::core::pool::{Claim, GivenBack, NotOwned, Permit};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

impl ConnectionPool {
    #[inline]
    pub fn give_back(&self, conn: &Bound<'_, PyAny>, claim: Claim, failed: bool) -> PyResult<()> {
        match self.try_give_back(conn, claim, failed)? {
            Ok(()) => Ok(()),
            Err(why) => match self.inherited(conn, claim, why)? {
                Some(claim) => self.give_back(conn, claim, failed),
                None => Err(self.not_owned(conn, why)),
            },
        }
    }

    #[inline]
    pub fn try_give_back(
        &self,
        conn: &Bound<'_, PyAny>,
        claim: Claim,
        failed: bool,
    ) -> PyResult<Result<(), NotOwned>> {
        let (py, setup) = (conn.py(), self.setup()?);
        if setup.watches_release() || failed && setup.check.is_set() {
            return self.give_back_slowly(setup, conn, claim, failed);
        }
        match self.core.give_back(super::key(conn), claim) {
            Ok(GivenBack::Kept { overdue: false } | GivenBack::Gone(_)) => Ok(Ok(())),
            Ok(GivenBack::Kept { overdue: true }) => self.sweep(py).map(Ok),
            Ok(GivenBack::Spent(permit)) => self.dispose(py, setup, permit).map(Ok),
            Err(why) => Ok(Err(why)),
        }
    }

    fn give_back_slowly(
        &self,
        setup: &Setup,
        conn: &Bound<'_, PyAny>,
        claim: Claim,
        failed: bool,
    ) -> PyResult<Result<(), NotOwned>> {
        let py = conn.py();
        match self.core.claim(super::key(conn), claim) {
            Ok(Ok(permit)) => self.refresh(py, setup, permit, conn, failed).map(Ok),
            Ok(Err(_gone)) => Ok(Ok(())),
            Err(why) => Ok(Err(why)),
        }
    }

    /// Makes a connection that came back ready for its next user, or closes it.
    pub fn refresh(
        &self,
        py: Python<'_>,
        setup: &Setup,
        permit: Permit<'_, Conn>,
        conn: &Bound<'_, PyAny>,
        failed: bool,
    ) -> PyResult<()> {
        let clean =
            setup.on_release.call(conn).and_then(|_| if failed { setup.is_alive(conn) } else { Ok(true) });
        let clean = match clean {
            Ok(true) => setup.reset.call(conn).map(|_| true),
            other => other,
        };
        match clean {
            Ok(true) if !setup.is_pressed(py).unwrap_or(false) => {
                if let Err(permit) = permit.shelve() {
                    self.dispose(py, setup, permit)?;
                }
                return self.sweep(py);
            }
            Ok(true) => return self.dispose(py, setup, permit),
            _ => self.core.count_failed(),
        }
        let disposed = self.dispose(py, setup, permit);
        match clean {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                errors::report(py, setup.name.as_deref(), "reset", &error);
                disposed
            }
            Err(error) => Err(error),
            Ok(_) => disposed,
        }
    }

    pub fn throw_away(&self, conn: &Bound<'_, PyAny>, claim: Claim) -> PyResult<()> {
        let setup = self.setup()?;
        match self.core.claim(super::key(conn), claim) {
            Ok(Ok(permit)) => self.dispose(conn.py(), setup, permit),
            Ok(Err(_gone)) => Ok(()),
            Err(why) => match self.inherited(conn, claim, why)? {
                Some(claim) => self.throw_away(conn, claim),
                None => Err(self.not_owned(conn, why)),
            },
        }
    }

    /// Closes what is in a slot. The slot is freed first, so that a close that hangs keeps nobody waiting; in a
    /// closed pool last, so that the pool is empty when everything is closed.
    pub fn dispose(&self, py: Python<'_>, setup: &Setup, permit: Permit<'_, Conn>) -> PyResult<()> {
        let conn = permit.empty();
        let last = if self.core.is_closed() {
            Some(permit)
        } else {
            drop(permit);
            None
        };
        let closed = conn.map_or(Ok(()), |conn| setup.close(conn.0.bind(py)));
        drop(last);
        closed
    }

    /// Closes the idle connections that are not to be kept.
    pub fn sweep(&self, py: Python<'_>) -> PyResult<()> {
        let setup = self.setup()?;
        while let Some(permit) = self.core.take_overdue() {
            self.dispose(py, setup, permit)?;
        }
        Ok(())
    }

    /// Takes back what nobody can return any more: the pool's own reference to it is the last.
    pub fn reclaim_lost(&self, this: &Bound<'_, Self>, setup: &Setup) -> PyResult<()> {
        let py = this.py();
        if !self.counts_references {
            return Ok(());
        }
        let count = py.import("sys")?.getattr("getrefcount")?;
        let count = |conn: &Bound<'_, PyAny>| count.call1((conn,))?.extract::<usize>();
        // One reference, and those that counting takes.
        let alone = count(&pyo3::types::PyDict::new(py))?;
        for loan in self.core.loans() {
            let conn = loan.conn.0.bind(py);
            // `loan` is another one.
            if count(conn)? > alone + 1 {
                continue;
            }
            if let Ok(Ok(permit)) = self.core.claim(super::key(conn), Claim::Loan(loan.number)) {
                self.refresh(py, setup, permit, conn, true)?;
                errors::module(py)?.getattr("_lost")?.call1((
                    this,
                    conn,
                    loan.origin.map(|origin| origin.0),
                ))?;
            }
        }
        Ok(())
    }

    /// What anybody may claim in place of a thread that has ended: this one loan, not a later one of the same
    /// connection, which another heir may have brought back meanwhile.
    #[cold]
    fn inherited(&self, conn: &Bound<'_, PyAny>, claim: Claim, why: NotOwned) -> PyResult<Option<Claim>> {
        if why != NotOwned::Other || !matches!(claim, Claim::Thread(_)) {
            return Ok(None);
        }
        let (py, key) = (conn.py(), super::key(conn));
        match self.core.loans().into_iter().find(|loan| super::key(loan.conn.0.bind(py)) == key) {
            Some(loan) if Ended::new(py).contains(loan.thread)? => Ok(Some(Claim::Loan(loan.number))),
            _ => Ok(None),
        }
    }

    #[cold]
    pub fn not_owned(&self, conn: &Bound<'_, PyAny>, why: NotOwned) -> PyErr {
        errors::not_owned(conn, self.name(), why)
    }
}
