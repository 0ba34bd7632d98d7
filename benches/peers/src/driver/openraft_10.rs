//! openraft 0.10. Appends are handed to the other node as one stream, not one by one.

use super::entries::Entries;
use super::{Cluster, ELECTION_MILLIS, HEARTBEAT_MILLIS, KEPT, NODES, Others, SNAPSHOT_EVERY};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use openraft10::base::{BoxFuture, BoxStream};
use openraft10::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft10::network::RPCOption;
use openraft10::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft10::storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft10::type_config::alias::{
    EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft10::{
    Config, EmptyNode, EntryPayload, LogState, OptionalSend, Raft, RaftLogReader,
    RaftNetworkFactory, RaftNetworkV2, RaftSnapshotBuilder, SnapshotPolicy,
};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

openraft10::declare_raft_types!(
    Types: D = Command, R = (), NodeId = u64, Node = EmptyNode,
);

type Entry = EntryOf<Types>;
type LogId = LogIdOf<Types>;
type Node = Raft<Types, Counter>;
type Snapshot = SnapshotOf<Types, ()>;
type SnapshotMeta = SnapshotMetaOf<Types>;
type StoredMembership = StoredMembershipOf<Types>;
type Vote = VoteOf<Types>;
type AppendStream<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// What is written; the library wants to be able to print it.
#[derive(Clone, Debug)]
struct Command(Bytes);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The first node leads.
pub(super) struct Nodes(Vec<Node>);

impl Cluster for Nodes {
    async fn start() -> Result<Self, String> {
        let config = Config {
            election_timeout_min: ELECTION_MILLIS,
            election_timeout_max: 2 * ELECTION_MILLIS,
            heartbeat_interval: HEARTBEAT_MILLIS,
            max_payload_entries: super::ENTRIES_PER_MESSAGE,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: KEPT,
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(|error| error.to_string())?);
        let others = Others::new();
        let mut nodes = Vec::new();
        for id in 1..=NODES {
            let (network, log) = (Network(others.clone()), Log::default());
            let node = Raft::new(id, Arc::clone(&config), network, log, Counter::default()).await;
            let node = node.map_err(|error| error.to_string())?;
            others.put(id, node.clone());
            nodes.push(node);
        }
        let members: BTreeMap<u64, EmptyNode> =
            (1..=NODES).map(|id| (id, EmptyNode::default())).collect();
        nodes[0].initialize(members).await.map_err(|error| error.to_string())?;
        let led = nodes[0].wait(None).current_leader(1, "the first node campaigns").await;
        led.map(|_| Self(nodes)).map_err(|error| error.to_string())
    }

    async fn write(&self, command: Bytes) -> Result<(), String> {
        let written = self.0[0].client_write(Command(command)).await;
        written.map(drop).map_err(|error| error.to_string())
    }

    async fn write_many(&self, commands: Vec<Bytes>) -> Result<(), String> {
        let written = self.0[0].client_write_many(commands.into_iter().map(Command)).await;
        let mut written = written.map_err(|error| error.to_string())?;
        while let Some(one) = written.try_next().await.map_err(|error| error.to_string())? {
            one.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Calls the other nodes.
struct Network(Others<Node>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        Peer { target, others: self.0.clone() }
    }
}

struct Peer {
    target: u64,
    others: Others<Node>,
}

impl Peer {
    fn node(&self) -> Result<&Node, Unreachable<Types>> {
        let absent = || Unreachable::from_string("has not started");
        self.others.find(self.target).ok_or_else(absent)
    }
}

fn unreachable(error: impl std::error::Error + 'static) -> Unreachable<Types> {
    Unreachable::new(&error)
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Ok(self.node()?.append_entries(request).await.map_err(unreachable)?)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendStream<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let answers = self.node()?.stream_append(requests);
            let answers = answers.map_err(|error| unreachable(error).into());
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.node()?.vote(request).await.map_err(unreachable)?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let installed = self.node()?.install_full_snapshot(vote, snapshot).await;
        Ok(installed.map_err(unreachable)?)
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<LogContent>>);

#[derive(Default)]
struct LogContent {
    entries: Entries<Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

impl Log {
    fn content(&self) -> MutexGuard<'_, LogContent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.content().entries.range(&range))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.content().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let content = self.content();
        let last = content.entries.last().map(|entry| entry.log_id).or(content.purged);
        Ok(LogState { last_purged_log_id: content.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.content().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.content().entries.append(entries);
        flushed.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.content().entries.truncate(last.map_or(0, |last| last.index + 1));
        Ok(())
    }

    async fn purge(&mut self, last: LogId) -> io::Result<()> {
        let mut content = self.content();
        content.purged = Some(last);
        content.entries.trim(last.index + 1);
        Ok(())
    }
}

/// Counts commands.
#[derive(Clone, Default)]
struct Counter {
    applied: Option<LogId>,
    membership: StoredMembership,
    commands: u64,
}

impl RaftSnapshotBuilder<Types> for Counter {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (last_log_id, last_membership) = (self.applied, self.membership.clone());
        Ok(Snapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot: () })
    }
}

impl RaftStateMachine<Types> for Counter {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(_) => self.commands += 1,
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), members);
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _snapshot: ()) -> io::Result<()> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.build_snapshot().await.map(Some)
    }
}
