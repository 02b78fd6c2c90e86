//! `Channel`.

use super::fast::{fast_method, install};
use super::wait::deadline;
use super::{refused, unsent};
use crate::core::channel::{self as core, End, Refusal, UNBOUNDED, Unsent};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;
use std::time::Instant;

/// How many items `send_many` takes from its iterable before it sends them.
const BATCH: usize = 256;

/// A queue of at most `capacity` items between threads, which can be closed.
///
/// Corresponds to `queue.Queue`; closing, iteration, batches and select() are new.
///
/// >>> from sluicegate import Channel
/// >>> with Channel(2) as numbers:
/// ...     numbers.send(1)
/// ...     numbers.send(2)
/// >>> list(numbers)
/// [1, 2]
///
/// With a capacity of 0 a sender waits until its item is received; with None it never waits. Items come out in the
/// order they went in, and who waits longest is served first. A channel is always true, however many items it holds.
///
/// Raises ValueError for a negative capacity, TypeError for one that is neither an int nor None.
#[pyclass(frozen, subclass, weakref, generic, module = "sluicegate")]
pub struct Channel {
    pub core: core::Channel<Py<PyAny>>,
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (capacity), text_signature = "(capacity)")]
    fn new(capacity: &Bound<'_, PyAny>) -> PyResult<Self> {
        let capacity =
            if capacity.is_none() { UNBOUNDED } else { size(capacity, "capacity", 0, " or None")? };
        Ok(Self { core: core::Channel::new(capacity) })
    }

    /// Put an item in, waiting for room for at most `timeout` seconds.
    ///
    /// >>> from sluicegate import Channel
    /// >>> numbers = Channel(1)
    /// >>> numbers.send(1)
    /// >>> numbers.send(2, timeout=0.01)
    /// Traceback (most recent call last):
    ///     ...
    /// queue.Full: the channel is full
    ///
    /// Raises queue.Full when the timeout ran out, Closed if the channel is closed or is closed meanwhile: the item
    /// was not taken then, and is the exception's `item`. Raises ValueError for a negative timeout. An exception
    /// from a signal handler interrupts the wait; the item was not sent then, unless it was received in that very
    /// moment. Corresponds to `queue.Queue.put`.
    #[pyo3(signature = (item, timeout=None))]
    fn send(&self, py: Python<'_>, item: Py<PyAny>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let deadline = until(timeout)?;
        self.core.send(item, deadline, &py).map_err(|error| unsent(py, error.why, error.back))
    }

    /// Put an item in if there is room now.
    ///
    /// >>> from sluicegate import Channel
    /// >>> Channel(1).try_send("a")
    ///
    /// Raises queue.Full or Closed, with the item as its `item`. Corresponds to `queue.Queue.put_nowait`.
    fn try_send(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<()> {
        self.core.try_send(item).map_err(|error| unsent(py, error.why, Some(error.back)))
    }

    /// Put every item of an iterable in, in its order: how many there were.
    ///
    /// One lock and one wake serve up to 256 items at a time, which are taken from the iterable ahead of being sent.
    ///
    /// >>> from sluicegate import Channel
    /// >>> Channel(8).send_many("abc")
    /// 3
    ///
    /// Waits for room for at most `timeout` seconds in all. Raises queue.Full or Closed as send() does; `items` of
    /// the exception is the list of those that were taken from the iterable and not sent, `item` the first of them,
    /// `sent` how many were sent. What the iterable raises passes through, after the items before it were sent.
    #[pyo3(signature = (iterable, timeout=None))]
    fn send_many(&self, iterable: &Bound<'_, PyAny>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let (py, deadline) = (iterable.py(), until(timeout)?);
        let (mut iterator, mut sent) = (iterable.try_iter()?, 0);
        loop {
            let (mut batch, mut failure) = (VecDeque::with_capacity(BATCH), None);
            for item in iterator.by_ref().take(BATCH) {
                match item {
                    Ok(item) => batch.push_back(item.unbind()),
                    Err(raised) => failure = Some(raised),
                }
                if failure.is_some() {
                    break;
                }
            }
            let n = batch.len();
            if let Err(error) = self.core.send_all(batch, deadline, &py) {
                return Err(unsent_many(py, sent + n, error));
            }
            sent += n;
            if let Some(raised) = failure {
                return Err(raised);
            }
            if n < BATCH {
                return Ok(sent);
            }
        }
    }

    /// Take the oldest item out, waiting for one for at most `timeout` seconds.
    ///
    /// >>> from sluicegate import Channel
    /// >>> numbers = Channel(1)
    /// >>> numbers.send(1)
    /// >>> numbers.recv()
    /// 1
    ///
    /// Raises queue.Empty when the timeout ran out, Closed when the channel is closed and nothing is left in it,
    /// ValueError for a negative timeout. An exception from a signal handler interrupts the wait, and takes nothing
    /// out. Corresponds to `queue.Queue.get`.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let deadline = until(timeout)?;
        self.core.recv(End::Front, deadline, &py).map_err(|why| refused(py, why))
    }

    /// Take the oldest item out if there is one now.
    ///
    /// >>> from sluicegate import Channel
    /// >>> Channel(1).try_recv()
    /// Traceback (most recent call last):
    ///     ...
    /// _queue.Empty: the channel is empty
    ///
    /// Raises queue.Empty, or Closed when the channel is closed and nothing is left in it. Corresponds to
    /// `queue.Queue.get_nowait`.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.core.try_recv(End::Front).map_err(|why| refused(py, why))
    }

    /// Take up to `max` items that are there, waiting for the first one for at most `timeout` seconds.
    ///
    /// >>> from sluicegate import Channel
    /// >>> numbers = Channel(8)
    /// >>> numbers.send_many([1, 2, 3])
    /// 3
    /// >>> numbers.recv_many(2)
    /// [1, 2]
    ///
    /// Raises what recv() raises, and ValueError for `max` below 1.
    #[pyo3(signature = (max, timeout=None))]
    fn recv_many<'py>(
        &self,
        py: Python<'py>,
        max: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (max, deadline) = (size(max, "max", 1, "")?, until(timeout)?);
        let items = self.core.recv_many(max, deadline, &py).map_err(|why| refused(py, why))?;
        PyList::new(py, items)
    }

    /// Take everything out that can be had without waiting, blocked senders' items too: a list, the oldest first.
    ///
    /// >>> from sluicegate import Channel
    /// >>> numbers = Channel(8)
    /// >>> numbers.send(1)
    /// >>> numbers.drain()
    /// [1]
    ///
    /// It works on a closed channel too, and raises nothing.
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.core.drain())
    }

    /// Close the channel: no item comes in any more, those that are inside can be received.
    ///
    /// Every sender, waiting now or coming later, gets Closed with its item; every receiver when nothing is left.
    /// Closing again does nothing. Corresponds to `queue.Queue.shutdown` of Python 3.13.
    fn close(&self) {
        self.core.close();
    }

    /// Whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    /// The most items that can lie in the channel; None if there is no such bound.
    #[getter]
    fn capacity(&self) -> Option<usize> {
        Some(self.core.capacity()).filter(|&capacity| capacity != UNBOUNDED)
    }

    /// How many threads wait to send.
    #[getter]
    fn sending(&self) -> u32 {
        self.core.sending()
    }

    /// How many threads wait to receive.
    #[getter]
    fn receiving(&self) -> u32 {
        self.core.receiving()
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }

    #[allow(clippy::unused_self)]
    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.core.recv(End::Front, None, &py) {
            Ok(item) => Ok(Some(item)),
            Err(Refusal::Closed) => Ok(None),
            Err(why) => Err(refused(py, why)),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (t, v, tb, /))]
    #[allow(unused_variables)]
    fn __exit__(&self, t: &Bound<'_, PyAny>, v: &Bound<'_, PyAny>, tb: &Bound<'_, PyAny>) {
        self.core.close();
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (class, core) = (slf.get_type(), &slf.get().core);
        let (module, name) = (class.getattr("__module__")?, class.getattr("__qualname__")?);
        let capacity = slf.get().capacity().map_or("None".to_owned(), |capacity| capacity.to_string());
        let closed = if core.is_closed() { " closed" } else { "" };
        let (at, len) = (slf.as_ptr().addr(), core.len());
        Ok(format!("<{module}.{name} at {at:#x}: len={len} capacity={capacity}{closed}>"))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(PyTypeError::new_err(format!("cannot pickle '{}' object", slf.get_type().getattr("__name__")?)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.traverse(|item| visit.call(item)).map(drop)
    }

    fn __clear__(&self) {
        drop(self.core.drain());
    }
}

fast_method!(Send, Channel, c"send", |slf, args| match args {
    [item] =>
        slf.get().core.put(|| Bound::clone(item).unbind()).then(|| slf.py().None().into_bound(slf.py())),
    _ => None,
});

fast_method!(Recv, Channel, c"recv", |slf, args| match args {
    [] => slf.get().core.get().map(|item| item.into_bound(slf.py())),
    _ => None,
});

/// Has the plain calls of the fast path skip the ceremony.
pub fn install_fast_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Channel>();
    install::<Send>(&class)?;
    install::<Recv>(&class)?;
    Ok(())
}

