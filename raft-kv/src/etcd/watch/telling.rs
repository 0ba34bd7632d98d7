//! What the node says over a stream of watches, in the interface's form.

use super::names::Named;
use super::{Conversation, NO_WATCH};
use crate::api::{Event, KvError, Revision, WatchId, WatchReply};
use crate::codec;
use crate::etcd::convert;
use crate::etcd::core::signed;
use crate::etcd::error::{self, CORRUPT, NO_LEADER, STOPPED};
use crate::etcd::memory::Held;
use crate::etcd::proto::etcdserverpb as pb;
use prost::Message;
use raft_core::transport::FrameSource;
use tonic::Status;

/// Most bytes of one revision that are put together for a client that does not take pieces; what is
/// more, or has no room, it is told in pieces all the same.
const WHOLE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What becomes of changes that come.
enum Joined {
    /// More of their revision is to come; or nobody watches them any more.
    Kept,
    /// They are told, and this is held for it.
    Told(pb::WatchResponse, Held),
    /// They do not fit to those that are kept.
    NoRoom(Vec<Event>),
}

impl Conversation {
    /// Says what the node says until that ends; why it did.
    pub(super) async fn tell(&self, source: &mut dyn FrameSource) -> Status {
        loop {
            let Ok(Some(frame)) = source.receive().await else { return STOPPED.into() };
            for reply in codec::decode_sequence::<WatchReply>(&frame) {
                let said = match reply {
                    Ok(WatchReply::Ended(error)) => return self.why(&error),
                    Ok(WatchReply::Events { id, revision, events, fragment }) => {
                        self.tell_events(id, revision, events, fragment).await
                    }
                    Ok(reply) => match self.response(reply) {
                        Some(told) => self.say_whether(told).await,
                        None => true,
                    },
                    Err(error) => return Status::internal(error.to_string()),
                };
                if !said {
                    return STOPPED.into();
                }
            }
        }
    }

    /// Says something that is no change: whether a watch has begun, perhaps.
    async fn say_whether(&self, told: pb::WatchResponse) -> bool {
        let begins = told.created;
        let said = self.say(told, self.core.memory.hold()).await;
        if begins {
            self.unanswered.send_modify(|count| *count = count.saturating_sub(1));
        }
        said
    }

    /// Says something, for which `held` is held already. False if nobody listens any more.
    async fn say(&self, told: pb::WatchResponse, mut held: Held) -> bool {
        // Whoever waits for room keeps nothing that others might wait for.
        (held.fit(told.encoded_len()) || self.say_kept().await)
            && self.outlet.send_held(told, held).await
    }

    /// Says in pieces what is kept of revisions that were to be told at once.
    async fn say_kept(&self) -> bool {
        for (told, held) in self.kept() {
            if !self.outlet.send_held(told, held).await {
                return false;
            }
        }
        true
    }

    fn kept(&self) -> Vec<(pb::WatchResponse, Held)> {
        let mut names = self.names();
        let kept = names.kept().filter_map(|named| {
            let (events, held) = named.pieces.take()?;
            Some((self.pieces(named, events, true), held))
        });
        kept.collect()
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
            WatchReply::Canceled(own, error) => self.ended(own, error),
            WatchReply::Progress(Some(own), revision) => {
                let mut names = self.names();
                let named = names.named(own)?;
                named.told = named.told.max(revision.0);
                Some(self.about(named.id, revision))
            }
            WatchReply::Progress(None, revision) => Some(self.about(NO_WATCH, revision)),
            // The history is that of this node; no client of the interface asks for another.
            WatchReply::Opened(_) | WatchReply::Ended(_) | WatchReply::Events { .. } => None,
        }
    }

    fn about(&self, watch_id: i64, revision: Revision) -> pb::WatchResponse {
        let header = Some(self.core.header(revision));
        pb::WatchResponse { header, watch_id, ..Default::default() }
    }

    /// Tells changes of one revision, those of before that were kept together with them.
    async fn tell_events(
        &self,
        own: WatchId,
        revision: Revision,
        events: Vec<Event>,
        fragment: bool,
    ) -> bool {
        match self.join(own, revision, events, fragment) {
            Joined::Kept => true,
            Joined::Told(told, held) => self.say(told, held).await,
            // Everything that is kept makes room, and they are told by themselves.
            Joined::NoRoom(events) => {
                self.say_kept().await
                    && match self.join(own, revision, events, false) {
                        Joined::Told(told, held) => {
                            self.say(pb::WatchResponse { fragment, ..told }, held).await
                        }
                        Joined::Kept | Joined::NoRoom(_) => true,
                    }
            }
        }
    }

    fn join(&self, own: WatchId, revision: Revision, events: Vec<Event>, fragment: bool) -> Joined {
        let mut names = self.names();
        let Some(named) = names.named(own) else { return Joined::Kept };
        // Of what happened long ago it is told that the store has come further since; that never
        // goes back.
        named.told = named.told.max(revision.0);
        let (mut told, mut held) =
            named.pieces.take().unwrap_or_else(|| (Vec::new(), self.core.memory.hold()));
        if !told.is_empty() || (fragment && !named.in_pieces) {
            let bytes = bytes_of(&told) + bytes_of(&events);
            if bytes > WHOLE_BYTES_MAX || !held.fit(bytes) {
                named.pieces = Some((told, held)).filter(|(told, _)| !told.is_empty());
                return Joined::NoRoom(events);
            }
        }
        told.extend(events);
        if fragment && !named.in_pieces {
            named.pieces = Some((told, held));
            return Joined::Kept;
        }
        Joined::Told(self.pieces(named, told, fragment), held)
    }

    fn pieces(&self, named: &Named, events: Vec<Event>, fragment: bool) -> pb::WatchResponse {
        let response = self.about(named.id, Revision(named.told));
        let events = events.into_iter().map(convert::event).collect();
        pb::WatchResponse { events, fragment, ..response }
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
