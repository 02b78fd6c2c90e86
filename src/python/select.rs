//! `select`, and what `after` and `tick` return.

use super::channel::{Channel, until};
use super::wait::{deadline, seconds};
use super::{Closed, MONOTONIC, refused};
use crate::core::channel::Refusal;
use crate::core::select::{self as core, Case, Fired};
use crate::core::timer;
use pyo3::exceptions::{PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::time::{Duration, Instant};

/// A case as it was given, which keeps alive what the core borrows.
enum Asked<'py> {
    Recv(Bound<'py, Channel>),
    Send(Bound<'py, Channel>, Bound<'py, PyAny>),
    Tick(Bound<'py, Timer>),
}

impl<'py> Asked<'py> {
    fn new(number: usize, given: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(channel) = given.cast::<Channel>() {
            return Ok(Self::Recv(channel.clone()));
        }
        if let Ok(timer) = given.cast::<Timer>() {
            return Ok(Self::Tick(timer.clone()));
        }
        if let Ok((channel, item)) = given.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>() {
            if let Ok(channel) = channel.cast_into::<Channel>() {
                return Ok(Self::Send(channel, item));
            }
        }
        Err(PyTypeError::new_err(format!(
            "case {number} must be a Channel, a Timer or a pair (Channel, item), not {}",
            given.repr()?
        )))
    }

    fn as_case(&self) -> Case<'_, Py<PyAny>> {
        match self {
            Self::Recv(channel) => Case::Recv(&channel.get().core),
            Self::Send(channel, item) => Case::Send(&channel.get().core, Some(item.clone().unbind())),
            Self::Tick(timer) => Case::Tick(&timer.get().core),
        }
    }

    /// What this case waits for, and the item it is to send.
    fn into_parts(self) -> (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>) {
        match self {
            Self::Recv(channel) => (channel.into_any(), None),
            Self::Send(channel, item) => (channel.into_any(), Some(item)),
            Self::Tick(timer) => (timer.into_any(), None),
        }
    }
}

/// Wait until one of the cases can go on, do exactly that one, and return its channel and its item.
///
/// A channel is a case that receives, a pair `(channel, item)` one that sends, and what after() and tick() return
/// can be received from too. If several are ready, one is picked at random; the items of the others stay where
/// they are. All channels are looked at in the same moment, and two selects can meet each other.
///
/// >>> from sluicegate import Channel, after, select
/// >>> letters, numbers, late = Channel(1), Channel(1), after(5)
/// >>> numbers.send(7)
/// >>> channel, item = select(letters, numbers, late)
/// >>> channel is numbers, item
/// (True, 7)
///
/// A closed channel is ready: when its case is picked, Closed is raised, whose `channel` is that channel and whose
/// `item` is what was not sent. Raises TimeoutError when the timeout (in seconds) ran out, at once for a timeout of
/// 0; ValueError without a case or for a negative timeout; TypeError for what is no case. An exception from a signal
/// handler interrupts the wait: nothing was received then, and nothing sent unless it was received in that very
/// moment. The standard library has no counterpart for threads.
#[pyfunction]
#[pyo3(signature = (*cases, timeout=None))]
pub fn select<'py>(
    cases: &Bound<'py, PyTuple>,
    timeout: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = cases.py();
    let mut asked = Vec::with_capacity(cases.len());
    for (index, case) in cases.iter().enumerate() {
        asked.push(Asked::new(index + 1, &case)?);
    }
    if asked.is_empty() {
        return Err(PyValueError::new_err("select() needs a case to wait for"));
    }
    let deadline = until(timeout)?;
    let outcome = {
        let mut cases: Vec<_> = asked.iter().map(Asked::as_case).collect();
        core::select(&mut cases, deadline, &py)
    };
    let (index, fired) = match outcome {
        Ok(fired) => fired,
        Err(Refusal::Interrupted(raised)) => return Err(raised),
        Err(_) => return Err(PyTimeoutError::new_err("no case was ready within the timeout")),
    };
    let (channel, item) = asked.swap_remove(index).into_parts();
    match fired {
        Fired::Received(item) => Ok((channel, item.into_bound(py))),
        Fired::Sent => Ok((channel, item.into_pyobject(py)?)),
        Fired::Ticked(moment) => Ok((channel, clock(py, moment)?)),
        Fired::Closed => {
            let error = Closed::new_err("the channel is closed");
            error.value(py).setattr("channel", channel)?;
            error.value(py).setattr("item", item)?;
            Err(error)
        }
    }
}

