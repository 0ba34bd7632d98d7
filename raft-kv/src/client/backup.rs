//! Backups as they come from a node. Whoever receives one checks it: see
//! [`BackupInfo`](crate::store::BackupInfo).

use super::auth::signed_stream;
use crate::api::{BackupBegun, KvError, StreamRequest};
use crate::codec::{self, WireError};
use bytes::Bytes;
use raft_core::transport::{CallError, Channel, Duplex, FrameSink, FrameSource, StreamError};
use std::sync::Arc;

/// A backup that a node streams.
pub struct Backup {
    begun: BackupBegun,
    source: Box<dyn FrameSource>,
    /// Not used, but dropping it would tell the node that nobody listens any more.
    _sink: Box<dyn FrameSink>,
    /// The connection may end with it.
    _channel: Arc<dyn Channel>,
}

/// Why there is no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The node was not reached.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It does not make one now.
    #[error(transparent)]
    Refused(#[from] KvError),
    /// The stream broke off: what has come is of no use.
    #[error("the backup broke off: {0}")]
    Broken(String),
}

impl From<StreamError> for BackupError {
    fn from(error: StreamError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<WireError> for BackupError {
    fn from(error: WireError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Backup {
    /// Has the node at the other end of `channel` begin: with all that was answered before, or,
    /// `local`, with what it has applied, even without a quorum. Has no deadline of its own.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn begin(channel: Arc<dyn Channel>, local: bool) -> Result<Self, BackupError> {
        Self::begin_as(channel, None, local).await
    }

    /// The same for whoever has this token; see [`Client::token`](super::Client::token).
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn begin_as(
        channel: Arc<dyn Channel>,
        token: Option<&str>,
        local: bool,
    ) -> Result<Self, BackupError> {
        let request = signed_stream(StreamRequest::Backup { local }, token);
        let Duplex { sink, mut source } = channel.open_stream(request).await?;
        let first = source.receive().await?;
        let first = first.ok_or_else(|| BackupError::Broken("the node said nothing".into()))?;
        let begun = codec::decode::<Result<BackupBegun, KvError>>(&first)??;
        Ok(Self { begun, source, _sink: sink, _channel: channel })
    }

    /// What the node says of it.
    pub const fn begun(&self) -> BackupBegun {
        self.begun
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// [`BackupError::Broken`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        Ok(self.source.receive().await?)
    }
}
