//! What a client asks about the cluster itself: how its nodes are, and who is in it. It changes
//! that, too.

use super::auth::{Signing, is_about_token};
use super::directory::Fault;
use super::error::{Cause, ClientError, Trouble, gave_up};
use super::{Client, Shared, millis, unexpected};
use crate::api::{
    Finding, Health, Inquiry, Integrity, Members, NodeStatus, ReplyBody, Request, RequestBody,
};
use crate::codec::WireError;
use crate::wire;
use raft_core::transport::{BoxFuture, Channel};
use raft_core::types::{Change, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// What is kept of a change's deadline to look what has become of it: at most so much, and at most
/// a quarter.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// One endpoint's answer to [`Client::statuses`].
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Its address.
    pub endpoint: String,
    /// What the node there says, or why it says nothing.
    pub status: Result<NodeStatus, ClientError>,
    /// What it says may be wrong; nothing if it cannot tell, as nodes of earlier versions cannot.
    pub health: Option<Health>,
}

/// One endpoint's answer to [`Client::scrub`].
#[derive(Clone, Debug)]
pub struct EndpointScrub {
    /// Its address.
    pub endpoint: String,
    /// That the node there has begun, or why it has not.
    pub begun: Result<ScrubBegun, ClientError>,
}

/// A node that looks at all its data.
#[derive(Clone, Debug)]
pub struct ScrubBegun {
    /// The node.
    pub node: NodeStatus,
    /// What it knew of its data before. When [`Integrity::scrubs`] or
    /// [`Integrity::scrubs_incomplete`] is another one, it has come to the end.
    pub before: Integrity,
}

