//! `Semaphore` and `BoundedSemaphore` of `sluicegate.multiprocessing`.

use super::args::Arg;
use super::fast::{self, fast_method};
use crate::core::shared::{self as core, Handle, Kind};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};
use std::ffi::OsStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A counter that processes share: release() adds, and acquire() takes away, waiting while it is zero.
///
/// Corresponds to `multiprocessing.Semaphore`, and is for signalling: any process may release what another has
/// acquired. So a permit belongs to nobody, and one that a killed process had taken does not come back: to limit how
/// many do something at once, use BoundedSemaphore.
///
/// >>> from sluicegate.multiprocessing import Semaphore
/// >>> done = Semaphore(0)
/// >>> done.release(2)
/// >>> done.get_value()
/// 2
///
/// It can be passed to other processes as an argument, under every start method. `ctx` is accepted and not needed.
///
/// Raises OSError for a negative value, OverflowError above 2147483647, TypeError for what is no int.
#[pyclass(frozen, subclass, dict, weakref, name = "Semaphore", module = "sluicegate.multiprocessing")]
pub struct SharedSemaphore {
    core: OnceLock<Handle>,
}

impl SharedSemaphore {
    const fn void() -> Self {
        Self { core: OnceLock::new() }
    }

    #[inline]
    fn core(&self) -> PyResult<&Handle> {
        self.core.get().ok_or_else(super::void)
    }

    #[inline]
    fn has_taken(&self) -> bool {
        self.core.get().is_some_and(|core| core.take())
    }

    #[inline]
    fn has_given(&self) -> bool {
        self.core.get().is_some_and(|core| core.release(1).is_ok())
    }

    fn become_(&self, handle: Handle) -> PyResult<()> {
        self.core.set(handle).map_err(|_| PyTypeError::new_err("a shared semaphore is initialised once"))
    }
}

#[pymethods]
impl SharedSemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, *, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::void()
    }

    #[pyo3(signature = (value=Arg::ABSENT, *, ctx=None))]
    #[allow(unused_variables)]
    fn __init__(&self, value: Arg<'_, '_>, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.become_(core::Semaphore::create(Kind::Signalling, c_int(value.given())?)?)
    }

    /// Take a permit, waiting for it: True, or False when the timeout (in seconds) ran out first.
    ///
    /// With `block` false it never waits. A negative timeout is zero.
    ///
    /// >>> from sluicegate.multiprocessing import Semaphore
    /// >>> Semaphore(0).acquire(timeout=0.01)
    /// False
    ///
    /// A permit of a BoundedSemaphore belongs to this process from then on. If another one is killed while it holds a
    /// permit, a waiter gets that within milliseconds.
    ///
    /// Raises TypeError for a timeout that is no number, OSError for one that is not finite if it has to wait, and
    /// SegmentRemoved if the semaphore's name was taken away, so that newcomers have another one.
    /// Corresponds to `multiprocessing.Semaphore.acquire`, but that a change of the wall clock does not matter.
    #[pyo3(
        signature = (block=Arg::ABSENT, timeout=None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn acquire(
        &self,
        py: Python<'_>,
        block: Arg<'_, '_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let block = block.truth()?;
        // `multiprocessing` looks at the timeout even where there is nothing to wait for.
        let timeout = timeout.map(PyAnyMethods::extract::<f64>).transpose()?;
        let core = self.core()?;
        if core.take() {
            return Ok(true);
        }
        if !block {
            return Ok(core.try_acquire()?);
        }
        Ok(core.acquire(deadline(timeout)?, &py)?)
    }

    /// Add `n` permits, those of this process in a BoundedSemaphore, and wake who waits for them.
    ///
    /// Raises ValueError for n below 1; if a Semaphore would have more than 2147483647; and if this process holds
    /// fewer permits of a BoundedSemaphore. Nothing is added then.
    #[pyo3(signature = (n=Arg::ABSENT), text_signature = "($self, n=1)")]
    fn release(&self, n: Arg<'_, '_>) -> PyResult<()> {
        Ok(self.core()?.release(n.permits()?)?)
    }

    /// The permits that are free.
    fn get_value(&self) -> PyResult<u32> {
        Ok(self.core()?.permits())
    }

    /// Whether an acquire would have to wait.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.core()?.permits() == 0)
    }

    /// How many threads wait in acquire(), in all processes.
    #[getter]
    fn waiting(&self) -> PyResult<u32> {
        Ok(self.core()?.waiting())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        let core = self.core()?;
        Ok(core.take() || core.acquire(None, &py)?)
    }

    #[pyo3(signature = (t=None, v=None, tb=None, /))]
    #[allow(unused_variables)]
    fn __exit__(
        &self,
        t: Option<&Bound<'_, PyAny>>,
        v: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Ok(self.core()?.release(1)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let value = slf.get().core.get().map_or("unknown".into(), |core| core.permits().to_string());
        Ok(format!("<{}(value={value})>", slf.get_type().name()?))
    }

    /// Out of its process it goes as an argument of another; see `sluicegate.multiprocessing`.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("sluicegate.multiprocessing")?.call_method1("_reduce", (slf,))
    }

    /// The descriptor of the shared page.
    fn _fileno(&self) -> PyResult<RawFd> {
        Ok(self.core()?.descriptor()?)
    }

    /// A semaphore of this class in the page that a descriptor from another process leads to.
    #[classmethod]
    fn _open<'py>(class: &Bound<'py, PyType>, fd: RawFd) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the caller, our own `_rebuild`, was given the descriptor by `multiprocessing` to keep.
        #[allow(unsafe_code)]
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        dress(class, core::Semaphore::open(file)?)
    }
}

