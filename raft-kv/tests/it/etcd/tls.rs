//! TLS at the door: who comes in, and that certificates change under way.

use super::auth::signed;
use super::{Doors, assert_refused, get, put};
use crate::auth::prepare;
use crate::cluster::Cluster;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use raft_kv::etcd::proto::etcdserverpb::kv_client::KvClient;
use raft_kv::etcd::{DoorTls, Entrance, EtcdConfig, EtcdDoor, TlsError, TlsFiles, TlsLimits};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;

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

    fn issue(&self) -> (String, String) {
        self.issue_to("somebody")
    }

    fn issue_to(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Writes the files of a server that this authority certifies, with itself for clients.
    fn write(&self, dir: &Path) -> TlsFiles {
        let (certificate, key) = self.issue();
        for (name, text) in [("ca", &self.pem), ("cert", &certificate), ("key", &key)] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        TlsFiles {
            certificate: dir.join("cert"),
            key: dir.join("key"),
            client_ca: Some(dir.join("ca")),
            client_names: true,
        }
    }

    /// A client that trusts this authority, and has a certificate of it.
    fn client(&self) -> ClientConfig {
        self.client_called("somebody")
    }

    /// The same whose certificate has this common name.
    fn client_called(&self, name: &str) -> ClientConfig {
        let (certificate, key) = self.issue_to(name);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        self.stranger_config().with_client_auth_cert(chain, key).unwrap()
    }

    /// One that has none.
    fn stranger(&self) -> ClientConfig {
        self.stranger_config().with_no_client_auth()
    }

    /// One that speaks only these versions.
    fn client_of(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let (certificate, key) = self.issue();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap()
    }

    fn stranger_config(
        &self,
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots)
    }
}

/// A node with one door over TLS.
struct Secured {
    // Its node and the task that serves it.
    doors: Doors,
    address: SocketAddr,
    dir: TempDir,
}

impl Secured {
    async fn start(authority: &Authority) -> Self {
        Self::of(authority, Cluster::start(1)).await
    }

    async fn of(authority: &Authority, cluster: Cluster) -> Self {
        Self::limited(authority, cluster, TlsLimits::default()).await
    }

    async fn limited(authority: &Authority, cluster: Cluster, limits: TlsLimits) -> Self {
        let dir = TempDir::new().unwrap();
        let tls = Arc::new(DoorTls::limited(authority.write(dir.path()), limits).unwrap());
        let mut doors = Doors::of(cluster).await;
        let service = doors.cluster.services.values().next().unwrap().clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let workers = Vec::new();
        let entrance = Entrance { listener, tls: Some(tls), probes_only: false, workers };
        let door = EtcdDoor::new(EtcdConfig::new(service));
        doors.serving.spawn(async move { door.serve_at(entrance, std::future::pending()).await });
        Self { doors, address, dir }
    }

