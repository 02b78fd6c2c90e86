//! `Queue`, `LifoQueue`, `PriorityQueue`; `SimpleQueue` is in `simple`.

mod open;
mod patience;
mod simple;

use self::open::{Face, Part};
use self::patience::Patience;
use super::args::Arg;
use super::fast::{self, fast_method};
use crate::core::queue::heap::Compare;
use crate::core::queue::{self as core, Failure, Refusal, Side};
use crate::core::sync::Leaf;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};

pub use self::simple::SimpleQueue;

pyo3::create_exception!(sluicegate.queue, ShutDown, PyException, "Raised when put/get with shut-down queue.");

type Item = Py<PyAny>;

/// Which item is the next one out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    First,
    Last,
    Least,
}

/// A queue between threads: put() waits for room, get() for an item.
///
/// Corresponds to `queue.Queue`, whose arguments, results, errors and attributes it has, shutdown() on every Python.
/// A `maxsize` of 0 or less is no bound.
///
/// >>> from sluicegate.queue import Queue
/// >>> tasks = Queue(maxsize=2)
/// >>> tasks.put("a")
/// >>> tasks.get(), tasks.qsize()
/// ('a', 0)
///
/// It is native until a program touches `mutex`, `queue` or one of the three conditions, or overrides `_init`,
/// `_qsize`, `_put` or `_get`: then it works as the standard library's does, for good.
#[pyclass(frozen, subclass, dict, weakref, generic, module = "sluicegate.queue")]
pub struct Queue {
    core: core::Queue<Item>,
    order: Order,
    face: Leaf<Face>,
}

impl Queue {
    fn void(order: Order) -> Self {
        Self { core: core::Queue::default(), order, face: Leaf::new(Face::default()) }
    }

    /// Whether this is no subclass's instance, which may have a put() or get() of its own.
    fn is_plain(slf: &Bound<'_, Self>) -> bool {
        let (py, class) = (slf.py(), slf.get_type_ptr());
        class == Self::type_object_raw(py)
            || class == LifoQueue::type_object_raw(py)
            || class == PriorityQueue::type_object_raw(py)
    }

    fn put_now(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>, claimed: bool) -> Result<(), Failure<PyErr>> {
        let (core, item) = (&slf.get().core, item.clone().unbind());
        match slf.get().order {
            Order::First | Order::Last => core.try_put(item, claimed).map_err(|(refusal, _)| refusal.into()),
            Order::Least => with_critical_section(slf.as_any(), || {
                core.try_put_least(item, claimed, &LessThan(slf.py())).map_err(|(failure, _)| failure)
            }),
        }
    }

    fn get_now(slf: &Bound<'_, Self>, claimed: bool) -> Result<Item, Failure<PyErr>> {
        let core = &slf.get().core;
        match slf.get().order {
            Order::First => Ok(core.try_get(false, claimed)?),
            Order::Last => Ok(core.try_get(true, claimed)?),
            Order::Least => {
                with_critical_section(slf.as_any(), || core.try_get_least(claimed, &LessThan(slf.py())))
            }
        }
    }

