//! Configuration: credentials, limits, and what each limit defends against.

use crate::error::CredentialsError;
use crate::peer::SMALL_FRAME;
use raft_core::types::{GroupId, NodeId, Version};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a node listens.
#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// The one UDP address for peers and clients; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The node's certificate and key, and the authority of the cluster.
    pub credentials: Credentials,
    /// Whether clients, too, must present a certificate of the authority. Peers always must.
    pub require_client_certificate: bool,
    /// Directory of incoming snapshots until the state machine has read them. It is made if
    /// missing, and what an earlier process left there is removed.
    pub snapshot_dir: PathBuf,
    /// The newest version spoken with other nodes, as one that was not upgraded yet would. Default
    /// and most: [`Version::CURRENT`]; least: [`Version::OLDEST`].
    pub version: Version,
    /// Where this node reaches peers that it does not reach at the address they advertise: behind a
    /// proxy, a tunnel or address translation. `host:port` each. Default none.
    pub peer_addresses: BTreeMap<NodeId, String>,
    /// Bounds of everything a remote end can make grow.
    pub limits: Limits,
}

impl QuicConfig {
    /// A configuration with default limits, in which clients need no certificate.
    pub fn new(listen: SocketAddr, credentials: Credentials, snapshot_dir: PathBuf) -> Self {
        Self {
            listen,
            credentials,
            require_client_certificate: false,
            snapshot_dir,
            version: Version::CURRENT,
            peer_addresses: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// How clients connect.
#[derive(Clone, Debug)]
pub struct ConnectorConfig {
    /// The group whose service answers. Default 0.
    pub group: GroupId,
    /// How long [`connect`](raft_core::transport::Connector::connect) tries each address the host
    /// name stands for; the next one is begun after a quarter of a second. Default 10 s: a node to
    /// which many connect at once takes its time.
    pub connect_timeout: Duration,
    /// Bounds; those that concern calls and replies apply.
    pub limits: Limits,
}

impl Default for ConnectorConfig {
    fn default() -> Self {
        Self {
            group: GroupId(0),
            connect_timeout: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }
}

/// Bounds, all per transport unless said otherwise. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest Raft message. Default 32 MiB: an append is 256 KiB, or one entry of any size.
    pub message_bytes_max: usize,
    /// Messages waiting for one stream to a peer. Default 4096; what exceeds it is dropped.
    pub queue_messages_max: usize,
    /// Their bytes. Default 16 MiB.
    pub queue_bytes_max: usize,
    /// Largest request. Default 16 MiB.
    pub request_bytes_max: usize,
    /// Largest reply. Default 256 MiB.
    pub reply_bytes_max: usize,
    /// Calls waiting for a reply on one connection, on the calling side. Default 65 536; further
    /// ones fail as not sent.
    pub calls_max: usize,
    /// Bytes of requests that wait to be written to one connection. Default 64 MiB.
    pub call_bytes_max: usize,
    /// Requests of one connection that run at once, on the answering side. Default 4096; then the
    /// connection is not read until one is answered.
    pub requests_in_flight_max: usize,
    /// The same of one client: it shares the node with others, who wait for what it has running.
    /// Default 256: a client that does as much as it can still gets most of what it would alone.
    pub client_requests_in_flight_max: usize,
    /// The bytes of requests that run at once. Default 64 MiB; never less than one largest request.
    pub request_bytes_in_flight_max: usize,
    /// Streams of services that one connection has open at once, each way. Default 3; further ones
    /// are not opened. Each may be left unread with 2 MiB in it, which is kept in reserve for it:
    /// whatever else the connection carries goes on.
    pub streams_max: usize,
    /// Largest frame of such a stream. Default 16 MiB; at least 4 KiB.
    pub stream_frame_bytes_max: usize,
    /// Client connections. Default 4096; further ones are refused.
    pub clients_max: usize,
    /// Connections of nodes that are in no group's peers (yet). Default 64; further ones are
    /// refused.
    pub strangers_max: usize,
    /// Lives of one node connected at once, each by one connection for messages: its data
    /// directory was wiped and the earlier connection is not gone yet, or a second process holds
    /// its certificate. Default 4; further ones are refused.
    pub lives_max: usize,
    /// TLS handshakes under way, but for those of peers. Default 512; beyond that there is no
    /// answer, and QUIC asks again by itself.
    pub handshakes_max: usize,
    /// TLS handshakes begun at once, but for those of peers: each counts until it ends, a quarter
    /// of a second at most. Default 16: more would only take longer, all of them. The others wait,
    /// once they have proved that their addresses exist, and are not answered after two seconds.
    pub handshakes_at_once: usize,
    /// Time for a handshake and for the first frame of a stream. Default 5 s.
    pub hello_timeout: Duration,
    /// Time for the rest of a message or request that has begun. Default 30 s: the largest
    /// message takes that long at 9 Mbit/s.
    pub frame_timeout: Duration,
    /// Time for one try to connect to a peer. Default 2 s.
    pub dial_timeout: Duration,
    /// Pause after the first failed try to connect to a peer; it doubles. Default 50 ms.
    pub backoff_min: Duration,
    /// Longest pause. Default 2 s.
    pub backoff_max: Duration,
    /// A connection on which nothing arrives for this long is gone. Default 5 s; keep-alives are
    /// sent five times as often.
    pub idle_timeout: Duration,
    /// Most bytes per second of each outgoing snapshot. Default 1 000 000 000.
    pub snapshot_bytes_per_second: u64,
    /// How many of them it may send even where packets are lost or take long; above that it slows
    /// down for them. Default 100 000 000, at which heartbeats on a network of 1 Gbit/s do not feel
    /// it.
    pub snapshot_bytes_per_second_busy: u64,
    /// Largest incoming snapshot. Default 64 GiB.
    pub snapshot_bytes_max: u64,
    /// Files of incoming snapshots at once: those coming in, those whose connection broke, and
    /// those not read to the end yet. Default 2; further ones are put off.
    pub snapshots_in_max: usize,
    /// Snapshots going out at once. Default 2; further ones wait in order, at most one for each
    /// peer and group.
    pub snapshots_out_max: usize,
    /// A snapshot that makes no progress for this long is given up. Default 30 s.
    pub snapshot_stall: Duration,
    /// The part that has arrived of a snapshot whose connection broke is kept for its sender to go
    /// on for this long, unless the room is needed. Default 60 s.
    pub snapshot_kept: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            message_bytes_max: 32 * MIB,
            queue_messages_max: 4096,
            queue_bytes_max: 16 * MIB,
            request_bytes_max: 16 * MIB,
            reply_bytes_max: 256 * MIB,
            calls_max: 65_536,
            call_bytes_max: 64 * MIB,
            requests_in_flight_max: 4096,
            client_requests_in_flight_max: 256,
            request_bytes_in_flight_max: 64 * MIB,
            streams_max: 3,
            stream_frame_bytes_max: 16 * MIB,
            clients_max: 4096,
            strangers_max: 64,
            lives_max: 4,
            handshakes_max: 512,
            handshakes_at_once: 16,
            hello_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(5),
            snapshot_bytes_per_second: 1_000_000_000,
            snapshot_bytes_per_second_busy: 100_000_000,
            snapshot_bytes_max: 64 << 30,
            snapshots_in_max: 2,
            snapshots_out_max: 2,
            snapshot_stall: Duration::from_secs(30),
            snapshot_kept: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The same, with sizes that the 32-bit length of a frame can hold, and room for the
    /// transport's own frames.
    pub(crate) fn within_frames(mut self) -> Self {
        const MOST: usize = u32::MAX as usize - 1024;
        self.stream_frame_bytes_max = self.stream_frame_bytes_max.max(SMALL_FRAME);
        for size in [
            &mut self.message_bytes_max,
            &mut self.request_bytes_max,
            &mut self.reply_bytes_max,
            &mut self.stream_frame_bytes_max,
        ] {
            *size = (*size).min(MOST);
        }
        self
    }
}

/// What the other end of a connection has to prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trust {
    /// That an authority signed its certificate, and that it is the node it says by the name in it.
    Named,
    /// That an authority signed its certificate: whoever has one may say it is any node.
    AnyName,
    /// Nothing: the connection is encrypted, and nobody knows with whom.
    Anyone,
}

/// What a node proves itself with, and whom it trusts.
pub struct Credentials {
    /// The authorities whose certificates are trusted.
    pub ca: Vec<CertificateDer<'static>>,
    /// The node's certificate, then intermediate ones. It carries the DNS names
    /// [`server_name`](crate::server_name) of its id and [`ANY_NODE`](crate::ANY_NODE).
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    pub(crate) trust: Trust,
}

impl Credentials {
    /// Reads credentials from PEM.
    ///
    /// # Errors
    /// If one of the three is not PEM or holds nothing of its sort.
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, CredentialsError> {
        Ok(Self {
            ca: certificates("the authority", ca)?,
            chain: certificates("the certificate", cert)?,
            key: private_key("the key", key)?,
            trust: Trust::Named,
        })
    }

    /// Reads credentials from PEM files.
    ///
    /// # Errors
    /// The file that cannot be read or used, and why.
    pub fn from_files(ca: &Path, cert: &Path, key: &Path) -> Result<Self, CredentialsError> {
        Ok(Self {
            ca: certificates(&name(ca), &read(ca)?)?,
            chain: certificates(&name(cert), &read(cert)?)?,
            key: private_key(&name(key), &read(key)?)?,
            trust: Trust::Named,
        })
    }

    /// The same, except that certificates need not carry names: whoever holds one that the
    /// authorities signed may be any node. All nodes of a cluster must do so.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self { trust: Trust::AnyName, ..self }
    }

    /// Credentials that prove nothing and ask for no proof: connections are encrypted with a
    /// certificate that anybody may have made, and **whoever reaches the port may be any node or
    /// client**. For networks that nobody else reaches. All nodes of a cluster must do so; none
    /// with other credentials talks to them.
    pub fn unauthenticated(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        Self { ca: Vec::new(), chain: vec![certificate], key, trust: Trust::Anyone }
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        let Self { ca, chain, key, trust } = self;
        Self { ca: ca.clone(), chain: chain.clone(), key: key.clone_key(), trust: *trust }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Whom a client trusts, and what it proves itself with if it must.
pub struct ClientCredentials {
    /// The authorities whose nodes are trusted.
    pub ca: Vec<CertificateDer<'static>>,
    /// The client's own certificate chain and key, where nodes demand one.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    pub(crate) trust: Trust,
}

impl ClientCredentials {
    /// Reads credentials from PEM; `identity` is certificate and key.
    ///
    /// # Errors
    /// If one of them is not PEM or holds nothing of its sort.
    pub fn from_pem(ca: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<Self, CredentialsError> {
        let identity = match identity {
            Some((cert, key)) => {
                Some((certificates("the certificate", cert)?, private_key("the key", key)?))
            }
            None => None,
        };
        Ok(Self { ca: certificates("the authority", ca)?, identity, trust: Trust::Named })
    }

    /// Reads credentials from PEM files; `identity` is certificate and key.
    ///
    /// # Errors
    /// The file that cannot be read or used, and why.
    pub fn from_files(
        ca: &Path,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, CredentialsError> {
        let identity = identity_from(identity)?;
        Ok(Self { ca: certificates(&name(ca), &read(ca)?)?, identity, trust: Trust::Named })
    }

    /// The same, except that a node's certificate need not carry a name: whoever holds one that
    /// the authorities signed is taken for a node.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self { trust: Trust::AnyName, ..self }
    }

    /// Credentials that trust whoever answers: **what is sent may be read, and what is answered
    /// made up, by anybody between**.
    pub const fn unauthenticated() -> Self {
        Self { ca: Vec::new(), identity: None, trust: Trust::Anyone }
    }

    /// The same with the client's own certificate and key, PEM files.
    ///
    /// # Errors
    /// The file that cannot be read or used, and why.
    pub fn with_files(self, identity: Option<(&Path, &Path)>) -> Result<Self, CredentialsError> {
        Ok(Self { identity: identity_from(identity)?, ..self })
    }

    /// What a client that is part of a node has: the node's own credentials.
    pub fn of_node(node: &Credentials) -> Self {
        let Credentials { ca, chain, key, trust } = node.clone();
        Self { ca, identity: Some((chain, key)), trust }
    }
}

impl Clone for ClientCredentials {
    fn clone(&self) -> Self {
        let identity = self.identity.as_ref();
        Self {
            ca: self.ca.clone(),
            identity: identity.map(|(chain, key)| (chain.clone(), key.clone_key())),
            trust: self.trust,
        }
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials").finish_non_exhaustive()
    }
}

/// A client's own certificate and key.
fn identity_from(
    files: Option<(&Path, &Path)>,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, CredentialsError> {
    let Some((cert, key)) = files else { return Ok(None) };
    let chain = certificates(&name(cert), &read(cert)?)?;
    Ok(Some((chain, private_key(&name(key), &read(key)?)?)))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    std::fs::read(path).map_err(|source| CredentialsError::Read { path: path.into(), source })
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unreadable(what, "certificate", &error))?;
    if found.is_empty() {
        return Err(unreadable(what, "certificate", &PemError::NoItemsFound));
    }
    Ok(found)
}

fn private_key(what: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| unreadable(what, "private key", &error))
}

fn unreadable(what: &str, item: &'static str, error: &PemError) -> CredentialsError {
    match error {
        PemError::NoItemsFound => CredentialsError::Missing { what: what.into(), item },
        // The text may quote the file, so only the sort of error is told: it may be a key.
        PemError::MissingSectionEnd { .. } => malformed(what, "a section does not end"),
        PemError::Base64Decode(_) => malformed(what, "bad base64"),
        _ => malformed(what, "bad section"),
    }
}

fn malformed(what: &str, reason: &str) -> CredentialsError {
    CredentialsError::Malformed { what: what.into(), reason: reason.into() }
}
