//! `Semaphore`, `BoundedSemaphore` and what `permits(n)` returns.

use super::args::{Arg, count};
use super::fast::{self, fast_method};
use super::wait::deadline;
use crate::core::semaphore as core;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};

/// A counter of permits: acquire() takes one, waiting while there is none, and release() puts one back.
///
/// Corresponds to `threading.Semaphore`, whose arguments, results and errors it has.
///
/// >>> from sluicegate import Semaphore
/// >>> slots = Semaphore(2)
/// >>> with slots:
/// ...     slots.value
/// 1
///
/// `value` is the number of permits at first, 0 to 2147483647. With `fair=True` waiters are served strictly in the
/// order of their arrival; by default a running thread may overtake a waiter for about 1 ms.
///
/// Raises ValueError for a negative value, OverflowError above the limit, TypeError for what is not an int.
#[pyclass(frozen, subclass, dict, weakref, module = "sluicegate")]
pub struct Semaphore {
    core: core::Semaphore,
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, *, fair=False)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { core: core::Semaphore::void() }
    }

    #[pyo3(signature = (value=Arg::ABSENT, *, fair=false))]
    fn __init__(&self, value: Arg<'_, '_>, fair: bool) -> PyResult<()> {
        self.core.init(value.value()?, None, fair);
        Ok(())
    }

    /// Take `n` permits at once, waiting for them: True, or False when the timeout (in seconds) ran out first.
    ///
    /// With `blocking` false it never waits. Nothing is taken unless all `n` are.
    ///
    /// >>> from sluicegate import Semaphore
    /// >>> Semaphore(1).acquire(timeout=0.5)
    /// True
    ///
    /// Raises ValueError for a timeout without blocking, for n below 1, and for n above the capacity; OverflowError
    /// for a timeout above threading.TIMEOUT_MAX; Closed once the semaphore is closed. The semaphore is unchanged
    /// then. Corresponds to `threading.Semaphore.acquire`; `n` is new.
    #[pyo3(
        signature = (blocking=Arg::ABSENT, timeout=None, *, n=Arg::ABSENT),
        text_signature = "($self, blocking=True, timeout=None, *, n=1)"
    )]
    fn acquire(
        &self,
        py: Python<'_>,
        blocking: Arg<'_, '_>,
        timeout: Option<&Bound<'_, PyAny>>,
        n: Arg<'_, '_>,
    ) -> PyResult<bool> {
        let blocking = blocking.truth()?;
        if !blocking && timeout.is_some() {
            return Err(PyValueError::new_err("can't specify timeout for non-blocking acquire"));
        }
        let n = n.permits()?;
        if self.core.try_acquire::<PyErr>(n)? {
            return Ok(true);
        }
        if !blocking {
            return Ok(false);
        }
        Ok(self.core.acquire(n, deadline(timeout)?, &py)?)
    }

    /// Take `n` permits if they are free now: whether they were.
    ///
    /// >>> from sluicegate import Semaphore
    /// >>> Semaphore(1).try_acquire(2)
    /// False
    ///
    /// It never waits, and never takes what an older waiter is to have. Raises what acquire() raises. Corresponds
    /// to `threading.Semaphore.acquire(blocking=False)`.
    #[pyo3(signature = (n=Arg::ABSENT), text_signature = "($self, n=1)")]
    fn try_acquire(&self, n: Arg<'_, '_>) -> PyResult<bool> {
        Ok(self.core.try_acquire::<PyErr>(n.permits()?)?)
    }

    /// Put `n` permits back, and wake who waits for them.
    ///
    /// >>> from sluicegate import Semaphore
    /// >>> slots = Semaphore(0)
    /// >>> slots.release(3)
    /// >>> slots.value
    /// 3
    ///
    /// Raises ValueError for n below 1, and on a BoundedSemaphore if more would be free than its capacity;
    /// OverflowError above 2147483647. Nothing is added then. Corresponds to `threading.Semaphore.release`.
    #[pyo3(signature = (n=Arg::ABSENT), text_signature = "($self, n=1)")]
    fn release(&self, n: Arg<'_, '_>) -> PyResult<()> {
        Ok(self.core.release(n.permits()?)?)
    }

    /// A context that holds `n` permits.
    ///
    /// >>> from sluicegate import Semaphore
    /// >>> slots = Semaphore(3)
    /// >>> with slots.permits(2):
    /// ...     slots.value
    /// 1
    ///
    /// Raises ValueError for n below 1; entering it raises what acquire() raises.
    #[pyo3(signature = (n=Arg::ABSENT), text_signature = "($self, n=1)")]
    fn permits(slf: Bound<'_, Self>, n: Arg<'_, '_>) -> PyResult<Permits> {
        Ok(Permits { n: n.permits()?, semaphore: slf.unbind() })
    }

    /// Take all permits that are free now, without waiting: how many there were.
    ///
    /// >>> from sluicegate import Semaphore
    /// >>> Semaphore(3).drain()
    /// 3
    fn drain(&self) -> u32 {
        self.core.drain()
    }

    /// Fail every waiter and every later acquire with Closed; release() still works.
    ///
    /// Closing again does nothing.
    fn close(&self) {
        self.core.close();
    }

    /// Whether an acquire would have to wait.
    fn locked(&self) -> bool {
        self.core.is_locked()
    }

    /// The permits that are free.
    #[getter]
    fn value(&self) -> u32 {
        self.core.permits()
    }

    #[getter]
    fn _value(&self) -> PyResult<u32> {
        if self.core.is_void() { Err(super::void()) } else { Ok(self.core.permits()) }
    }

    #[setter(_value)]
    fn set_value(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core.set_permits(count(value, "_value", 0, "_value must be >= 0")?);
        Ok(())
    }

    /// How many threads wait in acquire().
    #[getter]
    fn waiting(&self) -> u32 {
        self.core.waiting()
    }

    /// Whether waiters are served strictly in the order of their arrival.
    #[getter]
    fn fair(&self) -> bool {
        self.core.is_fair()
    }

    /// Whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    // As in `threading`, entering is acquiring, with its arguments.
    #[pyo3(signature = (blocking=Arg::ABSENT, timeout=None), text_signature = "($self, blocking=True, timeout=None)")]
    fn __enter__(
        &self,
        py: Python<'_>,
        blocking: Arg<'_, '_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.acquire(py, blocking, timeout, Arg::ABSENT)
    }

    #[pyo3(signature = (t, v, tb, /))]
    #[allow(unused_variables)]
    fn __exit__(
        slf: &Bound<'_, Self>,
        t: &Bound<'_, PyAny>,
        v: &Bound<'_, PyAny>,
        tb: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if Self::is_subclassed(slf.as_borrowed()) {
            // It may have a release() of its own, and `threading` calls it.
            return slf.call_method0("release").map(drop);
        }
        Ok(slf.get().core.release(1)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (class, core) = (slf.get_type(), &slf.get().core);
        let bound = core.capacity().map_or(String::new(), |capacity| format!("/{capacity}"));
        let (module, name) = (class.getattr("__module__")?, class.getattr("__qualname__")?);
        Ok(format!("<{module}.{name} at {:#x}: value={}{bound}>", slf.as_ptr().addr(), core.permits()))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(PyTypeError::new_err(format!("cannot pickle '{}' object", slf.get_type().getattr("__name__")?)))
    }
}

