//! Random numbers of the operating system: for the names of clusters, lives and runs.

use crate::failure::Failure;

/// A random number.
///
/// # Errors
/// Of kind `Local`, if the system has none to give.
pub(crate) fn random() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::local("cannot draw a random number", &error.into()))
}
