//! `raft put`.

use super::read_value;
use crate::args::put::Put;
use crate::client::Store;
use crate::failure::Failure;
use crate::output::Output;
use serde_json::json;

/// Sets a key.
///
/// # Errors
/// Of every kind but `No`.
pub async fn run(store: &Store, args: &Put, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let value = read_value(&args.value, args.escaped)?;
    let revision = store.put(key, value).await?;
    output.print(&json!({ "revision": revision }), || format!("put at revision {revision}"))
}
