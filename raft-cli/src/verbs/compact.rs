//! `raft compact`.

use crate::args::compact::Compact;
use crate::client::{Store, failure};
use crate::failure::Failure;
use crate::output::Output;
use raft_kv::api::{KvError, Revision};
use raft_kv::client::ClientError;
use serde_json::json;

/// Forgets old revisions.
///
/// # Errors
/// Of every kind but `No`.
pub async fn run(store: &Store, args: &Compact, output: &mut Output<'_>) -> Result<(), Failure> {
    let until = match (args.revision, args.keep) {
        (Some(revision), _) => Revision(revision),
        (None, keep) => {
            let now = store.revision().await?;
            // An empty store has revision 1, which is as much as there is.
            Revision(now.0.saturating_sub(keep.unwrap_or(0)).max(1))
        }
    };
    let revision = match store.client().compact(until).await {
        Ok(revision) => revision,
        // What is to be kept is a wish for less than there is: nothing is left to do.
        Err(ClientError::Refused(KvError::Compacted { compacted, .. })) if args.keep.is_some() => {
            let json = json!({ "compacted": compacted, "revision": null });
            let simple = || format!("compacted revision {compacted}\n").into_bytes();
            return output.show(&json, simple, || {
                format!("nothing to forget: what was before revision {compacted} is forgotten")
            });
        }
        Err(error) => return Err(failure(error)),
    };
    let json = json!({ "compacted": until, "revision": revision });
    let simple = || format!("compacted revision {until}\n").into_bytes();
    output.show(&json, simple, || {
        format!("forgotten what was before revision {until}; the store is at {revision}")
    })
}