/// A timer whose one item comes after so many seconds.
///
/// >>> from sluicegate import after, select
/// >>> soon = after(0.01)
/// >>> channel, moment = select(soon, after(60))
/// >>> channel is soon
/// True
///
/// The item is the moment it was due, by time.monotonic(). If several wait for it, one gets it; to whoever waits
/// later the timer is closed. Raises ValueError for a negative number, OverflowError above threading.TIMEOUT_MAX.
/// Unlike `threading.Timer` it needs no thread, and nothing to stop it.
#[pyfunction]
pub fn after(seconds: &Bound<'_, PyAny>) -> PyResult<Timer> {
    if seconds.lt(0)? {
        return Err(PyValueError::new_err(format!("seconds must be >= 0, got {seconds}")));
    }
    Ok(Timer { core: timer::Timer::at(deadline(Some(seconds))?) })
}

/// A timer with an item at the end of every period of so many seconds.
///
/// >>> from sluicegate import tick
/// >>> beat = tick(0.01)
/// >>> first, second = beat.recv(), beat.recv()
/// >>> round(second - first, 2)
/// 0.01
///
/// The item is the moment it was due, by time.monotonic(). A tick that nobody waited for stays until it is received;
/// those after it are skipped, and the rhythm is kept. Raises ValueError for a period that is not above 0,
/// OverflowError above threading.TIMEOUT_MAX. It needs no thread, and nothing to stop it.
#[pyfunction]
pub fn tick(period: &Bound<'_, PyAny>) -> PyResult<Timer> {
    if period.le(0)? {
        return Err(PyValueError::new_err(format!("period must be > 0, got {period}")));
    }
    Ok(Timer { core: timer::Timer::every(Duration::from_secs_f64(seconds(period)?)) })
}

/// What after() and tick() return: a channel of moments, to be received from.
///
/// >>> from sluicegate import after
/// >>> len(list(after(0.01)))
/// 1
#[pyclass(frozen, weakref, module = "sluicegate")]
pub struct Timer {
    core: timer::Timer,
}

#[pymethods]
impl Timer {
    /// Take the moment out when it comes, waiting for at most `timeout` seconds.
    ///
    /// Raises queue.Empty when the timeout ran out, Closed if the timer had one item and somebody took it,
    /// ValueError for a negative timeout.
    #[pyo3(signature = (timeout=None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        match self.wait(py, until(timeout)?)? {
            Some(moment) => clock(py, moment),
            None => Err(Closed::new_err("the timer had one item, and it was received")),
        }
    }

    /// Take the moment out if it has come.
    ///
    /// Raises what recv() raises.
    fn try_recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.core.fire::<()>(Instant::now()) {
            Some(Fired::Ticked(moment)) => clock(py, moment),
            None => Err(refused(py, Refusal::Unready)),
            Some(_) => Err(Closed::new_err("the timer had one item, and it was received")),
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.wait(py, None)?.map(|moment| clock(py, moment)).transpose()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let core = &slf.get().core;
        let kind =
            core.period().map_or("after".to_owned(), |period| format!("every {}", period.as_secs_f64()));
        let due = core.due().map_or("spent".to_owned(), |due| {
            format!("due in {:.3}", due.saturating_duration_since(Instant::now()).as_secs_f64())
        });
        format!("<sluicegate.Timer at {:#x}: {kind}, {due}>", slf.as_ptr().addr())
    }
}

impl Timer {
    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<Option<Instant>> {
        match core::select::<(), _>(&mut [Case::Tick(&self.core)], deadline, &py) {
            Ok((_, Fired::Ticked(moment))) => Ok(Some(moment)),
            Ok(_) => Ok(None),
            Err(why) => Err(refused(py, why)),
        }
    }
}

/// A moment as `time.monotonic()` tells it.
fn clock(py: Python<'_>, moment: Instant) -> PyResult<Bound<'_, PyAny>> {
    let monotonic = MONOTONIC.import(py, "time", "monotonic")?;
    let (now, reading): (Instant, f64) = (Instant::now(), monotonic.call0()?.extract()?);
    let late = now.saturating_duration_since(moment).as_secs_f64();
    Ok((reading - late).into_pyobject(py)?.into_any())
}
