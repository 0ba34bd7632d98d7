//! The door for clients of the etcd v3 API: ports of its own, served on threads of its own, so that
//! what clients do there does not hold up the node. Ports where only health and metrics are told
//! have a thread of theirs: a large answer to a client must not look like a node that is dead. Says
//! when clients are served.

use super::credentials::MADE_HERE;
use super::etcd_flags::{EtcdFlags, Scheme, TlsVersion, Url};
use super::plan::Proof;
use super::threads::{Workers, apart};
use super::{metrics, resolve};
use crate::args::serve::Serve;
use crate::cert;
use crate::failure::Failure;
use raft_core::types::NodeId;
use raft_kv::api::{Published, REQUEST_BYTES_MAX};
use raft_kv::etcd::{DoorTls, Entrance, EtcdConfig, EtcdDoor, TlsFiles, TlsLimits};
use raft_kv::service::KvService;
use raft_net_quic::QuicTransport;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// A door as it is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DoorPlan {
    /// What the node is called there; its id if it has no name.
    pub name: Option<String>,
    /// Where clients come in.
    pub clients: Vec<Url>,
    /// Where only health, version and metrics are told.
    pub probes: Vec<Url>,
    /// Where others are told that clients come in.
    pub advertised: Vec<Url>,
    /// What is shown at URLs with https.
    pub tls: Option<TlsPlan>,
    /// Whether the URLs of peers begin with https.
    pub https_peers: bool,
    /// Operations that one list of a transaction may have; that of etcd if nothing is said.
    pub txn_ops_max: Option<usize>,
    /// Bytes that a request may have which writes; as many as there can be if nothing is said.
    pub request_bytes_max: Option<usize>,
    /// What the door may be called where it is not encrypted; anything if nothing is said.
    pub hosts: Vec<String>,
    /// What may be spoken where it is.
    pub tls_limits: TlsLimits,
}

/// Where the door's certificate is from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsPlan {
    /// Files.
    Files(TlsFiles),
    /// Made in the node's directory.
    MadeHere {
        /// The authorities of clients.
        client_ca: Option<PathBuf>,
        /// Whether the common name in a client's certificate says who the client is.
        client_names: bool,
    },
}

impl DoorPlan {
    /// What the arguments say of the door; `None` if there is to be none.
    ///
    /// # Errors
    /// Of kind `Usage` if they contradict each other.
    pub(super) fn of(args: &Serve) -> Result<Option<Self>, Failure> {
        let flags = &args.etcd;
        let mut clients = flags.listen_client_urls.clone();
        if let Some(address) = &args.etcd_listen {
            clients.push(Url::parse(&format!("http://{address}")).map_err(Failure::usage)?);
        }
        let probes = flags.listen_metrics_urls.clone();
        let tls = tls(args, https(clients.iter().chain(&probes)))?;
        if clients.is_empty() && probes.is_empty() {
            let lost = [
                "advertise-client-urls",
                "cert-file",
                "key-file",
                "auto-tls",
                "max-txn-ops",
                "max-request-bytes",
                "host-whitelist",
                "tls-min-version",
                "tls-max-version",
                "cipher-suites",
            ];
            return match lost.iter().find(|flag| args.told.has(flag)) {
                Some(flag) => Err(Failure::usage(format!("--{flag} needs --listen-client-urls"))),
                None => Ok(None),
            };
        }
        let mut advertised = flags.advertise_client_urls.clone();
        if advertised.is_empty() {
            advertised.clone_from(&clients);
        }
        let name = flags.name.clone();
        let txn_ops_max = flags.max_txn_ops.and_then(|most| usize::try_from(most).ok());
        let peers = flags.listen_peer_urls.iter().chain(&flags.initial_advertise_peer_urls);
        let https_peers = args.proof != Proof::Nothing || https(peers);
        let request_bytes_max = flags.max_request_bytes.map(|most| {
            usize::try_from(most).map_or(REQUEST_BYTES_MAX, |most| most.min(REQUEST_BYTES_MAX))
        });
        let hosts = flags.host_whitelist.iter().filter(|host| !host.is_empty()).cloned().collect();
        let tls_limits = limits(flags)?;
        Ok(Some(Self {
            name,
            clients,
            probes,
            advertised,
            tls,
            https_peers,
            txn_ops_max,
            request_bytes_max,
            hosts,
            tls_limits,
        }))
    }

