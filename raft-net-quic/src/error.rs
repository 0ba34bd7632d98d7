//! What can go wrong, in words for those who run a cluster.

use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use raft_core::types::Version;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something is not well-formed PEM.
    #[error("{what} is not valid PEM: {reason}")]
    Malformed {
        /// The file, or which of the three.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// PEM without what is looked for.
    #[error("{what} holds no {item}")]
    Missing {
        /// The file, or which of the three.
        what: String,
        /// "certificate" or "private key".
        item: &'static str,
    },
    /// Certificates or key that TLS refuses, for example a key of another certificate.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

/// Why a transport could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process, or another transport of this one, has the port.
    #[error("UDP port {0} is in use")]
    InUse(SocketAddr),
    /// The socket could not be made.
    #[error("cannot listen on UDP port {address}: {source}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The directory for incoming snapshots cannot be used.
    #[error("cannot use {} for incoming snapshots: {source}", path.display())]
    SnapshotDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The version asked for is none that this release speaks.
    #[error("version {0} is not spoken: {oldest} to {newest} are", oldest = Version::OLDEST,
        newest = Version::CURRENT)]
    Version(Version),
    /// Not called inside a tokio runtime.
    #[error("a tokio runtime is needed")]
    NoRuntime,
}

/// Application close codes; each comes with a text that says it in full.
pub(crate) mod close {
    /// The process stops, or nobody uses the connection any more.
    pub(crate) const DONE: u32 = 0;
    /// The same node connected anew.
    pub(crate) const REPLACED: u32 = 1;
    /// No version in common.
    pub(crate) const VERSION: u32 = 2;
    /// Other cluster.
    pub(crate) const CLUSTER: u32 = 3;
    /// The node dialled is not the one that was meant.
    pub(crate) const NODE: u32 = 4;
    /// No certificate, or not the certificate of the node it claims to be.
    pub(crate) const CERTIFICATE: u32 = 5;
    /// The node does not serve yet.
    pub(crate) const NOT_READY: u32 = 6;
    /// Malformed or unexpected frames.
    pub(crate) const PROTOCOL: u32 = 7;
    /// Too many clients, or connections of nodes.
    pub(crate) const CROWDED: u32 = 8;
    /// No hello in time.
    pub(crate) const TIMEOUT: u32 = 9;
}

/// What a remote end did wrong on a stream, or that the stream broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("malformed {0}")]
    Malformed(&'static str),
    #[error("frame of {length} bytes where {most} are the most")]
    Length { length: usize, most: usize },
    #[error("unexpected frame kind {0}")]
    Kind(u8),
    #[error("stream ended within a frame")]
    Truncated,
    #[error("a hello of version {0}.{1} where 1.1 was settled")]
    Version(u16, u16),
    #[error("{0}")]
    Forged(String),
    /// Not the remote end's doing: the connection or the stream is gone.
    #[error("{0}")]
    Lost(String),
}

impl ProtocolError {
    /// The close code that tells the remote end.
    pub(crate) const fn code(&self) -> u32 {
        match self {
            Self::Version(..) => close::VERSION,
            _ => close::PROTOCOL,
        }
    }
}

/// Of a stream that ended although its connection did not.
const GIVEN_UP: &str = "given up by the other end";

impl From<ReadError> for ProtocolError {
    fn from(error: ReadError) -> Self {
        Self::Lost(match error {
            ReadError::ConnectionLost(lost) => describe(&lost),
            ReadError::Reset(_) => GIVEN_UP.into(),
            other => other.to_string(),
        })
    }
}

impl From<WriteError> for ProtocolError {
    fn from(error: WriteError) -> Self {
        Self::Lost(match error {
            WriteError::ConnectionLost(lost) => describe(&lost),
            WriteError::Stopped(_) => GIVEN_UP.into(),
            other => other.to_string(),
        })
    }
}

impl From<ConnectionError> for ProtocolError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(describe(&error))
    }
}

/// Why a connection is gone, in one line.
pub(crate) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "no answer".into(),
        ConnectionError::Reset => "it restarted".into(),
        ConnectionError::LocallyClosed => "closed by this process".into(),
        ConnectionError::VersionMismatch => "it speaks another version of QUIC".into(),
        ConnectionError::ApplicationClosed(closed) if closed.reason.is_empty() => {
            "it closed the connection".into()
        }
        ConnectionError::ApplicationClosed(closed) => printable(&closed.reason),
        ConnectionError::ConnectionClosed(closed) => match alert(closed.error_code.into()) {
            Some(alert) => refused_by_remote(alert),
            None => format!("it closed the connection: {}", closed.error_code),
        },
        ConnectionError::TransportError(error) => match alert(error.code.into()) {
            Some(_) => refused_here(&error.reason),
            None => error.to_string(),
        },
        ConnectionError::CidsExhausted => "out of connection ids".into(),
    }
}

/// Why there is no connection.
pub(crate) struct NoConnection {
    /// In one line that does not repeat who and where.
    pub(crate) reason: String,
    /// Certificates or identities were refused, by either end: trying again will not help.
    pub(crate) for_good: bool,
}

impl From<String> for NoConnection {
    fn from(reason: String) -> Self {
        Self { reason, for_good: false }
    }
}

impl From<ConnectionError> for NoConnection {
    fn from(error: ConnectionError) -> Self {
        const REFUSALS: [u32; 3] = [close::CERTIFICATE, close::CLUSTER, close::NODE];
        let is_refusal =
            |code: VarInt| REFUSALS.iter().any(|known| VarInt::from_u32(*known) == code);
        let for_good = match &error {
            ConnectionError::ApplicationClosed(closed) => is_refusal(closed.error_code),
            ConnectionError::ConnectionClosed(closed) => {
                alert(closed.error_code.into()).is_some_and(is_about_certificates)
            }
            ConnectionError::TransportError(error) => {
                alert(error.code.into()).is_some_and(is_about_certificates)
            }
            _ => false,
        };
        Self { reason: describe(&error), for_good }
    }
}

/// Whether a TLS alert (RFC 8446, section 6.2) says that a certificate is missing or refused.
const fn is_about_certificates(alert: u8) -> bool {
    matches!(alert, 42..=46 | 48 | 51 | 116)
}

/// The TLS alert within a transport error code (RFC 9001, section 4.8).
const fn alert(code: u64) -> Option<u8> {
    if code >> 8 == 1 { Some((code & 0xff) as u8) } else { None }
}

/// The remote end refused us.
fn refused_by_remote(alert: u8) -> String {
    match alert {
        // 51: it trusts an authority of the same name, with another key.
        48 | 51 => "it does not trust the authority that signed our certificate".into(),
        116 => "it demands a certificate".into(),
        45 => "it says that our certificate has expired".into(),
        42..=46 => "it refused our certificate".into(),
        120 => "it does not speak this protocol".into(),
        other => format!("TLS failed there (alert {other})"),
    }
}

/// We refused the remote end.
fn refused_here(reason: &str) -> String {
    let reason = reason.strip_prefix("invalid peer certificate: ").unwrap_or(reason);
    match reason {
        // BadSignature: a trusted authority has the same name, but another key.
        "UnknownIssuer" | "BadSignature" => {
            "its certificate is not signed by a trusted authority".into()
        }
        "Expired" => "its certificate has expired".into(),
        "peer sent no certificates" => "it presented no certificate".into(),
        other => format!("its certificate is refused: {other}"),
    }
}

/// Text from a remote end, made fit for a log line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const MOST: usize = 400;
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect()
}
