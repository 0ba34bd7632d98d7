//! `raft serve`: one node. Puts log, state machine, transport and service together on one
//! current-thread runtime, says when it serves, and stops it in order.
//!
//! Nothing here retries: whatever fails at the start or stops the node later ends the process with
//! the cause in one line, and harms no data. Data that is damaged is moved aside (`damage`), and
//! the node begins anew.

mod credentials;
mod damage;
pub mod data;
mod door;
pub mod etcd_flags;
mod metrics;
pub mod plan;
mod renewal;
pub(crate) mod stop;
mod threads;
mod waiting;

use crate::args::serve::Serve;
use crate::failure::{Failure, Kind};
use crate::logging;
use crate::output::Output;
use crate::pages;
use crate::random::random;
use data::{Data, damage_of};
use door::Door;
pub use door::{DoorPlan, TlsPlan};
use etcd_flags::identity::{self, Known};
use etcd_flags::map::{self, Mapped, Search, map};
use plan::{Plan, TICK};
use raft_core::log_store::StorageError;
use raft_core::node::{Node, NodeConfig, StartError, StopCause};
use raft_core::raft::RoleName;
use raft_core::transport::Peers;
use raft_core::types::{GroupId, Incarnation, NodeId};
use raft_kv::api::{Divergence, REQUEST_BYTES_MAX};
use raft_kv::service::{KvService, ServiceConfig};
use raft_kv::store::StoreHandle;
use raft_net_quic::{BindError, Credentials, Limits, QuicConfig, QuicTransport};
use renewal::Renewal;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use stop::StopRequests;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

/// The one group of a process.
pub const GROUP: GroupId = GroupId(0);
/// Incoming snapshots.
const SNAPSHOT_DIR: &str = "incoming";

/// Runs a node until it is asked to stop, or fails.
///
/// # Errors
/// Of kind `Usage` for arguments or certificates that make no sense, `Local` if the data or the
/// address cannot be used, or the disk failed later.
pub fn run(args: &Serve, output: &mut Output<'_>) -> Result<(), Failure> {
    // All that can be known to be wrong, before anything is touched.
    if let Some(wrong) = Plan::wrong(args).into_iter().next() {
        return Err(wrong);
    }
    let mapped = mapped(args)?;
    pages::small();
    logging::start(mapped.serve.log_level.as_deref()).map_err(Failure::usage)?;
    mapped.notes.iter().for_each(|note| warn!("{note}"));
    metrics::install();
    // One thread for the raft loop, its sockets and its clients: with few cores a scheduler between
    // them costs more than Raft itself. Disk and state machine have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start a runtime", &error))?;
    let ended = runtime.block_on(async {
        let mut stop = StopRequests::listen(args.exit_with_parent)?;
        let mut announced = false;
        let settled = tokio::select! {
            settled = settle(args, mapped) => Some(settled?),
            request = stop.next() => {
                info!("{request}: stopped before it knew who it is");
                None
            }
        };
        let Some((args, plan)) = settled else { return Ok(()) };
        loop {
            let running = tokio::select! {
                running = Running::start(&args, &plan) => running?,
                request = stop.next() => {
                    info!("{request}: stopped before it served");
                    return Ok(());
                }
            };
            if !std::mem::replace(&mut announced, true) {
                running.announce(output);
            }
            let Some(divergence) = running.until_stopped(&plan, &mut stop).await? else {
                return Ok(());
            };
            let plan = plan.clone();
            apart(move || Data::give_up(&plan, &divergence.to_string())).await?;
        }
    });
    // A start that was given up is not waited for: what it does to the disk may be cut anywhere,
    // as by a crash.
    runtime.shutdown_background();
    ended
}

/// What the arguments come to in our own flags, whichever they are in.
fn mapped(args: &Serve) -> Result<Mapped, Failure> {
    let mapped = map(args, None)?;
    match &mapped.serve.data_dir {
        Some(dir) if map::is_etcd(args) => map(args, identity::noted(dir)?),
        _ => Ok(mapped),
    }
}

/// Finds out what only the other nodes know, should there be something.
async fn settle(args: &Serve, mapped: Mapped) -> Result<(Serve, Plan), Failure> {
    let Mapped { serve, search, .. } = mapped;
    let serve = match search {
        Some(search) => {
            let known = found(&serve, &search).await?;
            map(args, Some(known))?.serve
        }
        None => serve,
    };
    let plan = Plan::of(&serve)?;
    Ok((serve, plan))
}

/// Asks the other nodes who this one is.
async fn found(args: &Serve, search: &Search) -> Result<Known, Failure> {
    let source = plan::credentials(args)?;
    let dir = args.data_dir.clone().unwrap_or_default();
    let load = move || {
        make(&dir)?;
        // Which id the certificate is of is not known, and does not matter.
        credentials::load(&source, NodeId(0), &dir)
    };
    identity::found(search, &apart(load).await?).await
}

