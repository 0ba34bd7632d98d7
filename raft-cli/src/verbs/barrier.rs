//! `raft barrier`: hold others up, and wait for each other.

use super::hold;
use crate::args::barrier::{Action, Barrier as Args, Enter, One};
use crate::client::{Store, failure};
use crate::failure::{Failure, Kind};
use crate::output::{Output, printable};
use raft_kv::recipes::{Barrier, DoubleBarrier};
use serde_json::json;

/// Raises, lifts, waits or enters.
///
/// # Errors
/// Of every kind; `No` if what is to be done was done before.
pub async fn run(store: &Store, args: &Args, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.action {
        Action::Raise(one) => {
            let raised = barrier(store, one)?.raise().await.map_err(failure)?;
            say(one, "raised", raised, output)
        }
        Action::Lift(one) => {
            let lifted = barrier(store, one)?.lift().await.map_err(failure)?;
            say(one, "lifted", lifted, output)
        }
        Action::Wait(one) => {
            barrier(store, one)?.wait().await.map_err(failure)?;
            say(one, "lifted", true, output)
        }
        Action::Enter(args) => enter(store, args, output).await,
    }
}

fn barrier(store: &Store, one: &One) -> Result<Barrier, Failure> {
    Ok(Barrier::new(store.client(), one.escaped.bytes(&one.name)?))
}

fn say(one: &One, state: &str, changed: bool, output: &mut Output<'_>) -> Result<(), Failure> {
    let name = printable(&one.escaped.bytes(&one.name)?);
    output.print(&json!({ "state": state, "changed": changed }), || match changed {
        true => format!("the barrier {name} is {state}"),
        false => format!("the barrier {name} was {state} before"),
    })?;
    match changed {
        true => Ok(()),
        false => Err(Failure::new(Kind::No, format!("the barrier {name} was {state} before"))),
    }
}

async fn enter(store: &Store, args: &Enter, output: &mut Output<'_>) -> Result<(), Failure> {
    let name = args.one.escaped.bytes(&args.one.name)?;
    let what = format!("the place in the barrier {}", printable(&name));
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    let entered = DoubleBarrier::enter(store.client(), name, count, args.ttl).await;
    let entered = entered.map_err(|error| hold::failure(&what, error))?;
    output.print(&json!({ "entered": args.count }), || format!("{count} have entered"))?;
    output.finish()?;
    // Whoever has entered is through: leaving tells those who would enter the next round.
    entered.leave().await.map_err(|error| hold::failure(&what, error))
}
