//! Processes that are given etcd's flags and nothing else, driven by etcd's own client.

use super::{Node, etcdctl, etcdctl_soon, free_port};
use crate::cluster::support::binary;
use std::process::Command;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where a member is.
struct Member {
    name: &'static str,
    client: u16,
    peer: u16,
    metrics: u16,
}

impl Member {
    fn new(name: &'static str) -> Self {
        Self { name, client: free_port(), peer: free_port(), metrics: free_port() }
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    fn listed(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// What etcd would be started with.
    fn words(&self, cluster: &str, state: &str) -> Vec<String> {
        let (client, peer) = (format!("http://127.0.0.1:{}", self.client), self.peer_url());
        let metrics = format!("http://127.0.0.1:{}", self.metrics);
        let words = [
            "--name",
            self.name,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "-listen-metrics-urls",
            &metrics,
            "--initial-cluster",
            cluster,
            "-initial-cluster-state",
            state,
            "--initial-cluster-token=test",
            "--enable-v2=false",
            "--snapshot-count=1000",
            "-logger=zap",
        ];
        words.map(str::to_owned).to_vec()
    }
}

fn endpoints(members: &[&Member]) -> String {
    let each = members.iter().map(|member| format!("127.0.0.1:{}", member.client));
    each.collect::<Vec<_>>().join(",")
}

async fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// `raft` as a client of a node that proves nothing.
fn raft(member: &Member, words: &[&str]) -> String {
    let endpoint = format!("127.0.0.1:{}", member.peer);
    let mut command = Command::new(binary());
    let command = command.args(["--endpoints", &endpoint, "--insecure"]).args(words);
    let output = command.env_clear().output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_started_as_etcd_serve_etcdctl() {
    let dir = TempDir::new().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(Member::new);
    let listed = [&c, &a, &b].map(Member::listed).join(",");
    let start = |member: &Member| Node::start(dir.path(), &[], &member.words(&listed, "new"));
    let mut nodes = [&a, &b, &c].map(start);
    for node in &mut nodes {
        node.ready().await;
        let published = node.until_logged("published ").await;
        assert!(published.contains("ClientURLs:[http://127.0.0.1:"), "{published}");
        node.until_logged("do not authenticate each other").await;
        node.until_logged("--snapshot-count is ignored").await;
    }
    let all = endpoints(&[&a, &b, &c]);
    assert_eq!(etcdctl(&["--endpoints", &all, "put", "k", "v"]).await.unwrap(), "OK\n");
    assert_eq!(etcdctl(&["--endpoints", &all, "get", "k"]).await.unwrap(), "k\nv\n");
    let health = etcdctl(&["--endpoints", &all, "endpoint", "health"]).await;
    assert!(health.is_ok(), "{health:?}");
    let members = etcdctl(&["--endpoints", &all, "member", "list"]).await.unwrap();
    for (id, member) in [(1, &a), (2, &b), (3, &c)] {
        let url = format!("http://127.0.0.1:{}", member.client);
        let line = format!("{id}, started, {}, {}, {url}, false", member.name, member.peer_url());
        assert!(members.contains(&line), "{line}: {members}");
    }
    let metrics = get(a.metrics, "/metrics").await;
    for expected in [
        "etcd_server_has_leader 1",
        "etcd_server_leader_changes_seen_total ",
        "# TYPE etcd_disk_wal_fsync_duration_seconds histogram",
        "process_resident_memory_bytes ",
        "raft_commit_index ",
    ] {
        assert!(metrics.contains(expected), "{expected}: {metrics}");
    }
    assert!(get(a.metrics, "/health").await.contains("{\"health\":\"true\"}"));
    assert!(get(a.metrics, "/v3/kv/range").await.starts_with("HTTP/1.1 404"));
    // The native client, too, if it is told not to ask for proof.
    assert_eq!(raft(&b, &["-o", "simple", "get", "k"]), "k\nv\n");

    // A node that comes back is who it was, although its list has changed.
    let [node, ..] = nodes;
    node.kill().await;
    let changed = [&a, &b, &c, &Member::new("aa")].map(Member::listed).join(",");
    let mut node = Node::start(dir.path(), &[], &a.words(&changed, "existing"));
    node.ready().await;
    let only = endpoints(&[&a]);
    assert_eq!(etcdctl_soon(&["--endpoints", &only, "get", "k"]).await, "k\nv\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_added_finds_out_who_it_is() {
    let dir = TempDir::new().unwrap();
    let [first, second] = ["z-first", "a-second"].map(Member::new);
    let words = first.words(&first.listed(), "new");
    let mut node = Node::start(dir.path(), &[], &words);
    node.ready().await;
    let all = [&first, &second].map(Member::listed).join(",");
    let added = second.words(&all, "existing");
    let mut joining = Node::start(dir.path(), &[], &added);
    // It is there before anybody has added it.
    joining.until_logged("waiting to be added").await;
    let at = endpoints(&[&first]);
    let url = format!("--peer-urls={}", second.peer_url());
    let text = etcdctl(&["--endpoints", &at, "member", "add", "a-second", &url]).await.unwrap();
    assert!(text.contains("Member                2 added"), "{text}");
    assert!(text.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""), "{text}");
    joining.ready().await;
    etcdctl_soon(&["--endpoints", &endpoints(&[&second]), "put", "k", "v"]).await;
    let members = etcdctl_soon(&["--endpoints", &at, "member", "list"]).await;
    assert!(members.contains("2, started, a-second"), "{members}");
    // Started again it asks nobody: the one it could ask is gone.
    joining.kill().await;
    node.kill().await;
    let mut joining = Node::start(dir.path(), &[], &added);
    let line = joining.until_logged("serving").await;
    assert!(line.contains("n2"), "{line}");
}

/// All from the environment, as containers have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_alone_starts_a_node() {
    let dir = TempDir::new().unwrap();
    let member = Member::new("env");
    let client = format!("http://127.0.0.1:{}", member.client);
    let environment = [
        ("ETCD_NAME", "env"),
        ("ETCD_DATA_DIR", "data"),
        ("ETCD_LISTEN_CLIENT_URLS", &client),
        ("ETCD_ADVERTISE_CLIENT_URLS", &client),
        ("ETCD_LISTEN_PEER_URLS", &member.peer_url()),
        ("ETCD_INITIAL_ADVERTISE_PEER_URLS", &member.peer_url()),
        ("ETCD_LOG_LEVEL", "info"),
    ];
    let mut node = Node::start(dir.path(), &environment, &[]);
    node.ready().await;
    assert!(dir.path().join("data/member.json").is_file());
    let at = endpoints(&[&member]);
    assert_eq!(etcdctl(&["--endpoints", &at, "put", "k", "v"]).await.unwrap(), "OK\n");
}
