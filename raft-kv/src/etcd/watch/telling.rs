//! What the node says over a stream of watches, in the interface's form.

use super::{Conversation, NO_WATCH};
use crate::api::{Event, KvError, Revision, WatchId, WatchReply};
use crate::codec;
use crate::etcd::convert;
use crate::etcd::core::signed;
use crate::etcd::error::{self, CORRUPT, NO_LEADER, STOPPED};
use crate::etcd::proto::etcdserverpb as pb;
use raft_core::transport::FrameSource;
use tonic::Status;

/// Most bytes of one revision that are put together for a client that does not take pieces; what is
/// more, it is told in pieces all the same.
const WHOLE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Conversation {
    /// Says what the node says until that ends; why it did.
    pub(super) async fn tell(&self, source: &mut dyn FrameSource) -> Status {
        loop {
            let Ok(Some(frame)) = source.receive().await else { return STOPPED.into() };
            for reply in codec::decode_sequence::<WatchReply>(&frame) {
                let response = match reply {
                    Ok(WatchReply::Ended(error)) => return self.why(&error),
                    Ok(reply) => self.response(reply),
                    Err(error) => return Status::internal(error.to_string()),
                };
                if let Some(response) = response
                    && !self.outlet.send(response).await
                {
                    return STOPPED.into();
                }
            }
        }
    }

    /// Why the stream ends.
    fn why(&self, error: &KvError) -> Status {
        match error {
            _ if self.core.service.refusal().is_some() => CORRUPT.into(),
            KvError::Unavailable(_) if !self.core.is_led() => NO_LEADER.into(),
            KvError::Unavailable(_) => STOPPED.into(),
            error => error::of_kv(error, true),
        }
    }

    fn response(&self, reply: WatchReply) -> Option<pb::WatchResponse> {
        match reply {
            WatchReply::Created(own, revision) => {
                let mut names = self.names();
                let named = names.named(own)?;
                (named.begun, named.told) = (true, revision.0);
                let response = self.about(named.id, revision);
                Some(pb::WatchResponse { created: true, ..response })
            }
            WatchReply::Events { id, revision, events, fragment } => {
                self.events(id, revision, events, fragment)
            }
            WatchReply::Canceled(own, error) => self.ended(own, error),
            WatchReply::Progress(Some(own), revision) => {
                let mut names = self.names();
                let named = names.named(own)?;
                named.told = named.told.max(revision.0);
                Some(self.about(named.id, revision))
            }
            WatchReply::Progress(None, revision) => Some(self.about(NO_WATCH, revision)),
            // The history is that of this node; no client of the interface asks for another.
            WatchReply::Opened(_) | WatchReply::Ended(_) => None,
        }
    }

    fn about(&self, watch_id: i64, revision: Revision) -> pb::WatchResponse {
        let header = Some(self.core.header(revision));
        pb::WatchResponse { header, watch_id, ..Default::default() }
    }

    fn events(
        &self,
        own: WatchId,
        revision: Revision,
        events: Vec<Event>,
        fragment: bool,
    ) -> Option<pb::WatchResponse> {
        let mut names = self.names();
        let named = names.named(own)?;
        let mut told = std::mem::take(&mut named.pieces);
        told.extend(events);
        if fragment && !named.in_pieces && bytes_of(&told) <= WHOLE_BYTES_MAX {
            named.pieces = told;
            return None;
        }
        // Of what happened long ago it is told that the store has come further since; that never
        // goes back.
        named.told = named.told.max(revision.0);
        let response = self.about(named.id, Revision(named.told));
        let events = told.into_iter().map(convert::event).collect();
        Some(pb::WatchResponse { events, fragment, ..response })
    }

    fn ended(&self, own: WatchId, error: Option<KvError>) -> Option<pb::WatchResponse> {
        let named = self.names().ended(own)?;
        let response = self.about(named.id, self.core.revision());
        let response = pb::WatchResponse { canceled: true, ..response };
        let Some(error) = error else { return Some(response) };
        let cancel_reason = error::of_canceled(&error);
        Some(match error {
            KvError::Compacted { compacted, .. } => {
                let compact_revision = signed(compacted.0);
                pb::WatchResponse { compact_revision, cancel_reason, ..response }
            }
            _ if named.begun => pb::WatchResponse { cancel_reason, ..response },
            _ => {
                let (created, watch_id) = (true, NO_WATCH);
                pb::WatchResponse { created, watch_id, cancel_reason, ..response }
            }
        })
    }
}

fn bytes_of(events: &[Event]) -> usize {
    let size = |event: &Event| {
        let pair = |pair: &crate::api::KeyValue| pair.key.len() + pair.value.len();
        let put = match &event.kind {
            crate::api::EventKind::Put(put) => pair(put),
            crate::api::EventKind::Delete { key, .. } => key.len(),
        };
        size_of::<Event>() + put + event.prev_kv.as_ref().map_or(0, pair)
    };
    events.iter().map(size).sum()
}
