//! How a connection is encrypted.

use crate::args::connection::Target;
use crate::failure::{Failure, Kind};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// Encryption for a server whose certificate `ca` vouches for, and the client's own certificate.
pub(super) fn tls(ca: &Path, target: &Target) -> Result<ClientConfig, Failure> {
    let bad = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(Kind::Local, format!("{}: {error}", path.display()))
            .advice("check --ca, --cert and --key")
    };
    let certificates = |path: &Path| {
        let all = CertificateDer::pem_file_iter(path).map_err(|error| bad(path, &error))?;
        all.collect::<Result<Vec<_>, _>>().map_err(|error| bad(path, &error))
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(ca)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(ca, &error))?
        .with_root_certificates(roots);
    let mut config = match &target.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| bad(key, &error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
