//! A cluster grows from one node to three and to five, shrinks to three again, and at last its
//! leader removes itself, while clients write all the time. Fails if a write that was answered is
//! lost, or if one was held up for longer than an election timeout.

use bytes::Bytes;
use raft_core::log_store::MemoryLog;
use raft_core::node::{ChangeError, Node, NodeConfig, ProposeError, ReadMode};
use raft_core::raft::Config;
use raft_core::state_machine::Journal;
use raft_core::transport::MemoryNetwork;
use raft_core::types::{Change, ClusterId, Incarnation, Index, Member, NodeId};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Clients that write at the same time, each one command after the other.
const WRITERS: usize = 4;

/// Writes of all clients between two changes of the cluster.
const WRITES_BETWEEN: u64 = 400;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Report { writes, lost, longest_stall, election_timeout } = grow_and_shrink().await?;
    println!("{writes} writes were answered, {lost} of them lost");
    println!("the longest took {longest_stall:.1?}; an election timeout is {election_timeout:?}");
    if lost > 0 || longest_stall > election_timeout {
        return Err("the cluster did not do what it promises".into());
    }
    Ok(())
}

/// What came of it.
pub struct Report {
    /// Writes that were answered.
    pub writes: usize,
    /// Those of them that a remaining node does not have, or has in another order.
    pub lost: usize,
    /// The longest time from a client's first try to its answer.
    pub longest_stall: Duration,
    /// The longest election timeout.
    pub election_timeout: Duration,
}

/// An answered write: what was written, its number in the journal, and how long it took.
struct Written {
    command: Bytes,
    number: Bytes,
    index: Index,
    took: Duration,
}

/// Grows and shrinks a cluster under load.
pub async fn grow_and_shrink() -> Result<Report, Box<dyn Error>> {
    let network = MemoryNetwork::new();
    let nodes: Vec<Node> = (1..=5).map(|id| start(&network, id)).collect::<Result<_, _>>()?;
    let nodes = Arc::new(nodes);
    let (stop, stopped) = watch::channel(false);
    let progress = watch::Sender::new(0);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| write(writer, Arc::clone(&nodes), progress.clone(), stopped.clone()))
        .map(tokio::spawn)
        .collect();

    let mut step = progress.subscribe();
    for (add, remove) in [(&[2, 3][..], 0), (&[4, 5][..], 0), (&[][..], 2)] {
        pass(&mut step).await?;
        let leader = leader(&nodes).await;
        let others = members(leader).filter(|id| *id != leader.status().identity.node);
        let go: Vec<NodeId> = others.rev().take(remove).collect();
        let add = add.iter().map(|id| Change::Add {
            node: NodeId(*id),
            address: String::new(),
            promote: true,
        });
        let changes = add.chain(go.into_iter().map(|node| Change::Remove { node })).collect();
        change(&nodes, changes).await?;
        println!("{}", settled(&nodes).await);
    }
    pass(&mut step).await?;
    let own = leader(&nodes).await.status().identity.node;
    println!("{own}, which leads, removes itself");
    change(&nodes, vec![Change::Remove { node: own }]).await?;
    println!("{}", settled(&nodes).await);
    pass(&mut step).await?;

    stop.send_replace(true);
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await??);
    }
    report(&nodes, &written).await
}

/// Node 1 forms a cluster of its own, the others wait to be added.
fn start(network: &MemoryNetwork, id: u64) -> Result<Node, Box<dyn Error>> {
    let id = NodeId(id);
    let initial = if id.0 == 1 { [(id, Member::default())].into() } else { [].into() };
    let config = NodeConfig {
        raft: Config { id, initial, ..Config::default() },
        cluster: ClusterId(1),
        incarnation: Incarnation(id.0),
        seed: id.0,
        ..NodeConfig::default()
    };
    Ok(Node::start(config, MemoryLog::new(), Journal::new(), network.transport(id))?)
}

