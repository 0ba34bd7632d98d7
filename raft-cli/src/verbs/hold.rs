//! `raft lock` and `raft elect`: something is held while a command runs, or until interrupted. What
//! else is held so uses the same parts.

use crate::args::hold::{Elect, Hold, Lock};
use crate::client::Store;
use crate::command::{Running, lost};
use crate::failure::{Failure, Kind};
use crate::output::{BytesField, Output, printable};
use crate::serve::stop::StopRequests;
use bytes::Bytes;
use nix::unistd::gethostname;
use raft_kv::api::{Consistency, Fence, Keys, Range};
use raft_kv::recipes::{self, Election, Leader, RecipeError};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Holds a lock.
///
/// # Errors
/// Of every kind, and the command's; `No` if it was not to be had in time, `Unknown` if it was
/// lost.
pub async fn lock(store: &Store, args: &Lock, output: &mut Output<'_>) -> Result<(), Failure> {
    let name = args.hold.escaped.bytes(&args.name)?;
    let what = format!("the lock {}", printable(&name));
    let (client, ttl) = (store.client(), args.hold.ttl);
    let mut stop = StopRequests::listen(false)?.or_hangup()?;
    let wanted = async {
        if !args.at_once {
            return recipes::Lock::acquire(client, name.clone(), ttl).await.map(Some);
        }
        recipes::Lock::try_acquire(client, name.clone(), ttl).await
    };
    let line = Line { store, name: &name, what: &what, wait: args.wait };
    let lock = line.in_time(&mut stop, wanted).await?;
    let lock = lock.ok_or_else(|| taken(&what))?;
    let ended = hold(&args.hold, &what, lock.fence(), lock.lost(), &mut stop, output).await;
    release(&what, ended, lock.is_lost(), lock.release()).await
}

/// Leads an election, or tells who does.
///
/// # Errors
/// As [`lock`].
pub async fn elect(store: &Store, args: &Elect, output: &mut Output<'_>) -> Result<(), Failure> {
    let name = args.hold.escaped.bytes(&args.name)?;
    let what = format!("the leadership of {}", printable(&name));
    let election = Election::new(store.client(), name.clone());
    if args.observe {
        return observe(&election, output).await;
    }
    let value = args.hold.escaped.optional(args.value.as_ref())?.unwrap_or_else(own_name);
    let mut stop = StopRequests::listen(false)?.or_hangup()?;
    let wanted = election.campaign(value, args.hold.ttl);
    let line = Line { store, name: &name, what: &what, wait: args.wait };
    let leadership = line.in_time(&mut stop, wanted).await?;
    let (fence, lost) = (leadership.fence(), leadership.lost());
    let ended = hold(&args.hold, &what, fence, lost, &mut stop, output).await;
    release(&what, ended, leadership.is_lost(), leadership.resign()).await
}

/// What a recipe's error means for the exit code.
pub(super) fn failure(what: &str, error: RecipeError) -> Failure {
    match error {
        RecipeError::Client(error) => crate::client::failure(error),
        RecipeError::Lost => lost(what),
        RecipeError::Taken => taken(what),
        error => Failure::new(Kind::Refused, error),
    }
}

fn taken(what: &str) -> Failure {
    Failure::new(Kind::No, format!("{what} is held by another one"))
}

/// What this process is called if nobody says: `HOSTNAME:PID`.
pub(super) fn own_name() -> Bytes {
    let host = gethostname().unwrap_or_default();
    let own = [host.as_encoded_bytes(), format!(":{}", std::process::id()).as_bytes()].concat();
    own.into()
}

/// That a request to stop came before something was to be had.
pub(super) fn gave_up(request: &str, what: &str) -> Failure {
    Failure::new(Kind::No, format!("{request}: gave up waiting for {what}"))
}

/// The line of those who wait for a name.
struct Line<'a> {
    store: &'a Store,
    name: &'a Bytes,
    /// What is waited for, for people.
    what: &'a str,
    wait: Option<Duration>,
}