    fn put_patiently(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        block: &Arg<'_, '_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, core) = (slf.py(), &slf.get().core);
        match core.check(Side::Put) {
            Err(Refusal::Opened) => return open::put(slf, item, &block.object_or(py, true)?, timeout),
            checked => checked.map_err(|refusal| refused(py, refusal, Side::Put))?,
        }
        // Without a bound there is nothing to wait for, and `queue` does not look at the arguments.
        let patience = if core.is_bounded() { Patience::new(block, timeout)? } else { Patience::None };
        patience.exert(py, core, Side::Put, |claimed| Self::put_now(slf, item, claimed)).or_else(|failure| {
            match failure {
                Failure::Refused(Refusal::Opened) => {
                    let (block, timeout) = patience.rest(py);
                    open::put(slf, item, &block, timeout.as_ref())
                }
                Failure::Refused(refusal) => Err(refused(py, refusal, Side::Put)),
                Failure::Interrupted(raised) => Err(raised),
            }
        })
    }

    fn get_patiently(
        slf: &Bound<'_, Self>,
        block: &Arg<'_, '_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Item> {
        let (py, core) = (slf.py(), &slf.get().core);
        match core.check(Side::Get) {
            Err(Refusal::Opened) => return open::get(slf, &block.object_or(py, true)?, timeout),
            checked => checked.map_err(|refusal| refused(py, refusal, Side::Get))?,
        }
        let patience = Patience::new(block, timeout)?;
        patience.exert(py, core, Side::Get, |claimed| Self::get_now(slf, claimed)).or_else(|failure| {
            match failure {
                Failure::Refused(Refusal::Opened) => {
                    let (block, timeout) = patience.rest(py);
                    open::get(slf, &block, timeout.as_ref())
                }
                Failure::Refused(refusal) => Err(refused(py, refusal, Side::Get)),
                Failure::Interrupted(raised) => Err(raised),
            }
        })
    }
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::void(Order::First)
    }

    #[pyo3(signature = (maxsize=Arg::ABSENT))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: Arg<'_, '_>) -> PyResult<()> {
        open::init(slf, &maxsize.object_or(slf.py(), 0)?)
    }

    /// Put an item into the queue, waiting for room.
    ///
    /// With `block` false it never waits; with a `timeout`, at most that many seconds. When there is no room then, it
    /// raises Full. Raises ShutDown once the queue is shut down, and ValueError for a negative timeout. The item is
    /// not in the queue then. Corresponds to `queue.Queue.put`.
    #[pyo3(
        signature = (item, block=Arg::ABSENT, timeout=None),
        text_signature = "($self, item, block=True, timeout=None)"
    )]
    fn put(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        block: Arg<'_, '_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if block.is_absent() && timeout.is_none() {
            match Self::put_now(slf, item, false) {
                Err(Failure::Refused(_)) => {}
                answer => return answer.map_err(raised),
            }
        }
        Self::put_patiently(slf, item, &block, timeout)
    }

    /// Remove and return an item, waiting for one.
    ///
    /// With `block` false it never waits; with a `timeout`, at most that many seconds. When there is no item then, it
    /// raises Empty. Raises ShutDown once the queue is shut down and empty, and ValueError for a negative timeout.
    /// Corresponds to `queue.Queue.get`.
    #[pyo3(signature = (block=Arg::ABSENT, timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get(slf: &Bound<'_, Self>, block: Arg<'_, '_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Item> {
        if block.is_absent() && timeout.is_none() {
            match Self::get_now(slf, false) {
                Err(Failure::Refused(_)) => {}
                answer => return answer.map_err(raised),
            }
        }
        Self::get_patiently(slf, &block, timeout)
    }

    /// Put an item into the queue if there is room now, else raise Full: `put(item, block=False)`.
    fn put_nowait(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<Item> {
        let py = slf.py();
        if Self::is_plain(slf) {
            Self::put_patiently(slf, item, &Arg::of(&PyBool::new(py, false)), None)?;
            return Ok(py.None());
        }
        let block = PyDict::new(py);
        block.set_item("block", false)?;
        Ok(slf.call_method("put", (item,), Some(&block))?.unbind())
    }

    /// Remove and return an item if there is one now, else raise Empty: `get(block=False)`.
    fn get_nowait(slf: &Bound<'_, Self>) -> PyResult<Item> {
        let py = slf.py();
        if Self::is_plain(slf) {
            return Self::get_patiently(slf, &Arg::of(&PyBool::new(py, false)), None);
        }
        let block = PyDict::new(py);
        block.set_item("block", false)?;
        Ok(slf.call_method("get", (), Some(&block))?.unbind())
    }

    /// Report one task that was got as done.
    ///
    /// Raises ValueError when called more often than items were put. Corresponds to `queue.Queue.task_done`.
    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().core.task_done() {
            Ok(true) => Ok(()),
            Ok(false) => Err(PyValueError::new_err("task_done() called too many times")),
            Err(Refusal::Opened) => open::call(slf, "task_done").map(drop),
            Err(refusal) => Err(refused(slf.py(), refusal, Side::Put)),
        }
    }

    /// Wait until every item that was put has been reported done.
    ///
    /// Corresponds to `queue.Queue.join`.
    fn join(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().core.join(&slf.py()) {
            Ok(()) => Ok(()),
            Err(Failure::Interrupted(raised)) => Err(raised),
            Err(Failure::Refused(Refusal::Opened)) => open::call(slf, "join").map(drop),
            Err(Failure::Refused(refusal)) => Err(refused(slf.py(), refusal, Side::Put)),
        }
    }

    /// Shut the queue down: put() raises ShutDown from now on, and get() once the queue is empty.
    ///
    /// With `immediate` the queue is emptied at once, and what was in it counts as done. Everybody who waits in put()
    /// or get() is woken. Corresponds to `queue.Queue.shutdown` of Python 3.13.
    #[pyo3(signature = (immediate=None), text_signature = "($self, immediate=False)")]
    fn shutdown(slf: &Bound<'_, Self>, immediate: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let immediate = immediate.map_or(Ok(false), PyAnyMethods::is_truthy)?;
        match slf.get().core.shut(immediate) {
            Ok(left) => {
                drop(left);
                Ok(())
            }
            Err(Refusal::Opened) => open::shutdown(slf, immediate),
            Err(refusal) => Err(refused(slf.py(), refusal, Side::Put)),
        }
    }

    /// How many items there are; another thread may change that at any time.
    fn qsize(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::look(slf, "qsize", |core, py| Ok(core.len().into_pyobject(py)?.into_any().unbind()))
    }

    /// Whether there is no item; another thread may change that at any time.
    fn empty(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::look(slf, "empty", |core, py| Ok(open::truth(py, core.is_empty())))
    }

    /// Whether there is no room; another thread may change that at any time.
    fn full(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::look(slf, "full", |core, py| Ok(open::truth(py, core.is_full())))
    }

    // ---- attributes ----

    /// The bound of the queue, as it was given; it can be assigned.
    #[getter]
    fn maxsize(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::part(slf, Part::Maxsize)
    }

    #[setter]
    fn set_maxsize(slf: &Bound<'_, Self>, maxsize: Bound<'_, PyAny>) -> PyResult<()> {
        open::set_maxsize(slf, maxsize)
    }

    /// How many items were put and not reported done.
    #[getter]
    fn unfinished_tasks(&self) -> PyResult<u64> {
        if self.core.is_void() { Err(super::void()) } else { Ok(self.core.unfinished()) }
    }

    #[setter]
    fn set_unfinished_tasks(&self, unfinished: u64) {
        self.core.set_unfinished(unfinished);
    }

    /// Whether shutdown() was called.
    #[getter]
    fn is_shutdown(&self) -> PyResult<bool> {
        if self.core.is_void() { Err(super::void()) } else { Ok(self.core.is_shut()) }
    }

    #[setter]
    fn set_is_shutdown(&self, shut: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core.set_shut(shut.is_truthy()?);
        Ok(())
    }

    /// The lock of the queue; whoever holds it is alone with the queue. Opens the queue.
    #[getter]
    fn mutex(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::part(slf, Part::Mutex)
    }

    #[setter]
    fn set_mutex(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<()> {
        open::set_part(slf, Part::Mutex, value)
    }

    /// The condition that is notified when an item has come. Opens the queue.
    #[getter]
    fn not_empty(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::part(slf, Part::NotEmpty)
    }

    #[setter]
    fn set_not_empty(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<()> {
        open::set_part(slf, Part::NotEmpty, value)
    }

    /// The condition that is notified when an item has gone. Opens the queue.
    #[getter]
    fn not_full(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::part(slf, Part::NotFull)
    }

    #[setter]
    fn set_not_full(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<()> {
        open::set_part(slf, Part::NotFull, value)
    }

    /// The condition that is notified when the last task is done. Opens the queue.
    #[getter]
    fn all_tasks_done(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::part(slf, Part::AllTasksDone)
    }

    #[setter]
    fn set_all_tasks_done(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<()> {
        open::set_part(slf, Part::AllTasksDone, value)
    }

    /// The items: a deque, in a LifoQueue or PriorityQueue a list. Use it with `mutex` held. Opens the queue.
    #[getter]
    fn queue(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::part(slf, Part::Items)
    }

    #[setter]
    fn set_queue(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<()> {
        open::set_part(slf, Part::Items, value)
    }

    // ---- hooks ----

    fn _init(slf: &Bound<'_, Self>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = maxsize;
        open::set_part(slf, Part::Items, open::container(slf)?)
    }

    fn _qsize(slf: &Bound<'_, Self>) -> PyResult<usize> {
        if slf.get().core.is_open() {
            open::part(slf, Part::Items)?.bind(slf.py()).len()
        } else {
            Ok(slf.get().core.len())
        }
    }

    fn _put(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        open::push(slf, item)
    }

    fn _get(slf: &Bound<'_, Self>) -> PyResult<Item> {
        open::pop(slf)
    }

    // ---- for tests ----

    /// How many wait natively: to get, to put, to join.
    fn _waiting(&self) -> (u32, u32, u32) {
        (self.core.waiting(Side::Get), self.core.waiting(Side::Put), self.core.joining())
    }

    /// Whether the queue is open.
    fn _is_open(&self) -> bool {
        self.core.is_open()
    }

    // ---- the object ----

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(PyTypeError::new_err(format!("cannot pickle '{}' object", slf.get_type().name()?)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.visit(|item| visit.call(item))?;
        self.face.try_lock().map_or(Ok(()), |face| face.visit(&visit))
    }

    fn __clear__(&self) {
        let face = std::mem::take(&mut *self.face.lock());
        drop((self.core.clear(), face));
    }
}

/// A queue whose newest item comes out first. Corresponds to `queue.LifoQueue`.
///
/// >>> from sluicegate.queue import LifoQueue
/// >>> stack = LifoQueue()
/// >>> stack.put(1); stack.put(2); stack.get()
/// 2
#[pyclass(frozen, subclass, extends = Queue, module = "sluicegate.queue")]
pub struct LifoQueue;

#[pymethods]
impl LifoQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Queue::void(Order::Last)).add_subclass(Self)
    }

    #[pyo3(signature = (maxsize=Arg::ABSENT))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: Arg<'_, '_>) -> PyResult<()> {
        Queue::__init__(slf.as_super(), maxsize)
    }
}

/// A queue whose least item comes out first. Corresponds to `queue.PriorityQueue`.
///
/// A comparison that raises leaves the queue as it was.
///
/// >>> from sluicegate.queue import PriorityQueue
/// >>> heap = PriorityQueue()
/// >>> heap.put((2, "b")); heap.put((1, "a")); heap.get()
/// (1, 'a')
#[pyclass(frozen, subclass, extends = Queue, module = "sluicegate.queue")]
pub struct PriorityQueue;

#[pymethods]
impl PriorityQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Queue::void(Order::Least)).add_subclass(Self)
    }

    #[pyo3(signature = (maxsize=Arg::ABSENT))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: Arg<'_, '_>) -> PyResult<()> {
        Queue::__init__(slf.as_super(), maxsize)
    }
}

