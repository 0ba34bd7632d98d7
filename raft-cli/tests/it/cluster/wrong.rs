//! Wrong input gets one line that says so and an exit code, and harms nothing.

use super::support::{GUARD, TestCluster, ask, run};
use raft_cli::cert;
use raft_cli::demo::Observer;
use raft_core::types::NodeId;
use raft_kv::api::{Keys, KvError, RequestBody, VALUE_BYTES_MAX};
use raft_kv::client::ClientError;
use std::fs::{self, OpenOptions};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

/// Wrong configuration.
const USAGE: i32 = 2;
/// Something on this machine.
const LOCAL: i32 = 6;

#[tokio::test]
async fn a_second_process_on_a_directory_is_refused() {
    let cluster = TestCluster::start().await;
    let id = NodeId(1);
    let failed = cluster.serve_fails(id, &[("--listen", "127.0.0.1:1")]).await;
    assert_eq!(failed.code, LOCAL, "{failed:?}");
    assert!(failed.error.contains("in use by another process"), "{failed:?}");
    cluster.put("key", "value").await;
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let cluster = TestCluster::start().await;
    let dir = TempDir::new().unwrap();
    let own = dir.path().join("data").display().to_string();
    let failed = cluster.serve_fails(NodeId(1), &[("--data-dir", &own)]).await;
    assert_eq!(failed.code, LOCAL, "{failed:?}");
    let address = cluster.processes.folder().address(NodeId(1));
    assert!(failed.error.contains(address) && failed.error.contains("in use"), "{failed:?}");
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_at_the_start() {
    let cluster = TestCluster::new(3);
    let other = TempDir::new().unwrap();
    cert::make_authority(other.path(), false).unwrap();
    cert::make_node(other.path(), NodeId(1), &[], false).unwrap();
    let text = |path: PathBuf| path.display().to_string();
    let theirs = |name: &str| text(other.path().join(name));
    let ours = |name: &str| text(cluster.processes.folder().dir().join(name));
    let wrong: [(&[(&str, &str)], &str); 5] = [
        (&[("--ca", &theirs("ca.pem"))], "not certified by"),
        (&[("--cert", &theirs("n1.pem")), ("--key", &theirs("n1-key.pem"))], "not certified by"),
        (&[("--cert", &ours("n2.pem")), ("--key", &ours("n2-key.pem"))], "not that of n1"),
        (&[("--key", &ours("n2-key.pem"))], "n2-key.pem"),
        (&[("--ca", &ours("absent.pem"))], "absent.pem"),
    ];
    for (changes, says) in wrong {
        let failed = cluster.serve_fails(NodeId(1), changes).await;
        assert_eq!(failed.code, USAGE, "{failed:?}");
        assert!(failed.error.contains(says), "{says}: {failed:?}");
    }
    assert!(!cluster.processes.folder().data_dir(NodeId(1)).exists(), "nothing was made");
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let cluster = TestCluster::start().await;
    let other = TestCluster::new(3);
    let endpoints = cluster.processes.folder().address(NodeId(1));
    let dir = other.processes.folder().dir().display().to_string();
    let args = ["--dir", &dir, "--endpoints", endpoints, "--deadline", "1h", "put", "key", "value"];
    let failed = run(&args.map(str::to_owned)).await;
    assert_eq!(failed.code, 4, "{failed:?}");
    // At once, not when the deadline has passed; the address once.
    let says =
        format!("error: {endpoints}: its certificate is not signed by a trusted authority; ");
    assert_eq!(failed.error, says + "check --ca, --cert and --key");
    assert_eq!(cluster.value("key").await, None);
}

/// A directory of one cluster is not used in another; a blank node of another is not let in.
#[tokio::test]
async fn a_foreign_cluster_is_kept_out() {
    let mut cluster = TestCluster::start().await;
    cluster.put("key", "value").await;
    let id = cluster.others(cluster.leader().await)[0];
    cluster.processes.stop(id).await;
    let failed = cluster.serve_fails(id, &[("--cluster-token", "foreign")]).await;
    assert_eq!(failed.code, USAGE, "{failed:?}");
    assert!(failed.error.contains("the data belongs to"), "{failed:?}");

    let data = cluster.processes.folder().data_dir(id);
    let aside = data.with_extension("aside");
    fs::rename(&data, &aside).unwrap();
    cluster.processes.start_with(id, &["--cluster-token", "foreign"]).await.unwrap();
    cluster.put("key", "other").await;
    let status = cluster.observer.status(id).await.unwrap();
    assert_eq!((status.keys, status.leader), (0, None));
    cluster.processes.stop(id).await;

    fs::remove_dir_all(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    cluster.processes.start(id).await.unwrap();
    cluster.observer.converged(GUARD).await.unwrap();
}

/// The disk of one node is full: it stops with the cause and a failure; the others go on.
#[tokio::test]
async fn a_full_disk_stops_the_node_alone() {
    let mut cluster = TestCluster::start().await;
    let id = cluster.others(cluster.leader().await)[0];
    cluster.processes.stop(id).await;
    // A limit on the size of files is as good as a full disk, and needs no privileges.
    let mut command = Command::new("sh");
    let log = OpenOptions::new().append(true).open(cluster.processes.folder().log_file(id));
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$@\"", "sh"])
        .arg(cluster.processes.binary())
        .args(cluster.processes.folder().serve_args(id))
        .stdin(Stdio::null())
        .stderr(log.unwrap())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let mut limited = command.spawn().unwrap();
    let value = "x".repeat(VALUE_BYTES_MAX / 2);
    let fill = async {
        loop {
            cluster.put("fill", &value).await;
        }
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(GUARD, limited.wait()) => ended,
        () = fill => unreachable!("it goes on until the node has ended"),
    };
    assert_eq!(ended.expect("it stops").unwrap().code(), Some(LOCAL), "{}", cluster.log_of(id));
    assert!(cluster.log_of(id).contains("storage failed"), "{}", cluster.log_of(id));
    cluster.put("key", "value").await;
    // With room again it goes on as if nothing had been.
    cluster.processes.start(id).await.unwrap();
    cluster.observer.converged(GUARD).await.unwrap();
}

