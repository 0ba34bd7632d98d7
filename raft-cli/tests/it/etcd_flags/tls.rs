//! TLS at the door of a process, with certificates of both sides, and between peers.

use super::{Node, etcdctl, free_port};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for localhost, in files of this name.
    fn issue(&self, dir: &Path, name: &str) -> [PathBuf; 2] {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let file = |end: &str, text: &str| {
            let path = dir.join(format!("{name}{end}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        [file("", &certificate), file("-key", &key.serialize_pem())]
    }

    fn file(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(format!("{name}.pem"));
        std::fs::write(&path, &self.pem).unwrap();
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_certificates_and_see_that_of_the_door() {
    let dir = TempDir::new().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.file(dir.path(), "ca");
    let [cert, key] = authority.issue(dir.path(), "server");
    let [client, client_key] = authority.issue(dir.path(), "client");
    let [wrong, wrong_key] = other.issue(dir.path(), "wrong");
    let (https, http, peer) = (free_port(), free_port(), free_port());
    let words = [
        format!("--listen-client-urls=https://127.0.0.1:{https},http://127.0.0.1:{http}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
        format!("--cert-file={}", cert.display()),
        format!("--key-file={}", key.display()),
        format!("--trusted-ca-file={}", ca.display()),
        "--client-cert-auth".to_owned(),
    ];
    let mut node = Node::start(dir.path(), &[], &words);
    node.ready().await;
    let at = format!("https://127.0.0.1:{https}");
    let put = |ca: &Path, cert: &Path, key: &Path| {
        let options = ["--cacert", text(ca), "--cert", text(cert), "--key", text(key)];
        let words = ["--dial-timeout=1s", "--command-timeout=2s", "put", "k", "v"];
        let all: Vec<String> = ["--endpoints", &at]
            .iter()
            .chain(&options)
            .chain(&words)
            .map(ToString::to_string)
            .collect();
        async move { etcdctl(&all.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    assert_eq!(put(&ca, &client, &client_key).await.unwrap(), "OK\n");
    assert!(put(&ca, &wrong, &wrong_key).await.is_err(), "of another authority");
    let bare = ["--endpoints", &at, "--cacert", text(&ca), "--command-timeout=2s", "get", "k"];
    assert!(etcdctl(&bare).await.is_err(), "no certificate");
    let plain = format!("http://127.0.0.1:{http}");
    assert_eq!(etcdctl(&["--endpoints", &plain, "get", "k"]).await.unwrap(), "k\nv\n");

    // A certificate that cannot be used leaves the old one in force.
    std::fs::write(&cert, "nothing").unwrap();
    assert_eq!(put(&ca, &client, &client_key).await.unwrap(), "OK\n");
    node.until_logged("keeps the certificates it has").await;
    // Another authority's server, and clients, from the next handshake on.
    let renewed = Authority::new();
    let [new_cert, new_key] = renewed.issue(dir.path(), "renewed");
    let [new_client, new_client_key] = renewed.issue(dir.path(), "renewed-client");
    renewed.file(dir.path(), "ca");
    std::fs::rename(new_key, &key).unwrap();
    std::fs::rename(new_cert, &cert).unwrap();
    assert_eq!(put(&ca, &new_client, &new_client_key).await.unwrap(), "OK\n");
    assert!(put(&ca, &client, &client_key).await.is_err(), "its authority is no longer trusted");
}

/// The certificate made here is the authority a client may trust, as in etcd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_makes_a_certificate_if_asked_to() {
    let dir = TempDir::new().unwrap();
    let (client, peer) = (free_port(), free_port());
    let words = [
        "--auto-tls".to_owned(),
        "--data-dir=data".to_owned(),
        format!("--listen-client-urls=https://127.0.0.1:{client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
    ];
    let mut node = Node::start(dir.path(), &[], &words);
    node.ready().await;
    let at = format!("https://127.0.0.1:{client}");
    let skip = ["--endpoints", &at, "--insecure-skip-tls-verify", "--insecure-transport=false"];
    assert_eq!(etcdctl(&[&skip[..], &["put", "k", "v"]].concat()).await.unwrap(), "OK\n");
    let made = dir.path().join("data/fixtures/client/cert.pem");
    let trust = ["--endpoints", &at, "--cacert", text(&made), "get", "k"];
    assert_eq!(etcdctl(&trust).await.unwrap(), "k\nv\n");
}

/// Three members, as etcd would be told of them.
struct Peers<'a> {
    dir: &'a Path,
    ca: PathBuf,
    ports: Vec<[u16; 2]>,
}

impl<'a> Peers<'a> {
    const NAMES: [&'static str; 3] = ["a", "b", "c"];

    fn new(dir: &'a Path, authority: &Authority) -> Self {
        let ca = authority.file(dir, "peer-ca");
        let ports = Self::NAMES.map(|_| [free_port(), free_port()]).into();
        Self { dir, ca, ports }
    }

    /// Starts one of them, with a certificate and its key.
    fn start(&self, index: usize, files: &[PathBuf; 2]) -> Node {
        let listed = Self::NAMES.iter().zip(&self.ports);
        let listed = listed.map(|(name, [_, peer])| format!("{name}=https://127.0.0.1:{peer}"));
        let listed = listed.collect::<Vec<_>>().join(",");
        let ([client, peer], name) = (self.ports[index], Self::NAMES[index]);
        let words = [
            format!("--name={name}"),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=https://127.0.0.1:{peer}"),
            format!("--initial-cluster={listed}"),
            format!("--peer-cert-file={}", files[0].display()),
            format!("--peer-key-file={}", files[1].display()),
            format!("--peer-trusted-ca-file={}", self.ca.display()),
            "--peer-client-cert-auth".to_owned(),
        ];
        Node::start(self.dir, &[], &words)
    }
}

/// Certificates as etcd's peers have them: of one authority, with names of hosts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_prove_themselves_by_their_authority() {
    let dir = TempDir::new().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let peers = Peers::new(dir.path(), &authority);
    let start = |index, files: &_| peers.start(index, files);
    let files = ["a", "b"].map(|name| authority.issue(dir.path(), name));
    let mut a = start(0, &files[0]);
    a.until_logged("waiting for n2, n3").await;
    let mut b = start(1, &files[1]);
    a.until_logged("peer connected").await;
    b.until_logged("peer connected").await;
    // One that the authority did not certify does not even start: its own files tell.
    let stranger = other.issue(dir.path(), "stranger");
    let mut c = start(2, &stranger);
    c.until_logged("is not certified by").await;
    let mut c = start(2, &files[0]);
    for node in [&mut a, &mut b, &mut c] {
        node.ready().await;
    }
}

/// Certificates between nodes that are replaced hold for whoever connects from then on: nobody has
/// to be started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_take_new_certificates_while_they_run() {
    let dir = TempDir::new().unwrap();
    let (authority, renewed) = (Authority::new(), Authority::new());
    let peers = Peers::new(dir.path(), &authority);
    let files = ["a", "b"].map(|name| authority.issue(dir.path(), name));
    let mut nodes = [peers.start(0, &files[0]), peers.start(1, &files[1])];
    for node in &mut nodes {
        node.until_logged("peer connected").await;
    }
    // What cannot be used leaves the old ones in force.
    std::fs::write(&files[0][0], "nothing").unwrap();
    nodes[0].until_logged("the node keeps the certificates it has").await;
    for ([cert, key], name) in files.iter().zip(["new-a", "new-b"]) {
        let [new_cert, new_key] = renewed.issue(dir.path(), name);
        std::fs::rename(new_key, key).unwrap();
        std::fs::rename(new_cert, cert).unwrap();
    }
    renewed.file(dir.path(), "peer-ca");
    for node in &mut nodes {
        node.until_logged("the certificates between nodes have changed").await;
    }
    // They are a cluster once this one is there, whose authority neither knew when it started.
    let mut last = peers.start(2, &renewed.issue(dir.path(), "c"));
    last.ready().await;
    for node in &mut nodes {
        node.ready().await;
    }
}
