//! TLS: who may talk to whom, and how a certificate proves it.
//!
//! One UDP port serves peers and clients, told apart by ALPN. Peers prove their node id by a DNS
//! name in the certificate, in both directions. Nothing here ever accepts a certificate that the
//! configured authorities did not sign, unless the credentials say in their name that nobody has to
//! prove anything; and 0-RTT is off: replayed bytes must not write.

mod verify;

use crate::config::{ClientCredentials, Credentials, Limits, Trust};
use crate::error::CredentialsError;
use crate::hello::{Protocol, STREAMS_SINCE};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    AckFrequencyConfig, Connection, ConnectionId, ConnectionIdGenerator, EndpointConfig,
    IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};
use raft_core::types::{NodeId, Version};
use rustls::crypto::ring;
use rustls::crypto::tls13::{Hkdf, OkmBlock};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, SupportedCipherSuite};
use std::sync::Arc;
use std::time::Duration;

/// ALPN of connections between nodes, from version 2 on: the hello tells which versions are spoken.
pub const ALPN_PEER: &[u8] = b"raft-peer/2";

/// ALPN of connections between nodes of which one speaks version 1 only.
pub const ALPN_PEER_V1: &[u8] = b"raft-peer/1";

/// ALPN of connections from clients where both ends know streams: from version 3 on.
pub const ALPN_CLIENT: &[u8] = b"raft-client/2";

/// ALPN of connections from clients of which one end knows no streams.
pub const ALPN_CLIENT_V1: &[u8] = b"raft-client/1";

/// The DNS name that every node's certificate carries. Clients, which know addresses and no ids,
/// ask for it.
pub const ANY_NODE: &str = "node.raft.internal";

/// The DNS name that proves a node's id: `n3.node.raft.internal`. The certificate of the node
/// carries it, beside [`ANY_NODE`].
pub fn server_name(node: NodeId) -> String {
    format!("{node}.{ANY_NODE}")
}

/// TLS 1.3 with AES-128-GCM first: ChaCha20 costs 1.75 times as much where AES is in hardware.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites: Vec<SupportedCipherSuite> = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let kx_groups: Vec<&'static dyn SupportedKxGroup> = ring::default_provider().kx_groups;
    Arc::new(CryptoProvider { cipher_suites, kx_groups, ..ring::default_provider() })
}

fn unusable(error: impl ToString) -> CredentialsError {
    CredentialsError::Unusable(error.to_string())
}

fn roots(ca: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for authority in ca {
        roots.add(authority.clone()).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}

/// The listening side, for peers and clients. Whether a peer presented a certificate, and which,
/// is checked when ALPN has told that it is one.
pub(crate) fn server(
    credentials: &Credentials,
    require_client_certificate: bool,
    version: Version,
    limits: &Limits,
) -> Result<quinn::ServerConfig, CredentialsError> {
    let verifier = match credentials.trust {
        Trust::Anyone => WebPkiClientVerifier::no_client_auth(),
        Trust::Named | Trust::AnyName => {
            let roots = roots(&credentials.ca)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if require_client_certificate {
                verifier.build()
            } else {
                verifier.allow_unauthenticated().build()
            };
            verifier.map_err(unusable)?
        }
    };
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(unusable)?;
    // In this order of preference.
    tls.alpn_protocols = peer_protocols(version);
    tls.alpn_protocols.extend(client_protocols(version));
    tls.ignore_client_order = true;
    // No resumption: every connection presents and checks certificates anew.
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(unusable)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(limits));
    config.max_incoming(limits.handshakes_max * 2);
    config.incoming_buffer_size(64 * 1024);
    config.incoming_buffer_size_total(16 * 1024 * 1024);
    Ok(config)
}

/// The dialling side between nodes.
pub(crate) fn peer(
    credentials: &Credentials,
    version: Version,
    limits: &Limits,
) -> Result<quinn::ClientConfig, CredentialsError> {
    dialler(ClientCredentials::of_node(credentials), peer_protocols(version), limits)
}

/// What a node that speaks up to `version` offers to others, and takes from them. TLS covers the
/// choice, so nobody in between can talk two nodes into the older one.
fn peer_protocols(version: Version) -> Vec<Vec<u8>> {
    let newer = (version > Version(1)).then(|| ALPN_PEER.to_vec());
    newer.into_iter().chain([ALPN_PEER_V1.to_vec()]).collect()
}

/// The dialling side of clients.
pub(crate) fn client(
    credentials: &ClientCredentials,
    limits: &Limits,
    connect_timeout: Duration,
) -> Result<quinn::ClientConfig, CredentialsError> {
    // Once it is connected the node says how soon silence ends the connection; before that, it may
    // take its time to say anything.
    let idle_timeout = limits.idle_timeout.max(connect_timeout);
    let limits = Limits { idle_timeout, ..limits.clone() };
    dialler(credentials.clone(), client_protocols(Version::CURRENT).collect(), &limits)
}

/// What a client offers, and what a node that speaks up to `version` takes from it.
fn client_protocols(version: Version) -> impl Iterator<Item = Vec<u8>> {
    let newer = (version >= STREAMS_SINCE).then(|| ALPN_CLIENT.to_vec());
    newer.into_iter().chain([ALPN_CLIENT_V1.to_vec()])
}