impl Line<'_> {
    /// Waits for what is wanted, for as long as the command line wants to.
    async fn in_time<T>(
        &self,
        stop: &mut StopRequests,
        wanted: impl Future<Output = Result<T, RecipeError>>,
    ) -> Result<T, Failure> {
        let patience = async {
            match self.wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let stopped = {
            tokio::pin!(wanted);
            tokio::select! {
                held = &mut wanted => return held.map_err(|error| failure(self.what, error)),
                () = patience => None,
                request = stop.next() => Some(request),
            }
        };
        let there = self.is_anybody_there().await;
        if let Some(request) = stopped {
            return Err(gave_up(request, self.what));
        }
        let advice = "try again, or give a longer --wait";
        match there? {
            true => Err(taken(self.what).advice(advice)),
            false => {
                let late = format!("{} was not to be had in time", self.what);
                Err(Failure::new(Kind::Unavailable, late).advice(advice))
            }
        }
    }

    /// Whether somebody has the name or waits for it.
    ///
    /// The request to leave the line is on its way in the background then, and arrives: this one is
    /// sent later, and waited for. Without it the others would wait for the lease to expire.
    async fn is_anybody_there(&self) -> Result<bool, Failure> {
        /// The cluster may be what is missing.
        const PATIENCE: Duration = Duration::from_secs(2);
        let line = Keys::prefix([&self.name[..], b"/"].concat());
        let range = Range { limit: 1, keys_only: true, ..Range::of(line) };
        let client = self.store.client().with_deadline(PATIENCE);
        let found = client.get(range, Consistency::Linearizable).await;
        Ok(!found.map_err(crate::client::failure)?.kvs.is_empty())
    }
}

/// What a command finds in its environment, to write with the fence.
pub(super) fn variables(fence: &Fence) -> [(&'static str, OsString); 2] {
    [
        ("RAFT_LOCK_KEY", OsString::from_vec(fence.key.to_vec())),
        ("RAFT_LOCK_TOKEN", OsString::from(fence.token.to_string())),
    ]
}

/// Holds it while the command runs, or until interrupted.
pub(super) async fn hold(
    args: &Hold,
    what: &str,
    fence: Fence,
    gone: impl Future<Output = ()>,
    stop: &mut StopRequests,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let (key, token) = (&fence.key, fence.token);
    if !args.command.is_empty() {
        let running = Running::start(&args.command, &variables(&fence), output.format)?;
        return running.until_ended(gone, stop, args.grace).await?.outcome(what);
    }
    let mut json = json!({ "token": token });
    BytesField::KEY.insert(&mut json, key);
    let simple = || [&key[..], format!("\n{token}\n").as_bytes()].concat();
    output.show(&json, simple, || format!("{what} is held; --fence {}:{token}", printable(key)))?;
    output.finish()?;
    tokio::select! {
        () = gone => Err(lost(what)),
        _ = stop.next() => Ok(()),
    }
}

/// Lets go of what was held; how that went matters only if all went well before.
pub(super) async fn release(
    what: &str,
    ended: Result<(), Failure>,
    is_lost: bool,
    released: impl Future<Output = Result<(), RecipeError>>,
) -> Result<(), Failure> {
    // What is lost needs no letting go, which would wait for a cluster that may not be there.
    let released = if is_lost { Err(RecipeError::Lost) } else { released.await };
    match (ended, released) {
        // It was lost while the command ran, and nobody had noticed yet.
        (Ok(()), Err(RecipeError::Lost)) => Err(lost(what)),
        // The cluster cannot be reached: it is let go when the lease expires.
        (ended, _) => ended,
    }
}

async fn observe(election: &Election, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut observer = election.observe().await.map_err(crate::client::failure)?;
    loop {
        let leader = observer.next().await.map_err(crate::client::failure)?;
        let json = leader.as_ref().map_or(Value::Null, leader_json);
        let value = |leader: &Leader| leader.value.clone();
        let value = leader.as_ref().map_or_else(Bytes::new, value);
        let simple = || [&value[..], b"\n"].concat();
        output.show(&json!({ "leader": json }), simple, || match &leader {
            Some(leader) => {
                let (key, token) = (printable(&leader.fence.key), leader.fence.token);
                format!("{} leads; token {token} of {key}", printable(&leader.value))
            }
            None => "nobody leads".to_owned(),
        })?;
        output.finish()?;
    }
}

fn leader_json(leader: &Leader) -> Value {
    let mut json = json!({ "token": leader.fence.token, "revision": leader.revision });
    BytesField::VALUE.insert(&mut json, &leader.value);
    BytesField::KEY.insert(&mut json, &leader.fence.key);
    json
}