/// What a node needs of the disk: its credentials, and then its data.
fn open(plan: &Plan) -> Result<(Credentials, Renewal, Data), Failure> {
    let (id, dir) = (plan.raft.id, &plan.data_dir);
    let renewal = Renewal {
        source: plan.credentials.clone(),
        node: id,
        data_dir: dir.clone(),
        known: renewal::stamp(&plan.credentials),
        failed: None,
    };
    // What makes no sense is told before anything is touched.
    let credentials = credentials::load(&plan.credentials, id, dir)?;
    make(dir)?;
    let data = Data::open(plan)?;
    if plan.named {
        identity::note(dir, Known { id, cluster: plan.cluster })?;
    }
    Ok((credentials, renewal, data))
}

fn make(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::local(format!("cannot create {}", dir.display()), &error))
}

/// Runs `work` on a thread of its own, as files may be slow and a request to stop must be heard.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(Kind::Local, format!("start: {error}"))))
}

/// A node and what it stands on.
struct Running {
    id: NodeId,
    address: SocketAddr,
    node: Node,
    transport: Arc<QuicTransport>,
    service: Arc<KvService>,
    /// That for clients of the etcd v3 API.
    door: Option<Door>,
    /// Reads certificates anew, until this is dropped.
    _following: JoinSet<()>,
}

/// The line a node prints when it serves, as JSON.
#[derive(Serialize)]
struct Ready {
    event: &'static str,
    id: u64,
    address: String,
}

impl Running {
    async fn start(args: &Serve, plan: &Plan) -> Result<Self, Failure> {
        let listen = resolve(&plan.listen).await?;
        let dir = &plan.data_dir;
        let plan_there = plan.clone();
        let (credentials, renewal, data) = apart(move || open(&plan_there)).await?;
        let quic = QuicConfig {
            require_client_certificate: args.client_cert_auth,
            peer_addresses: plan.peer_addresses.clone(),
            limits: limits(),
            ..QuicConfig::new(listen, credentials, dir.join(SNAPSHOT_DIR))
        };
        let transport = Arc::new(QuicTransport::bind(quic).map_err(|error| binding(&error))?);
        let mut following = JoinSet::new();
        following.spawn(renewal.follow(Arc::clone(&transport)));
        let Started { node, moved_aside, store } = start_node(plan, data, &transport).await?;
        tokio::spawn(waiting::tell(node.clone(), plan.way(moved_aside)));
        let peers: Arc<dyn Peers> = transport.clone();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let config = ServiceConfig::new(node.clone(), store, GROUP, peers, version);
        let mut config = ServiceConfig { integrity: args.integrity.config(), ..config };
        config.watch.progress_interval = plan.watch_progress_interval;
        config.quota_bytes = plan.quota_bytes;
        config.compaction = plan.compaction;
        config.password_cost = plan.password_cost;
        config.token_life = plan.token_life;
        let service = KvService::new(config);
        transport.serve(GROUP, service.clone());
        let (id, address) = (plan.raft.id, transport.local_addr());
        let door = match &plan.door {
            Some(door) => Some(Door::open(door, dir, id, service.clone(), &transport).await?),
            None => None,
        };
        Ok(Self { id, address, node, transport, service, door, _following: following })
    }

    fn announce(&self, output: &mut Output<'_>) {
        let (id, address) = (self.id, self.address);
        let status = self.node.status();
        let identity = status.identity;
        let (cluster, incarnation) = (identity.cluster, identity.incarnation);
        info!(%id, %address, %cluster, %incarnation, "serving");
        let ready = Ready { event: "ready", id: id.0, address: address.to_string() };
        // Whoever does not read it does not need it: a node serves without its parent's ear.
        let _ = output.print(&ready, || format!("{id} listening on {address}"));
        let _ = output.finish();
    }

    /// Serves until asked to stop, then stops in order; or until the node stops by itself, or its
    /// data is not to be trusted: then it says why.
    async fn until_stopped(
        &self,
        plan: &Plan,
        stop: &mut StopRequests,
    ) -> Result<Option<Divergence>, Failure> {
        let mut found = None;
        let cause = tokio::select! {
            cause = self.node.stopped() => cause,
            divergence = self.service.divergence() => {
                found = Some(divergence);
                self.hand_over(plan).await;
                self.close_door().await;
                self.node.shutdown().await
            }
            request = stop.next() => {
                info!("{request}: stopping");
                tokio::select! {
                    () = self.hand_over(plan) => {}
                    // Asked twice: whoever asks is in a hurry.
                    _ = stop.next() => {}
                }
                self.close_door().await;
                self.node.shutdown().await
            }
        };
        match cause {
            StopCause::Shutdown => {
                self.transport.close().await;
                info!("stopped");
                Ok(found)
            }
            // Answers on their way are given up: what matters is that somebody restarts us.
            cause => {
                error!("stopped by itself: {cause}");
                Err(Failure::new(Kind::Local, format!("{} stopped: {cause}", self.id)))
            }
        }
    }