/// A limit on how many do something at once, in all processes together.
///
/// Corresponds to `multiprocessing.BoundedSemaphore`, with one difference: a permit belongs to the process that
/// acquired it. Only that process, in whatever thread, can release it; and when it ends, by whatever end, its permits
/// are free again.
///
/// >>> from sluicegate.multiprocessing import BoundedSemaphore
/// >>> slots = BoundedSemaphore(2)
/// >>> with slots:
/// ...     slots
/// <BoundedSemaphore(value=1, maxvalue=2)>
///
/// It can be passed to other processes as an argument, under every start method; BoundedSemaphore.named() is for
/// processes that do not know each other. It is no security boundary: a process of the same user can map the page.
///
/// Raises OSError for a negative value, OverflowError above 1048576, TypeError for what is no int.
#[pyclass(frozen, subclass, extends = SharedSemaphore, name = "BoundedSemaphore", module = "sluicegate.multiprocessing")]
pub struct SharedBoundedSemaphore;

impl SharedBoundedSemaphore {
    fn core<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Handle> {
        slf.as_super().get().core()
    }
}

#[pymethods]
impl SharedBoundedSemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1, *, ctx=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(SharedSemaphore::void()).add_subclass(Self)
    }

    #[pyo3(signature = (value=Arg::ABSENT, *, ctx=None))]
    #[allow(unused_variables)]
    fn __init__(slf: &Bound<'_, Self>, value: Arg<'_, '_>, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let capacity = within(c_int(value.given())?)?;
        slf.as_super().get().become_(core::Semaphore::create(Kind::Owned, capacity)?)
    }

    /// The semaphore of this name on this machine, for processes that do not know each other.
    ///
    /// The first to ask creates it with `capacity` permits, and the last process to end removes it; one that was left
    /// behind, since all its processes were killed, is used again with every permit free. It is a file of this user in
    /// `dir`, by default /dev/shm: containers that share a directory share its semaphores.
    ///
    /// >>> from sluicegate.multiprocessing import BoundedSemaphore
    /// >>> slots = BoundedSemaphore.named("doc-example", 2)
    /// >>> slots.capacity
    /// 2
    ///
    /// Raises ValueError if the semaphore of this name has another capacity, PermissionError if the file is another
    /// user's or can be written by others, OSError if it is no regular file, or the directory is on a network.
    #[classmethod]
    #[pyo3(signature = (name, capacity, *, dir=None))]
    fn named<'py>(
        class: &Bound<'py, PyType>,
        name: &str,
        capacity: &Bound<'py, PyAny>,
        dir: Option<PathBuf>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let capacity = within(c_int(Some(capacity))?)?;
        let dir = dir.unwrap_or_else(|| core::DIRECTORY.into());
        dress(class, core::attach(&core::path(&dir, name), capacity)?)
    }

    /// The named semaphore in this file: for unpickling.
    #[classmethod]
    fn _at<'py>(class: &Bound<'py, PyType>, path: PathBuf, capacity: u32) -> PyResult<Bound<'py, PyAny>> {
        dress(class, core::attach(&path, within(capacity)?)?)
    }

    /// The most permits there can be.
    #[getter]
    fn capacity(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Ok(Self::core(slf)?.capacity())
    }

    /// How many other processes wait: one that keeps permits in reserve should give some up while there are any.
    #[getter]
    fn pressure(slf: &Bound<'_, Self>) -> PyResult<u32> {
        Ok(Self::core(slf)?.pressure())
    }

    /// The file of a named semaphore; None if it has no name.
    #[getter]
    fn path(slf: &Bound<'_, Self>) -> PyResult<Option<PathBuf>> {
        Ok(Self::core(slf)?.path().map(|path| Path::new(OsStr::from_bytes(path.to_bytes())).into()))
    }

    /// Who holds permits: one entry for each permit that is taken.
    ///
    /// >>> import os
    /// >>> from sluicegate.multiprocessing import BoundedSemaphore
    /// >>> slots = BoundedSemaphore(2)
    /// >>> with slots:
    /// ...     [holder.pid == os.getpid() for holder in slots.holders()]
    /// [True]
    fn holders(slf: &Bound<'_, Self>) -> PyResult<Vec<Holder>> {
        let since = |nanoseconds| Duration::from_nanos(nanoseconds).as_secs_f64();
        let holder = |holder: core::Holder| Holder { pid: holder.pid, since: since(holder.since) };
        Ok(Self::core(slf)?.holders().into_iter().map(holder).collect())
    }

    /// Take the name of a named semaphore away: newcomers start a new group.
    ///
    /// Who uses this one gets SegmentRemoved from acquire() within a second, and can still release.
    ///
    /// Raises SegmentRemoved if it has no name, or not any more.
    fn unlink(slf: &Bound<'_, Self>) -> PyResult<()> {
        Ok(Self::core(slf)?.unlink()?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = slf.as_super().get().core.get().map_or("value=unknown".into(), |core| {
            format!("value={}, maxvalue={}", core.permits(), core.capacity())
        });
        Ok(format!("<{}({state})>", slf.get_type().name()?))
    }
}

