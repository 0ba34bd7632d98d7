//! `raft transfer`.

use crate::args::transfer::Transfer;
use crate::client::Store;
use crate::failure::Failure;
use crate::output::Output;
use serde_json::json;

/// Hands leadership to a node.
///
/// # Errors
/// Of every kind but `No`.
pub async fn run(store: &Store, args: &Transfer, output: &mut Output<'_>) -> Result<(), Failure> {
    store.transfer(args.to).await?;
    let to = args.to.map_or_else(|| "the best follower".to_owned(), |id| id.to_string());
    output.print(&json!({ "to": args.to }), || format!("leadership handed to {to}"))
}
