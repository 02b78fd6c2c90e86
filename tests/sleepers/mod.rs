//! Sleepers for the models. loom knows no time: a timeout is a thread that cancels its wait wherever it happens to
//! be, an interrupt one that leaves with an error, and the model tries every place.

use sluicegate::core::park::{Park, Waiter, Wake};
use std::time::Instant;

/// Its deadline passes as soon as it sleeps.
#[derive(Clone, Copy)]
pub struct Impatient;

impl Park for Impatient {
    type Interrupt = ();

    fn park(&self, waiter: &Waiter, _: Option<Instant>) -> Result<Wake, ()> {
        Ok(waiter.time_out())
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