/// A semaphore that never has more permits than at first: a release() too many is a ValueError.
///
/// Corresponds to `threading.BoundedSemaphore`. Its capacity can be changed while it is in use.
///
/// >>> from sluicegate import BoundedSemaphore
/// >>> slots = BoundedSemaphore(2)
/// >>> slots.release()
/// Traceback (most recent call last):
///     ...
/// ValueError: Semaphore released too many times
#[pyclass(frozen, subclass, extends = Semaphore, module = "sluicegate")]
pub struct BoundedSemaphore;

impl BoundedSemaphore {
    fn core<'a>(slf: &'a Bound<'_, Self>) -> &'a core::Semaphore {
        &slf.as_super().get().core
    }
}

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, *, fair=False)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Semaphore { core: core::Semaphore::void() }).add_subclass(Self)
    }

    #[pyo3(signature = (value=Arg::ABSENT, *, fair=false))]
    fn __init__(slf: &Bound<'_, Self>, value: Arg<'_, '_>, fair: bool) -> PyResult<()> {
        let value = value.value()?;
        Self::core(slf).init(value, Some(value), fair);
        Ok(())
    }

    /// The most permits there can be.
    #[getter]
    fn capacity(slf: &Bound<'_, Self>) -> u32 {
        Self::core(slf).capacity().unwrap_or(0)
    }

    #[getter]
    fn _initial_value(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Self::core(slf).capacity().ok_or_else(super::void)
    }

    #[setter(_initial_value)]
    fn set_initial_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::core(slf).set_capacity(count(value, "_initial_value", 0, "_initial_value must be >= 0")?);
        Ok(())
    }

    /// Change the capacity, and with it the free permits.
    ///
    /// More permits are there at once. Fewer: what is free vanishes at once, what is held when it is released. A
    /// capacity of 0 pauses the semaphore. A waiter that asked for more than the new capacity gets a ValueError.
    ///
    /// >>> from sluicegate import BoundedSemaphore
    /// >>> slots = BoundedSemaphore(2)
    /// >>> slots.resize(5)
    /// >>> slots.value
    /// 5
    ///
    /// Raises ValueError for a negative capacity, OverflowError above 2147483647.
    fn resize(slf: &Bound<'_, Self>, capacity: &Bound<'_, PyAny>) -> PyResult<()> {
        let core = Self::core(slf);
        let capacity = count(capacity, "capacity", 0, "capacity must be >= 0")?;
        if core.is_void() {
            return Err(super::void());
        }
        core.resize(capacity);
        Ok(())
    }
}