    async fn close_door(&self) {
        if let Some(door) = &self.door {
            door.close().await;
        }
    }

    /// If this node leads others, has one of them lead, so that they need not wait for an election
    /// timeout. Bounded: without success the election will do.
    async fn hand_over(&self, plan: &Plan) {
        let status = self.node.status();
        if status.role != RoleName::Leader || status.membership.voter_count() < 2 {
            return;
        }
        let bound = plan.election_timeout_max();
        match timeout(bound, self.node.transfer_leadership(None)).await {
            Ok(Ok(leader)) => info!(%leader, "leadership handed over"),
            Ok(Err(error)) => warn!("leadership not handed over: {error}"),
            Err(_) => warn!("leadership not handed over within {} ms", bound.as_millis()),
        }
    }
}

/// A node that was started.
struct Started {
    node: Node,
    /// Whether data was moved aside, now or earlier.
    moved_aside: bool,
    store: StoreHandle,
}

/// Starts the node on its data, or on what is left after moving that aside.
async fn start_node(
    plan: &Plan,
    data: Data,
    transport: &Arc<QuicTransport>,
) -> Result<Started, Failure> {
    let error = match start_on(plan, data, transport)? {
        Ok(started) => return Ok(started),
        Err(error) => error,
    };
    let Some(what) = damage_of(&error) else { return Err(starting(&plan.data_dir, &error)) };
    let plan_there = plan.clone();
    let data = apart(move || Data::replace(&plan_there, &what)).await?;
    start_on(plan, data, transport)?.map_err(|error| starting(&plan.data_dir, &error))
}

fn start_on(
    plan: &Plan,
    data: Data,
    transport: &Arc<QuicTransport>,
) -> Result<Result<Started, StartError>, Failure> {
    let Data { log, machine, moved_aside } = data;
    let store = machine.handle();
    let mut raft = plan.raft.clone();
    if moved_aside {
        // The cluster may live on elsewhere: this node must not help to form another.
        raft.initial.clear();
    }
    let config = NodeConfig {
        raft,
        group: GROUP,
        cluster: plan.cluster,
        incarnation: Incarnation(random()?),
        seed: random()?,
        tick: TICK,
        requests_max: REQUESTS_MAX,
        checkpoint_bytes: plan.checkpoint_bytes,
        ..NodeConfig::default()
    };
    let started = Node::start(config, log, machine, transport.clone());
    Ok(started.map(|node| Started { node, moved_aside, store }))
}

/// Most requests waiting for an answer; the rest is refused as `overloaded`.
const REQUESTS_MAX: usize = 16 * 1024;

/// What the service refuses is not even received.
fn limits() -> Limits {
    /// Room for a request just above the limit, whose sender is told so by the service.
    const ABOVE: usize = 64 * 1024;
    let request_bytes_max = REQUEST_BYTES_MAX + ABOVE;
    Limits {
        request_bytes_max,
        request_bytes_in_flight_max: 4 * request_bytes_max,
        ..Limits::default()
    }
}

/// The address to listen on: of those a name stands for the first of IPv4, if there is one, as with
/// `localhost` clients try that first or both.
async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| Failure::local(format!("cannot resolve {address}"), &error))?;
    let found: Vec<SocketAddr> = found.collect();
    let ipv4 = found.iter().find(|address| address.is_ipv4());
    ipv4.or_else(|| found.first())
        .copied()
        .ok_or_else(|| Failure::usage(format!("{address} stands for no address")))
}

fn binding(error: &BindError) -> Failure {
    match error {
        BindError::Credentials(_) => Failure::usage(error),
        BindError::InUse(_) => Failure::new(Kind::Local, error)
            .advice("stop what listens there, or choose another address"),
        _ => Failure::new(Kind::Local, error),
    }
}

fn starting(dir: &Path, error: &StartError) -> Failure {
    match error {
        StartError::Log(error) => storage(dir, error),
        StartError::WrongIdentity { .. } => Failure::usage(format!("{}: {error}", dir.display()))
            .advice("start it with the --id, --cluster and --cluster-token of its first start"),
        StartError::Config(_) => Failure::usage(error),
        _ => Failure::new(Kind::Local, error),
    }
}

fn storage(dir: &Path, error: &StorageError) -> Failure {
    let (dir, text) = (dir.display().to_string(), error.to_string());
    let text = if text.contains(&dir) { text } else { format!("{dir}: {text}") };
    let failure = Failure::new(Kind::Local, text);
    match error {
        StorageError::InUse(_) => failure.advice("one process at a time may use it"),
        _ => failure,
    }
}
