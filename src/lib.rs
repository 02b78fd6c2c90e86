//! Native synchronisation primitives for Python.
//!
//! `core` knows nothing of Python: it counts, queues and hands over, and sleeps through a trait its
//! caller brings. `python` is that trait for the interpreter, and the names users see.

pub mod core;
#[cfg(feature = "python")]
mod python;