    async fn connect(
        &self,
        mut client: ClientConfig,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        client.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, stream).await
    }

    /// Over gRPC.
    async fn kv(&self, client: ClientConfig) -> KvClient<super::Connection> {
        let stream = TokioIo::new(self.connect(client, "h2").await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        KvClient::new(super::Connection(sender))
    }

    /// What the door answers over HTTP/1; an error if it does not let the client in.
    async fn version(&self, client: ClientConfig) -> std::io::Result<String> {
        let mut stream = self.connect(client, "http/1.1").await?;
        let request = b"GET /version HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_and_http_are_served_to_those_with_a_certificate() {
    let authority = Authority::new();
    let door = Secured::start(&authority).await;
    door.doors.any().await.put("k", "v").await;
    let stream = door.connect(authority.client(), "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let stream = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut kv = KvClient::new(super::Connection(sender));
    assert_eq!(kv.range(get("k")).await.unwrap().into_inner().kvs.len(), 1);
    let answer = door.version(authority.client()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("etcdserver"), "{answer}");

    assert!(door.version(authority.stranger()).await.is_err(), "no certificate");
    assert!(door.version(Authority::new().client()).await.is_err(), "of another authority");
    // Without TLS nothing is answered, and nobody is disturbed.
    let mut plain = TcpStream::connect(door.address).await.unwrap();
    plain.write_all(b"GET /version HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    door.version(authority.client()).await.unwrap();
}

/// The common name of a certificate is the user of requests that show no token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_who_its_client_is() {
    let authority = Authority::new();
    let cluster = Cluster::with_cheap_passwords(1);
    let client = cluster.client(cluster.leader().await);
    prepare(&client).await;
    client.enable_auth().await.unwrap();
    let token = client.authenticate(raft_kv::api::ROOT, "root-pw").await.unwrap();
    let door = Secured::of(&authority, cluster).await;
    let mut alice = door.kv(authority.client_called("alice")).await;
    alice.put(put("a/1", "1")).await.unwrap();
    assert_eq!(alice.range(get("a/1")).await.unwrap().into_inner().count, 1);
    let (denied, empty) = ("etcdserver: permission denied", "etcdserver: user name is empty");
    assert_refused(alice.range(get("b")).await, Code::PermissionDenied, denied);
    alice.range(signed(&token, get("b"))).await.unwrap();
    // Who needs no password to come with a certificate has no rights by that.
    let mut other = door.kv(authority.client_called("no-password")).await;
    assert_refused(other.range(get("a/1")).await, Code::PermissionDenied, denied);
    for name in ["nobody", "", "Alice"] {
        let mut nobody = door.kv(authority.client_called(name)).await;
        assert_refused(nobody.range(get("a/1")).await, Code::InvalidArgument, empty);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_while_it_serves() {
    let (first, second) = (Authority::new(), Authority::new());
    let door = Secured::start(&first).await;
    door.version(first.client()).await.unwrap();
    // Half of a change cannot be used: the key is not that of the certificate.
    std::fs::write(door.dir.path().join("key"), second.issue().1).unwrap();
    door.version(first.client()).await.unwrap();
    std::fs::remove_file(door.dir.path().join("ca")).unwrap();
    door.version(first.client()).await.unwrap();
    second.write(door.dir.path());
    door.version(second.client()).await.unwrap();
    assert!(door.version(first.client()).await.is_err());
}

/// What cannot be used may become so without a change that shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_used_is_read_again() {
    let (first, second) = (Authority::new(), Authority::new());
    let door = Secured::start(&first).await;
    second.write(door.dir.path());
    let path = door.dir.path().join("cert");
    let good = std::fs::read(&path).unwrap();
    let write = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    write(&vec![b'x'; good.len()]);
    door.version(first.client()).await.unwrap();
    write(&good);
    door.version(second.client()).await.unwrap();
}

/// A disk that hangs, as of a network, must not hold up who comes in, nor who is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_do_not_answer_hold_up_nobody() {
    let authority = Authority::new();
    let door = Secured::start(&authority).await;
    door.version(authority.client()).await.unwrap();
    // Whoever reads this waits until somebody has written it.
    let path = door.dir.path().join("cert");
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (tell_read, read) = tokio::sync::oneshot::channel();
    let (served, wait_for_served) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        // Opened once it is being read.
        let pipe = std::fs::File::create(path).unwrap();
        tell_read.send(()).unwrap();
        let served = wait_for_served.recv_timeout(std::time::Duration::from_secs(60));
        drop(pipe);
        served
    });
    let reading = async { door.version(authority.client()).await.unwrap() };
    let others = async {
        read.await.unwrap();
        for _ in 0..3 {
            door.version(authority.client()).await.unwrap();
        }
        let known = door.doors.http("GET", "/version", "").await;
        // Nobody listens any more if that took too long.
        let _ = served.send(());
        known
    };
    let (_, (status, _)) = tokio::join!(reading, others);
    assert_eq!(status, 200);
    writer.join().unwrap().expect("it was not served while the file was read");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = TempDir::new().unwrap();
    let files = Authority::new().write(dir.path());
    let told = |files: &TlsFiles| match DoorTls::new(files.clone()) {
        Ok(_) => panic!("they are of no use"),
        Err(error) => error.to_string(),
    };
    let missing = TlsFiles { key: dir.path().join("nowhere"), ..files.clone() };
    assert!(told(&missing).starts_with("cannot read "), "{}", told(&missing));
    let swapped = TlsFiles { key: files.certificate.clone(), ..files.clone() };
    assert!(told(&swapped).ends_with("cert: it holds no private key"), "{}", told(&swapped));
    let no_ca = TlsFiles { client_ca: Some(files.key.clone()), ..files };
    assert!(told(&no_ca).ends_with("key: it holds no certificate"), "{}", told(&no_ca));
}

/// `--tls-min-version`, `--tls-max-version` and `--cipher-suites`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_may_be_spoken_is() {
    const SUITE: &str = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let authority = Authority::new();
    let spoken = async |limits: TlsLimits| {
        let secured = Secured::limited(&authority, Cluster::start(1), limits).await;
        let mut spoken = Vec::new();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = authority.client_of(&[version]);
            let stream = secured.connect(client, "h2").await.ok();
            spoken.push(stream.map(|stream| {
                let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
                suite.as_str().unwrap()
            }));
        }
        spoken
    };
    let all = spoken(TlsLimits::default()).await;
    assert!(all.iter().all(Option::is_some), "{all:?}");
    let newer = spoken(TlsLimits { only_1_3: true, ..Default::default() }).await;
    assert_eq!((newer[0], newer[1].is_some()), (None, true));
    let older = spoken(TlsLimits { only_1_2: true, ..Default::default() }).await;
    assert_eq!((older[0].is_some(), older[1]), (true, None));
    for name in [SUITE, SUITE.strip_suffix("_SHA256").unwrap()] {
        let chosen = spoken(TlsLimits { suites: vec![name.into()], ..Default::default() }).await;
        assert_eq!((chosen[0], chosen[1].is_some()), (Some(SUITE), true));
    }
    let none = spoken(TlsLimits { suites: vec!["other".into()], ..Default::default() }).await;
    assert_eq!((none[0], none[1].is_some()), (None, true));
    assert!(TlsLimits::known_suites().any(|name| name == SUITE));
    let dir = TempDir::new().unwrap();
    let contradiction = TlsLimits { only_1_3: true, only_1_2: true, suites: Vec::new() };
    let unknown = TlsLimits { only_1_3: false, suites: vec!["other".into()], ..contradiction };
    for limits in [contradiction, unknown] {
        // The files are as they should be, and not to be blamed.
        let Err(error) = DoorTls::limited(authority.write(dir.path()), limits) else {
            panic!("nothing is left to speak");
        };
        assert!(matches!(error, TlsError::Limits(_)), "{error}");
    }
}
