//! Credentials that ask for less than names: what they let in, and what they still keep out.

use crate::kit::{Authority, CLUSTER, GROUP, TestNode, echo, heartbeat, introduce};
use bytes::Bytes;
use raft_core::transport::{CallError, Connector, Transport};
use raft_core::types::{ClusterId, NodeId};
use raft_net_quic::{ClientCredentials, ConnectorConfig, Credentials, QuicConnector};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;

/// Credentials of a certificate that nobody has signed.
fn unauthenticated() -> Credentials {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Credentials::unauthenticated(certificate.der().clone(), key)
}

fn node(credentials: Credentials, id: u64) -> TestNode {
    TestNode::start_with(credentials, id, CLUSTER, 0, |_| ())
}

fn connector(credentials: ClientCredentials) -> QuicConnector {
    QuicConnector::new(credentials, ConnectorConfig::default()).unwrap()
}

async fn answers(credentials: ClientCredentials, node: &TestNode) -> Result<Bytes, CallError> {
    connector(credentials).connect(&node.address).await?.call(Bytes::from("hello")).await
}

/// Credentials with some certificate of `authority` that carries no node's name.
fn nameless(authority: &Authority) -> Credentials {
    let (cert, key) = authority.issue(&["somebody".into()]);
    let named =
        Credentials::from_pem(authority.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
    named.without_names()
}

#[tokio::test]
async fn nodes_that_prove_nothing_talk_to_each_other() {
    let nodes = [node(unauthenticated(), 1), node(unauthenticated(), 2)];
    introduce(&nodes).await;
    nodes[0].send(NodeId(2), heartbeat(1));
    let message = nodes[1].message().await;
    assert_eq!((message.from, message.message), (NodeId(1), heartbeat(1)));
    // What they say of themselves is still looked at.
    let foreign = TestNode::start_with(unauthenticated(), 3, ClusterId(0xf0), 0, |_| ());
    foreign.transport.set_peers(GROUP, vec![(NodeId(1), nodes[0].address.clone())]);
    foreign.refused(NodeId(1), "n1 belongs to cluster 00000000000000c1").await;
}

#[tokio::test]
async fn who_asks_for_proof_and_who_has_none_refuse_each_other() {
    let authority = Authority::new();
    let (named, bare) = (node(authority.node(1), 1), node(unauthenticated(), 2));
    named.transport.set_peers(GROUP, vec![(NodeId(2), bare.address.clone())]);
    named.refused(NodeId(2), "its certificate is not signed by a trusted authority").await;
    bare.transport.set_peers(GROUP, vec![(NodeId(1), named.address.clone())]);
    bare.refused(NodeId(1), "it does not trust the authority that signed").await;
    assert_eq!(named.transport.counters().messages_received, 0);
}

#[tokio::test]
async fn a_client_that_asks_for_no_proof_reaches_any_node() {
    let authority = Authority::new();
    let (named, bare) = (node(authority.node(1), 1), node(unauthenticated(), 2));
    named.transport.serve(GROUP, echo());
    bare.transport.serve(GROUP, echo());
    for node in [&named, &bare] {
        let answer = answers(ClientCredentials::unauthenticated(), node).await;
        assert_eq!(answer.unwrap(), Bytes::from("hello"));
    }
    let refused = answers(authority.client(), &bare).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused(_)), "{refused:?}");
    // Nor does it get in where a certificate is asked of clients.
    let strict = TestNode::start_with(authority.node(3), 3, CLUSTER, 0, |config| {
        config.require_client_certificate = true;
    });
    strict.transport.serve(GROUP, echo());
    let refused = answers(ClientCredentials::unauthenticated(), &strict).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn names_may_be_left_to_the_authority() {
    let authority = Authority::new();
    let nodes = [node(nameless(&authority), 1), node(nameless(&authority), 2)];
    introduce(&nodes).await;
    nodes[1].send(NodeId(1), heartbeat(2));
    assert_eq!(nodes[0].message().await.message, heartbeat(2));
    nodes[0].transport.serve(GROUP, echo());
    answers(authority.client().without_names(), &nodes[0]).await.unwrap();
    answers(ClientCredentials::of_node(&nameless(&authority)), &nodes[0]).await.unwrap();
    assert!(answers(authority.client(), &nodes[0]).await.is_err(), "it has no node's name");

    let stranger = node(nameless(&Authority::new()), 3);
    stranger.transport.set_peers(GROUP, vec![(NodeId(1), nodes[0].address.clone())]);
    stranger.refused(NodeId(1), "its certificate is not signed by a trusted authority").await;
    let mut liar = nameless(&Authority::new());
    liar.ca = nameless(&authority).ca;
    let liar = node(liar, 4);
    liar.transport.set_peers(GROUP, vec![(NodeId(1), nodes[0].address.clone())]);
    liar.refused(NodeId(1), "it does not trust the authority that signed").await;
    let bare = node(unauthenticated(), 5);
    bare.transport.set_peers(GROUP, vec![(NodeId(1), nodes[0].address.clone())]);
    bare.refused(NodeId(1), "it does not trust the authority that signed").await;
}
