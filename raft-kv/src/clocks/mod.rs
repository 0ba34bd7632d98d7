//! Logical clocks: what can be said about the order of events without asking anybody.
//!
//! Event `a` *happens before* `b` if both are of one process and `a` comes first, if `a` sends a
//! message and `b` receives it, or if an event lies between them in this sense. Events of which
//! neither happens before the other are *concurrent*.
//!
//! | | says | cannot say |
//! |---|---|---|
//! | [`LamportClock`] | a total order in which every cause precedes its effects | whether `a < b` means that `a` happened before, or that nobody knew |
//! | [`VersionVector`] | before, after, equal or concurrent, exactly | which of two concurrent events is to win |
//! | [`Revision`](crate::api::Revision) | a total order, which causality respects, and *when it is final* | anything, while there is no quorum |
//!
//! The last line is why the store does not decide by clocks: that a time stamp is the lowest is only
//! known once everybody who might hold a lower one was asked. Of two claims to one name a log takes
//! the first it holds; clocks cannot tell that there is not going to be an earlier one. The example
//! `uniqueness` shows it.
//!
//! This module is pure: values, and functions of them. It never reads a clock of the machine.

mod lamport;
mod vector;

pub use lamport::{LamportClock, Stamp};
pub use vector::{Relation, VersionVector};
