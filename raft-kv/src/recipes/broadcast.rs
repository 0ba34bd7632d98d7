//! Messages that all see in one order.
//!
//! Total-order broadcast is what the log is made for; here it is for its users. A message is a
//! sequential key, so its place is decided when it is applied, and whoever subscribes - early, late
//! or again - is told the messages that are there and then those to come, in that order, each once.

use super::mirror::told;
use super::{RecipeError, below};
use crate::Client;
use crate::api::{
    Compare, Consistency, EventKind, KeyValue, Keys, KvError, Op, Operator, Order, OrderBy,
    Position, Put, Range, RangeReply, Revision, SEQUENCE_DIGITS, Target, Txn, Watch,
};
use crate::client::{ClientError, Watcher};
use bytes::Bytes;
use std::collections::VecDeque;

/// A topic of messages in one total order.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::api::Revision;
/// use raft_kv::recipes::{RecipeError, Topic};
///
/// async fn example(client: &Client) -> Result<(), RecipeError> {
///     let topic = Topic::new(client, "topics/orders");
///     topic.broadcast("one of everything").await?;
///     let mut messages = topic.subscribe(Revision(0));
///     loop {
///         let message = messages.next().await?;
///         // Whoever remembers this goes on from there after a restart, with `subscribe_after`.
///         println!("{}: {:?}", message.position(), message.value);
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Topic {
    client: Client,
    name: Bytes,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the order; no two of a topic have the same.
    pub revision: Revision,
    /// The history in which it was told; see [`Position::epoch`].
    pub epoch: u64,
    /// What was said.
    pub value: Bytes,
}

impl Message {
    /// Where a subscription stands that has had it: what to remember.
    pub const fn position(&self) -> Position {
        Position { epoch: self.epoch, revision: self.revision }
    }

    fn of(pair: KeyValue, epoch: u64) -> Self {
        Self { revision: pair.create_revision, epoch, value: pair.value }
    }
}

impl Topic {
    /// The topic of this name.
    pub fn new(client: &Client, name: impl Into<Bytes>) -> Self {
        Self { client: client.clone(), name: name.into() }
    }

    /// Tells everybody, once; returns the message's place in the order.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn broadcast(&self, value: impl Into<Bytes>) -> Result<Revision, ClientError> {
        let put = Put { sequential: true, ..Put::new(below(&self.name, b""), value) };
        Ok(self.client.put_with(put).await?.revision)
    }

    /// All messages after `after`, in order, without end; from the first if that is 0. Whoever
    /// remembers where it was is better off with [`subscribe_after`](Self::subscribe_after).
    pub fn subscribe(&self, after: Revision) -> Subscription {
        self.subscription(after, None)
    }

    /// All messages after that of `position`, in order, without end. If the history there is by now
    /// is another one, that is told first, with [`KvError::OtherHistory`].
    pub fn subscribe_after(&self, position: Position) -> Subscription {
        self.subscription(position.revision, Some(position.epoch))
    }

    fn subscription(&self, after: Revision, epoch: Option<u64>) -> Subscription {
        let (topic, watcher, coming) = (self.clone(), None, VecDeque::new());
        Subscription { topic, after, epoch, watcher, coming }
    }

    /// The place of the last message there is; `None` without one. Linearizable.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn last(&self) -> Result<Option<Revision>, ClientError> {
        let order = Some(Order { by: OrderBy::Key, descending: true });
        let range =
            Range { order, limit: 1, keys_only: true, ..Range::of(self.after(Revision(0))) };
        let found = self.client.get(range, Consistency::Linearizable).await?;
        Ok(found.kvs.first().map(|pair| pair.create_revision))
    }

    /// Drops the messages up to `until`. Subscribers who have not had them are told so, instead of
    /// being told what came after as if nothing were missing. Returns up to where messages are
    /// dropped then: further than `until` if they were before, and never further than the store has
    /// come, so that no message to come is dropped unseen.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn drop_until(&self, until: Revision) -> Result<Revision, ClientError> {
        loop {
            let range = Range::of(Keys::One(self.name.clone()));
            let found = self.client.get(range, Consistency::Linearizable).await?;
            let (until, dropped) = (until.min(found.revision), marked(&found));
            if until <= dropped {
                return Ok(dropped);
            }
            let last = found.kvs.first().map_or(Revision(0), |pair| pair.mod_revision);
            let target = Target::ModRevision(last);
            let keys = Keys::One(self.name.clone());
            let unchanged = Compare { keys, operator: Operator::Equal, target };
            let (start, end) = (self.key(Revision(1)), self.key(Revision(until.0 + 1)));
            let keys = Keys::Range { start, end: Some(end) };
            let marker = Put::new(self.name.clone(), until.0.to_be_bytes().to_vec());
            let success = vec![Op::Delete { keys, prev_kv: false }, Op::Put(marker)];
            let txn = Txn { compares: vec![unchanged], success, failure: Vec::new() };
            // Otherwise somebody else has dropped some at the same time, perhaps more.
            if self.client.txn(txn).await?.succeeded {
                return Ok(until);
            }
        }
    }

    /// The key of a message at `revision`.
    fn key(&self, revision: Revision) -> Bytes {
        below(&self.name, format!("{:0SEQUENCE_DIGITS$}", revision.0).as_bytes())
    }

    /// The keys of all messages after `revision`.
    fn after(&self, revision: Revision) -> Keys {
        let Keys::Range { end, .. } = Keys::prefix(below(&self.name, b"")) else {
            return Keys::prefix(below(&self.name, b""));
        };
        Keys::Range { start: self.key(Revision(revision.0.saturating_add(1))), end }
    }

    /// Up to where messages were dropped.
    async fn dropped(&self, at: Revision) -> Result<Revision, ClientError> {
        let range = Range { revision: Some(at), ..Range::of(Keys::One(self.name.clone())) };
        Ok(marked(&self.client.get(range, Consistency::Linearizable).await?))
    }
}

