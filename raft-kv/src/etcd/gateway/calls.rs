//! Which path is which function.

use super::reply::{one, said, stream};
use super::{Gateway, Requests};
use crate::etcd::election::observe;
use crate::etcd::lease::keep_alive;
use crate::etcd::proto::etcdserverpb::{
    auth_server::Auth, cluster_server::Cluster, kv_server::Kv, lease_server::Lease,
    maintenance_server::Maintenance,
};
use crate::etcd::proto::v3electionpb::{LeaderRequest, election_server::Election};
use crate::etcd::proto::v3lockpb::lock_server::Lock;
use crate::etcd::snapshot;
use crate::etcd::watch::watch;
use bytes::Bytes;
use http::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;
use tonic::body::Body;
use tonic::{Request, Status};

impl Gateway {
    /// Answers what is asked at `path`; `None` if there is nothing.
    pub(super) async fn call(&self, path: &str, body: Bytes) -> Option<Response<Body>> {
        let response = match path.split_once('/')? {
            ("kv", path) => self.kv(path, body).await?,
            ("lease", path) => self.lease(path, body).await?,
            ("cluster", path) => self.cluster(path, body).await?,
            ("maintenance", path) => self.maintenance(path, body).await?,
            ("auth", path) => self.auth(path, body).await?,
            ("lock", "lock") => unary(body, |asked| self.lock.lock(asked)).await,
            ("lock", "unlock") => unary(body, |asked| self.lock.unlock(asked)).await,
            ("election", path) => self.election(path, body).await?,
            _ => return None,
        };
        Some(response)
    }

    async fn kv(&self, path: &str, body: Bytes) -> Option<Response<Body>> {
        let kv = &self.kv;
        Some(match path {
            "range" => unary(body, |asked| kv.range(asked)).await,
            "put" => unary(body, |asked| kv.put(asked)).await,
            "deleterange" => unary(body, |asked| kv.delete_range(asked)).await,
            "txn" => unary(body, |asked| kv.txn(asked)).await,
            "compaction" => unary(body, |asked| kv.compact(asked)).await,
            // Revoking, describing and listing leases have two names each.
            "lease/revoke" | "lease/timetolive" | "lease/leases" => {
                self.lease(path.strip_prefix("lease/")?, body).await?
            }
            _ => return None,
        })
    }

    async fn lease(&self, path: &str, body: Bytes) -> Option<Response<Body>> {
        let lease = &self.lease;
        Some(match path {
            "grant" => unary(body, |asked| lease.lease_grant(asked)).await,
            "revoke" => unary(body, |asked| lease.lease_revoke(asked)).await,
            "timetolive" => unary(body, |asked| lease.lease_time_to_live(asked)).await,
            "leases" => unary(body, |asked| lease.lease_leases(asked)).await,
            _ => return None,
        })
    }

    async fn cluster(&self, path: &str, body: Bytes) -> Option<Response<Body>> {
        let cluster = &self.cluster;
        Some(match path {
            "member/add" => unary(body, |asked| cluster.member_add(asked)).await,
            "member/remove" => unary(body, |asked| cluster.member_remove(asked)).await,
            "member/update" => unary(body, |asked| cluster.member_update(asked)).await,
            "member/list" => unary(body, |asked| cluster.member_list(asked)).await,
            "member/promote" => unary(body, |asked| cluster.member_promote(asked)).await,
            _ => return None,
        })
    }

    async fn maintenance(&self, path: &str, body: Bytes) -> Option<Response<Body>> {
        let maintenance = &self.maintenance;
        Some(match path {
            "alarm" => unary(body, |asked| maintenance.alarm(asked)).await,
            "status" => unary(body, |asked| maintenance.status(asked)).await,
            "defragment" => unary(body, |asked| maintenance.defragment(asked)).await,
            "hash" => unary(body, |asked| maintenance.hash(asked)).await,
            "hashkv" => unary(body, |asked| maintenance.hash_kv(asked)).await,
            "transfer-leadership" => unary(body, |asked| maintenance.move_leader(asked)).await,
            "snapshot" => match snapshot::stream(Arc::clone(&self.core)).await {
                Ok(answers) => stream(answers),
                Err(error) => super::failed(&error),
            },
            _ => return None,
        })
    }

