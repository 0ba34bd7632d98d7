//! `raft partition`: work that is shared out among those who are there.

use super::hold::{self, gave_up, own_name, release, variables};
use crate::args::partition::{Action, List, Partition as Args, Work};
use crate::client::Store;
use crate::command::{Ended, Running};
use crate::failure::{Failure, Kind};
use crate::output::{BytesField, Output, Table, printable};
use crate::serve::stop::StopRequests;
use raft_kv::api::Fence;
use raft_kv::client::ClientError;
use raft_kv::recipes::{Assignment, Partitions, RecipeError, Worker};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

/// How long to wait before what has failed for the moment is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Works or lists.
///
/// # Errors
/// Of every kind, and the command's; `No` if another worker has the id, `Unknown` if the share was
/// lost.
pub async fn run(store: &Store, args: &Args, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.action {
        Action::Work(args) => work(store, args, output).await,
        Action::List(args) => list(store, args, output).await,
    }
}

async fn list(store: &Store, args: &List, output: &mut Output<'_>) -> Result<(), Failure> {
    let work = Partitions::new(store.client(), args.escaped.bytes(&args.name)?, args.count);
    let owners = work.owners().await.map_err(|error| hold::failure("the work", error))?;
    let all = owners.iter().map(|(partition, worker)| {
        let mut json = json!({ "partition": partition });
        BytesField("worker", "worker_b64").insert(&mut json, worker);
        json
    });
    let json = json!({ "partitions": all.collect::<Vec<Value>>() });
    let simple = || {
        let line = |(partition, worker): (&u32, &bytes::Bytes)| {
            [format!("{partition} ").as_bytes(), worker, b"\n"].concat()
        };
        owners.iter().flat_map(line).collect()
    };
    output.show(&json, simple, || {
        if owners.is_empty() {
            return "nobody works on any".to_owned();
        }
        let mut table = Table::new(&[">PARTITION", "WORKER"]);
        for (partition, worker) in &owners {
            table.row(vec![partition.to_string(), printable(worker)]);
        }
        table.render()
    })
}

async fn work(store: &Store, args: &Work, output: &mut Output<'_>) -> Result<(), Failure> {
    let name = args.hold.escaped.bytes(&args.name)?;
    let default = || String::from_utf8_lossy(&own_name()).into_owned();
    let id = args.id.clone().unwrap_or_else(default);
    let what = format!("the share of {id} in the work {}", printable(&name));
    let mut stop = StopRequests::listen(false)?.or_hangup()?;
    let partitions = Partitions::new(store.client(), name, args.count);
    let worker = tokio::select! {
        joined = partitions.join(&id, args.hold.ttl) => joined,
        request = stop.next() => return Err(gave_up(request, &what)),
    };
    let worker = worker.map_err(|error| hold::failure(&what, error))?;
    let mut shift = Shift {
        worker,
        args,
        what: &what,
        commands: JoinSet::new(),
        ends: BTreeMap::new(),
        leaving: BTreeSet::new(),
        next: BTreeMap::new(),
        stopped: false,
    };
    let ended = shift.run(&mut stop, output).await;
    // If it failed, this ends the commands that still run.
    shift.ends.clear();
    while shift.commands.join_next().await.is_some() {}
    let worker = shift.worker;
    release(&what, ended, worker.is_lost(), worker.leave()).await
}

/// How the command of a partition has ended.
type Done = (u32, Result<Ended, Failure>);

/// A worker, and the commands that run for its partitions.
struct Shift<'a> {
    worker: Worker,
    args: &'a Work,
    what: &'a str,
    commands: JoinSet<Done>,
    /// Dropping one ends the command of its partition.
    ends: BTreeMap<u32, oneshot::Sender<()>>,
    /// To be released when their commands have ended.
    leaving: BTreeSet<u32>,
    /// Partitions that have come back before their last command has ended.
    next: BTreeMap<u32, Fence>,
    /// It was asked to stop while it could not let go of one.
    stopped: bool,
}

