//! Who is refused, and in which words.

use crate::kit::{Authority, CLUSTER, GROUP, TestNode, connect, echo, heartbeat, introduce};
use crate::relay::Relay;
use bytes::Bytes;
use raft_core::transport::{CallError, Connector, Transport};
use raft_core::types::{ClusterId, NodeId};
use raft_net_quic::{
    ANY_NODE, BindError, ClientCredentials, ConnectorConfig, Credentials, QuicConfig,
    QuicConnector, QuicTransport, server_name,
};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;

/// Why a connector is refused, in a way that no further try would change.
async fn refused_for_good(connector: &QuicConnector, node: &TestNode) -> String {
    match connector.connect(&node.address).await.err().expect("refused") {
        CallError::Refused(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_of_a_foreign_cluster_is_refused() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let foreign = TestNode::start_with(authority.node(2), 2, ClusterId(0xf0), 0, |_| ());
    foreign.transport.set_peers(GROUP, vec![(NodeId(1), node.address.clone())]);
    let text = "n1 belongs to cluster 00000000000000c1, n2 to cluster 00000000000000f0";
    foreign.refused(NodeId(1), text).await;
    assert!(node.transport.counters().refusals > 0);
    assert!(node.transport.link(NodeId(2)).is_none());
}

/// Two clusters of one authority whose addresses were swapped, by a mistake of whoever set them up.
#[tokio::test]
async fn clusters_that_swap_addresses_refuse_each_other() {
    const OTHER: ClusterId = ClusterId(0xc2);
    let authority = Authority::new();
    let node = |id, cluster| {
        TestNode::start_with(authority.node(id), id, cluster, 0, |config| {
            config.limits.backoff_max = Duration::from_millis(100);
        })
    };
    let ours = [node(1, CLUSTER), node(2, CLUSTER)];
    let theirs = [node(1, OTHER), node(2, OTHER)];
    let peers = |of: &[TestNode; 2]| {
        of.iter().map(|node| (node.id, node.address.clone())).collect::<Vec<_>>()
    };
    for (nodes, swapped) in [(&ours, &theirs), (&theirs, &ours)] {
        for node in nodes {
            node.transport.set_peers(GROUP, peers(swapped));
        }
    }
    for (nodes, here, there) in [(&ours, CLUSTER, OTHER), (&theirs, OTHER, CLUSTER)] {
        for (node, peer) in [(&nodes[0], NodeId(2)), (&nodes[1], NodeId(1))] {
            let text = format!("{peer} belongs to cluster {there}, {} to cluster {here}", node.id);
            node.refused(peer, &text).await;
            assert!(node.transport.counters().refusals > 0);
            node.send(peer, heartbeat(1));
            assert_eq!(node.transport.counters().messages_received, 0);
        }
    }
    // With the right addresses each cluster is whole, and nothing of the mistake is left.
    for nodes in [&ours, &theirs] {
        introduce(nodes).await;
        nodes[0].send(NodeId(2), heartbeat(2));
        assert_eq!(nodes[1].message().await.message, heartbeat(2));
        assert_eq!(nodes[1].transport.counters().messages_received, 1);
    }
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let other = TestNode::start(&Authority::new(), 2);
    other.transport.set_peers(GROUP, vec![(NodeId(1), node.address.clone())]);
    other.refused(NodeId(1), "its certificate is not signed by a trusted authority").await;

    // Trusts the right authority, but is not signed by it.
    let mut credentials = Authority::new().node(3);
    credentials.ca = authority.node(3).ca;
    let stranger = TestNode::start_with(credentials, 3, CLUSTER, 0, |_| ());
    stranger.transport.set_peers(GROUP, vec![(NodeId(1), node.address.clone())]);
    stranger.refused(NodeId(1), "it does not trust the authority that signed").await;
}

/// New certificates are those of new connections; what stands goes on.
#[tokio::test]
async fn certificates_are_renewed_while_nodes_are_connected() {
    let (old, new) = (Authority::new(), Authority::new());
    let nodes = [TestNode::start(&old, 1), TestNode::start(&old, 2)];
    introduce(&nodes).await;
    let mut mixed = new.node(1);
    mixed.key = old.node(1).key;
    assert!(nodes[0].transport.renew(&mixed).is_err(), "the key is that of another certificate");
    let unnamed = nodes[0].transport.renew(&new.node(1).without_names());
    let text = unnamed.expect_err("it asks for less").to_string();
    assert!(text.contains("another proof"), "{text}");
    // Those before are in force, for both directions.
    let third = TestNode::start(&old, 3);
    let [first, second] = nodes;
    let nodes = [first, second, third];
    introduce(&nodes).await;
    for (id, node) in (1..).zip(&nodes[..2]) {
        node.transport.renew(&new.node(id)).unwrap();
    }
    for round in 1..4 {
        nodes[0].send(NodeId(2), heartbeat(round));
        assert_eq!(nodes[1].message().await.message, heartbeat(round));
        nodes[0].send(NodeId(3), heartbeat(round));
        assert_eq!(nodes[2].message().await.message, heartbeat(round));
    }
    let fourth = TestNode::start(&new, 4);
    let fifth = TestNode::start(&old, 5);
    let address = nodes[0].address.clone();
    fifth.transport.set_peers(GROUP, vec![(NodeId(1), address.clone())]);
    fifth.refused(NodeId(1), "its certificate is not signed by a trusted authority").await;
    fourth.transport.set_peers(GROUP, vec![(NodeId(1), address.clone())]);
    fourth.connected(NodeId(1)).await;
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(4), fourth.address.clone())]);
    nodes[0].connected(NodeId(4)).await;
    let client = new.connector();
    client.connect(&address).await.unwrap();
    let channel = old.connector().connect(&address).await;
    assert!(channel.is_err(), "it does not trust the new authority");
}

