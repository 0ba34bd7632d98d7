//! Temporary.
use super::{Client, ClientError};
use crate::api::{Event, Revision, Watch};
/// Temporary.
pub struct Told {
    /// Temporary.
    pub events: Vec<Event>,
    /// Temporary.
    pub revision: Revision,
}
/// Temporary.
pub struct Watcher;
impl Client {
    /// Temporary.
    pub fn watch(&self, _: Watch) -> Watcher {
        Watcher
    }
}
impl Watcher {
    /// Temporary.
    pub async fn next(&mut self) -> Result<Told, ClientError> {
        std::future::pending().await
    }
}
