//! The attributes of a queue that are Python objects, and the queue that was opened to them.

use super::{Item, LessThan, Order, Queue};
use crate::core::queue as core;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};

/// A bound that no queue in a machine's memory reaches.
const HUGE: usize = core::UNBOUNDED - 1;

/// What a [`Face`] holds.
#[derive(Clone, Copy)]
pub enum Part {
    Maxsize,
    Mutex,
    NotEmpty,
    NotFull,
    AllTasksDone,
    Items,
    /// The module of those functions that serve an open queue.
    Functions,
}

const NAMES: [&str; 7] =
    ["maxsize", "mutex", "not_empty", "not_full", "all_tasks_done", "queue", "_functions"];

/// The attributes; all but `maxsize` are there once the queue is open.
#[derive(Default)]
pub struct Face([Option<Item>; 7]);

impl Face {
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().flatten().try_for_each(|part| visit.call(part))
    }
}

/// The functions of a queue that was opened.
fn functions<'py>(queue: &Bound<'py, Queue>) -> PyResult<Bound<'py, PyAny>> {
    Ok(part(queue, Part::Functions)?.into_bound(queue.py()))
}

pub fn put(
    queue: &Bound<'_, Queue>,
    item: &Bound<'_, PyAny>,
    block: &Bound<'_, PyAny>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    functions(queue)?.call_method1("put", (queue, item, block, timeout)).map(drop)
}

pub fn get(
    queue: &Bound<'_, Queue>,
    block: &Bound<'_, PyAny>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Item> {
    Ok(functions(queue)?.call_method1("get", (queue, block, timeout))?.unbind())
}

pub fn shutdown(queue: &Bound<'_, Queue>, immediate: bool) -> PyResult<()> {
    functions(queue)?.call_method1("shutdown", (queue, immediate)).map(drop)
}

/// Calls a function that takes nothing but the queue.
pub fn call(queue: &Bound<'_, Queue>, name: &str) -> PyResult<Item> {
    Ok(functions(queue)?.call_method1(name, (queue,))?.unbind())
}