#[tokio::test]
async fn a_node_with_the_certificate_of_another_is_refused() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let liar = TestNode::start_with(authority.node(3), 2, CLUSTER, 0, |_| ());
    liar.transport.set_peers(GROUP, vec![(NodeId(1), node.address.clone())]);
    let text = "the certificate of n2 does not carry the name n2.node.raft.internal";
    liar.refused(NodeId(1), text).await;

    // Nor is it believed when it is dialled.
    node.transport.set_peers(GROUP, vec![(NodeId(2), liar.address.clone())]);
    node.refused(NodeId(2), "not valid for name \"n2.node.raft.internal\"").await;
}

#[tokio::test]
async fn a_client_certificate_does_not_make_a_node() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let (cert, key) = authority.issue(&["somebody".into()]);
    let credentials =
        Credentials::from_pem(authority.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
    let client = TestNode::start_with(credentials, 2, CLUSTER, 0, |_| ());
    client.transport.set_peers(GROUP, vec![(NodeId(1), node.address.clone())]);
    client.refused(NodeId(1), "the certificate of n2 does not carry the name").await;
}

#[tokio::test]
async fn a_node_reached_at_the_wrong_address_is_told_apart() {
    let authority = Authority::new();
    // One certificate for both ids, so that only the hello can tell.
    let names = [server_name(NodeId(1)), server_name(NodeId(3)), ANY_NODE.into()];
    let (cert, key) = authority.issue(&names);
    let credentials =
        Credentials::from_pem(authority.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
    let node = TestNode::start_with(credentials, 1, CLUSTER, 0, |_| ());
    let dialler = TestNode::start(&authority, 2);
    dialler.transport.set_peers(GROUP, vec![(NodeId(3), node.address.clone())]);
    dialler.refused(NodeId(3), "n2 dialled n3 and reached n1").await;
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_is_told() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let text = refused_for_good(&Authority::new().connector(), &node).await;
    assert_eq!(text, "its certificate is not signed by a trusted authority");
}

#[tokio::test]
async fn clients_need_a_certificate_where_it_is_required() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.require_client_certificate = true;
    });
    node.transport.serve(GROUP, echo());
    assert_eq!(refused_for_good(&authority.connector(), &node).await, "it demands a certificate");

    let with = |(cert, key): (String, String)| {
        let identity = Some((cert.as_bytes(), key.as_bytes()));
        let credentials = ClientCredentials::from_pem(authority.pem.as_bytes(), identity);
        QuicConnector::new(credentials.unwrap(), ConnectorConfig::default()).unwrap()
    };
    let stranger = with(Authority::new().issue(&["client".into()]));
    let text = refused_for_good(&stranger, &node).await;
    assert_eq!(text, "it does not trust the authority that signed our certificate");

    let channel = with(authority.issue(&["client".into()])).connect(&node.address).await.unwrap();
    assert_eq!(channel.call(Bytes::from_static(b"x")).await.unwrap()[..], *b"x");
}

#[tokio::test]
async fn too_many_clients_are_refused() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.clients_max = 1;
    });
    node.transport.serve(GROUP, echo());
    let first = connect(&authority, &node).await;
    let error = authority.connector().connect(&node.address).await.err().expect("refused");
    assert_eq!(error, CallError::NotSent("too many clients are connected".into()));
    assert!(first.call(Bytes::new()).await.is_ok());
}