/// Keys and values over the limit are refused with the limit, by the client and by the node.
#[tokio::test]
async fn oversized_keys_and_values_are_refused() {
    let cluster = TestCluster::start().await;
    let value = vec![b'x'; VALUE_BYTES_MAX + 1];
    let error = cluster.client().put("key", value).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(KvError::TooLarge { .. })), "{error}");
    assert!(error.to_string().contains(&VALUE_BYTES_MAX.to_string()), "{error}");
    let error = cluster.client().put(vec![b'k'; 40_000], "value").await.unwrap_err();
    assert!(error.to_string().contains("key is 40000 bytes, over the limit of 32768"), "{error}");
    let error = cluster.client().delete(Keys::One("".into())).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(KvError::KeyEmpty)), "{error}");

    // Nodes do not rely on clients.
    let channel = cluster.channel(cluster.leader().await).await;
    let write = RequestBody::Write(vec![0xff; 100].into());
    let refused = ask(channel, GUARD, write).await.unwrap_err();
    assert!(!refused.may_have_run(), "{refused}");
    cluster.put("key", "value").await;
}

/// Datagrams of noise at every port: all go on.
#[tokio::test]
async fn garbage_datagrams_are_ignored() {
    let cluster = TestCluster::start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut noise = vec![0; 1400];
    for round in 0..500_u32 {
        for (position, byte) in noise.iter_mut().enumerate() {
            *byte = (round.wrapping_mul(2_654_435_761) >> (position % 24)) as u8 ^ position as u8;
        }
        for id in cluster.processes.folder().ids() {
            let length = round as usize * 7 % noise.len();
            socket.send_to(&noise[..length], cluster.processes.folder().address(id)).unwrap();
        }
    }
    cluster.put("key", "value").await;
    assert_eq!(cluster.value("key").await.unwrap(), "value");
    let fresh = Observer::new(cluster.processes.folder()).unwrap();
    for (id, status) in fresh.statuses().await {
        assert!(status.is_ok(), "{id}: {status:?}");
    }
}
