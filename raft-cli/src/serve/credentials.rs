//! A node's certificates, checked before anything else is touched. A node whose certificate the
//! others will not accept would start, and then be alone without telling why.

use super::plan::{CredentialFiles, CredentialSource, Proof};
use crate::cert;
use crate::failure::{Failure, Kind};
use raft_core::types::NodeId;
use raft_net_quic::{ANY_NODE, Credentials, server_name};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The folder in a node's directory of what is made there: `client` and `peer`, each with
/// `cert.pem` and `key.pem`, as etcd has them.
pub(super) const MADE_HERE: &str = "fixtures";

/// Reads the files and checks that they fit together and are those of `node`; makes what is to be
/// made in the node's directory.
///
/// # Errors
/// Of kind `Usage`, naming the file that does not fit, `Local` if nothing can be made.
pub(crate) fn load(
    source: &CredentialSource,
    node: NodeId,
    data_dir: &Path,
) -> Result<Credentials, Failure> {
    let CredentialSource::Files(files, proof) = source else { return made_here(data_dir) };
    let CredentialFiles { ca, cert, key } = files;
    let credentials = Credentials::from_files(ca, cert, key).map_err(Failure::usage)?;
    let provider = Arc::new(ring::default_provider());
    let (cert, key) = (cert.display(), key.display());
    CertifiedKey::from_der(credentials.chain.clone(), credentials.key.clone_key(), &provider)
        .map_err(|error| match error {
            Error::InconsistentKeys(_) => {
                Failure::usage(format!("{key} is not the private key of {cert}"))
            }
            error => Failure::usage(format!("{cert} with {key}: {error}")),
        })?;
    if *proof == Proof::Names {
        check_chain(files, Some(node), &credentials, provider)?;
        return Ok(credentials);
    }
    check_chain(files, None, &credentials, provider)?;
    Ok(credentials.without_names())
}

/// What encrypts and proves nothing. It stays, so that others notice at once when this node has
/// been restarted.
fn made_here(data_dir: &Path) -> Result<Credentials, Failure> {
    let files = cert::made_here(&data_dir.join(MADE_HERE).join("peer"), &[])?;
    let (certificate, key) = (&files.certificate, &files.key);
    let mut read = Credentials::from_files(certificate, certificate, key)
        .map_err(|error| Failure::new(Kind::Local, error))?;
    Ok(Credentials::unauthenticated(read.chain.remove(0), read.key))
}

/// Does what the other nodes and clients will do with the certificate: that of `node`, if it has
/// to be of one.
fn check_chain(
    files: &CredentialFiles,
    node: Option<NodeId>,
    credentials: &Credentials,
    provider: Arc<CryptoProvider>,
) -> Result<(), Failure> {
    let (ca, cert) = (files.ca.display(), files.cert.display());
    let unusable = |error: &dyn std::fmt::Display| Failure::usage(format!("{ca}: {error}"));
    let mut roots = RootCertStore::empty();
    for authority in &credentials.ca {
        roots.add(authority.clone()).map_err(|error| unusable(&error))?;
    }
    let roots = Arc::new(roots);
    let Some((leaf, between)) = credentials.chain.split_first() else {
        return Err(Failure::usage(format!("{cert} holds no certificate")));
    };
    let now = UnixTime::now();
    let refused = |error: Error| match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Failure::usage(format!("{cert} is not certified by {ca}")),
        // Without the time it is: who looks again and again knows that nothing is new.
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Failure::usage(format!("{cert} is not valid before {}", date(not_before)))
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Failure::usage(format!("{cert} has expired on {}", date(not_after)))
        }
        error => Failure::usage(format!("{cert} cannot be used: {error}")),
    };
    WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&error))?
        .verify_client_cert(leaf, between, now)
        .map_err(refused)?;
    let Some(node) = node else { return Ok(()) };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| unusable(&error))?;
    for name in [server_name(node), ANY_NODE.to_owned()] {
        let server = ServerName::try_from(name.clone()).map_err(|error| unusable(&error))?;
        verifier.verify_server_cert(leaf, between, &server, &[], now).map_err(
            |error| match error {
                Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                ) => not_ours(node, &cert, &name),
                error => refused(error),
            },
        )?;
    }
    Ok(())
}

/// A time in a certificate, whose years have four digits.
fn date(time: UnixTime) -> impl std::fmt::Display {
    let latest = Duration::from_secs(253_402_300_799);
    let since = Duration::from_secs(time.as_secs()).min(latest);
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since)
}

fn not_ours(id: NodeId, cert: &dyn std::fmt::Display, name: &str) -> Failure {
    Failure::usage(format!("{cert} is not that of {id}: it lacks the DNS name {name}"))
        .advice(format!("`raft cert node DIR --id {}` makes one", id.0))
}
