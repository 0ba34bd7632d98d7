//! The same node of the store, its log on redb or in memory, its transport QUIC or memory: each
//! choice is one line of `main`.

use raft_cli::cert::{make_authority, make_node};
use raft_core::log_store::{LogStore, MemoryLog};
use raft_core::node::{Node, NodeConfig, ReadMode};
use raft_core::raft::Config;
use raft_core::transport::{MemoryNetwork, Transport};
use raft_core::types::{Member, NodeId};
use raft_kv::api::{Action, Command, Keys, Op, Put, Query, Range, RangeAnswer};
use raft_kv::codec::{decode, encode};
use raft_kv::store::KvStore;
use raft_net_quic::{Credentials, QuicConfig, QuicTransport};
use raft_storage_redb::RedbLog;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

const ID: NodeId = NodeId(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let memory = MemoryNetwork::new();
    run("redb, QUIC", RedbLog::open(dir.path())?, quic(dir.path())?).await?;
    run("memory, QUIC", MemoryLog::new(), quic(dir.path())?).await?;
    run("redb, memory", RedbLog::open(&dir.path().join("other"))?, memory.transport(ID)).await?;
    run("memory, memory", MemoryLog::new(), memory.transport(ID)).await
}

/// Writes and reads one key on a node of these parts.
async fn run(
    parts: &str,
    log: impl LogStore,
    transport: Arc<dyn Transport>,
) -> Result<(), Box<dyn Error>> {
    let config = NodeConfig {
        raft: Config { id: ID, initial: [(ID, Member::default())].into(), ..Config::default() },
        ..NodeConfig::default()
    };
    let node = Node::start(config, log, KvStore::in_memory(), transport)?;
    while node.status().leader.is_none() {
        node.status_changed().await;
    }
    let put = Op::Put(Put::new("parts", parts.to_owned()));
    let command = Command { request: None, fence: None, action: Action::Op(put) };
    node.propose(encode(&command)).await?;
    let query = Query::Range(Range::of(Keys::One("parts".into())));
    let answer = node.query(encode(&query), ReadMode::Linearizable).await?;
    let found = decode::<RangeAnswer>(&answer.reply)??;
    println!("{:?}", found.kvs[0].value);
    node.shutdown().await;
    Ok(())
}

/// A QUIC transport on a free port, with certificates made on the spot.
fn quic(dir: &Path) -> Result<Arc<QuicTransport>, Box<dyn Error>> {
    let authority = make_authority(dir, true)?;
    let own = make_node(dir, ID, &["127.0.0.1".into()], true)?;
    let credentials = Credentials::from_files(&authority.certificate, &own.certificate, &own.key)?;
    let config = QuicConfig::new("127.0.0.1:0".parse()?, credentials, dir.join("incoming"));
    Ok(Arc::new(QuicTransport::bind(config)?))
}
