//! `SimpleQueue`: no bound, no tasks, and a put that may run anywhere.

use super::patience::negative;
use super::{Item, refused};
use crate::core::queue::{Failure, Queue, Refusal, Side, UNBOUNDED};
use crate::python::args::Arg;
use crate::python::fast::{self, fast_method};
use crate::python::wait::deadline;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};

/// An unbounded queue between threads.
///
/// put() never waits and may be called from anywhere, a signal handler, `__del__` or weakref callback included.
/// Corresponds to `queue.SimpleQueue`.
///
/// >>> from sluicegate.queue import SimpleQueue
/// >>> events = SimpleQueue()
/// >>> events.put("a")
/// >>> events.get(), events.empty()
/// ('a', True)
#[pyclass(frozen, subclass, weakref, generic, module = "sluicegate.queue")]
pub struct SimpleQueue {
    core: Queue<Item>,
}

#[pymethods]
impl SimpleQueue {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs), text_signature = "()")]
    fn new(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let given = !args.is_empty() || kwargs.is_some_and(|kwargs| !kwargs.is_empty());
        if given && !has_init(class)? {
            let kind = if args.is_empty() { "keyword" } else { "positional" };
            return Err(PyTypeError::new_err(format!("SimpleQueue() takes no {kind} arguments")));
        }
        Ok(Self { core: Queue::new(UNBOUNDED) })
    }

    /// Put an item into the queue. `block` and `timeout` are ignored: there always is room.
    #[pyo3(
        signature = (item, block=Arg::ABSENT, timeout=Arg::ABSENT),
        text_signature = "($self, /, item, block=True, timeout=None)"
    )]
    #[allow(unused_variables)]
    fn put(&self, item: Bound<'_, PyAny>, block: Arg<'_, '_>, timeout: Arg<'_, '_>) -> PyResult<()> {
        // As much as `queue` looks at it.
        block.truth()?;
        // Without a bound there is no refusal.
        drop(self.core.try_put(item.unbind(), false));
        Ok(())
    }

    /// Remove and return an item, waiting for one.
    ///
    /// With `block` false it never waits; with a `timeout`, at most that many seconds. When there is no item then, it
    /// raises Empty. Raises ValueError for a negative timeout. Corresponds to `queue.SimpleQueue.get`.
    #[pyo3(
        signature = (block=Arg::ABSENT, timeout=None),
        text_signature = "($self, /, block=True, timeout=None)"
    )]
    fn get(&self, py: Python<'_>, block: Arg<'_, '_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Item> {
        let block = block.truth()?;
        // Unlike a Queue's, a timeout is read even if there is no need to wait.
        let timeout = timeout.filter(|_| block).map(seconds).transpose()?;
        if let Ok(item) = self.core.try_get(false, false) {
            return Ok(item);
        }
        if !block {
            return Err(refused(py, Refusal::NotNow, Side::Get));
        }
        let deadline = match timeout {
            None => None,
            Some(seconds) => deadline(Some(PyFloat::new(py, seconds).as_any()))?,
        };
        let attempt = |claimed| Ok(self.core.try_get(false, claimed)?);
        self.core.in_turn(Side::Get, deadline, &py, attempt).map_err(|failure| match failure {
            Failure::Refused(refusal) => refused(py, refusal, Side::Get),
            Failure::Interrupted(raised) => raised,
        })
    }

    /// Put an item into the queue: put().
    #[pyo3(text_signature = "($self, /, item)")]
    fn put_nowait(&self, item: Bound<'_, PyAny>) {
        drop(self.core.try_put(item.unbind(), false));
    }

    /// Remove and return an item if there is one now, else raise Empty.
    #[pyo3(text_signature = "($self, /)")]
    fn get_nowait(&self, py: Python<'_>) -> PyResult<Item> {
        self.core.try_get(false, false).map_err(|refusal| refused(py, refusal, Side::Get))
    }

    /// Whether there is no item; another thread may change that at any time.
    #[pyo3(text_signature = "($self, /)")]
    fn empty(&self) -> bool {
        self.core.is_empty()
    }

    /// How many items there are; another thread may change that at any time.
    #[pyo3(text_signature = "($self, /)")]
    fn qsize(&self) -> usize {
        self.core.len()
    }

    /// How many wait to get, to put, to join: for tests.
    fn _waiting(&self) -> (u32, u32, u32) {
        (self.core.waiting(Side::Get), 0, 0)
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(PyTypeError::new_err(format!("cannot pickle '{}' object", slf.get_type().name()?)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.visit(|item| visit.call(item))
    }

    fn __clear__(&self) {
        drop(self.core.clear());
    }
}

fast_method!(Put, SimpleQueue, c"put", |slf, args| {
    let &[item] = args else { return None };
    let put = slf.get().core.try_put(item.to_owned().unbind(), false).is_ok();
    put.then(|| slf.py().None().into_bound(slf.py()))
});
fast_method!(Get, SimpleQueue, c"get", |slf, args| {
    let item = if args.is_empty() { slf.get().core.try_get(false, false).ok() } else { None };
    item.map(|item| item.into_bound(slf.py()))
});

/// Has the plain calls answered without ceremony.
pub fn install_fast_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<SimpleQueue>();
    fast::install::<Put>(&class)?;
    fast::install::<Get>(&class)
}

/// Whether a subclass has an `__init__` that the arguments may be for.
fn has_init(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let (py, name) = (class.py(), "__init__");
    Ok(!class.getattr(name)?.is(&SimpleQueue::type_object(py).getattr(name)?))
}

/// The seconds of a timeout. One that is no plain number of them is for the interpreter's own SimpleQueue to
/// judge, whose errors differ between versions.
fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(seconds) =
        timeout.cast_exact::<PyFloat>().map_err(PyErr::from).and_then(|float| float.extract::<f64>())
    {
        if (0.0..9.0e9).contains(&seconds) {
            return Ok(seconds);
        }
        if (-9.0e9..0.0).contains(&seconds) {
            return Err(negative());
        }
    }
    let py = timeout.py();
    let own = py.import("queue")?.getattr("SimpleQueue")?.call0()?;
    own.call_method1("put", (py.None(),))?;
    own.call_method1("get", (true, timeout))?;
    timeout.extract()
}