fast_method!(Acquire, SharedSemaphore, c"acquire", |slf, args| {
    (args.is_empty() && slf.get().has_taken()).then(|| truth(slf.py()))
});
fast_method!(Release, SharedSemaphore, c"release", |slf, args| {
    (args.is_empty() && slf.get().has_given()).then(|| none(slf.py()))
});
fast_method!(Exit, SharedSemaphore, c"__exit__", |slf, args| {
    (args.len() == 3 && slf.get().has_given()).then(|| none(slf.py()))
});

fn truth(py: Python<'_>) -> Bound<'_, PyAny> {
    PyBool::new(py, true).to_owned().into_any()
}

fn none(py: Python<'_>) -> Bound<'_, PyAny> {
    py.None().into_bound(py)
}

/// Has the plain calls answered without ceremony.
pub fn install_fast_methods(py: Python<'_>) -> PyResult<()> {
    for class in [py.get_type::<SharedSemaphore>(), py.get_type::<SharedBoundedSemaphore>()] {
        fast::install::<Acquire>(&class)?;
        fast::install::<Release>(&class)?;
        fast::install::<Exit>(&class)?;
    }
    Ok(())
}

/// A permit that is taken: by which process, and since when in seconds since the epoch.
#[pyclass(frozen, get_all, eq, module = "sluicegate.multiprocessing")]
#[derive(PartialEq)]
pub struct Holder {
    /// The process, by the id it has in its own PID namespace.
    pid: u32,
    /// When it took the permit, to a few milliseconds.
    since: f64,
}

#[pymethods]
impl Holder {
    fn __repr__(&self) -> String {
        format!("Holder(pid={}, since={:.3})", self.pid, self.since)
    }
}

/// Take every other process for dead: this breaks the promise of BoundedSemaphore in the process that calls it, and
/// exists so that the tests can see that they would notice.
#[pyfunction]
pub fn _presume_dead(everybody: bool) {
    core::presume_dead(everybody);
}

/// Remove the files of named semaphores that nobody else uses; for the end of the process.
#[pyfunction]
pub fn _leave_all() {
    core::leave_all();
}

/// A new object of the class around a semaphore that exists; no `__init__` runs.
fn dress<'py>(class: &Bound<'py, PyType>, handle: Handle) -> PyResult<Bound<'py, PyAny>> {
    let object = class.call_method1("__new__", (class,))?;
    let is_bounded = class.is_subclass(&SharedBoundedSemaphore::type_object(class.py()))?;
    if is_bounded != (handle.kind() == Kind::Owned) {
        return Err(PyTypeError::new_err("the page holds a semaphore of another kind"));
    }
    object.cast::<SharedSemaphore>()?.get().become_(handle)?;
    Ok(object)
}

