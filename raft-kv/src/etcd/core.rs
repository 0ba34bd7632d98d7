//! What all services of the door stand on: the way to the own node, what every answer says of it,
//! and what is said instead of an answer.

use super::EtcdConfig;
use super::alarms::Heard;
use super::applied::Applied;
use super::error::{
    self, LEADER_CHANGED, NO_LEADER, STOPPED, TIMED_OUT, TIMED_OUT_BY_LEADER, TOO_LARGE,
};
use super::inside::Inside;
use super::memory::Memory;
use super::metrics::{Calls, MoreMetrics};
use super::overdue::why_timed_out;
use super::proto::etcdserverpb::ResponseHeader;
use super::wakes::{Wakes, together};
use crate::api::{Published, Query, Revision, StreamRequest};
use crate::client::{Client, ClientError, ClientOptions};
use crate::codec;
use crate::service::{Asker, KvService};
use prost::Message;
use raft_core::node::{Node, QueryError, ReadMode, Status as NodeStatus};
use raft_core::transport::{Channel, ConnectionId, Duplex};
use raft_core::types::{ClusterId, Index, NodeId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;

/// The name of the own node where a client asks for one; which, does not matter.
pub(super) const SELF: &str = "self";

/// Less memory than this has no room for the longest requests and answers of several connections.
const MEMORY_MIN: usize = 16 * 1024 * 1024;

/// See the module. There is one for the door, one for each connection, and one for each request of
/// a user.
#[derive(Clone)]
pub(super) struct Core {
    /// Whose writes are each done once, however often leadership changes.
    pub(super) client: Client,
    /// What those wait with who stand in a line: its watches are on a stream of the connection, so
    /// that many of one client leave room for others. The door looks itself at what is told.
    pub(super) watching: Client,
    pub(super) service: Arc<KvService>,
    pub(super) inside: Inside,
    /// Whose requests it is for; 0 is nobody's.
    connection: ConnectionId,
    /// How many connections there were.
    connections: Arc<AtomicU64>,
    pub(super) request_timeout: Duration,
    pub(super) https_peers: bool,
    request_bytes_max: usize,
    hosts: Arc<[String]>,
    /// Whether the node knows of a leader, and of nothing wrong with its data.
    pub(super) serving: watch::Receiver<bool>,
    /// Whether it has known of no leader for three election timeouts.
    unled: watch::Receiver<bool>,
    /// Since when the node knows of the present leader, or of the last one.
    elected: watch::Receiver<Option<Instant>>,
    applied: Applied,
    /// What the connection may hold.
    pub(super) memory: Memory,
    /// What members have told of themselves.
    pub(super) attributes: Arc<Mutex<BTreeMap<NodeId, Published>>>,
    /// What is wrong with the others, as they have told.
    pub(super) heard: Arc<AsyncMutex<Heard>>,
    /// By which way the connection's tasks are woken; by none, of what is no connection's.
    wakes: Option<Arc<Wakes>>,
    /// What became of calls so far.
    pub(super) calls: Arc<Calls>,
    pub(super) more_metrics: Option<MoreMetrics>,
}

impl Core {
    pub(super) fn new(config: EtcdConfig) -> Arc<Self> {
        let EtcdConfig { service, member, request_timeout, .. } = config;
        let connection = ConnectionId(0);
        let own = Inside::new(service.clone(), Asker::door(connection));
        let inside = Inside::new(service.clone(), Asker::through_door(connection, None));
        let mut options = own_options(request_timeout);
        options.txn_ops_max = config.txn_ops_max;
        let client = Client::new(Arc::new(own), options);
        service.publish(member);
        let applied = Applied::of(service.store().history());
        let (serving, is_serving) = watch::channel(false);
        let (unled, is_unled) = watch::channel(false);
        let (elected, is_elected) = watch::channel(None);
        tokio::spawn(follow(Arc::clone(&service), serving, unled, elected));
        Arc::new(Self {
            watching: client.clone(),
            client,
            service,
            inside,
            connection,
            connections: Arc::default(),
            request_timeout,
            https_peers: config.https_peers,
            request_bytes_max: config.request_bytes_max,
            hosts: config.hosts.into(),
            serving: is_serving,
            unled: is_unled,
            elected: is_elected,
            applied,
            memory: Memory::of(config.memory.max(MEMORY_MIN)),
            attributes: Arc::default(),
            heard: Arc::default(),
            wakes: None,
            calls: Arc::default(),
            more_metrics: config.more_metrics,
        })
    }

    /// The same for another connection, which may hold as much as others: its requests wait for
    /// each other where there are many, not for those of all that came through this door.
    pub(super) fn of_connection(&self, wakes: Arc<Wakes>) -> Arc<Self> {
        let connection = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed) + 1);
        let own = Inside::new(self.service.clone(), Asker::door(connection));
        let inside = Inside::new(self.service.clone(), Asker::through_door(connection, None));
        // It costs nothing until it is used.
        let watching = Client::new(Arc::new(own.clone()), own_options(self.request_timeout));
        let (client, memory) = (self.client.by_way_of(Arc::new(own)), self.memory.of_connection());
        let wakes = Some(wakes);
        Arc::new(Self { client, watching, inside, connection, memory, wakes, ..self.clone() })
    }

    /// Does `work` beside the request that has begun it, as long as that may take.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match &self.wakes {
            Some(wakes) => tokio::spawn(together(Arc::clone(wakes), work)),
            None => tokio::spawn(work),
        };
    }

    /// The same for what has to be answered whatever memory the others take.
    pub(super) fn apart(&self) -> Arc<Self> {
        Arc::new(Self { memory: Memory::of(MEMORY_MIN), ..self.clone() })
    }

    /// The same for the requests of whoever shows this token.
    pub(super) fn signed(&self, token: &str) -> Arc<Self> {
        // Whoever waits in line for long was let in, and stays so as long as this is there.
        let kept = self.service.keep_token(token).map(Arc::new);
        let asker = Asker::through_door(self.connection, Some(token)).keeping(kept.clone());
        let inside = Inside::new(self.service.clone(), asker);
        let own = Asker::door(self.connection).keeping(kept);
        let own = Inside::new(self.service.clone(), own);
        let client = self.client.by_way_of(Arc::new(own)).with_token(token);
        Arc::new(Self { client, inside, ..self.clone() })
    }

    /// Refuses what is longer than requests that write may be.
    pub(super) fn check_length(&self, request: &impl Message) -> Result<(), Status> {
        match request.encoded_len() > self.request_bytes_max {
            true => Err(TOO_LARGE.into()),
            false => Ok(()),
        }
    }

    /// Whether a server may be called this.
    pub(super) fn may_be_called(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|known| known == "*" || known == host)
    }

    /// What the node knows of itself and the others.
    pub(super) fn status(&self) -> Arc<NodeStatus> {
        self.service.node().status()
    }

    pub(super) fn is_led(&self) -> bool {
        self.status().leader.is_some()
    }

    /// Whether the node knows of a leader, and of nothing wrong with its data.
    pub(super) fn is_serving(&self) -> bool {
        self.is_led() && self.service.refusal().is_none()
    }

    /// Waits until the node is a member and serves.
    pub(super) async fn ready(&self) -> ClusterId {
        let mut serving = self.serving.clone();
        loop {
            if serving.wait_for(|serving| *serving).await.is_err() {
                // The node has stopped: it never will.
                return std::future::pending().await;
            }
            let status = self.status();
            if status.bound && status.membership.contains(status.identity.node) {
                return status.identity.cluster;
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the node has known of no leader for three election timeouts.
    pub(super) async fn until_unled(&self) {
        if self.unled.clone().wait_for(|unled| *unled).await.is_err() {
            // The node has stopped, and says so to whoever asks.
            std::future::pending().await
        }
    }

    /// What every answer begins with; the store was at `revision`.
    pub(super) fn header(&self, revision: Revision) -> ResponseHeader {
        let status = self.status();
        ResponseHeader {
            cluster_id: status.identity.cluster.0,
            member_id: status.identity.node.0,
            revision: signed(revision.0),
            raft_term: status.term.0,
        }
    }

    /// The same of an answer that has no revision of its own: that of now.
    pub(super) fn header_now(&self) -> ResponseHeader {
        self.header(self.revision())
    }

    /// The same of an answer about the cluster, which has nothing to do with the store.
    pub(super) fn header_of_cluster(&self) -> ResponseHeader {
        self.header(Revision(0))
    }

    /// What the node has applied.
    pub(super) fn revision(&self) -> Revision {
        self.service.store().gauges().revision
    }

    /// Until when a request has time that comes now.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.request_timeout
    }

    /// The client, which waits no longer than `until` for anything.
    pub(super) fn client_until(&self, until: Instant) -> Client {
        self.client.with_deadline(until.saturating_duration_since(Instant::now()))
    }

    /// Of the answer to a write, once this node has applied it, too, but for no longer than
    /// `until`.
    pub(super) async fn header_of_write(
        &self,
        revision: Revision,
        until: Instant,
    ) -> ResponseHeader {
        if !self.applied.has(revision) {
            tokio::select! {
                () = self.applied.reach(revision, until) => {}
                _ = self.service.node().stopped() => {}
            }
        }
        self.header(revision)
    }

    /// Waits until this node has applied what was done before this is called, and says so, but not
    /// for ever: it is done, whether this node learns of it or not. It has already if `is_known`
    /// says so.
    pub(super) async fn reach(&self, until: Instant, is_known: impl Fn(&Self) -> bool) {
        let reached = async {
            if !is_known(self) {
                let applied = self.catch_up(until).await?;
                // The node tells of it with the next status at the latest.
                self.tells_of(applied, is_known).await?;
            }
            Ok::<(), Status>(())
        };
        // Nothing is missing then that this could wait for.
        let _ = timeout_at(until, reached).await;
    }

    /// Waits until this node has applied what was done before this is called, and up to which entry
    /// that is.
    ///
    /// # Errors
    /// What the client is told, if it has not by `until` or has stopped.
    pub(super) async fn catch_up(&self, until: Instant) -> Result<Index, Status> {
        let node = self.service.node();
        let apply = async {
            let query = codec::encode(&Query::Summary);
            loop {
                match node.query(query.clone(), ReadMode::Linearizable).await {
                    Ok(queried) => return Ok(queried.applied),
                    Err(QueryError::Overloaded) => sleep(LOOK).await,
                    Err(_) => return Err(STOPPED.into()),
                }
            }
        };
        timeout_at(until, apply).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Waits until the node says itself that it has applied the entry at `index`, or `is_known`
    /// says that there is nothing to wait for.
    ///
    /// # Errors
    /// What the client is told, if the node has stopped.
    pub(super) async fn tells_of(
        &self,
        index: Index,
        is_known: impl Fn(&Self) -> bool,
    ) -> Result<(), Status> {
        let node = self.service.node();
        while !is_known(self) && self.status().last_applied < index {
            tokio::select! {
                // First: of a node that has stopped nothing changes any more, and at once.
                biased;
                _ = node.stopped() => return Err(STOPPED.into()),
                () = node.status_changed() => {}
            }
        }
        Ok(())
    }

    /// What is said instead of an answer.
    pub(super) fn fail(&self, error: &ClientError) -> Status {
        if self.service.refusal().is_some() {
            return error::CORRUPT.into();
        }
        match error::of_client(error, self.is_led()) {
            status if status.message() == TIMED_OUT.1 => self.timed_out(),
            status => status,
        }
    }

    /// What is said of what has changed nothing when the time of its request is over.
    pub(super) fn late(&self) -> Status {
        if self.is_led() { self.timed_out() } else { NO_LEADER.into() }
    }

    /// The same of a read.
    pub(super) fn late_read(&self) -> Status {
        of_read(self.late())
    }

    /// What is said when the time of a request is over.
    fn timed_out(&self) -> Status {
        let led = self.elected.borrow().map(|elected| elected.elapsed());
        why_timed_out(&self.status(), self.request_timeout, led).into()
    }

    /// The same of a read: it has changed nothing, and may be repeated.
    pub(super) fn fail_read(&self, error: &ClientError) -> Status {
        of_read(self.fail(error))
    }

    /// Opens a stream to the own node.
    pub(super) async fn open_stream(&self, request: &StreamRequest) -> Result<Duplex, Status> {
        let opened = self.inside.open_stream(codec::encode(request)).await;
        opened.map_err(|_| STOPPED.into())
    }

    /// What `work` comes to, if it does by `until`.
    pub(super) async fn in_time<T>(
        &self,
        until: Instant,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let done = timeout_at(until, work).await;
        done.unwrap_or_else(|_| Err(TIMED_OUT.into()))
    }
}

/// What is said of a read where this is said of a write: it may be repeated.
fn of_read(status: Status) -> Status {
    if status.message() == TIMED_OUT_BY_LEADER.1 { LEADER_CHANGED.into() } else { status }
}

/// Of a client of the own node that is the door itself.
fn own_options(patience: Duration) -> ClientOptions {
    let mut options = ClientOptions::new([SELF]);
    options.deadline = patience;
    // There is no other node to ask: the own one has all the time there is.
    options.attempt = patience;
    options
}

/// Numbers of ours in the interface's form; none is ever so large that it makes a difference.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How often the node is looked at that does not serve.
const LOOK: Duration = Duration::from_millis(100);

/// How often the one is that does: seldom, for looking is what an idle door has to do.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Tells whether the node serves, until it stops or nobody wants to know.
async fn follow(
    service: Arc<KvService>,
    serving: watch::Sender<bool>,
    unled: watch::Sender<bool>,
    elected: watch::Sender<Option<Instant>>,
) {
    let node: Node = service.node().clone();
    let (mut led_at, mut leads) = (Instant::now(), (None, node.status().term));
    loop {
        let status = node.status();
        let led = status.leader.is_some();
        if led {
            led_at = Instant::now();
            let now_leads = (status.leader, status.term);
            if std::mem::replace(&mut leads, now_leads) != now_leads {
                elected.send_replace(Some(led_at));
            }
        }
        let serves = led && service.refusal().is_none();
        serving.send_if_modified(|known| std::mem::replace(known, serves) != serves);
        // Silence is four of the shortest election timeouts, of which etcd waits for three.
        let lost = led_at.elapsed() > status.limits.silence.mul_f64(0.75);
        unled.send_if_modified(|known| std::mem::replace(known, lost) != lost);
        tokio::select! {
            () = serving.closed() => return,
            _ = node.stopped() => return,
            () = sleep(if serves { LOOK_AGAIN } else { LOOK }) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ServiceConfig;
    use crate::store::KvStore;
    use raft_core::log_store::MemoryLog;
    use raft_core::node::NodeConfig;
    use raft_core::raft::Config;
    use raft_core::transport::MemoryNetwork;
    use raft_core::types::GroupId;

    /// A node that has stopped applies nothing any more, and its status changes at once, again and
    /// again: whoever waits for it must look.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_node_that_has_stopped() {
        let id = NodeId(1);
        let (store, transport) = (KvStore::in_memory(), MemoryNetwork::new().transport(id));
        let handle = store.handle();
        let config =
            NodeConfig { raft: Config { id, ..Config::default() }, ..NodeConfig::default() };
        let node = Node::start(config, MemoryLog::new(), store, transport.clone()).unwrap();
        let config = ServiceConfig::new(node.clone(), handle, GroupId(1), transport, "test".into());
        let core = Core::new(EtcdConfig::new(KvService::new(config)));
        node.shutdown().await;
        let (begun, until) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
        let told = core.tells_of(Index(9), |_| false).await;
        assert_eq!(told.unwrap_err().message(), STOPPED.1);
        let refused = core.catch_up(until).await;
        assert_eq!(refused.unwrap_err().message(), STOPPED.1);
        core.header_of_write(Revision(9), until).await;
        assert!(Instant::now() < until, "{:?}", begun.elapsed());
    }
}