impl Semaphore {
    /// Whether a subclass may have methods of its own, which the standard library would call.
    fn is_subclassed(slf: Borrowed<'_, '_, Self>) -> bool {
        let class = slf.get_type_ptr();
        class != Self::type_object_raw(slf.py()) && class != BoundedSemaphore::type_object_raw(slf.py())
    }
}

fast_method!(Acquire, Semaphore, c"acquire", |slf, args| {
    (args.is_empty() && slf.get().core.take_one()).then(|| truth(slf.py()))
});
fast_method!(Enter, Semaphore, c"__enter__", |slf, args| {
    (args.is_empty() && slf.get().core.take_one()).then(|| truth(slf.py()))
});
fast_method!(Release, Semaphore, c"release", |slf, args| {
    (args.is_empty() && slf.get().core.give_one()).then(|| none(slf.py()))
});
fast_method!(Exit, Semaphore, c"__exit__", |slf, args| {
    (args.len() == 3 && !Semaphore::is_subclassed(slf) && slf.get().core.give_one()).then(|| none(slf.py()))
});

fn truth(py: Python<'_>) -> Bound<'_, PyAny> {
    PyBool::new(py, true).to_owned().into_any()
}

fn none(py: Python<'_>) -> Bound<'_, PyAny> {
    py.None().into_bound(py)
}

/// Has the plain calls answered without ceremony.
pub fn install_fast_methods(py: Python<'_>) -> PyResult<()> {
    for class in [py.get_type::<Semaphore>(), py.get_type::<BoundedSemaphore>()] {
        fast::install::<Acquire>(&class)?;
        fast::install::<Enter>(&class)?;
        fast::install::<Release>(&class)?;
        fast::install::<Exit>(&class)?;
    }
    Ok(())
}

/// What Semaphore.permits() returns: entering it acquires, leaving it releases.
#[pyclass(frozen, module = "sluicegate")]
pub struct Permits {
    n: u32,
    semaphore: Py<Semaphore>,
}

#[pymethods]
impl Permits {
    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        self.semaphore.get().core.acquire(self.n, None, &py)?;
        Ok(())
    }

    #[pyo3(signature = (t, v, tb, /))]
    #[allow(unused_variables)]
    fn __exit__(&self, t: &Bound<'_, PyAny>, v: &Bound<'_, PyAny>, tb: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(self.semaphore.get().core.release(self.n)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.semaphore)
    }
}
