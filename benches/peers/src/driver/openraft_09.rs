//! openraft 0.9.

use super::entries::Entries;
use super::{Cluster, ELECTION_MILLIS, HEARTBEAT_MILLIS, KEPT, NODES, Others, SNAPSHOT_EVERY};
use bytes::Bytes;
use openraft09::error::{
    Fatal, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft09::network::RPCOption;
use openraft09::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft09::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft09::{
    AnyError, Config, EmptyNode, Entry, EntryPayload, LogId, LogState, OptionalSend, Raft,
    RaftLogReader, RaftNetwork, RaftNetworkFactory, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    SnapshotPolicy, StorageError, StoredMembership, Vote,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

openraft09::declare_raft_types!(
    Types: D = Bytes, R = (), NodeId = u64, Node = EmptyNode, SnapshotData = (),
);

type StorageResult<T> = Result<T, StorageError<u64>>;
type CallError<E = RaftError<u64>> = RPCError<u64, EmptyNode, E>;

/// The first node leads.
pub(super) struct Nodes(Vec<Raft<Types>>);

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
        let written = self.0[0].client_write(command).await;
        written.map(drop).map_err(|error| error.to_string())
    }

    async fn write_many(&self, commands: Vec<Bytes>) -> Result<(), String> {
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            let answer = self.0[0].client_write_ff(command).await;
            answers.push(answer.map_err(|error| error.to_string())?);
        }
        for answer in answers {
            let written = answer.await.map_err(|error| error.to_string())?;
            written.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Calls the other nodes.
#[derive(Clone)]
struct Network(Others<Raft<Types>>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        Peer { target, others: self.0.clone() }
    }
}

struct Peer {
    target: u64,
    others: Others<Raft<Types>>,
}

impl Peer {
    fn node(&self) -> Result<&Raft<Types>, Unreachable> {
        let absent = || Unreachable::new(&AnyError::error("has not started"));
        self.others.find(self.target).ok_or_else(absent)
    }

    fn remote(&self, error: RaftError<u64>) -> CallError {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, CallError> {
        self.node()?.append_entries(request).await.map_err(|error| self.remote(error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, CallError> {
        self.node()?.vote(request).await.map_err(|error| self.remote(error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<Types>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        let installed = self.node()?.install_full_snapshot(vote, snapshot).await;
        installed.map_err(|error| RemoteError::new(self.target, error).into())
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<LogContent>>);

#[derive(Default)]
struct LogContent {
    entries: Entries<Entry<Types>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

impl Log {
    fn content(&self) -> MutexGuard<'_, LogContent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> StorageResult<Vec<Entry<Types>>> {
        Ok(self.content().entries.range(&range))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> StorageResult<LogState<Types>> {
        let content = self.content();
        let last = content.entries.last().map(|entry| entry.log_id).or(content.purged);
        Ok(LogState { last_purged_log_id: content.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> StorageResult<()> {
        self.content().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> StorageResult<Option<Vote<u64>>> {
        Ok(self.content().vote)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> StorageResult<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.content().entries.append(entries);
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, first: LogId<u64>) -> StorageResult<()> {
        self.content().entries.truncate(first.index);
        Ok(())
    }

    async fn purge(&mut self, last: LogId<u64>) -> StorageResult<()> {
        let mut content = self.content();
        content.purged = Some(last);
        content.entries.trim(last.index + 1);
        Ok(())
    }
}

/// Counts commands.
#[derive(Clone, Default)]
struct Counter {
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
    commands: u64,
}

impl RaftSnapshotBuilder<Types> for Counter {
    async fn build_snapshot(&mut self) -> StorageResult<Snapshot<Types>> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.commands.to_string(),
        };
        Ok(Snapshot { meta, snapshot: Box::new(()) })
    }
}

impl RaftStateMachine<Types> for Counter {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> StorageResult<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> StorageResult<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(_) => self.commands += 1,
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), members);
                }
            }
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> StorageResult<Box<()>> {
        Ok(Box::new(()))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        _snapshot: Box<()>,
    ) -> StorageResult<()> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> StorageResult<Option<Snapshot<Types>>> {
        self.build_snapshot().await.map(Some)
    }
}