/// Whoever is too many waits for a turn, or comes again without a try of its own.
#[tokio::test]
async fn many_clients_at_once_get_in_one_after_the_other() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, at_once);
    node.transport.serve(GROUP, echo());
    let mut clients = JoinSet::new();
    for _ in 0..30 {
        let (connector, address) = (authority.connector(), node.address.clone());
        clients.spawn(async move { connector.connect(&address).await });
    }
    for channel in clients.join_all().await {
        assert!(channel.expect("let in").call(Bytes::new()).await.is_ok());
    }
    assert_eq!(node.transport.counters().refusals, 0);
}

/// Clients whose handshakes do not go on: what they began is answered to nobody.
async fn silent_clients(authority: &Authority, node: &TestNode, count: usize) -> JoinSet<bool> {
    let mut silent = JoinSet::new();
    for _ in 0..count {
        let relay = Relay::start(&node.address, Duration::ZERO).await;
        relay.cut_after(1);
        let connector = authority.connector();
        let begun = relay.is_answered();
        silent.spawn(async move { connector.connect(&relay.address).await.is_ok() });
        begun.await;
    }
    silent
}

/// They keep others out for a moment only.
#[tokio::test]
async fn clients_that_fall_silent_do_not_keep_the_others_out() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, at_once);
    node.transport.serve(GROUP, echo());
    let _silent = silent_clients(&authority, &node, 5).await;
    assert!(connect(&authority, &node).await.call(Bytes::new()).await.is_ok());
    assert_eq!(node.transport.counters().refusals, 0, "it took until they were given up");
}

/// And peers not at all, though no place is left.
#[tokio::test]
async fn peers_do_not_wait_for_clients() {
    let authority = Authority::new();
    let start = |id| {
        TestNode::start_with(authority.node(id), id, CLUSTER, 0, |config| {
            config.limits.handshakes_max = 1;
        })
    };
    let nodes = [start(1), start(2)];
    let _silent = silent_clients(&authority, &nodes[0], 1).await;
    introduce(&nodes).await;
    let counters = nodes[0].transport.counters();
    assert_eq!((counters.refusals, counters.handshakes_put_off), (0, 0), "{counters:?}");
}

/// One handshake at a time.
fn at_once(config: &mut QuicConfig) {
    config.limits.handshakes_at_once = 1;
}

#[tokio::test]
async fn nobody_there_and_no_such_host_are_told() {
    let config = ConnectorConfig {
        connect_timeout: Duration::from_millis(50),
        ..ConnectorConfig::default()
    };
    let connector = QuicConnector::new(Authority::new().client(), config).unwrap();
    let error = connector.connect("127.0.0.1:9").await.err().unwrap();
    assert_eq!(error.to_string(), "no answer within 0.05 s");
    let error = connector.connect("nowhere.invalid:1").await.err().unwrap();
    assert!(error.to_string().starts_with("cannot resolve it"), "{error}");
}

#[tokio::test]
async fn a_busy_port_is_told_and_closing_frees_it() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let channel = connect(&authority, &node).await;
    let port = node.transport.local_addr().port();
    let (config, _directory) = TestNode::config(authority.node(1), port);
    let error = QuicTransport::bind(config.clone()).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)));
    assert_eq!(error.to_string(), format!("UDP port 127.0.0.1:{port} is in use"));
    node.transport.close().await;
    QuicTransport::bind(config).unwrap();
    drop(channel);
}

#[tokio::test]
async fn bad_credentials_name_the_file() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = authority.issue(&["x".into()]);
    let ca = file("ca.pem", &authority.pem);
    let cert = file("node.pem", &cert);
    let key = file("node.key", &key);
    let told = |ca: &Path, cert: &Path, key: &Path| {
        Credentials::from_files(ca, cert, key).unwrap_err().to_string()
    };
    let missing = directory.path().join("missing.pem");
    assert!(told(&missing, &cert, &key).starts_with(&format!("cannot read {}", missing.display())));
    let text = told(&ca, &key, &key);
    assert_eq!(text, format!("{} holds no certificate", key.display()));
    let text = told(&ca, &cert, &ca);
    assert_eq!(text, format!("{} holds no private key", ca.display()));
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\n!!\n");
    assert!(
        told(&ca, &broken, &key).starts_with(&format!("{} is not valid PEM", broken.display()))
    );

    let (_, other) = authority.issue(&["x".into()]);
    let other = file("other.key", &other);
    let (config, _directory) =
        TestNode::config(Credentials::from_files(&ca, &cert, &other).unwrap(), 0);
    let error = QuicTransport::bind(config).unwrap_err().to_string();
    assert!(error.starts_with("the certificates cannot be used"), "{error}");
}
