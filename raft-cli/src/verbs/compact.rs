//! `raft compact`.

use crate::args::compact::Compact;
use crate::client::Store;
use crate::failure::Failure;
use crate::output::Output;
use raft_kv::api::Revision;
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
    let revision = store.compact(until).await?;
    let json = json!({ "compacted": until, "revision": revision });
    let simple = || format!("compacted revision {until}\n").into_bytes();
    output.show(&json, simple, || {
        format!("forgotten what was before revision {until}; the store is at {revision}")
    })
}
