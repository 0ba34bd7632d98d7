//! `raft scrub`: all members compare all their data now.

use crate::args::scrub::Scrub;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::output::scrub::{ScrubOutcome, ScrubRow, ScrubRowJson, simple, text};
use raft_kv::api::{Integrity, NodeStatus};
use raft_kv::client::{EndpointScrub, EndpointStatus, ScrubBegun};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often members are asked how far they are.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a member may be out of reach, or do nothing of what it was asked, before what becomes
/// of it is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has all members begin and, if that is wanted, waits for what comes of it.
///
/// # Errors
/// Of kind `Unavailable` if none answers, `No` if something differs, or not all was compared; what
/// is known is printed first.
pub async fn run(store: &Store, args: &Scrub, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut looks: Vec<Look> = store.client().scrub().await.into_iter().map(Look::of).collect();
    if looks.iter().all(|look| look.begun.is_none()) {
        show(&looks, output)?;
        return Err(Failure::new(Kind::Unavailable, "no member has begun")
            .advice("check that the nodes run, and --endpoints"));
    }
    while args.wait && looks.iter().any(Look::is_under_way) {
        sleep(ASK_INTERVAL).await;
        let answers = store.client().statuses().await;
        looks.iter_mut().for_each(|look| look.look_at(&answers));
    }
    show(&looks, output)?;
    let well =
        |look: &Look| matches!(look.row.outcome, ScrubOutcome::Equal | ScrubOutcome::UnderWay);
    if looks.iter().all(well) {
        return Ok(());
    }
    let alarm = |look: &Look| matches!(look.row.outcome, ScrubOutcome::Alarm(_));
    let (what, advice) = match looks.iter().any(alarm) {
        true => ("the members' data differs, or is damaged", "`raft status` shows what is done"),
        false => ("not all data was compared", "do it again when all members answer"),
    };
    Err(Failure::new(Kind::No, what).advice(advice))
}

fn show(looks: &[Look], output: &mut Output<'_>) -> Result<(), Failure> {
    let rows: Vec<ScrubRow> = looks.iter().map(|look| look.row.clone()).collect();
    let members: Vec<_> = rows.iter().map(ScrubRowJson::of).collect();
    output.show(&json!({ "members": members }), || simple(&rows), || text(&rows))?;
    output.finish()
}

/// A member's look at all its data.
struct Look {
    row: ScrubRow,
    /// Nothing if it did not begin.
    begun: Option<ScrubBegun>,
    /// When it was last seen to do something.
    seen: Instant,
}

impl Look {
    fn of(EndpointScrub { endpoint, begun }: EndpointScrub) -> Self {
        let (id, keys, outcome) = match &begun {
            Ok(begun) => (Some(begun.node.id), Some(begun.node.keys), ScrubOutcome::UnderWay),
            Err(error) => (None, None, ScrubOutcome::NotBegun(error.to_string())),
        };
        let row = ScrubRow { address: endpoint, id, keys, outcome };
        Self { row, begun: begun.ok(), seen: Instant::now() }
    }

    fn is_under_way(&self) -> bool {
        self.row.outcome == ScrubOutcome::UnderWay
    }

    /// Takes in how far the member is.
    fn look_at(&mut self, answers: &[EndpointStatus]) {
        let Some(begun) = self.begun.as_ref().filter(|_| self.is_under_way()) else { return };
        let of_node = |answer: &&EndpointStatus| {
            answer.status.as_ref().is_ok_and(|status| status.id == begun.node.id)
        };
        let found = answers.iter().find(of_node).and_then(|answer| {
            Some((answer.status.as_ref().ok()?, &answer.health.as_ref()?.integrity))
        });
        if let Some((status, integrity)) = found {
            self.row.keys = Some(status.keys);
            if let Some(outcome) = outcome_of(begun, status, integrity) {
                self.row.outcome = outcome;
                return;
            }
            if integrity.scrubbing.is_some() {
                self.seen = Instant::now();
            }
        }
        if self.seen.elapsed() > PATIENCE {
            let why = match found {
                Some(_) => "it was started anew meanwhile, or is busy otherwise",
                None => "it does not answer any more",
            };
            self.row.outcome = ScrubOutcome::Unknown(why.into());
        }
    }
}

/// What has come of it; nothing if it is under way.
fn outcome_of(
    begun: &ScrubBegun,
    status: &NodeStatus,
    integrity: &Integrity,
) -> Option<ScrubOutcome> {
    let count = |integrity: &Integrity| (integrity.scrubs, integrity.scrubs_incomplete);
    if status.incarnation != begun.node.incarnation {
        let text = "its data was found to be wrong, and it gets it anew";
        return Some(ScrubOutcome::Alarm(text.into()));
    }
    if let Some(alarm) = &integrity.alarm {
        return Some(ScrubOutcome::Alarm(alarm.to_string()));
    }
    if count(integrity) == count(&begun.before) {
        return None;
    }
    let complete = integrity.scrubs > begun.before.scrubs;
    Some(if complete { ScrubOutcome::Equal } else { ScrubOutcome::Incomplete })
}