/// Answers a question from the core, or if the items are elsewhere, by the function of that name.
pub fn look(
    queue: &Bound<'_, Queue>,
    name: &str,
    native: impl FnOnce(&core::Queue<Item>, Python<'_>) -> PyResult<Item>,
) -> PyResult<Item> {
    let core = &queue.get().core;
    if core.is_void() {
        return Err(crate::python::void());
    }
    if core.is_open() { call(queue, name) } else { native(core, queue.py()) }
}

pub fn truth(py: Python<'_>, truth: bool) -> Item {
    PyBool::new(py, truth).to_owned().into_any().unbind()
}

// ---- attributes ----

/// An attribute. All but `maxsize` open the queue.
pub fn part(queue: &Bound<'_, Queue>, part: Part) -> PyResult<Item> {
    if !matches!(part, Part::Maxsize) {
        open(queue)?;
    }
    let found = queue.get().face.lock().0[part as usize].as_ref().map(|found| found.clone_ref(queue.py()));
    found.map_or_else(
        || {
            let (class, name) = (queue.get_type().name()?, NAMES[part as usize]);
            Err(PyAttributeError::new_err(format!("'{class}' object has no attribute '{name}'")))
        },
        Ok,
    )
}

pub fn set_part(queue: &Bound<'_, Queue>, part: Part, value: Bound<'_, PyAny>) -> PyResult<()> {
    open(queue)?;
    place(queue, part, value.unbind());
    Ok(())
}

fn place(queue: &Bound<'_, Queue>, part: Part, value: Item) {
    let old = queue.get().face.lock().0[part as usize].replace(value);
    drop(old);
}

pub fn set_maxsize(queue: &Bound<'_, Queue>, maxsize: Bound<'_, PyAny>) -> PyResult<()> {
    let capacity = capacity(&maxsize)?;
    place(queue, Part::Maxsize, maxsize.unbind());
    match capacity {
        _ if queue.get().core.is_void() => Ok(()),
        Some(capacity) => {
            queue.get().core.set_capacity(capacity);
            Ok(())
        }
        None => open(queue),
    }
}

/// How many items a `maxsize` allows; `None`: only comparing it with a number of items can tell.
fn capacity(maxsize: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if maxsize.is_exact_instance_of::<PyInt>() || maxsize.is_exact_instance_of::<PyBool>() {
        return Ok(Some(match maxsize.extract::<i64>() {
            Ok(maxsize) if maxsize > 0 => usize::try_from(maxsize).unwrap_or(HUGE),
            Err(_) if maxsize.gt(0)? => HUGE,
            _ => core::UNBOUNDED,
        }));
    }
    if let Ok(maxsize) = maxsize.cast_exact::<PyFloat>() {
        let maxsize = maxsize.extract::<f64>()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return Ok(Some(if maxsize > 0.0 { (maxsize.ceil() as usize).min(HUGE) } else { core::UNBOUNDED }));
    }
    Ok(None)
}

// ---- opening ----

/// Sets a queue up, natively if nothing speaks against it.
pub fn init(queue: &Bound<'_, Queue>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = queue.get();
    let native = if is_hooked(queue)? { None } else { capacity(maxsize)? };
    let mut face = Face::default();
    face.0[Part::Maxsize as usize] = Some(maxsize.clone().unbind());
    let old = std::mem::replace(&mut *this.face.lock(), face);
    drop(old);
    drop(this.core.init(native.unwrap_or(core::UNBOUNDED), native.is_none()));
    if native.is_none() {
        queue.call_method1("_init", (maxsize,))?;
        let (mut parts, functions) = parts(queue.py())?;
        // `_init` may have set `queue`; of the others it cannot know.
        let mut face = this.face.lock();
        face.0[1..5].swap_with_slice(&mut parts);
        face.0[Part::Functions as usize] = Some(functions);
        drop(face);
    }
    Ok(())
}

/// Whether a subclass overrides how items are kept.
fn is_hooked(queue: &Bound<'_, Queue>) -> PyResult<bool> {
    if Queue::is_plain(queue) {
        return Ok(false);
    }
    let (py, class) = (queue.py(), queue.get_type());
    let base = Queue::type_object(py);
    for name in ["_init", "_qsize", "_put", "_get"] {
        if !class.getattr(name)?.is(&base.getattr(name)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A lock and the three conditions on it; and the functions.
fn parts(py: Python<'_>) -> PyResult<([Option<Item>; 4], Item)> {
    let functions = py.import("sluicegate._open_queue")?;
    let parts: [Item; 4] = functions.call_method0("parts")?.extract()?;
    Ok((parts.map(Some), functions.into_any().unbind()))
}

/// An empty place for the items.
pub fn container<'py>(queue: &Bound<'py, Queue>) -> PyResult<Bound<'py, PyAny>> {
    let py = queue.py();
    match queue.get().order {
        Order::First => py.import("collections")?.call_method0("deque"),
        Order::Last | Order::Least => Ok(PyList::empty(py).into_any()),
    }
}

/// Moves the items to where Python can see them, and everybody who waits with them.
///
/// The new mutex is held from before anybody can see it until the items are in place. In between nothing runs that
/// could ask for it: no Python code, and so no collector, which would run finalizers.
fn open(queue: &Bound<'_, Queue>) -> PyResult<()> {
    let (py, this) = (queue.py(), queue.get());
    if this.core.is_open() {
        return Ok(());
    }
    if this.core.is_void() {
        return Err(crate::python::void());
    }
    if this.order == Order::Least {
        this.core.tidy(&LessThan(py));
    }
    let ([mutex, not_empty, not_full, all_tasks_done], functions) = parts(py)?;
    let items = container(queue)?;
    let held = mutex.as_ref().map(|mutex| mutex.clone_ref(py));
    let mut ours =
        [mutex, not_empty, not_full, all_tasks_done, Some(items.clone().unbind()), Some(functions)];
    let collector = pause_collector(py)?;
    if let Some(held) = &held {
        held.call_method1(py, "acquire", (false,))?;
    }
    let first = {
        let mut face = this.face.lock();
        let first = face.0[Part::Mutex as usize].is_none();
        if first {
            face.0[1..].swap_with_slice(&mut ours);
        }
        first
    };
    let mut moved = Ok(());
    if first {
        for item in this.core.open().unwrap_or_default() {
            moved = moved.and(items.call_method1("append", (item,)).map(drop));
        }
    }
    if let Some(held) = held {
        held.call_method0(py, "release")?;
    }
    if let Some(collector) = collector {
        collector.call_method0("enable")?;
    }
    moved
}

/// Up to Python 3.11, the collector runs whenever something is allocated; later, only between bytecodes. Returns it
/// if it is to be enabled again.
fn pause_collector(py: Python<'_>) -> PyResult<Option<Bound<'_, PyModule>>> {
    if py.version_info() >= (3, 12) {
        return Ok(None);
    }
    let collector = py.import("gc")?;
    let enabled = collector.call_method0("isenabled")?.is_truthy()?;
    collector.call_method0("disable")?;
    Ok(enabled.then_some(collector))
}

// ---- what the hooks do if they are not overridden ----

pub fn push(queue: &Bound<'_, Queue>, item: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, items) = (queue.py(), part(queue, Part::Items)?);
    match queue.get().order {
        Order::First | Order::Last => items.call_method1(py, "append", (item,)).map(drop),
        Order::Least => py.import("heapq")?.call_method1("heappush", (items, item)).map(drop),
    }
}

pub fn pop(queue: &Bound<'_, Queue>) -> PyResult<Item> {
    let (py, items) = (queue.py(), part(queue, Part::Items)?);
    match queue.get().order {
        Order::First => items.call_method0(py, "popleft"),
        Order::Last => items.call_method0(py, "pop"),
        Order::Least => Ok(py.import("heapq")?.call_method1("heappop", (items,))?.unbind()),
    }
}