/// Up to where messages were dropped, as the topic's own key says; not in the future.
fn marked(found: &RangeReply) -> Revision {
    let value = found.kvs.first().and_then(|pair| <[u8; 8]>::try_from(&pair.value[..]).ok());
    Revision(value.map_or(0, u64::from_be_bytes)).min(found.revision)
}

/// The messages of a topic; see [`Topic::subscribe`].
pub struct Subscription {
    topic: Topic,
    /// The last message that was told.
    after: Revision,
    /// The history that it belongs to, once that is known.
    epoch: Option<u64>,
    /// Tells the messages to come, once those that are there have been read.
    watcher: Option<Watcher>,
    coming: VecDeque<Message>,
}

impl Subscription {
    /// The next message: waits for it if there is none. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`RecipeError::Dropped`] if messages before the next one were dropped unseen; the ones there
    /// are come after that. [`RecipeError::Client`]; it can be called again. With
    /// [`KvError::OtherHistory`] in it, the cluster was made anew, and what others are told is not
    /// what this one was told: whoever calls again goes on with the messages of the history there
    /// is that have a greater number. Whoever must not miss any of them begins anew instead: that
    /// history's numbers may have come as far before, with other messages.
    pub async fn next(&mut self) -> Result<Message, RecipeError> {
        loop {
            if let Some(message) = self.coming.pop_front() {
                self.after = message.revision;
                return Ok(message);
            }
            let Some(watcher) = &mut self.watcher else {
                self.catch_up().await?;
                continue;
            };
            match told(watcher).await {
                Ok(events) => {
                    let epoch = self.epoch.unwrap_or_default();
                    self.coming.extend(events.into_iter().filter_map(|event| match event.kind {
                        EventKind::Put(pair) => Some(Message::of(pair, epoch)),
                        EventKind::Delete { .. } => None,
                    }))
                }
                Err(error) => {
                    self.watcher = None;
                    if let ClientError::Refused(KvError::OtherHistory { current, .. }) = error {
                        self.epoch = Some(current);
                    }
                    if !is_compacted(&error) {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// Reads some of the messages that are there, or finds that those to come are next.
    async fn catch_up(&mut self) -> Result<(), RecipeError> {
        let (client, keys) = (&self.topic.client, self.topic.after(self.after));
        let read = client.read(Range::of(keys.clone()), Consistency::Linearizable).await?;
        let (page, current) = (read.range, read.position.epoch);
        let asked = self.epoch.replace(current).unwrap_or(current);
        if asked != current {
            let error = ClientError::Refused(KvError::OtherHistory { asked, current });
            return Err(error.into());
        }
        let dropped = match self.topic.dropped(page.revision).await {
            // Too late to know: once more.
            Err(error) if is_compacted(&error) => return Ok(()),
            dropped => dropped?,
        };
        if dropped > self.after {
            self.after = dropped;
            return Err(RecipeError::Dropped(dropped));
        }
        if !page.more {
            let from = Some(Revision(page.revision.0 + 1));
            let watch = Watch { from, no_deletes: true, ..Watch::of(keys) };
            self.watcher = Some(client.watch_history(current, watch));
        }
        self.coming.extend(page.kvs.into_iter().map(|pair| Message::of(pair, current)));
        Ok(())
    }
}

const fn is_compacted(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(KvError::Compacted { .. }))
}
