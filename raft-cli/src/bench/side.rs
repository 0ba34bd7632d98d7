//! A cluster that is measured, and how it is asked.

use super::grpc::{Answers, Connection, Method};
use crate::args::bench::Api;
use crate::args::connection::{DEADLINE_DEFAULT, Target};
use crate::client::{self, Store};
use crate::failure::{Failure, Kind};
use bytes::Bytes;
use raft_kv::api::{
    Compare, Consistency, EventKind, Keys, Op, OpReply, Operator, Position, Put, Range, Revision,
    Target as Compared, Txn, Watch,
};
use raft_kv::client::Watcher;
use raft_kv::etcd::proto::etcdserverpb::{
    Compare as EtcdCompare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse, compare, request_op,
    response_op, watch_request,
};
use raft_kv::etcd::proto::mvccpb::event::EventType;

/// Keys begin with this.
pub(super) const PREFIX: &str = "bench/";
/// The first key behind those.
const PREFIX_END: &str = "bench0";

/// See the module.
pub struct Side {
    /// What it is called in tables.
    pub name: String,
    /// How it is asked.
    pub servers: Servers,
    /// Its processes, if they are on this machine.
    pub processes: Vec<u32>,
}

/// Connections to a cluster, which clients share.
pub enum Servers {
    /// By this project's protocol.
    Native(Vec<Store>),
    /// By etcd's API.
    Etcd(Vec<Connection>),
}

/// How fresh what is read has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// What was there when it was asked for.
    Linearizable,
    /// As new as what the client has seen.
    Causal,
    /// Whatever the asked node has.
    Serializable,
}

/// What one client knows of the answers it got.
#[derive(Default)]
pub(super) struct Memory {
    /// Where it last read.
    position: Option<Position>,
    /// Of its own key, when that was last written.
    revision: u64,
}

impl Side {
    /// The cluster that `target` names, through connections that begin with different nodes.
    ///
    /// # Errors
    /// Of kind `Local` if a certificate cannot be used, `Unavailable` if nobody answers, `Refused`
    /// if the password is wrong.
    pub async fn open(
        api: Api,
        target: &Target,
        connections: Option<u16>,
        processes: Vec<u32>,
    ) -> Result<Self, Failure> {
        let connections = connections.map_or(target.endpoints.len(), usize::from);
        let first = target.endpoints.first().map_or("", String::as_str);
        let (name, servers) = match api {
            Api::Native => {
                let open = |turn| Store::open(target, DEADLINE_DEFAULT, turn);
                let stores = (0..connections).map(open).collect::<Result<_, _>>()?;
                (format!("native {first}"), Servers::Native(stores))
            }
            Api::Etcd => {
                let mut open = Vec::new();
                for endpoint in target.endpoints.iter().cycle().take(connections) {
                    open.push(Connection::open(endpoint, target).await?);
                }
                (format!("etcd {first}"), Servers::Etcd(open))
            }
        };
        Ok(Self { name, servers, processes })
    }
}

impl Servers {
    /// How many connections there are.
    pub(super) const fn connections(&self) -> usize {
        match self {
            Self::Native(stores) => stores.len(),
            Self::Etcd(connections) => connections.len(),
        }
    }

    /// Counts the keys below `end`, through every connection, so that all of them are there.
    pub(super) async fn count(&self, end: Bytes) -> Result<u64, Failure> {
        let mut keys = 0;
        match self {
            Self::Native(stores) => {
                let start = Bytes::from_static(PREFIX.as_bytes());
                let keys_below = Keys::Range { start, end: Some(end) };
                let range = Range { count_only: true, ..Range::of(keys_below) };
                for store in stores {
                    keys = store.range(range.clone(), Consistency::Linearizable).await?.count;
                }
            }
            Self::Etcd(connections) => {
                let range = RangeRequest {
                    key: Bytes::from_static(PREFIX.as_bytes()),
                    range_end: end,
                    count_only: true,
                    ..RangeRequest::default()
                };
                for connection in connections {
                    let reply: RangeResponse = connection.call(Method::Range, &range).await?;
                    keys = u64::try_from(reply.count).unwrap_or(0);
                }
            }
        }
        Ok(keys)
    }

    pub(super) async fn put(&self, client: u64, key: Bytes, value: Bytes) -> Result<(), Failure> {
        match self {
            Self::Native(stores) => of(stores, client).put(key, value).await.map(drop),
            Self::Etcd(connections) => {
                let request = PutRequest { key, value, ..PutRequest::default() };
                let reply = of(connections, client).call::<PutResponse>(Method::Put, &request);
                reply.await.map(drop)
            }
        }
    }

    /// Reads a key that is there.
    pub(super) async fn get(
        &self,
        client: u64,
        key: Bytes,
        mode: Mode,
        memory: &mut Memory,
    ) -> Result<(), Failure> {
        let found = match self {
            Self::Native(stores) => native_get(of(stores, client), key, mode, memory).await?,
            Self::Etcd(connections) => {
                let serializable = mode == Mode::Serializable;
                let range = RangeRequest { key, serializable, ..RangeRequest::default() };
                let reply = of(connections, client).call::<RangeResponse>(Method::Range, &range);
                !reply.await?.kvs.is_empty()
            }
        };
        // A serializable read may come from a node that has not seen the key yet.
        match found || mode == Mode::Serializable {
            true => Ok(()),
            false => Err(Failure::new(Kind::No, "a key that was written is not there")),
        }
    }