impl Shift<'_> {
    /// Works until it is asked to stop, and the commands have ended.
    async fn run(
        &mut self,
        stop: &mut StopRequests,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        while !self.stopped {
            tokio::select! {
                biased;
                Some(done) = self.commands.join_next() => self.ended(done, stop, output).await?,
                news = self.worker.next() => match news {
                    Ok(news) => self.hear(news, stop, output).await?,
                    Err(error) => {
                        self.bear(error)?;
                        sleep(RETRY).await;
                    }
                },
                _ = stop.next() => self.stopped = true,
            }
        }
        self.finish().await
    }

    /// Whether to try again after an error: as long as the share is not lost.
    fn bear(&self, error: RecipeError) -> Result<(), Failure> {
        match error {
            RecipeError::Client(ClientError::NotDone { .. } | ClientError::Unknown { .. })
                if !self.worker.is_lost() =>
            {
                Ok(())
            }
            error => Err(hold::failure(self.what, error)),
        }
    }

    async fn hear(
        &mut self,
        news: Assignment,
        stop: &mut StopRequests,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        match news {
            Assignment::Gained { partition, fence } => {
                if self.args.hold.command.is_empty() {
                    return tell_gained(partition, &fence, output);
                }
                if self.ends.contains_key(&partition) {
                    self.next.insert(partition, fence);
                    return Ok(());
                }
                self.start(partition, &fence, output)
            }
            Assignment::ToRelease { partition } => {
                self.next.remove(&partition);
                self.leaving.insert(partition);
                self.end(partition, stop, output).await
            }
            Assignment::Lost { partition } => {
                self.next.remove(&partition);
                if self.args.hold.command.is_empty() {
                    tell(partition, "lost", output)?;
                }
                self.end(partition, stop, output).await
            }
        }
    }

    /// Starts the command of a partition.
    fn start(&mut self, partition: u32, fence: &Fence, output: &Output<'_>) -> Result<(), Failure> {
        let hold = &self.args.hold;
        let [key, token] = variables(fence);
        let variables = [key, token, ("RAFT_PARTITION", partition.to_string().into())];
        // Signals are passed on to each command.
        let mut stop = StopRequests::listen(false)?.or_hangup()?;
        let running = Running::start(&hold.command, &variables, output.format)?;
        let (end, ends) = oneshot::channel::<()>();
        let (lost, grace) = (self.worker.lost(), hold.grace);
        self.ends.insert(partition, end);
        self.commands.spawn(async move {
            let over = async {
                tokio::select! {
                    _ = ends => {}
                    () = lost => {}
                }
            };
            (partition, running.until_ended(over, &mut stop, grace).await)
        });
        Ok(())
    }

    /// Ends the command of a partition, if one runs; what is to be done then is done then.
    async fn end(
        &mut self,
        partition: u32,
        stop: &mut StopRequests,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        match self.ends.get_mut(&partition) {
            Some(end) => {
                // What waits for the old one finds it ended.
                *end = oneshot::channel().0;
                Ok(())
            }
            None => self.let_go(partition, stop, output).await,
        }
    }

    /// The command of a partition has ended.
    async fn ended(
        &mut self,
        done: Result<Done, JoinError>,
        stop: &mut StopRequests,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let (partition, ended) = completed(done)?;
        self.ends.remove(&partition);
        if let Ended::Code(code @ 1..) = ended? {
            return Ended::Code(code).outcome(self.what);
        }
        self.let_go(partition, stop, output).await?;
        match self.next.remove(&partition) {
            Some(fence) if !self.stopped => self.start(partition, &fence, output),
            _ => Ok(()),
        }
    }

    /// Releases a partition whose command has ended, if it is to be released. If the cluster does
    /// not take that, and a request to stop comes, it goes with all others.
    async fn let_go(
        &mut self,
        partition: u32,
        stop: &mut StopRequests,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        if !self.leaving.remove(&partition) {
            return Ok(());
        }
        loop {
            let released = tokio::select! {
                released = self.worker.release(partition) => released,
                _ = stop.next() => {
                    self.stopped = true;
                    return Ok(());
                }
            };
            let Err(error) = released else { break };
            self.bear(error)?;
            sleep(RETRY).await;
        }
        match self.args.hold.command.is_empty() {
            true => tell(partition, "released", output),
            false => Ok(()),
        }
    }

    /// Waits until all commands have ended, which were told to; the first failure.
    async fn finish(&mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        while let Some(done) = self.commands.join_next().await {
            let (_, ended) = completed(done)?;
            let ended = ended.and_then(|ended| ended.outcome(self.what));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// A task that ends without telling how was ended with the program, or by a fault in it.
fn completed(done: Result<Done, JoinError>) -> Result<Done, Failure> {
    done.map_err(|error| Failure::new(Kind::Local, format!("a command: {error}")))
}

fn tell_gained(partition: u32, fence: &Fence, output: &mut Output<'_>) -> Result<(), Failure> {
    let (key, token) = (&fence.key, fence.token);
    let mut json = json!({ "event": "gained", "partition": partition, "token": token });
    BytesField::KEY.insert(&mut json, key);
    let line = || format!("partition {partition} gained; --fence {}:{token}", printable(key));
    output.show(&json, || format!("gained {partition}\n").into_bytes(), line)?;
    output.finish()
}

fn tell(partition: u32, event: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    let json = json!({ "event": event, "partition": partition });
    let line = || format!("partition {partition} {event}");
    output.show(&json, || format!("{event} {partition}\n").into_bytes(), line)?;
    output.finish()
}
