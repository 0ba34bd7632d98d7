//! TLS at the door: the server's certificate and the authority of its clients, read anew whenever
//! their files change. A change that cannot be used is told once, and what was there before stays
//! in force. Files are looked at apart from the threads that serve, by one handshake at a time:
//! while they do not answer, further handshakes go on with what is known.

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};
use x509_parser::parse_x509_certificate;

/// The files, PEM each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The server's certificate, then intermediate ones.
    pub certificate: PathBuf,
    /// The private key of the first.
    pub key: PathBuf,
    /// The authorities that must have certified clients; with none, clients need no certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether the common name in a client's certificate says who the client is.
    pub client_names: bool,
}

/// What may be spoken; everything that there is, TLS 1.2 and 1.3, if nothing is said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsLimits {
    /// TLS 1.3 at least.
    pub only_1_3: bool,
    /// TLS 1.2 at most.
    pub only_1_2: bool,
    /// The suites of TLS 1.2, by name; those of 1.3 cannot be chosen, as with etcd. None if
    /// nothing is said.
    pub suites: Vec<String>,
}

impl TlsLimits {
    /// The suites of TLS 1.2 that there are, by name.
    pub fn known_suites() -> impl Iterator<Item = &'static str> {
        let suites = ring::ALL_CIPHER_SUITES.iter().filter(|suite| is_1_2(suite));
        suites.filter_map(|suite| suite.suite().as_str())
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, &'static str> {
        match (self.only_1_3, self.only_1_2) {
            (true, true) => Err("no version of TLS is left"),
            (true, false) => Ok(vec![&version::TLS13]),
            // Otherwise the certificate would be said to fit none.
            (false, true) if !self.provider().cipher_suites.iter().any(is_1_2) => {
                Err("of the cipher suites of TLS 1.2 none is left, and of versions no other")
            }
            (false, true) => Ok(vec![&version::TLS12]),
            (false, false) => Ok(vec![&version::TLS13, &version::TLS12]),
        }
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        let is_named = |suite: &SupportedCipherSuite| {
            let name = suite.suite().as_str().unwrap_or_default();
            // An older name leaves out the hash where there is only one.
            let named = |wanted: &String| *wanted == name || format!("{wanted}_SHA256") == name;
            self.suites.is_empty() || self.suites.iter().any(named)
        };
        provider.cipher_suites.retain(|suite| !is_1_2(suite) || is_named(suite));
        provider
    }
}

fn is_1_2(suite: &SupportedCipherSuite) -> bool {
    suite.version().version == ProtocolVersion::TLSv1_2
}

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What a file holds is not what is asked for.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing may be spoken, whatever the files hold.
    #[error("TLS: {0}")]
    Limits(&'static str),
}

/// Who a client is by its certificate, as an extension of each of its requests: the common name of
/// the certificate, which an authority of [`TlsFiles::client_ca`] has signed. Not there if the
/// client has no certificate, or names are not to be gone by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommonName(pub Arc<str>);

/// TLS with certificates that may change.
pub struct DoorTls {
    files: TlsFiles,
    limits: TlsLimits,
    config: Mutex<Arc<ServerConfig>>,
    /// Held by whoever looks at the files.
    seen: Arc<tokio::sync::Mutex<Seen>>,
}

/// What the files were when they were read last.
#[derive(Default)]
struct Seen {
    stamp: Vec<Stamp>,
    /// Why they could not be used, if they could not: that may pass without a change that shows, as
    /// with other rights to a file.
    failed: Option<String>,
}

/// What tells that a file was changed.
type Stamp = Option<(SystemTime, u64)>;

impl DoorTls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        Self::limited(files, TlsLimits::default())
    }

    /// The same, where not everything may be spoken.
    ///
    /// # Errors
    /// As [`DoorTls::new`].
    pub fn limited(files: TlsFiles, limits: TlsLimits) -> Result<Self, TlsError> {
        let seen = Seen { stamp: files.stamp(), failed: None };
        let config = files.config(&limits)?;
        let seen = Arc::new(tokio::sync::Mutex::new(seen));
        Ok(Self { files, limits, config: Mutex::new(config), seen })
    }

    /// Takes a TLS connection over `stream`.
    ///
    /// # Errors
    /// As the handshake fails.
    pub(super) async fn accept<S>(
        self: &Arc<Self>,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Option<CommonName>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.current().await).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let name = certificates.first().filter(|_| self.files.client_names).and_then(common_name);
        Ok((stream, name))
    }

    /// What holds now: the files are looked at, and read if they have changed or could not be used.
    async fn current(self: &Arc<Self>) -> Arc<ServerConfig> {
        if let Ok(mut seen) = Arc::clone(&self.seen).try_lock_owned() {
            let own = Arc::clone(self);
            // Should it fail, what is known stays in force.
            let _ = spawn_blocking(move || own.look(&mut seen)).await;
        }
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, seen: &mut Seen) {
        let stamp = self.files.stamp();
        if seen.stamp != stamp {
            *seen = Seen { stamp, failed: None };
        } else if seen.failed.is_none() {
            return;
        }
        let certificate = self.files.certificate.display();
        match self.files.config(&self.limits) {
            Ok(config) => {
                info!(%certificate, "the door's certificates have changed");
                // Nothing under it can fail.
                *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
                seen.failed = None;
            }
            Err(error) => {
                let error = error.to_string();
                if seen.failed.as_ref() != Some(&error) {
                    warn!(error, "the door keeps the certificates it has");
                }
                seen.failed = Some(error);
            }
        }
    }
}

impl fmt::Debug for DoorTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoorTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TlsFiles {
    fn stamp(&self) -> Vec<Stamp> {
        let of = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(of)
            .collect()
    }

    fn config(&self, limits: &TlsLimits) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(limits.provider());
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| unusable(&self.key, "it holds no private key"))?;
        let chain = certificates(&self.certificate)?;
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&limits.versions().map_err(TlsError::Limits)?)
            .map_err(|error| unusable(&self.certificate, error))?;
        let clients = match &self.client_ca {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| unusable(path, error))?;
                }
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| unusable(path, error))?
            }
        };
        let mut config = versions
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&self.certificate, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(path, "it holds no certificate")),
    }
}

fn unusable(path: &Path, reason: impl fmt::Display) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<CommonName> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(CommonName(name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn the_common_name_is_that_of_the_subject() {
        let name = |names: &[&str]| {
            let mut params = CertificateParams::new(vec!["other".to_owned()]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for name in names {
                params.distinguished_name.push(DnType::CommonName, *name);
            }
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            common_name(made.der()).map(|CommonName(name)| name.to_string())
        };
        assert_eq!(name(&["alice"]).as_deref(), Some("alice"));
        assert_eq!(name(&[]), None);
        assert_eq!(common_name(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
