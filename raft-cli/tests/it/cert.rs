//! Certificates are what TLS and the transport expect, and are never replaced unasked.

use raft_cli::cert::{Files, make_authority, make_client, make_node};
use raft_cli::failure::Kind;
use raft_core::types::NodeId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn authority() -> TempDir {
    let dir = TempDir::new().unwrap();
    make_authority(dir.path(), false).unwrap();
    dir
}

/// Whether `certificate` is accepted for `usage` at `days` from now by who trusts `authority`.
fn accepted(authority: &Path, certificate: &Path, usage: KeyUsage, days: u32) -> bool {
    let authority = CertificateDer::from_pem_file(authority).unwrap();
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let anchors = [anchor_from_trusted_cert(&authority).unwrap()];
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + DAY * days;
    EndEntityCert::try_from(&certificate)
        .unwrap()
        .verify_for_usage(
            &[ring::ECDSA_P256_SHA256],
            &anchors,
            &[],
            UnixTime::since_unix_epoch(time),
            usage,
            None,
            None,
        )
        .is_ok()
}

fn is_named(certificate: &Path, name: &str) -> bool {
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let certificate = EndEntityCert::try_from(&certificate).unwrap();
    certificate.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).is_ok()
}

#[test]
fn a_node_is_both_ends_under_its_names() {
    let dir = authority();
    let hosts = ["127.0.0.1".to_owned(), "db.example.org".to_owned(), "::1".to_owned()];
    let node = make_node(dir.path(), NodeId(3), &hosts, false).unwrap();
    let ca = Files::of(dir.path(), "ca").certificate;
    assert!(accepted(&ca, &node.certificate, KeyUsage::server_auth(), 0));
    assert!(accepted(&ca, &node.certificate, KeyUsage::client_auth(), 0));
    let own = raft_net_quic::server_name(NodeId(3));
    for name in [own.as_str(), raft_net_quic::ANY_NODE, "127.0.0.1", "db.example.org", "::1"] {
        assert!(is_named(&node.certificate, name), "{name}");
    }
    assert!(!is_named(&node.certificate, &raft_net_quic::server_name(NodeId(1))));
}

#[test]
fn a_client_is_a_client_only() {
    let dir = authority();
    let client = make_client(dir.path(), "alice", false).unwrap();
    let ca = Files::of(dir.path(), "ca").certificate;
    assert!(accepted(&ca, &client.certificate, KeyUsage::client_auth(), 0));
    assert!(!accepted(&ca, &client.certificate, KeyUsage::server_auth(), 0));
    assert!(!is_named(&client.certificate, raft_net_quic::ANY_NODE));
}

#[test]
fn another_authority_is_not_trusted() {
    let (ours, theirs) = (authority(), authority());
    let client = make_client(theirs.path(), "alice", false).unwrap();
    let ca = Files::of(ours.path(), "ca").certificate;
    assert!(!accepted(&ca, &client.certificate, KeyUsage::client_auth(), 0));
}

#[test]
fn certificates_last_a_year() {
    let dir = authority();
    let client = make_client(dir.path(), "alice", false).unwrap();
    let ca = Files::of(dir.path(), "ca").certificate;
    assert!(accepted(&ca, &client.certificate, KeyUsage::client_auth(), 364));
    assert!(!accepted(&ca, &client.certificate, KeyUsage::client_auth(), 367));
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    let dir = authority();
    let node = make_node(dir.path(), NodeId(1), &[], false).unwrap();
    let replaced = make_node(dir.path(), NodeId(1), &[], true).unwrap();
    for key in [node.key, replaced.key, Files::of(dir.path(), "ca").key] {
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn nothing_is_replaced_unless_told_to() {
    let dir = authority();
    let files = make_client(dir.path(), "alice", false).unwrap();
    let (certificate, key) = (fs::read(&files.certificate), fs::read(&files.key));
    let refused = make_client(dir.path(), "alice", false).unwrap_err();
    assert_eq!(refused.kind, Kind::Local);
    assert!(refused.to_string().contains("alice-key.pem exists already"), "{refused}");
    assert_eq!(fs::read(&files.certificate).unwrap(), certificate.unwrap());
    assert_eq!(fs::read(&files.key).unwrap(), *key.as_ref().unwrap());

    // Half a pair is not completed either: the other half would be worth nothing.
    fs::remove_file(&files.certificate).unwrap();
    make_client(dir.path(), "alice", false).unwrap_err();
    assert!(!files.certificate.exists());

    make_client(dir.path(), "alice", true).unwrap();
    assert_ne!(fs::read(&files.key).unwrap(), key.unwrap());
    assert!(make_authority(dir.path(), false).is_err());
}

#[test]
fn names_that_would_hit_other_files_are_refused() {
    let dir = authority();
    make_node(dir.path(), NodeId(1), &[], false).unwrap();
    let before = fs::read_dir(dir.path()).unwrap().count();
    for name in ["", "ca", "ca-key", "n1", "n7", "../alice", "a/b", ".hidden", "-x", "a b"] {
        let refused = make_client(dir.path(), name, true).unwrap_err();
        assert_eq!(refused.kind, Kind::Usage, "{name}");
    }
    for host in ["", "a b", "http://x/"] {
        let refused = make_node(dir.path(), NodeId(2), &[host.into()], false).unwrap_err();
        assert_eq!(refused.kind, Kind::Usage, "{host}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
}

#[test]
fn a_missing_authority_is_named() {
    let dir = TempDir::new().unwrap();
    let failure = make_client(dir.path(), "alice", false).unwrap_err();
    assert_eq!(failure.kind, Kind::Local);
    assert!(failure.to_string().contains("raft cert ca"), "{failure}");
}