fast_method!(Put, Queue, c"put", |slf, args| {
    let (this, &[item]) = (slf.get(), args) else { return None };
    // If there is no room, the reference made here goes, and the caller's stays.
    let put = this.order != Order::Least && this.core.try_put(item.to_owned().unbind(), false).is_ok();
    put.then(|| slf.py().None().into_bound(slf.py()))
});
fast_method!(Get, Queue, c"get", |slf, args| {
    let this = slf.get();
    if !args.is_empty() || this.order == Order::Least {
        return None;
    }
    this.core.try_get(this.order == Order::Last, false).ok().map(|item| item.into_bound(slf.py()))
});

/// Has the plain calls answered without ceremony.
pub fn install_fast_methods(py: Python<'_>) -> PyResult<()> {
    for class in [py.get_type::<Queue>(), py.get_type::<LifoQueue>()] {
        fast::install::<Put>(&class)?;
        fast::install::<Get>(&class)?;
    }
    simple::install_fast_methods(py)
}

/// `left < right`, as `heapq` asks it.
struct LessThan<'py>(Python<'py>);

impl Compare<Item> for LessThan<'_> {
    type Raised = PyErr;

    fn copy(&self, item: &Item) -> Item {
        item.clone_ref(self.0)
    }

    fn less(&self, left: &Item, right: &Item) -> PyResult<bool> {
        left.bind(self.0).lt(right)
    }
}

/// The standard library's, where it has one. Called first at import.
pub fn shut_down(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        let found = py.import("queue")?.getattr_opt("ShutDown")?;
        Ok::<_, PyErr>(found.map_or_else(|| Ok(py.get_type::<ShutDown>()), Bound::cast_into)?.unbind())
    })?;
    Ok(class.bind(py))
}

fn refused(py: Python<'_>, refusal: Refusal, side: Side) -> PyErr {
    let class = match (refusal, side) {
        (Refusal::Void, _) => return super::void(),
        (Refusal::NotNow, Side::Put) => super::FULL.import(py, "queue", "Full"),
        (Refusal::NotNow, Side::Get) => super::EMPTY.import(py, "queue", "Empty"),
        // An opened queue is answered for elsewhere.
        (Refusal::ShutDown | Refusal::Opened, _) => shut_down(py),
    };
    class.map_or_else(|error| error, |class| PyErr::from_type(class.clone(), ()))
}

fn raised(failure: Failure<PyErr>) -> PyErr {
    match failure {
        Failure::Interrupted(raised) => raised,
        Failure::Refused(_) => super::void(),
    }
}
