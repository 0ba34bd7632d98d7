//! Finding out whether the members' states are equal: what a member keeps for it, and the verdict.
//!
//! A member keeps the rolling hash of its state for many indexes ([`HashRing`]); whoever compares
//! asks the others for theirs and comes to a [`Verdict`]. Pure: it asks nobody, and decides nothing
//! by time. Nobody is trusted to be right but a quorum of voters that agree.

mod ring;
#[cfg(feature = "service")]
mod verdict;

pub(crate) use ring::HashRing;
#[cfg(feature = "service")]
pub(crate) use verdict::{Search, Verdict, common, judge};