impl Client {
    /// Asks the node at `endpoint`, and no other, to describe itself and its cluster.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn status(&self, endpoint: &str) -> Result<NodeStatus, ClientError> {
        self.of_endpoint(endpoint, Shared::ask_status).await
    }

    /// Asks the node at `endpoint`, and no other, what may be wrong with it or the cluster.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn health(&self, endpoint: &str) -> Result<Health, ClientError> {
        self.of_endpoint(endpoint, Shared::ask_health).await
    }

    /// Asks every node known to describe itself: those given, and the members they tell of. Nodes
    /// known by several addresses are reported once.
    pub async fn statuses(&self) -> Vec<EndpointStatus> {
        let ask = |client: Self, endpoint: String| -> BoxFuture<_> {
            Box::pin(async move { client.of_endpoint(&endpoint, Shared::ask_both).await })
        };
        let answers = self.of_all(ask, |(status, _)| status.id).await;
        let described = |(endpoint, answer)| {
            let (status, health) = match answer {
                Ok((status, health)) => (Ok(status), health),
                Err(error) => (Err(error), None),
            };
            EndpointStatus { endpoint, status, health }
        };
        answers.into_iter().map(described).collect()
    }

    /// Has every node known look at all its data now, and compare it with the others': at once, and
    /// not only when it is time. Returns when they have begun. How far they are, and what comes of
    /// it, [`statuses`](Self::statuses) tell in [`Health::integrity`]. A look that is under way is
    /// joined, and goes on faster.
    pub async fn scrub(&self) -> Vec<EndpointScrub> {
        let ask = |client: Self, endpoint: String| -> BoxFuture<_> {
            Box::pin(async move { client.of_endpoint(&endpoint, Shared::ask_to_scrub).await })
        };
        let answers = self.of_all(ask, |begun| begun.node.id).await;
        let begun = |(endpoint, begun)| EndpointScrub { endpoint, begun };
        answers.into_iter().map(begun).collect()
    }

    /// What every node known answers, in the order in which they were learned of; `id` is that of
    /// the node which gave an answer.
    async fn of_all<T: Send + 'static>(
        &self,
        ask: impl Fn(Self, String) -> BoxFuture<Result<T, ClientError>>,
        id: impl Fn(&T) -> NodeId,
    ) -> Vec<(String, Result<T, ClientError>)> {
        let mut asked: Vec<String> = Vec::new();
        let mut answers = Vec::new();
        loop {
            let known = self.shared.directory.addresses();
            let new: Vec<String> = known
                .iter()
                .map(ToString::to_string)
                .filter(|address| !asked.contains(address))
                .collect();
            if new.is_empty() {
                break;
            }
            asked.extend(new.iter().cloned());
            let mut asking = JoinSet::new();
            for endpoint in new {
                let answer = ask(self.clone(), endpoint.clone());
                asking.spawn(async move { (endpoint, answer.await) });
            }
            answers.extend(asking.join_all().await);
        }
        answers.sort_by_key(|(endpoint, _)| asked.iter().position(|at| at == endpoint));
        let mut seen = BTreeSet::new();
        answers.retain(|(_, answer)| answer.as_ref().map_or(true, |node| seen.insert(id(node))));
        answers
    }

    async fn of_endpoint<T>(
        &self,
        endpoint: &str,
        ask: impl AsyncFnOnce(&Arc<Shared>, &Asked) -> Result<T, Cause>,
    ) -> Result<T, ClientError> {
        let time = self.deadline.min(self.shared.attempt);
        let until = Instant::now() + time;
        let asking = async {
            let asked = self.shared.find(endpoint, until).await?;
            ask(&self.shared, &asked).await
        };
        let cause = match timeout_at(until, asking).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(cause)) => cause,
            Err(_) => Cause::Silent(time),
        };
        Err(gave_up(false, Some(Trouble { address: Some(endpoint.into()), cause })))
    }

    /// Who is in the cluster: sees every change answered before it began.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn members(&self) -> Result<Members, ClientError> {
        self.members_of(self.request(RequestBody::Members, true).await?)
    }

    /// Changes who is in the cluster, all of `changes` or nothing, and waits until that is
    /// complete: of a node that is added, until it is a learner; it becomes a voter by itself when
    /// it has caught up, if it was added to be promoted. Returns the members then.
    ///
    /// A change is sent once. If what became of it is not known, the members in force tell: if they
    /// are as wanted, they are the answer.
    ///
    /// # Errors
    /// See [`ClientError`]. [`ClientError::Refused`] holds the reason, with what to do instead if
    /// it is a [`ChangeRefused`](crate::api::KvError::ChangeRefused). After
    /// [`ClientError::Unknown`] look at the [`members`](Self::members) before changing them again.
    pub async fn change_members(&self, changes: Vec<Change>) -> Result<Members, ClientError> {
        let look = (self.deadline / 4).min(LOOK_MAX);
        let most = self.deadline - look;
        let deadline = Instant::now() + most;
        let body = RequestBody::ChangeMembers(changes.clone());
        match self.exchange(body, false, most, deadline).await {
            Ok(body) => self.members_of(body),
            Err(unknown @ ClientError::Unknown { .. }) => {
                match self.with_deadline(look).members().await {
                    Ok(members) if members.fulfil(&changes) => Ok(members),
                    _ => Err(unknown),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn members_of(&self, body: ReplyBody) -> Result<Members, ClientError> {
        let ReplyBody::Members(members) = body else { return Err(unexpected(true)) };
        self.shared.take_in_members(&members);
        Ok(*members)
    }

    /// Hands leadership to a node, or to the best follower.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), ClientError> {
        // Without a target, a second try would hand it on from whom the first one gave it to.
        let repeatable = to.is_some();
        match self.request(RequestBody::TransferLeadership { to }, repeatable).await? {
            ReplyBody::Transferred => Ok(()),
            _ => Err(unexpected(true)),
        }
    }
}

/// A node that is asked about itself.
struct Asked {
    endpoint: String,
    /// The connection, if it is one of the directory's.
    known: Option<super::directory::Connected>,
    channel: Arc<dyn Channel>,
    until: Instant,
}

impl Shared {
    async fn find(&self, endpoint: &str, until: Instant) -> Result<Asked, Cause> {
        let known = self.directory.connected(endpoint);
        let channel: Arc<dyn Channel> = match &known {
            Some(node) => Arc::clone(&node.channel),
            None => self.connector.connect(endpoint).await.map_err(Cause::Call)?,
        };
        Ok(Asked { endpoint: endpoint.into(), known, channel, until })
    }

    async fn ask(&self, asked: &Asked, body: RequestBody) -> Result<ReplyBody, Cause> {
        let deadline_ms = millis(asked.until.saturating_duration_since(Instant::now()));
        let request = wire::encode_request(&Request { deadline_ms, body });
        let reply = asked.channel.call(request).await.map_err(|error| {
            if let Some(node) = &asked.known {
                // Or the broken connection would be asked again for ever.
                self.directory.failed(node, Fault::Broken);
            }
            Cause::Call(error)
        })?;
        wire::decode_reply(&reply).map_err(Cause::Answer)?.map_err(Cause::Node)
    }

    async fn ask_status(self: &Arc<Self>, asked: &Asked) -> Result<NodeStatus, Cause> {
        let ReplyBody::Status(status) = self.ask(asked, RequestBody::Status).await? else {
            return Err(Cause::Answer(WireError::Malformed));
        };
        if self.directory.addresses().iter().any(|known| **known == *asked.endpoint) {
            self.take_in(&status);
        }
        Ok(*status)
    }

    async fn ask_health(self: &Arc<Self>, asked: &Asked) -> Result<Health, Cause> {
        match self.ask(asked, RequestBody::Health).await? {
            ReplyBody::Health(health) => Ok(*health),
            _ => Err(Cause::Answer(WireError::Malformed)),
        }
    }

    async fn ask_both(
        self: &Arc<Self>,
        asked: &Asked,
    ) -> Result<(NodeStatus, Option<Health>), Cause> {
        let (status, health) = tokio::join!(self.ask_status(asked), self.ask_health(asked));
        Ok((status?, health.ok()))
    }

    async fn ask_to_scrub(self: &Arc<Self>, asked: &Asked) -> Result<ScrubBegun, Cause> {
        let node = self.ask_status(asked).await?;
        let before = self.ask_health(asked).await?.integrity;
        let signing = match self.login {
            Some(_) => Signing::ByLogin,
            None => Signing::No,
        };
        let shown = self.shown(&signing, asked.until).await;
        let token = shown.map_err(|error| match error {
            ClientError::Refused(error) => Cause::Node(error),
            _ => Cause::NoConnection,
        })?;
        let mut body = RequestBody::Integrity(Inquiry::Scrub);
        if let Some(token) = &token {
            body = RequestBody::Signed { token: (**token).into(), body: Box::new(body) };
        }
        let found = self.ask(asked, body).await.inspect_err(|cause| {
            if matches!(cause, Cause::Node(error) if is_about_token(error)) {
                self.forget_token(&signing, token.as_ref());
            }
        });
        match found? {
            ReplyBody::Integrity(Finding::Begun) => Ok(ScrubBegun { node, before }),
            _ => Err(Cause::Answer(WireError::Malformed)),
        }
    }

    /// Takes over the members a node tells of, and who leads them.
    pub(super) fn take_in(self: &Arc<Self>, status: &NodeStatus) {
        if *self.cluster.get_or_init(|| status.cluster) != status.cluster {
            return;
        }
        self.directory.learn(status.members.iter().map(|member| &*member.address));
        let leader = status.members.iter().find(|member| Some(member.id) == status.leader);
        if let Some(leader) = leader.filter(|_| self.prefer_leader)
            && let Some((id, address)) = self.directory.prefer(&leader.address)
        {
            self.connect(id, address);
        }
    }

    fn take_in_members(&self, members: &Members) {
        if *self.cluster.get_or_init(|| members.cluster) != members.cluster {
            return;
        }
        let members = members.membership.members().values();
        self.directory.learn(members.map(|member| &*member.address));
    }
}