/// A C int of zero or more, with the errors of `multiprocessing`; left out, one.
fn c_int(given: Option<&Bound<'_, PyAny>>) -> PyResult<u32> {
    let Some(given) = given else { return Ok(1) };
    match given.extract::<i64>() {
        Ok(value) if value > i64::from(core::MAX_PERMITS) || value < i64::from(i32::MIN) => {
            Err(PyOverflowError::new_err("Python int too large to convert to C int"))
        }
        Ok(value) => u32::try_from(value).map_err(|_| invalid()),
        Err(error) => Err(error),
    }
}

/// A number of permits for which there is room in a page.
fn within(capacity: u32) -> PyResult<u32> {
    if capacity > core::MAX_CAPACITY {
        let most = core::MAX_CAPACITY;
        return Err(PyOverflowError::new_err(format!(
            "a BoundedSemaphore has at most {most} permits, not {capacity}"
        )));
    }
    Ok(capacity)
}

/// The moment a timeout in seconds is over, with the errors of `multiprocessing`.
fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    let now = Instant::now();
    if seconds <= 0.0 {
        return Ok(Some(now));
    }
    let timeout = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    // A deadline that the clock cannot express is one that nobody lives to see.
    Ok(now.checked_add(timeout))
}

fn invalid() -> PyErr {
    PyOSError::new_err((22, "Invalid argument"))
}

// ---- the table: core error -> exception ----

impl From<core::Error> for PyErr {
    fn from(error: core::Error) -> Self {
        use core::{Broken, Error, Unsafe};
        let refused = |why: &str| PyOSError::new_err(format!("the file cannot be a shared semaphore: {why}"));
        let denied = |why: &str| PyOSError::new_err((13, format!("the file is not safe to use: {why}")));
        match error {
            Error::Os(error) => match error.raw_os_error() {
                Some(code) => PyOSError::new_err((code, std::io::Error::from_raw_os_error(code).to_string())),
                None => error.into(),
            },
            Error::Broken(Broken::Short) => refused("it is too short"),
            Error::Broken(Broken::Magic) => refused("there is something else in it"),
            Error::Broken(Broken::Format) => refused("another version of sluicegate has written it"),
            Error::Broken(Broken::Shape) => refused("what it says of itself cannot be"),
            Error::Unsafe(Unsafe::NoFile) => refused("it is not a regular file"),
            Error::Unsafe(Unsafe::Remote) => refused("the directory is on a network file system"),
            Error::Unsafe(Unsafe::Foreign) => denied("it belongs to another user"),
            Error::Unsafe(Unsafe::Open) => denied("other users may read or write it"),
            Error::Mismatch { asked, found } => PyValueError::new_err(format!(
                "the semaphore of this name has a capacity of {found}, not of {asked}"
            )),
            Error::Removed => {
                super::SegmentRemoved::new_err("the name of the shared semaphore was taken away")
            }
            Error::NotHeld | Error::Full => {
                PyValueError::new_err("semaphore or lock released too many times")
            }
            Error::Crowded => PyOSError::new_err((28, "too many processes share this semaphore")),
            Error::Lost => PyOSError::new_err((9, "this process has closed the descriptor of the semaphore")),
        }
    }
}

impl From<core::AcquireError<Self>> for PyErr {
    fn from(error: core::AcquireError<Self>) -> Self {
        match error {
            core::AcquireError::Failed(error) => error.into(),
            core::AcquireError::Interrupted(raised) => raised,
        }
    }
}
