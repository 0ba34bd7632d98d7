//! Looking at a cluster from outside, as any client may: asks every node what it sees, and waits
//! for what is to come. Never writes.

use super::Folder;
use crate::args::connection::ClientFile;
use crate::failure::{Failure, Kind};
use crate::output::status::Row;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use raft_core::types::{NodeId, Term};
use raft_kv::api::NodeStatus;
use raft_kv::client::{Client, ClientOptions};
use raft_net_quic::{ClientCredentials, ConnectorConfig, QuicConnector};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long to pause between two looks: shorter than anything that is measured with it.
const PAUSE: Duration = Duration::from_millis(10);

/// A client of a folder's cluster, and its members.
#[derive(Clone)]
pub struct Observer {
    client: Client,
    members: Vec<(NodeId, String)>,
}

/// A member and what it says, or why it says nothing.
pub type Answer = (NodeId, Result<NodeStatus, String>);

/// Who leads, as a majority sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    /// The node.
    pub id: NodeId,
    /// Its term.
    pub term: Term,
}

impl Observer {
    /// An observer of the cluster of `folder`. Connects when it first asks.
    ///
    /// # Errors
    /// If the client's certificate files cannot be used.
    pub fn new(folder: &Folder) -> Result<Self, Failure> {
        let members: Vec<(NodeId, String)> =
            folder.ids().map(|id| (id, folder.address(id).to_owned())).collect();
        let file = ClientFile::read(folder.dir())?;
        let credentials = ClientCredentials::from_files(&file.ca, Some((&file.cert, &file.key)))
            .map_err(|error| Failure::new(Kind::Local, error))?;
        let connector = QuicConnector::new(credentials, ConnectorConfig::default())
            .map_err(|error| Failure::new(Kind::Local, error))?;
        let options = ClientOptions::new(file.endpoints);
        Ok(Self { client: Client::new(Arc::new(connector), options), members })
    }

    /// The client it asks with, which knows every member.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// What a node says of itself and its cluster, or why it says nothing.
    ///
    /// # Errors
    /// The reason, for people.
    pub async fn status(&self, id: NodeId) -> Result<NodeStatus, String> {
        let address = self.members.iter().find(|(member, _)| *member == id);
        let Some((_, address)) = address else { return Err(format!("{id} is not a member")) };
        self.client.status(address).await.map_err(|error| error.to_string())
    }

    /// What every member says, all asked at once; in their order.
    pub async fn statuses(&self) -> Vec<Answer> {
        let ask = |(id, _): &(NodeId, String)| {
            let id = *id;
            async move { (id, self.status(id).await) }
        };
        join_all(self.members.iter().map(ask)).await
    }

    /// The members as rows of a table, with the leader's view of their progress.
    pub async fn rows(&self) -> Vec<Row> {
        let statuses = self.statuses().await;
        let answers = statuses.iter().filter_map(|(_, status)| status.as_ref().ok());
        let leader = answers.filter(|status| status.leader == Some(status.id));
        let seen = leader.max_by_key(|status| status.term).map(|leader| leader.members.clone());
        let row = |((id, address), (_, status)): (&(NodeId, String), _)| Row {
            address: address.clone(),
            id: Some(*id),
            status,
            health: None,
            progress: seen.iter().flatten().find(|member| member.id == *id).cloned(),
        };
        self.members.iter().zip(statuses.clone()).map(row).collect()
    }

    /// Looks until `find` finds something in what the members last said, or `most` has passed;
    /// `what` says what was waited for.
    ///
    /// # Errors
    /// Of kind `Unavailable`, naming `what`, if it did not come.
    pub async fn until<T>(
        &self,
        what: &str,
        most: Duration,
        mut find: impl FnMut(&[Answer]) -> Option<T>,
    ) -> Result<T, Failure> {
        let never = |(id, _): &(NodeId, String)| (*id, Err("it has not answered yet".to_owned()));
        let mut answers: Vec<Answer> = self.members.iter().map(never).collect();
        // Each member is asked at its own pace: a dead one must not hide what the others do.
        let ask = |place: usize, pause: Duration| async move {
            tokio::time::sleep(pause).await;
            (place, self.status(self.members[place].0).await)
        };
        let first = (0..answers.len()).map(|place| ask(place, Duration::ZERO));
        let mut asked: FuturesUnordered<_> = first.collect();
        let watch = async {
            while let Some((place, status)) = asked.next().await {
                answers[place].1 = status;
                if let Some(found) = find(&answers) {
                    return Some(found);
                }
                asked.push(ask(place, PAUSE));
            }
            None
        };
        if let Ok(Some(found)) = timeout(most, watch).await {
            return Ok(found);
        }
        let seen: Vec<String> = answers.iter().map(summary).collect();
        let text = format!("no {what} within {} s: {}", most.as_secs(), seen.join("; "));
        Err(Failure::new(Kind::Unavailable, text))
    }

    /// Waits until a majority agrees that a node leads that says so itself.
    ///
    /// # Errors
    /// As [`Observer::until`].
    pub async fn leader(&self, most: Duration) -> Result<Leader, Failure> {
        self.new_leader(most, None).await
    }

    /// As [`Observer::leader`], in a term above `after` if that is given.
    ///
    /// # Errors
    /// As [`Observer::until`].
    pub async fn new_leader(&self, most: Duration, after: Option<Term>) -> Result<Leader, Failure> {
        let majority = self.members.len() / 2 + 1;
        self.until("leader", most, |statuses| {
            let answers: Vec<&NodeStatus> =
                statuses.iter().filter_map(|(_, status)| status.as_ref().ok()).collect();
            let leads = |node: &&&NodeStatus| node.leader == Some(node.id);
            let leader = answers.iter().filter(leads).max_by_key(|node| node.term)?;
            let follows =
                |node: &&&NodeStatus| node.term == leader.term && node.leader == Some(leader.id);
            let agree = answers.iter().filter(follows).count() >= majority;
            let is_new = after.is_none_or(|after| leader.term > after);
            (agree && is_new).then_some(Leader { id: leader.id, term: leader.term })
        })
        .await
    }

    /// Waits until every member answers and all have applied the same: equal index, equal state
    /// hash, nothing committed and not applied. Returns one of the statuses.
    ///
    /// # Errors
    /// As [`Observer::until`].
    pub async fn converged(&self, most: Duration) -> Result<NodeStatus, Failure> {
        self.until("equal state on all nodes", most, |statuses| {
            let (_, first) = statuses.first()?;
            let first = first.as_ref().ok()?;
            let equal = |(_, status): &Answer| {
                status.as_ref().is_ok_and(|status| {
                    status.last_applied == first.last_applied
                        && status.commit_index == first.last_applied
                        && status.state_hash == first.state_hash
                })
            };
            statuses.iter().all(equal).then(|| first.clone())
        })
        .await
    }
}

/// One member in a few words.
fn summary((id, status): &Answer) -> String {
    match status {
        Ok(status) => format!(
            "{id} is {} in term {}, applied {}, state hash {:016x}",
            status.role, status.term, status.last_applied, status.state_hash
        ),
        Err(error) => format!("{id}: {error}"),
    }
}
