//! Sleepers for the models. loom knows no time: a timeout is a thread that cancels its wait wherever it happens to
//! be, an interrupt one that leaves with an error, and the model tries every place.
#![allow(dead_code)] // Not every model has a use for each.

use sluicegate::core::park::{Park, ThreadPark, Waiter, Wake};
use std::convert::Infallible;
use std::time::Instant;

/// Its deadline passes as soon as it has watched and would sleep.
#[derive(Clone, Copy)]
pub struct Impatient;

impl Park for Impatient {
    type Interrupt = ();

    fn park(&self, waiter: &Waiter, _: Option<Instant>) -> Result<Wake, ()> {
        waiter.watch(|| waiter.notice());
        Ok(waiter.time_out())
    }
}

/// It watches for a notice before it sleeps.
#[derive(Clone, Copy)]
pub struct Watchful;

impl Park for Watchful {
    type Interrupt = Infallible;

    fn park(&self, waiter: &Waiter, deadline: Option<Instant>) -> Result<Wake, Infallible> {
        waiter.watch(|| waiter.notice());
        ThreadPark.park(waiter, deadline)
    }
}

/// A signal handler raises as soon as it sleeps.
#[derive(Clone, Copy)]
pub struct Interrupted;

impl Park for Interrupted {
    type Interrupt = ();

    fn park(&self, _: &Waiter, _: Option<Instant>) -> Result<Wake, ()> {
        Err(())
    }
}
