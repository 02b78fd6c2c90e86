//! Timeouts become deadlines here, and threads of the interpreter go to sleep.

use crate::core::fork;
use crate::core::park::{Park, Sleep, Slept, Waiter, Wake};
use crate::core::spin::{self, GivenUp};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};
use std::cell::Cell;
use std::mem;
use std::time::{Duration, Instant};

/// `threading.TIMEOUT_MAX`, in seconds: what CPython's clock type holds.
const TIMEOUT_MAX: f64 = 9_223_372_036.0;

/// Whether a sleep ends when a signal handler has run.
const HEARS_SIGNALS: bool = cfg!(all(target_os = "linux", not(portable_park)));

/// After how long asleep the main thread looks for signals by itself, and how that grows from look to look. Where
/// signals end a sleep this is only for one that came between the last look and the sleep: soon, then ever later.
const FIRST_LOOK: Duration = if HEARS_SIGNALS { Duration::from_millis(5) } else { Duration::from_millis(50) };
const NEXT_LOOK: u32 = if HEARS_SIGNALS { 4 } else { 1 };

/// The deadline of a timeout in seconds, with the errors of `threading`.
///
/// Called only when there is something to wait for: `threading` does not look at a timeout earlier.
pub fn deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    let Some(timeout) = timeout else { return Ok(None) };
    let now = Instant::now();
    let seconds = seconds(timeout)?;
    // A deadline that the clock cannot express is one that nobody lives to see.
    Ok(if seconds > 0.0 { now.checked_add(Duration::from_secs_f64(seconds)) } else { Some(now) })
}

/// A timeout as a number, with the errors of `threading`.
pub fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    if timeout.is_exact_instance_of::<PyFloat>() || timeout.is_instance_of::<PyInt>() {
        match timeout.extract::<f64>() {
            Ok(seconds) if seconds.is_nan() => {
                return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
            }
            Ok(seconds) if seconds <= TIMEOUT_MAX => return Ok(seconds),
            _ => {}
        }
    }
    as_threading_does(timeout)
}

/// Puts a timeout that is no plain number of seconds through the steps of `threading.Condition.wait`, so that it
/// fails where, and as, it fails there.
#[cold]
fn as_threading_does(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    let py = timeout.py();
    PyFloat::new(py, 0.0).add(timeout)?;
    if !timeout.gt(0)? {
        return Ok(0.0);
    }
    let lock = py.import("_thread")?.call_method0("allocate_lock")?;
    lock.call_method1("acquire", (true, timeout))?;
    let seconds = timeout.extract::<f64>()?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    Ok(seconds.min(TIMEOUT_MAX))
}

/// Whether Python runs signal handlers in this thread.
///
/// Names are not interned here, nor anywhere else after the import: `intern!` lets other threads run while it fills
/// its cell, and a child forked in that moment would wait for ever for the thread that was to fill it.
fn handles_signals(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        /// The answer, and the fork generation it was found in: a fork makes its thread the main one.
        static KNOWN: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
    }
    let generation = fork::generation();
    if let Some((_, answer)) = KNOWN.get().filter(|(known, _)| *known == generation) {
        return Ok(answer);
    }
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    let answer = main.eq(threading.call_method0("get_ident")?)?;
    KNOWN.set(Some((generation, answer)));
    Ok(answer)
}

/// Sleeps detached from the interpreter, so that other threads run: the one place where a thread detaches.
///
/// `sleep` sleeps until a moment it is given, at first with the turn that was given up just before; `None` is returned
/// once the deadline has passed, and `give_up` is the last that happens before then.
///
/// A thread other than the main one ends its wait before it attaches again: at interpreter exit that attach never
/// returns, and nobody must wait for what it would have done next. The main thread has to attach to run signal
/// handlers; it is the one that always returns.
fn detached<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut sleep: impl FnMut(Option<Instant>, Option<GivenUp>) -> Slept<T> + Send,
    give_up: impl Fn() -> Option<T> + Send + Sync,
) -> PyResult<Option<T>> {
    let handles_signals = handles_signals(py)?;
    let (mut look, mut begins) = (FIRST_LOOK, true);
    loop {
        let until = if handles_signals {
            let next = Instant::now() + look;
            Some(deadline.map_or(next, |deadline| deadline.min(next)))
        } else {
            deadline
        };
        let slept = py.detach(|| {
            let turn = spin::give_up_turn();
            loop {
                match sleep(until, mem::take(&mut begins).then_some(turn)) {
                    Slept::Notified(result) => return Slept::Notified(Some(result)),
                    Slept::TimedOut if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                        return Slept::Notified(give_up());
                    }
                    Slept::TimedOut if handles_signals => return Slept::TimedOut,
                    Slept::Interrupted if handles_signals => return Slept::Interrupted,
                    Slept::TimedOut | Slept::Interrupted => {}
                }
            }
        });
        match slept {
            Slept::Notified(result) => return Ok(result),
            Slept::TimedOut => look *= NEXT_LOOK,
            Slept::Interrupted => {}
        }
        py.check_signals()?;
    }
}

impl Park for Python<'_> {
    type Interrupt = PyErr;

    fn park(&self, waiter: &Waiter, deadline: Option<Instant>) -> PyResult<Wake> {
        let give_up = || match waiter.time_out() {
            Wake::Notified(notice) => Some(notice),
            Wake::TimedOut => None,
        };
        let sleep = |until, begins| match begins {
            Some(turn) => spin::spin_or_sleep(waiter, until, turn),
            None => waiter.sleep(until),
        };
        let notice = detached(*self, deadline, sleep, give_up)?;
        Ok(notice.map_or(Wake::TimedOut, Wake::Notified))
    }
}

impl Sleep for Python<'_> {
    type Interrupt = PyErr;

    fn sleep<T: Send>(
        &self,
        deadline: Option<Instant>,
        mut sleep: impl FnMut(Option<Instant>) -> Slept<T> + Send,
    ) -> PyResult<Option<T>> {
        detached(*self, deadline, |until, _| sleep(until), || None)
    }
}