    /// Writes a key of the client's own if it is as the client last saw it, else looks at it.
    pub(super) async fn swap(
        &self,
        client: u64,
        key: Bytes,
        value: Bytes,
        memory: &mut Memory,
    ) -> Result<(), Failure> {
        memory.revision = match self {
            Self::Native(stores) => {
                let reply =
                    of(stores, client).txn(native_swap(key, value, memory.revision)).await?;
                match reply.replies.first() {
                    Some(OpReply::Range(range)) => {
                        range.kvs.first().map_or(0, |found| found.mod_revision.0)
                    }
                    _ => reply.revision.0,
                }
            }
            Self::Etcd(connections) => {
                let request = etcd_swap(key, value, memory.revision);
                let reply = of(connections, client).call::<TxnResponse>(Method::Txn, &request);
                let reply = reply.await?;
                let first = reply.responses.first().and_then(|it| it.response.as_ref());
                let revision = match first {
                    Some(response_op::Response::ResponseRange(range)) => {
                        range.kvs.first().map_or(0, |found| found.mod_revision)
                    }
                    _ => reply.header.map_or(0, |header| header.revision),
                };
                u64::try_from(revision).unwrap_or(0)
            }
        };
        Ok(())
    }

    /// Watches every key. It has begun when this returns.
    pub(super) async fn watch(&self, number: u64) -> Result<Watching, Failure> {
        match self {
            Self::Native(stores) => {
                let keys = Keys::prefix(PREFIX);
                let watcher = of(stores, number).client().watch(Watch::of(keys));
                watcher.begun().await;
                Ok(Watching::Native(watcher))
            }
            Self::Etcd(connections) => etcd_watch(of(connections, number)).await,
        }
    }
}

/// The connection of a client.
fn of<T>(connections: &[T], client: u64) -> &T {
    let at = client % connections.len() as u64;
    &connections[usize::try_from(at).expect("below the length of a slice")]
}

async fn native_get(
    store: &Store,
    key: Bytes,
    mode: Mode,
    memory: &mut Memory,
) -> Result<bool, Failure> {
    let range = Range::of(Keys::One(key));
    let consistency = match mode {
        Mode::Serializable => Consistency::Serializable,
        Mode::Linearizable => Consistency::Linearizable,
        // Whoever has seen nothing begins with what there is now.
        Mode::Causal => memory.position.map_or(Consistency::Linearizable, Consistency::AtLeast),
    };
    if mode != Mode::Causal {
        return Ok(!store.range(range, consistency).await?.kvs.is_empty());
    }
    let reply = store.read(range, consistency).await?;
    memory.position = Some(reply.position);
    Ok(!reply.range.kvs.is_empty())
}

fn native_swap(key: Bytes, value: Bytes, known: u64) -> Txn {
    let keys = Keys::One(key.clone());
    let target = Compared::ModRevision(Revision(known));
    Txn {
        compares: vec![Compare { keys: keys.clone(), operator: Operator::Equal, target }],
        success: vec![Op::Put(Put::new(key, value))],
        failure: vec![Op::Range(Range::of(keys))],
    }
}

fn etcd_swap(key: Bytes, value: Bytes, known: u64) -> TxnRequest {
    let known = i64::try_from(known).unwrap_or(i64::MAX);
    let compare = EtcdCompare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(compare::TargetUnion::ModRevision(known)),
    };
    let put = PutRequest { key: key.clone(), value, ..PutRequest::default() };
    let range = RangeRequest { key, ..RangeRequest::default() };
    let op = |request| vec![RequestOp { request: Some(request) }];
    TxnRequest {
        compare: vec![compare],
        success: op(request_op::Request::RequestPut(put)),
        failure: op(request_op::Request::RequestRange(range)),
    }
}

/// A watch of every key.
pub(super) enum Watching {
    Native(Watcher),
    Etcd(Answers<WatchResponse>),
}

impl Watching {
    /// The values that were put, as they are told.
    pub(super) async fn next(&mut self) -> Result<Vec<Bytes>, Failure> {
        match self {
            Self::Native(watcher) => {
                let Some(batch) = watcher.next().await else { return Err(ended()) };
                let events = batch.map_err(client::failure)?.events.into_iter();
                let value = |kind| match kind {
                    EventKind::Put(pair) => Some(pair.value),
                    EventKind::Delete { .. } => None,
                };
                Ok(events.filter_map(|event| value(event.kind)).collect())
            }
            Self::Etcd(answers) => {
                let answer = answers.next().await?.filter(|answer| !answer.canceled);
                let Some(answer) = answer else { return Err(ended()) };
                let events = answer.events.into_iter();
                let puts = events.filter(|event| event.r#type == i32::from(EventType::Put));
                Ok(puts.filter_map(|event| event.kv).map(|pair| pair.value).collect())
            }
        }
    }
}

fn ended() -> Failure {
    Failure::new(Kind::Unavailable, "a watch has ended")
}

async fn etcd_watch(connection: &Connection) -> Result<Watching, Failure> {
    let create = WatchCreateRequest {
        key: Bytes::from_static(PREFIX.as_bytes()),
        range_end: Bytes::from_static(PREFIX_END.as_bytes()),
        ..WatchCreateRequest::default()
    };
    let create = watch_request::RequestUnion::CreateRequest(create);
    let create = WatchRequest { request_union: Some(create) };
    let mut answers = connection.stream::<WatchResponse>(Method::Watch, &create).await?;
    match answers.next().await? {
        Some(answer) if answer.created && !answer.canceled => Ok(Watching::Etcd(answers)),
        _ => Err(ended()),
    }
}