fn dialler(
    credentials: ClientCredentials,
    alpn_protocols: Vec<Vec<u8>>,
    limits: &Limits,
) -> Result<quinn::ClientConfig, CredentialsError> {
    let ClientCredentials { ca, identity, trust } = credentials;
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?;
    let algorithms = provider().signature_verification_algorithms;
    let tls = match trust {
        Trust::Named => tls.with_root_certificates(roots(&ca)?),
        Trust::AnyName => {
            let verifier = verify::AnyName { roots: roots(&ca)?, algorithms };
            tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Trust::Anyone => {
            let verifier = verify::Anyone { algorithms };
            tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut tls = match identity {
        Some((chain, key)) => tls.with_client_auth_cert(chain, key).map_err(unusable)?,
        None => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = alpn_protocols;
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).map_err(unusable)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(limits));
    Ok(config)
}

/// Bytes of the largest packet that is tried, where the path takes more than Ethernet's 1,500: on
/// a loopback, or with jumbo frames. A packet has a cost of its own, whatever is in it. Ten of
/// these, as many as are sent by one call of the system, are within the 64 KiB that it takes.
const PACKET_BYTES_MAX: u16 = 6_500;

/// One setting for both sides and all purposes.
fn transport(limits: &Limits) -> Arc<TransportConfig> {
    const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(limits.idle_timeout);
    config.max_idle_timeout(Some(idle.unwrap_or_else(|_| VarInt::MAX.into())));
    config.keep_alive_interval(Some(limits.idle_timeout / 5));
    // The default waits a second before it repeats the first packet of a handshake.
    config.initial_rtt(Duration::from_millis(100));
    // A stream's window bounds what the other end may hold unread of it, and what we may hold
    // unsent. The send window leaves room for control messages when all others are full: a window
    // shared to the last byte starves heartbeats.
    config.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
    // Streams of services may be left unread, all of them, and the others must go on.
    let windows = u32::try_from(limits.streams_max).map_or(u32::MAX, |streams| streams + 1).max(4);
    config.receive_window(VarInt::from_u32(windows.min(512) * STREAM_WINDOW));
    config.send_window(8 * u64::from(STREAM_WINDOW));
    config.max_concurrent_bidi_streams(VarInt::from_u32(64));
    config.max_concurrent_uni_streams(VarInt::from_u32(64));
    config.datagram_receive_buffer_size(None);
    config.ack_frequency_config(Some(acknowledgements()));
    let mut packets = MtuDiscoveryConfig::default();
    packets.upper_bound(PACKET_BYTES_MAX);
    config.mtu_discovery_config(Some(packets));
    Arc::new(config)
}

/// Without this every second packet is acknowledged at once, mostly by one that has nothing else in
/// it. What comes out of order still is. So few that the first packets of a connection, of which
/// ten may be under way, do not wait for the longest that an acknowledgement may take.
fn acknowledgements() -> AckFrequencyConfig {
    const PACKETS: u32 = 4;
    let mut config = AckFrequencyConfig::default();
    config.ack_eliciting_threshold(VarInt::from_u32(PACKETS));
    config
}

/// The settings of an endpoint that only dials.
pub(crate) fn dialling_endpoint() -> EndpointConfig {
    takes_large_packets(EndpointConfig::default())
}

fn takes_large_packets(mut config: EndpointConfig) -> EndpointConfig {
    config.max_udp_payload_size(PACKET_BYTES_MAX).expect("it is more than QUIC asks for");
    config
}

/// The settings of a node's endpoint. What a restarted node answers packets of its earlier life
/// with is derived from its key, so that peers learn at once that those connections are gone.
pub(crate) fn endpoint(key: &PrivateKeyDer<'static>) -> EndpointConfig {
    let hkdf = ring::cipher_suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .expect("the suite is one of TLS 1.3")
        .hkdf_provider;
    let expander = hkdf.extract_from_secret(None, key.secret_der());
    let reset_key = ResetKey { hkdf, key: expander.expand_block(&[b"raft stateless reset"]) };
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(|| Box::new(RandomIds));
    takes_large_packets(config)
}

/// Random connection ids. Quinn's own are signed with a key of the process and would make a
/// restarted node ignore, not answer, packets of its earlier life.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&random().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A random number.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.expect("the operating system has random bytes");
    u64::from_le_bytes(bytes)
}

struct ResetKey {
    hkdf: &'static dyn Hkdf,
    key: OkmBlock,
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(self.hkdf.hmac_sign(&self.key, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = self.hkdf.hmac_sign(&self.key, data);
        let expected = expected.as_ref();
        if expected.len() != signature.len() {
            return Err(CryptoError);
        }
        // Every byte is looked at, so that the time tells nothing.
        let differs = expected.iter().zip(signature).fold(0, |seen, (a, b)| seen | (a ^ b));
        if differs == 0 { Ok(()) } else { Err(CryptoError) }
    }
}

/// The protocol that ALPN chose.
pub(crate) fn protocol(connection: &Connection) -> Option<Protocol> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    match data.protocol?.as_slice() {
        ALPN_PEER => Some(Protocol::Peer),
        ALPN_PEER_V1 => Some(Protocol::PeerV1),
        ALPN_CLIENT => Some(Protocol::Client),
        ALPN_CLIENT_V1 => Some(Protocol::ClientV1),
        _ => None,
    }
}

/// The certificate chain that the remote end proved to own.
pub(crate) fn presented(connection: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Some(*chain).filter(|chain| !chain.is_empty())
}

/// Whether a chain that the authority signed belongs to `node`.
pub(crate) fn belongs_to(chain: &[CertificateDer<'static>], node: NodeId) -> bool {
    let Some(certificate) = chain.first() else { return false };
    let Ok(name) = ServerName::try_from(server_name(node)) else { return false };
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}