/// Writes one command after the other, to whoever leads, until told to stop.
async fn write(
    writer: usize,
    nodes: Arc<Vec<Node>>,
    progress: watch::Sender<u64>,
    stopped: watch::Receiver<bool>,
) -> Result<Vec<Written>, ProposeError> {
    let mut written = Vec::new();
    while !*stopped.borrow() {
        let command = Bytes::from(format!("write {} of writer {writer}", written.len()));
        let began = Instant::now();
        let proposed = loop {
            let leader = leader(&nodes).await;
            match leader.propose(command.clone()).await {
                Ok(proposed) => break proposed,
                // Whether it was written is not known: at worst it is in the journal twice.
                Err(ProposeError::LeadershipLost) => {}
                Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded) => {
                    leader.status_changed().await;
                }
                Err(error) => return Err(error),
            }
        };
        let (took, index) = (began.elapsed(), proposed.id.index);
        written.push(Written { command, number: proposed.reply, index, took });
        progress.send_modify(|count| *count += 1);
    }
    Ok(written)
}

/// Waits until the clients have written some more.
async fn pass(progress: &mut watch::Receiver<u64>) -> Result<(), watch::error::RecvError> {
    let target = *progress.borrow() + WRITES_BETWEEN;
    progress.wait_for(|count| *count >= target).await?;
    Ok(())
}

/// The node that leads: of those that believe they do, the one of the latest term.
async fn leader(nodes: &[Node]) -> &Node {
    loop {
        let leads = |node: &&Node| node.status().leader == Some(node.status().identity.node);
        if let Some(leader) = nodes.iter().filter(leads).max_by_key(|node| node.status().term) {
            return leader;
        }
        nodes[0].status_changed().await;
    }
}

fn members(node: &Node) -> impl DoubleEndedIterator<Item = NodeId> {
    let status = node.status();
    status.membership.members().keys().copied().collect::<Vec<_>>().into_iter()
}

/// Has whoever leads make the change.
async fn change(nodes: &[Node], changes: Vec<Change>) -> Result<(), ChangeError> {
    loop {
        let leader = leader(nodes).await;
        match leader.change_membership(changes.clone()).await {
            Ok(_) => return Ok(()),
            Err(
                ChangeError::NotLeader { .. }
                | ChangeError::NotReady
                | ChangeError::Pending { .. }
                | ChangeError::HandingOver,
            ) => leader.status_changed().await,
            Err(error) => return Err(error),
        }
    }
}

/// Waits until some member leads and every member votes; says who they are.
async fn settled(nodes: &[Node]) -> String {
    loop {
        let leader = leader(nodes).await;
        let status = leader.status();
        let membership = &status.membership;
        let votes = membership.contains(status.identity.node)
            && !membership.is_joint()
            && membership.learners().next().is_none();
        if votes {
            return format!("{:?} vote, {} leads", membership.voters(), status.identity.node);
        }
        leader.status_changed().await;
    }
}

/// Reads everything back, on every node that is left.
async fn report(nodes: &[Node], written: &[Vec<Written>]) -> Result<Report, Box<dyn Error>> {
    let leader = leader(nodes).await;
    let all = || written.iter().flatten();
    let last = all().map(|write| write.index).max().unwrap_or_default();
    let mut lost = 0;
    for node in members(leader) {
        let node = &nodes[node.0 as usize - 1];
        for write in written.iter().flatten() {
            let read = node.query(write.number.clone(), ReadMode::AtLeast(last)).await?;
            lost += usize::from(read.reply != write.command);
        }
    }
    for writes in written {
        lost += writes.windows(2).filter(|pair| pair[0].number >= pair[1].number).count();
    }
    let config = NodeConfig::default();
    Ok(Report {
        writes: all().count(),
        lost,
        longest_stall: all().map(|write| write.took).max().unwrap_or_default(),
        election_timeout: config.tick * config.raft.election_ticks_max,
    })
}