/// The deadline of a timeout, which is not to be negative.
pub fn until(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    match timeout {
        None => Ok(None),
        Some(given) if given.lt(0)? => {
            Err(PyValueError::new_err(format!("timeout must be >= 0 or None, got {given}")))
        }
        timeout => deadline(timeout),
    }
}

/// An int that counts items.
fn size(given: &Bound<'_, PyAny>, name: &str, least: usize, or: &str) -> PyResult<usize> {
    if !given.is_instance_of::<PyInt>() {
        let class = given.get_type().getattr("__name__")?;
        return Err(PyTypeError::new_err(format!("{name} must be an int{or}, not {class}")));
    }
    if given.lt(least)? {
        return Err(PyValueError::new_err(format!("{name} must be >= {least}{or}, got {given}")));
    }
    // More than memory has room for is no bound at all.
    Ok(given.extract().unwrap_or(UNBOUNDED))
}

fn unsent_many(py: Python<'_>, all: usize, error: Unsent<VecDeque<Py<PyAny>>, PyErr>) -> PyErr {
    if let Refusal::Interrupted(raised) = error.why {
        return raised;
    }
    let back = error.back;
    let raised = unsent(py, error.why, back.front().map(|item| item.clone_ref(py)));
    let sent = all - back.len();
    let told = PyList::new(py, back).and_then(|items| {
        raised.value(py).setattr("items", items)?;
        raised.value(py).setattr("sent", sent)
    });
    told.err().unwrap_or(raised)
}
