//! The conformance kit of transports.

use crate::kit::{Authority, TestNode};
use raft_core::testing::transport::{Connecting, Network, check};
use raft_core::transport::{BoxFuture, Connector, Service};
use raft_core::types::{GroupId, Identity, NodeId};
use raft_net_quic::QuicTransport;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Nodes with certificates of one authority.
struct Quic {
    authority: Authority,
    /// Directories of incoming snapshots.
    directories: Mutex<BTreeMap<NodeId, TempDir>>,
}

impl Network for Quic {
    type Transport = QuicTransport;

    fn start(&self, identity: Identity) -> (Arc<QuicTransport>, String) {
        let (config, directory) = TestNode::config(self.authority.node(identity.node.0), 0);
        self.directories.lock().unwrap().insert(identity.node, directory);
        let transport = QuicTransport::bind(config).unwrap();
        let address = transport.local_addr().to_string();
        (Arc::new(transport), address)
    }

    fn serve(
        &self,
        _: NodeId,
        transport: &QuicTransport,
        group: GroupId,
        service: Arc<dyn Service>,
    ) {
        transport.serve(group, service);
    }

    fn stop(&self, _: NodeId, transport: Arc<QuicTransport>) -> BoxFuture<()> {
        Box::pin(async move { transport.close().await })
    }

    fn connect(&self, address: &str) -> Option<Connecting> {
        let (connector, address) = (self.authority.connector(), address.to_owned());
        Some(Box::pin(async move { connector.connect(&address).await }))
    }
}

#[tokio::test]
async fn quic_conforms() {
    let quic = Quic { authority: Authority::new(), directories: Mutex::default() };
    let report = check(&quic).await.unwrap();
    println!("{report}");
    assert!(report.snapshots == 5 && report.streams > 6, "{report}");
}