    async fn auth(&self, path: &str, body: Bytes) -> Option<Response<Body>> {
        let auth = &self.auth;
        Some(match path {
            "enable" => unary(body, |asked| auth.auth_enable(asked)).await,
            "disable" => unary(body, |asked| auth.auth_disable(asked)).await,
            "status" => unary(body, |asked| auth.auth_status(asked)).await,
            "authenticate" => unary(body, |asked| auth.authenticate(asked)).await,
            "user/add" => unary(body, |asked| auth.user_add(asked)).await,
            "user/get" => unary(body, |asked| auth.user_get(asked)).await,
            "user/list" => unary(body, |asked| auth.user_list(asked)).await,
            "user/delete" => unary(body, |asked| auth.user_delete(asked)).await,
            "user/changepw" => unary(body, |asked| auth.user_change_password(asked)).await,
            "user/grant" => unary(body, |asked| auth.user_grant_role(asked)).await,
            "user/revoke" => unary(body, |asked| auth.user_revoke_role(asked)).await,
            "role/add" => unary(body, |asked| auth.role_add(asked)).await,
            "role/get" => unary(body, |asked| auth.role_get(asked)).await,
            "role/list" => unary(body, |asked| auth.role_list(asked)).await,
            "role/delete" => unary(body, |asked| auth.role_delete(asked)).await,
            "role/grant" => unary(body, |asked| auth.role_grant_permission(asked)).await,
            "role/revoke" => unary(body, |asked| auth.role_revoke_permission(asked)).await,
            _ => return None,
        })
    }

    async fn election(&self, path: &str, body: Bytes) -> Option<Response<Body>> {
        let election = &self.election;
        Some(match path {
            "campaign" => unary(body, |asked| election.campaign(asked)).await,
            "proclaim" => unary(body, |asked| election.proclaim(asked)).await,
            "leader" => unary(body, |asked| election.leader(asked)).await,
            "resign" => unary(body, |asked| election.resign(asked)).await,
            "observe" => match one::<LeaderRequest>(&body) {
                Ok(asked) => stream(observe(Arc::clone(&self.core), asked.name)),
                Err(error) => super::failed(&error),
            },
            _ => return None,
        })
    }

    /// Keeps leases alive, as it is asked for.
    pub(super) async fn keep_alive(&self, body: Body) -> Response<Body> {
        match Requests::begin(body).await {
            Ok(asked) => stream(keep_alive(Arc::clone(&self.core), asked.into())),
            Err(error) => super::failed(&error),
        }
    }

    /// A stream of watches.
    pub(super) async fn watch(&self, body: Body) -> Response<Body> {
        let watching = match Requests::begin(body).await {
            Ok(asked) => watch(Arc::clone(&self.core), asked.into()).await,
            Err(error) => Err(error),
        };
        match watching {
            Ok(answers) => stream(answers),
            Err(error) => super::failed(&error),
        }
    }
}

/// One question, one answer.
async fn unary<Q, A, F>(body: Bytes, call: impl FnOnce(Request<Q>) -> F) -> Response<Body>
where
    Q: DeserializeOwned + Default,
    A: Serialize,
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    let asked = match one(&body) {
        Ok(asked) => asked,
        Err(error) => return super::failed(&error),
    };
    match call(Request::new(asked)).await {
        Ok(answer) => {
            let (_, answer, known) = answer.into_parts();
            let mut response = said(&answer);
            // What was held for it.
            *response.extensions_mut() = known;
            response
        }
        Err(error) => super::failed(&error),
    }
}
