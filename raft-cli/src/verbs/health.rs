//! `raft health`: whether every member and the cluster are well, also by exit code.

use super::status::rows;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::output::health::HealthReport;
use std::time::Instant;

/// Asks all members, and has one read go through.
///
/// # Errors
/// Of kind `No` if something is wrong, `Unavailable` if none answers; what is known is printed
/// first.
pub async fn run(store: &Store, output: &mut Output<'_>) -> Result<(), Failure> {
    let rows = rows(store.statuses().await);
    let began = Instant::now();
    let read = store.revision().await;
    let read = read.map(|_| began.elapsed()).map_err(|failure| failure.message);
    let report = HealthReport::of(&rows, read);
    output.show(&report, || report.simple(), || report.text())?;
    if report.healthy {
        return Ok(());
    }
    if rows.iter().all(|row| row.status.is_err()) {
        return Err(Failure::new(Kind::Unavailable, "no member answered")
            .advice("check that the nodes run, and --endpoints"));
    }
    Err(Failure::new(Kind::No, "the cluster is not well").advice("`raft status` shows more"))
}
