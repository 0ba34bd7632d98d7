//! The door for clients of the etcd v3 API: ports of its own, served on a thread of its own, so
//! that what clients do there does not hold up the node. Says when clients are served.

use super::credentials::MADE_HERE;
use super::etcd_flags::{Scheme, Url};
use super::{metrics, resolve};
use crate::args::serve::Serve;
use crate::cert;
use crate::failure::Failure;
use raft_core::types::{ClusterId, NodeId};
use raft_kv::api::Published;
use raft_kv::etcd::{DoorTls, Entrance, EtcdConfig, EtcdDoor, TlsFiles};
use raft_kv::service::KvService;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
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
}

/// Where the door's certificate is from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsPlan {
    /// Files.
    Files(TlsFiles),
    /// Made in the node's directory, with these authorities of clients.
    MadeHere(Option<PathBuf>),
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
        let https = |urls: &[Url]| urls.iter().any(|url| url.scheme == Scheme::Https);
        let tls = tls(args, https(&clients) || https(&probes))?;
        if clients.is_empty() && probes.is_empty() {
            let lost = ["advertise-client-urls", "cert-file", "key-file", "auto-tls"];
            return match lost.iter().find(|flag| args.told.has(flag)) {
                Some(flag) => Err(Failure::usage(format!("--{flag} needs --listen-client-urls"))),
                None => Ok(None),
            };
        }
        let mut advertised = flags.advertise_client_urls.clone();
        if advertised.is_empty() {
            advertised.clone_from(&clients);
        }
        Ok(Some(Self { name: flags.name.clone(), clients, probes, advertised, tls }))
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
            Some(TlsPlan::MadeHere(client_ca)) => {
                let made = cert::made_here(&dir.join(MADE_HERE).join("client"), &self.hosts())?;
                TlsFiles {
                    certificate: made.certificate,
                    key: made.key,
                    client_ca: client_ca.clone(),
                    client_names: false,
                }
            }
        };
        Ok(Some(Arc::new(DoorTls::new(files).map_err(Failure::usage)?)))
    }
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
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (certificate.clone(), key.clone());
            Ok(Some(TlsPlan::Files(TlsFiles { certificate, key, client_ca, client_names })))
        }
        _ if flags.auto_tls == Some(true) => Ok(Some(TlsPlan::MadeHere(client_ca))),
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
    /// Opens the door of `service` as `plan` says; `dir` is the node's directory.
    ///
    /// # Errors
    /// Of kind `Local` if an address cannot be used, `Usage` if a certificate cannot.
    pub(super) async fn open(
        plan: &DoorPlan,
        dir: &Path,
        id: NodeId,
        service: Arc<KvService>,
    ) -> Result<Self, Failure> {
        let tls = plan.load(dir)?;
        let mut ports = Vec::new();
        for (urls, probes_only) in [(&plan.clients, false), (&plan.probes, true)] {
            for url in urls {
                ports.push(Port::open(url, probes_only).await?);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::local("cannot start a runtime", &error))?;
        let (closing, closed) = watch::channel(false);
        let name = plan.name.clone().unwrap_or_else(|| id.to_string());
        let client_urls = plan.advertised.iter().map(ToString::to_string).collect();
        let member = Published { name, client_urls };
        let mut config = EtcdConfig::new(service);
        config.member = member.clone();
        let metrics = metrics::install();
        config.more_metrics = Some(Arc::new(move |text: &mut String| metrics.write(text)));
        let thread = std::thread::Builder::new().name("etcd-door".into());
        thread
            .spawn(move || {
                runtime.block_on(async {
                    let door = Arc::new(EtcdDoor::new(config));
                    serve(door, member, ports, tls, closed).await;
                });
            })
            .map_err(|error| Failure::local("cannot start a thread", &error))?;
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
}

/// Serves at all ports until `closed`, and says once clients are served.
async fn serve(
    door: Arc<EtcdDoor>,
    member: Published,
    ports: Vec<Port>,
    tls: Option<Arc<DoorTls>>,
    closed: watch::Receiver<bool>,
) {
    let mut entrances = JoinSet::new();
    let mut told = Vec::new();
    for Port { address, listener, url, probes_only } in ports {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, "the door for the etcd v3 API is closed");
                continue;
            }
        };
        let tls = tls.clone().filter(|_| url.scheme == Scheme::Https);
        told.push((address, tls.is_some(), probes_only));
        let (door, mut closed) = (Arc::clone(&door), closed.clone());
        entrances.spawn(async move {
            let until_closed = async {
                // Either it is said, or nobody is there any more who could.
                let _ = closed.wait_for(|closed| *closed).await;
            };
            door.serve_at(Entrance { listener, tls, probes_only }, until_closed).await;
        });
    }
    drop(closed);
    let all = async { while entrances.join_next().await.is_some() {} };
    let announced = async {
        let cluster = door.ready().await;
        announce(&member, cluster, &told);
        std::future::pending().await
    };
    tokio::select! {
        () = all => {}
        () = announced => {}
    }
}

/// What is waited for in logs: some of the words are etcd's.
fn announce(member: &Published, cluster: ClusterId, ports: &[(SocketAddr, bool, bool)]) {
    let Published { name, client_urls } = member;
    let urls = client_urls.join(" ");
    info!("published {{Name:{name} ClientURLs:[{urls}]}} to cluster {cluster}");
    info!("ready to serve client requests");
    for (address, tls, probes_only) in ports {
        match (probes_only, tls) {
            (true, _) => info!("telling health and metrics on {address}"),
            (false, true) => info!("serving client requests on {address}"),
            (false, false) => warn!(
                "serving insecure client requests on {address}: without encryption, whoever \
                 reaches it reads and writes"
            ),
        }
    }
}
