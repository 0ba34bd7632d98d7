//! Service Cluster: who is in the cluster, and changes of that. What the interface calls a peer URL
//! is the address a node has for the others, whatever stands before it.

use super::core::Core;
use super::error::{
    self, BAD_URLS, LEARNER_BEHIND, MEMBER_NOT_FOUND, NOT_LEARNER, PEER_URL_EXISTS,
    TOO_FEW_STARTED, UNHEALTHY,
};
use super::proto::etcdserverpb as pb;
use crate::api::{ADDRESS_BYTES_MAX, KvError};
use crate::client::ClientError;
use pb::cluster_server::Cluster;
use raft_core::node::ChangeError;
use raft_core::types::{Change, InvalidChange, Membership, NodeId};
use std::sync::Arc;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// See the module.
pub(super) struct ClusterDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Cluster for ClusterDoor {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let until = self.0.until();
        let pb::MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let address = address_of(&peer_ur_ls)?;
        let before = self.0.membership(until).await?;
        check_new(&before, &address)?;
        // Nobody else has it; should another one be added at the same time, one of them fails.
        let last = before.members().keys().next_back().map_or(0, |node| node.0);
        let node = NodeId(last + 1);
        let change = Change::Add { node, address, promote: !is_learner };
        let members = self.0.change(change, until).await?;
        let member = members.iter().find(|member| member.id == node.0).cloned();
        let member = member.map(|member| pb::Member { is_learner, ..member });
        let header = Some(self.0.header_of_cluster());
        Ok(Response::new(pb::MemberAddResponse { header, member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let until = self.0.until();
        let node = NodeId(request.into_inner().id);
        check_member(&self.0.membership(until).await?, node)?;
        let members = self.0.change(Change::Remove { node }, until).await?;
        let header = Some(self.0.header_of_cluster());
        Ok(Response::new(pb::MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let until = self.0.until();
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let (node, address) = (NodeId(id), address_of(&peer_ur_ls)?);
        let before = self.0.membership(until).await?;
        check_member(&before, node)?;
        let own = before.members().get(&node).is_some_and(|member| member.address == address);
        let members = if own {
            self.0.members(&before).await
        } else {
            check_new(&before, &address)?;
            self.0.change(Change::Readdress { node, address }, until).await?
        };
        let header = Some(self.0.header_of_cluster());
        Ok(Response::new(pb::MemberUpdateResponse { header, members }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let until = self.0.until();
        let membership = match request.into_inner().linearizable {
            true => self.0.membership(until).await?,
            false => self.0.status().membership.clone(),
        };
        let members = self.0.members(&membership).await;
        let header = Some(self.0.header_of_cluster());
        Ok(Response::new(pb::MemberListResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let until = self.0.until();
        let node = NodeId(request.into_inner().id);
        let before = self.0.membership(until).await?;
        check_member(&before, node)?;
        if before.is_voter(node) {
            return Err(NOT_LEARNER.into());
        }
        let members = self.0.change(Change::Promote { node }, until).await?;
        let header = Some(self.0.header_of_cluster());
        Ok(Response::new(pb::MemberPromoteResponse { header, members }))
    }
}

impl Core {
    /// The members: sees every change answered before.
    async fn membership(&self, until: Instant) -> Result<Membership, Status> {
        let members =
            self.client_until(until).members().await.map_err(|error| self.fail(&error))?;
        Ok(members.membership)
    }

    /// Changes the members; who they are then.
    async fn change(&self, change: Change, until: Instant) -> Result<Vec<pb::Member>, Status> {
        match self.client_until(until).change_members(vec![change.clone()]).await {
            Ok(members) => {
                self.reach_members(&members.membership, until).await;
                Ok(self.members(&members.membership).await)
            }
            Err(ClientError::Refused(KvError::ChangeRefused { reason, advice })) => {
                let behind = |node| {
                    [
                        ChangeError::Behind { node }.to_string(),
                        InvalidChange::Unheard(node).to_string(),
                    ]
                };
                Err(match change {
                    Change::Promote { node } if behind(node).contains(&reason) => {
                        LEARNER_BEHIND.into()
                    }
                    Change::Add { .. } if reason == ChangeError::NoQuorum.to_string() => {
                        UNHEALTHY.into()
                    }
                    _ if reason == ChangeError::NoQuorum.to_string() => TOO_FEW_STARTED.into(),
                    _ => error::of_kv(&KvError::ChangeRefused { reason, advice }, true),
                })
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Waits until this node knows of these members, unless it is none of them: it may never hear.
    async fn reach_members(&self, members: &Membership, until: Instant) {
        if members.contains(self.status().identity.node) {
            self.reach(until, |core| core.status().membership == *members).await;
        }
    }

    /// The members in the interface's form, with what they say of themselves.
    async fn members(&self, membership: &Membership) -> Vec<pb::Member> {
        let attributes = self.attributes(membership).await;
        let scheme = if self.https_peers { "https" } else { "http" };
        let member = |(id, member): (&NodeId, &raft_core::types::Member)| {
            let own = attributes.get(id).cloned().unwrap_or_default();
            pb::Member {
                id: id.0,
                name: own.name,
                peer_ur_ls: vec![format!("{scheme}://{}", member.address)],
                client_ur_ls: own.client_urls,
                is_learner: !membership.is_voter(*id),
            }
        };
        membership.members().iter().map(member).collect()
    }
}

/// The address in the first of some URLs; all of them have to be some.
fn address_of(urls: &[String]) -> Result<String, Status> {
    let addresses = urls.iter().map(|url| address_in(url));
    let addresses: Option<Vec<String>> = addresses.collect();
    addresses.and_then(|all| all.into_iter().next()).ok_or_else(|| BAD_URLS.into())
}

fn address_in(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let address = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = address.rsplit_once(':')?;
    let right = matches!(scheme, "http" | "https")
        && !host.is_empty()
        && address.len() <= ADDRESS_BYTES_MAX
        && !address.contains(['/', '?', '#', '@', ' '])
        && port.parse::<u16>().is_ok();
    right.then(|| address.to_owned())
}

fn check_new(membership: &Membership, address: &str) -> Result<(), Status> {
    let taken = membership.members().values().any(|member| member.address == address);
    if taken { Err(PEER_URL_EXISTS.into()) } else { Ok(()) }
}

fn check_member(membership: &Membership, node: NodeId) -> Result<(), Status> {
    if membership.contains(node) { Ok(()) } else { Err(MEMBER_NOT_FOUND.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_out_of_urls() {
        let of = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
            address_of(&urls).ok()
        };
        assert_eq!(of(&["http://10.0.0.4:2380"]).as_deref(), Some("10.0.0.4:2380"));
        assert_eq!(of(&["https://[::1]:2380/", "http://b:1"]).as_deref(), Some("[::1]:2380"));
        for wrong in ["", "a:1", "http://a", "ftp://a:1", "http://:1", "http://a:x", "http://a/b:1"]
        {
            assert_eq!(of(&[wrong]), None, "{wrong}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["http://a:1", "a"]), None);
    }
}
