//! Calls without ceremony, for the few methods that are a primitive's fast path.
//!
//! An uncontended acquire is one compare-and-swap, and pyo3's way to it about 130 instructions: arguments sorted
//! into slots, a thread-local count kept, a panic caught. So a [`FastMethod`] stands in front of the pyo3 method
//! of the same name: it answers the plain call by itself, and passes every other call on, unseen.

#![allow(unsafe_code)]

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyType;
use pyo3::{PyClass, PyTypeInfo};
use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

// SAFETY: a type only; what is called by it says why that is right.
/// CPython's `METH_FASTCALL | METH_KEYWORDS` convention, which pyo3 gives to every method with arguments.
type Entry = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

const FASTCALL: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

/// The plain call of a method.
pub trait FastMethod {
    /// The class that has it.
    type Class: PyClass<Frozen = True> + Sync;
    /// The pyo3 method that it stands in front of.
    const NAME: &'static CStr;

    /// Where the pyo3 method is kept: a static of this method's own.
    fn behind() -> &'static Behind;

    /// The answer to a call with these positional arguments, if it needs nothing but moves: it must not run Python
    /// code, drop a Python object, raise or wait. `None` passes the call on, with everything as it was.
    fn call<'py>(slf: Borrowed<'_, 'py, Self::Class>, args: Args<'_, 'py>) -> Option<Bound<'py, PyAny>>;
}

/// The positional arguments of a call without keywords.
pub type Args<'a, 'py> = &'a [Borrowed<'a, 'py, PyAny>];

/// The pyo3 method behind a fast one.
pub struct Behind(OnceLock<Entry>);

impl Behind {
    /// Not known yet.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }
}

/// Puts `M` in front of the pyo3 method of its name, for `class`: its own class or a subclass of that. (CPython
/// calls a type's own methods faster than those it inherits.)
pub fn install<M: FastMethod>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let missing = || PyRuntimeError::new_err(format!("no method {:?} to stand in front of", M::NAME));
    // SAFETY: * pyo3 made `M::Class` as a heap type from a slot array, so its `tp_methods`, if any, is the array of
    //   definitions that pyo3 leaked for it, ended by one without a name.
    // * The definition found says by its flags which convention its function has.
    // * The new definition is leaked: the descriptor keeps a pointer to it.
    unsafe {
        let mut def =
            ffi::PyType_GetSlot(M::Class::type_object_raw(py), ffi::Py_tp_methods).cast::<ffi::PyMethodDef>();
        if def.is_null() {
            return Err(missing());
        }
        while CStr::from_ptr((*def).ml_name) != M::NAME {
            def = def.add(1);
            if (*def).ml_name.is_null() {
                return Err(missing());
            }
        }
        if (*def).ml_flags != FASTCALL {
            return Err(missing());
        }
        M::behind().0.get_or_init(|| (*def).ml_meth.PyCFunctionFastWithKeywords);
        let front = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: (*def).ml_name,
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry::<M> },
            ml_flags: FASTCALL,
            ml_doc: (*def).ml_doc,
        }));
        let descriptor =
            Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), front))?;
        class.setattr(M::NAME.to_string_lossy().as_ref(), descriptor)
    }
}

// SAFETY: for CPython alone to call, by the convention of `FASTCALL`, as the method of a descriptor of `M::Class`.
unsafe extern "C" fn entry<M: FastMethod>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if kwnames.is_null() {
        // SAFETY: * CPython calls a method attached to the interpreter, with `nargs` arguments alive in `args`
        //   (which may be null if there are none), and a `Borrowed` is a pointer to an object that is alive.
        // * The method descriptor has checked that `slf` is an instance of `M::Class`.
        let (slf, args) = unsafe {
            let slf = Borrowed::from_ptr(Python::assume_attached(), slf).cast_unchecked::<M::Class>();
            let args: Args<'_, '_> =
                if nargs > 0 { std::slice::from_raw_parts(args.cast(), nargs.unsigned_abs()) } else { &[] };
            (slf, args)
        };
        // A panic must not unwind into C. Whatever it was, the long way says it to Python.
        if let Ok(Some(answer)) = catch_unwind(AssertUnwindSafe(|| M::call(slf, args))) {
            return answer.into_ptr();
        }
    }
    match M::behind().0.get() {
        // SAFETY: it is the pyo3 method of the same class, and gets the arguments of this call.
        Some(method) => unsafe { method(slf, args, nargs, kwnames) },
        // `install` has set it before CPython learned of this function.
        None => std::ptr::null_mut(),
    }
}

/// Declares a [`FastMethod`]: `fast_method!(Release, Semaphore, c"release", |slf, args| ...)`.
macro_rules! fast_method {
    ($method:ident, $class:ty, $name:literal, |$slf:ident, $args:ident| $body:expr) => {
        struct $method;

        impl $crate::python::fast::FastMethod for $method {
            type Class = $class;
            const NAME: &'static std::ffi::CStr = $name;

            fn behind() -> &'static $crate::python::fast::Behind {
                static BEHIND: $crate::python::fast::Behind = $crate::python::fast::Behind::new();
                &BEHIND
            }

            #[inline]
            fn call<'py>(
                $slf: pyo3::Borrowed<'_, 'py, $class>,
                $args: $crate::python::fast::Args<'_, 'py>,
            ) -> Option<pyo3::Bound<'py, pyo3::PyAny>> {
                $body
            }
        }
    };
}
pub(super) use fast_method;