    /// The names and addresses by which clients may know it.
    fn hosts(&self) -> Vec<String> {
        let urls = self.clients.iter().chain(&self.advertised).chain(&self.probes);
        let urls = urls.map(|url| url.host.trim_matches(['[', ']']).to_owned());
        let always = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut hosts: Vec<String> = always.into_iter().chain(urls).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// The TLS of the door; makes what is to be made in `dir`.
    fn load(&self, dir: &Path) -> Result<Option<Arc<DoorTls>>, Failure> {
        let files = match &self.tls {
            None => return Ok(None),
            Some(TlsPlan::Files(files)) => files.clone(),
            Some(TlsPlan::MadeHere { client_ca, client_names }) => {
                let made = cert::made_here(&dir.join(MADE_HERE).join("client"), &self.hosts())?;
                TlsFiles {
                    certificate: made.certificate,
                    key: made.key,
                    client_ca: client_ca.clone(),
                    client_names: *client_names,
                }
            }
        };
        let tls = DoorTls::limited(files, self.tls_limits.clone()).map_err(Failure::usage)?;
        Ok(Some(Arc::new(tls)))
    }
}

fn https<'a>(urls: impl IntoIterator<Item = &'a Url>) -> bool {
    urls.into_iter().any(|url| url.scheme == Scheme::Https)
}

/// What may be spoken at URLs with https.
fn limits(flags: &EtcdFlags) -> Result<TlsLimits, Failure> {
    let only_1_3 = flags.tls_min_version == Some(TlsVersion::Tls13);
    let only_1_2 = flags.tls_max_version == Some(TlsVersion::Tls12);
    if only_1_3 && only_1_2 {
        return Err(Failure::usage("--tls-min-version is above --tls-max-version"));
    }
    let suites = flags.cipher_suites.iter().filter(|suite| !suite.is_empty());
    let suites: Vec<String> = suites.cloned().collect();
    if only_1_3 && !suites.is_empty() {
        return Err(Failure::usage("--cipher-suites are those of TLS 1.2, which is ruled out"));
    }
    Ok(TlsLimits { only_1_3, only_1_2, suites })
}

/// What is shown at URLs with https, if there are any.
fn tls(args: &Serve, https: bool) -> Result<Option<TlsPlan>, Failure> {
    let flags = &args.etcd;
    let client_ca = flags.trusted_ca_file.clone();
    let client_names = args.told.value("client-cert-auth") == Some("true");
    match (&flags.cert_file, &flags.key_file) {
        (Some(_), None) | (None, Some(_)) => {
            Err(Failure::usage("--cert-file and --key-file go together"))
        }
        _ if !https => Ok(None),
        _ if client_names && client_ca.is_none() => {
            Err(Failure::usage("--client-cert-auth with https:// needs --trusted-ca-file"))
        }
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (certificate.clone(), key.clone());
            Ok(Some(TlsPlan::Files(TlsFiles { certificate, key, client_ca, client_names })))
        }
        _ if flags.auto_tls == Some(true) => {
            Ok(Some(TlsPlan::MadeHere { client_ca, client_names }))
        }
        _ => Err(Failure::usage("https:// needs --cert-file and --key-file, or --auto-tls")),
    }
}

/// An open door. It closes when it is dropped.
pub(super) struct Door {
    closing: watch::Sender<bool>,
}

/// A port of the door.
struct Port {
    address: SocketAddr,
    listener: TcpListener,
    url: Url,
    probes_only: bool,
}

