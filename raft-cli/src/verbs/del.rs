//! `raft del`.

use crate::args::del::Del;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::{Output, printable};
use crate::transaction::keys;
use serde_json::json;

/// Deletes a key or a prefix.
///
/// # Errors
/// Of every kind; `No` if a single key is not there.
pub async fn run(store: &Store, args: &Del, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let (deleted, revision) = store.delete(keys(key.clone(), args.prefix)).await?;
    output.print(&json!({ "deleted": deleted, "revision": revision }), || match deleted {
        1 => format!("deleted 1 key at revision {revision}"),
        _ => format!("deleted {deleted} keys at revision {revision}"),
    })?;
    if deleted == 0 && !args.prefix {
        return Err(Failure::new(Kind::No, format!("no such key: {}", printable(&key))));
    }
    Ok(())
}
