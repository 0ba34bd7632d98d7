//! `raft doctor`: whether the election timeout suits the network and the disk.

use super::progress::Progress;
use crate::args::doctor::Doctor;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::output::doctor::{Findings, Measured};
use hdrhistogram::Histogram;
use raft_core::node::Timing;
use raft_core::transport::{BoxFuture, CallError, Connector};
use raft_kv::api::{Request, RequestBody};
use raft_kv::wire;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Nanoseconds above which times are not told apart: an hour.
const LONGEST: u64 = 3_600_000_000_000;
/// Bytes of a write that is measured: a small commit of the log.
const WRITE_BYTES: usize = 4096;

/// Measures, and says whether the election timeout is long enough. An answer that takes longer than
/// `most` counts as none.
///
/// # Errors
/// Of kind `No` if it is too short; `Unavailable` if an endpoint does not answer, `Local` if the
/// directory cannot be written. What was measured is printed first.
pub async fn run(
    connector: &dyn Connector,
    endpoints: &[String],
    most: Duration,
    args: &Doctor,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let directories = u64::from(args.data_dir.is_some());
    let total = u64::from(args.samples) * (endpoints.len() as u64 + directories);
    let progress = Progress::of_samples(total);
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress.set(done, done);
    };
    let mut measured = Vec::new();
    for endpoint in endpoints {
        measured.push(round_trips(connector, endpoint, most, args.samples, &mut step).await);
    }
    let flush = match &args.data_dir {
        Some(dir) => Some(flushes(dir, args.samples, &mut step)?),
        None => None,
    };
    drop(progress);
    let trips = measured.iter().filter_map(Measured::usual_most);
    let timing = Timing::new(
        trips.max(),
        flush.as_ref().and_then(Measured::usual_most),
        args.election_timeout,
    );
    let findings = Findings { endpoints: measured, flush, timing };
    output.print(&findings.json(), || findings.text())?;
    verdict(&findings)
}

fn verdict(findings: &Findings) -> Result<(), Failure> {
    if let Some((what, error)) = findings.unanswered() {
        return Err(Failure::new(Kind::Unavailable, format!("{what}: {error}"))
            .advice("check that the node runs, and --endpoints"));
    }
    match findings.timing.suggested {
        None => Ok(()),
        Some(_) => Err(Failure::new(Kind::No, findings.timing)
            .advice("set --election-timeout of `raft serve` on every node")),
    }
}

/// Asks a node for its status, one request after the other over one connection.
async fn round_trips(
    connector: &dyn Connector,
    endpoint: &str,
    most: Duration,
    samples: u32,
    step: &mut impl FnMut(),
) -> Measured {
    let mut times = histogram();
    let asked = async {
        let channel = within(most, connector.connect(endpoint)).await?;
        for _ in 0..samples {
            let begun = Instant::now();
            let deadline_ms = u32::try_from(most.as_millis()).unwrap_or(u32::MAX);
            let request = Request { deadline_ms, body: RequestBody::Status };
            let reply = within(most, channel.call(wire::encode_request(&request))).await?;
            wire::decode_reply(&reply)
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            note(&mut times, begun.elapsed());
            step();
        }
        Ok(())
    };
    let error = asked.await.err();
    Measured { what: endpoint.to_owned(), times, error }
}

async fn within<T>(most: Duration, call: BoxFuture<Result<T, CallError>>) -> Result<T, String> {
    match timeout(most, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {:.1} s", most.as_secs_f64())),
    }
}

/// Writes and flushes a temporary file in `dir`, which goes with it.
fn flushes(dir: &Path, samples: u32, step: &mut impl FnMut()) -> Result<Measured, Failure> {
    let failed = |error| Failure::local(format!("cannot write in {}", dir.display()), &error);
    let mut file = tempfile::Builder::new().prefix("doctor-").tempfile_in(dir).map_err(failed)?;
    let mut times = histogram();
    for _ in 0..samples {
        let begun = std::time::Instant::now();
        flush_once(file.as_file_mut()).map_err(failed)?;
        note(&mut times, begun.elapsed());
        step();
    }
    Ok(Measured { what: dir.display().to_string(), times, error: None })
}

fn flush_once(file: &mut File) -> std::io::Result<()> {
    file.write_all(&[0x5a; WRITE_BYTES])?;
    file.sync_data()
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds and three digits are allowed")
}

fn note(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}