impl Door {
    /// Opens the door of `service` as `plan` says; `dir` is the node's directory, and
    /// `transport` its way to the others.
    ///
    /// # Errors
    /// Of kind `Local` if an address cannot be used, `Usage` if a certificate cannot.
    pub(super) async fn open(
        plan: &DoorPlan,
        dir: &Path,
        id: NodeId,
        service: Arc<KvService>,
        transport: &Arc<QuicTransport>,
    ) -> Result<Self, Failure> {
        let tls = plan.load(dir)?;
        let mut ports = Vec::new();
        for (urls, probes_only) in [(&plan.clients, false), (&plan.probes, true)] {
            for url in urls {
                ports.push(Port::open(url, probes_only).await?);
            }
        }
        let told = ports.iter().map(|port| port.told(tls.is_some())).collect();
        let (probes, clients) = ports.into_iter().partition(|port: &Port| port.probes_only);
        let (closing, closed) = watch::channel(false);
        let name = plan.name.clone().unwrap_or_else(|| id.to_string());
        let client_urls = plan.advertised.iter().map(ToString::to_string).collect();
        let member = Published { name, client_urls };
        let mut config = EtcdConfig::new(service);
        config.member = member.clone();
        config.https_peers = plan.https_peers;
        config.txn_ops_max = plan.txn_ops_max.unwrap_or(config.txn_ops_max);
        config.request_bytes_max = plan.request_bytes_max.unwrap_or(config.request_bytes_max);
        config.hosts.clone_from(&plan.hosts);
        let (metrics, weak) = (metrics::install(), Arc::downgrade(transport));
        let peers = metrics::follow_peers(weak.clone());
        config.more_metrics = Some(Arc::new(move |text: &mut String| {
            metrics.write(text);
            let traffic = weak.upgrade().map(|transport| transport.traffic());
            metrics::write_traffic(id, &traffic.unwrap_or_default(), text);
        }));
        let (give, given) = oneshot::channel();
        let (tls_there, closed_there) = (tls.clone(), closed.clone());
        let workers = Workers::start("etcd-door").await?;
        apart("etcd-door", async move {
            let door = Arc::new(EtcdDoor::new(config));
            // Nobody takes it where there are no probes.
            let _ = give.send(Arc::clone(&door));
            let announced = announce(&door, &member, told);
            let more = async { tokio::join!(announced, peers) };
            serve(&door, clients, workers.handles(), tls_there, closed_there, more).await;
        })
        .await?;
        if !plan.probes.is_empty() {
            apart("etcd-probes", async move {
                if let Ok(door) = given.await {
                    serve(&door, probes, &[], tls, closed, std::future::pending::<()>()).await;
                }
            })
            .await?;
        }
        Ok(Self { closing })
    }

    /// Closes it, and waits until its ports are free.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        self.closing.closed().await;
    }
}

impl Port {
    async fn open(url: &Url, probes_only: bool) -> Result<Self, Failure> {
        let address = resolve(&url.address()).await?;
        let failed = |error| Failure::local(format!("cannot listen on {address} (TCP)"), &error);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { address, listener, url: url.clone(), probes_only })
    }

    fn told(&self, tls: bool) -> Told {
        let Self { address, probes_only, .. } = *self;
        Told { address, encrypted: tls && self.url.scheme == Scheme::Https, probes_only }
    }
}

/// What is said of a port.
struct Told {
    address: SocketAddr,
    encrypted: bool,
    probes_only: bool,
}

/// Serves at all ports until `closed`, and does `more` meanwhile.
async fn serve(
    door: &Arc<EtcdDoor>,
    ports: Vec<Port>,
    workers: &[Handle],
    tls: Option<Arc<DoorTls>>,
    closed: watch::Receiver<bool>,
    more: impl Future,
) {
    let mut entrances = JoinSet::new();
    for Port { listener, url, probes_only, .. } in ports {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, "the door for the etcd v3 API is closed");
                continue;
            }
        };
        let tls = tls.clone().filter(|_| url.scheme == Scheme::Https);
        let entrance = Entrance { listener, tls, probes_only, workers: workers.to_vec() };
        let (door, closed) = (Arc::clone(door), closed.clone());
        entrances.spawn(async move { door.serve_at(entrance, until(closed)).await });
    }
    let more = async {
        more.await;
        std::future::pending().await
    };
    tokio::select! {
        () = more => {}
        () = until(closed.clone()) => {}
    }
    while entrances.join_next().await.is_some() {}
    // The ports are free; whoever closes the door waits until nobody looks at this any more.
    drop(closed);
}

async fn until(mut closed: watch::Receiver<bool>) {
    // Either it is said, or nobody is there any more who could.
    let _ = closed.wait_for(|closed| *closed).await;
}

/// Says once clients are served. What is waited for in logs: some of the words are etcd's.
async fn announce(door: &EtcdDoor, member: &Published, ports: Vec<Told>) {
    let cluster = door.ready().await;
    let Published { name, client_urls } = member;
    let urls = client_urls.join(" ");
    info!("published {{Name:{name} ClientURLs:[{urls}]}} to cluster {cluster}");
    info!("ready to serve client requests");
    for Told { address, encrypted, probes_only } in ports {
        match (probes_only, encrypted) {
            (true, _) => info!("telling health and metrics on {address}"),
            (false, true) => info!("serving client requests on {address}"),
            (false, false) => warn!(
                "serving insecure client requests on {address}: without encryption, whoever \
                 reaches it reads and writes"
            ),
        }
    }
}
