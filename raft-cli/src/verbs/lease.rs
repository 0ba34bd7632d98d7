//! `raft lease`: grant, keep alive, look at and end leases.

use crate::args::lease::{Action, Grant, KeepAlive, Lease, Ttl};
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::lease::{StatusJson, ids, status};
use crate::output::{Output, time};
use raft_kv::api::{KvError, LeaseId};
use raft_kv::client::ClientError;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// A lease is kept alive this often in its time.
const RENEWALS: u32 = 3;
/// How long all tries to keep it alive once may take together: one node gets a third of it, ten
/// seconds as with leases that a client keeps by itself.
const TRIES_MAX: Duration = Duration::from_secs(30);

/// Does what is to be done with leases.
///
/// # Errors
/// Of every kind; `No` if a lease that is looked at, kept alive or revoked is gone.
pub async fn run(store: &Store, args: &Lease, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.action {
        Action::Grant(args) => grant(store, args, output).await,
        Action::Revoke(args) => {
            let (id, revoked) = (args.id, store.client().revoke_lease(args.id));
            let revoked = revoked.await.map_err(|error| match error {
                ClientError::Refused(KvError::LeaseNotFound(id)) => gone(id),
                error => crate::client::failure(error),
            })?;
            let (revision, deleted) = (revoked.revision, revoked.deleted);
            let json = json!({ "id": id.to_string(), "deleted": deleted, "revision": revision });
            let simple = || format!("lease {id} revoked\n").into_bytes();
            output.show(&json, simple, || {
                let keys = if deleted == 1 { "key" } else { "keys" };
                format!("lease {id} revoked; {deleted} {keys} deleted at revision {revision}")
            })
        }
        Action::KeepAlive(args) => keep_alive(store, args, output).await,
        Action::Ttl(args) => ttl(store, args, output).await,
        Action::List(_) => {
            let leases = store.client().leases().await.map_err(crate::client::failure)?;
            let (json, lines) = ids(&leases);
            output.print(&json, || lines)
        }
    }
}

async fn grant(store: &Store, args: &Grant, output: &mut Output<'_>) -> Result<(), Failure> {
    let granted = store.client().grant_lease(args.id, args.ttl).await;
    let granted = granted.map_err(crate::client::failure)?;
    let (id, ttl) = (granted.id, granted.ttl);
    let json = json!({ "id": id.to_string(), "ttl_ms": time::millis(ttl) });
    let simple = || format!("{id}\n").into_bytes();
    output.show(&json, simple, || format!("lease {id} granted for {}", time::text(ttl)))
}

fn gone(id: LeaseId) -> Failure {
    Failure::new(Kind::No, format!("lease {id} not found"))
        .advice("it may have expired: `raft lease list` shows those that live")
}

async fn ttl(store: &Store, args: &Ttl, output: &mut Output<'_>) -> Result<(), Failure> {
    let found = store.client().lease_status(args.id, args.keys).await;
    let found = found.map_err(crate::client::failure)?.ok_or_else(|| gone(args.id))?;
    output.print(&StatusJson { status: &found, keys: args.keys }, || status(&found, args.keys))
}

/// Keeps a lease alive until it is gone. That the cluster cannot be reached is borne for as long as
/// the lease may live. A node may take as long as the pause between two renewals, so that a store
/// that is slow is waited for, and after a node that hangs there is time for another one.
async fn keep_alive(
    store: &Store,
    args: &KeepAlive,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let id = args.id;
    let mut lives_until = None;
    let mut client = store.client().clone();
    loop {
        let asked = Instant::now();
        let pause = match client.keep_alive(&[id]).await {
            Ok(lives) => {
                let ttl = lives.first().copied().filter(|ttl| !ttl.is_zero());
                let ttl = ttl.ok_or_else(|| gone(id))?;
                lives_until = Some(asked + ttl);
                client = client.with_deadline(ttl.min(TRIES_MAX));
                let json = json!({ "id": id.to_string(), "ttl_ms": time::millis(ttl) });
                output.print(&json, || {
                    format!("lease {id} kept alive: lives for {}", time::text(ttl))
                })?;
                output.finish()?;
                ttl / RENEWALS
            }
            Err(error) if lives_until.is_some_and(|until| Instant::now() < until) => {
                let failure = crate::client::failure(error);
                if failure.kind == Kind::Refused {
                    return Err(failure);
                }
                // The client has been patient already.
                Duration::ZERO
            }
            Err(error) => return Err(crate::client::failure(error)),
        };
        if args.once {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
    }
}
