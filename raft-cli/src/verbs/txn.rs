//! `raft txn`.

use super::{read_file, read_stdin};
use crate::args::text::Escaped;
use crate::args::txn::Txn;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::output::txn::{TxnJson, simple, text};
use crate::transaction;
use std::path::Path;

/// Most bytes of a transaction's description: more than the largest request, escaped, needs.
const DESCRIPTION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Runs the transaction that a file or stdin describes.
///
/// # Errors
/// Of every kind; `No` if the conditions did not hold, after printing the answers.
pub async fn run(store: &Store, args: &Txn, output: &mut Output<'_>) -> Result<(), Failure> {
    let description = if args.file == Path::new("-") {
        read_stdin(DESCRIPTION_BYTES_MAX)?
    } else {
        read_file(&args.file, DESCRIPTION_BYTES_MAX)?
    };
    let txn = transaction::parse(&description).map_err(|error| {
        Failure::usage(format!("{}: {error}", args.file.display()))
            .advice("`raft txn --help` shows the form")
    })?;
    let store = store.fenced(args.fenced.fence(Escaped::default())?);
    let reply = store.txn(txn).await?;
    output.show(&TxnJson(&reply), || simple(&reply), || text(&reply))?;
    if reply.succeeded { Ok(()) } else { Err(Failure::new(Kind::No, "conditions not met")) }
}
