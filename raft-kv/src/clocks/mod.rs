//! Logical clocks: what can be said about the order of events without asking anybody.
//!
//! Event `a` *happens before* `b` if both are of one process and `a` comes first, if `a` sends a
//! message and `b` receives it, or if an event lies between them in this sense. Events of which
//! neither happens before the other are *concurrent*.
//!
//! - A [`LamportClock`] gives a total order in which every cause precedes its effects. It cannot
//!   say whether an event that comes later in it knew of the earlier one.
//! - A [`VersionVector`] says before, after, equal or concurrent, exactly. It cannot say which of
//!   two concurrent events is to win.
//! - A [`Revision`](crate::api::Revision) of the store gives a total order that respects causality,
//!   and says *when it is final*. It says nothing while there is no quorum.
//!
//! The last is why the store does not decide by clocks: that a time stamp is the lowest is
//! only known once everybody who might hold a lower one was asked. Of two claims to one name a log
//! takes the first it holds; clocks cannot tell that there is not going to be an earlier one. The
//! example `uniqueness` shows it.
//!
//! This module is pure: values, and functions of them. It never reads a clock of the machine.

mod lamport;
mod vector;

pub use lamport::{LamportClock, Stamp};
pub use vector::{Relation, VersionVector};
