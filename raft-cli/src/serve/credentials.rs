//! A node's certificates, checked before anything else is touched. A node whose certificate the
//! others will not accept would start, and then be alone without telling why.

use super::plan::{CredentialFiles, Plan};
use crate::failure::Failure;
use raft_core::types::NodeId;
use raft_net_quic::{ANY_NODE, Credentials, server_name};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;

/// Reads the files that `plan` names and checks that they fit together and are this node's.
///
/// # Errors
/// Of kind `Usage`, naming the file that does not fit.
pub(crate) fn load(plan: &Plan) -> Result<Credentials, Failure> {
    let CredentialFiles { ca, cert, key } = &plan.files;
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
    check_chain(plan, &credentials, provider)?;
    Ok(credentials)
}

/// Does what the other nodes and clients will do with the certificate.
fn check_chain(
    plan: &Plan,
    credentials: &Credentials,
    provider: Arc<CryptoProvider>,
) -> Result<(), Failure> {
    let (ca, cert) = (plan.files.ca.display(), plan.files.cert.display());
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
        error => Failure::usage(format!("{cert} cannot be used: {error}")),
    };
    WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&error))?
        .verify_client_cert(leaf, between, now)
        .map_err(refused)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| unusable(&error))?;
    for name in [server_name(plan.raft.id), ANY_NODE.to_owned()] {
        let server = ServerName::try_from(name.clone()).map_err(|error| unusable(&error))?;
        verifier.verify_server_cert(leaf, between, &server, &[], now).map_err(
            |error| match error {
                Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                ) => not_ours(plan.raft.id, &cert, &name),
                error => refused(error),
            },
        )?;
    }
    Ok(())
}

fn not_ours(id: NodeId, cert: &dyn std::fmt::Display, name: &str) -> Failure {
    Failure::usage(format!("{cert} is not that of {id}: it lacks the DNS name {name}"))
        .advice(format!("`raft cert node DIR --id {}` makes one", id.0))
}
