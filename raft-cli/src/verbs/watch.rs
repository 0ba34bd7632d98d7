//! `raft watch`: changes of keys, as they happen.

use crate::args::watch::Watch as Args;
use crate::client::{Store, failure};
use crate::failure::Failure;
use crate::output::Output;
use crate::output::watch::{EventJson, simple, text};
use crate::transaction::keys;
use raft_kv::api::{Consistency, Event, Range, Revision, Watch};
use raft_kv::client::WatchServer;
use serde_json::json;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Prints changes as they happen.
///
/// # Errors
/// Of every kind but `No`; `Refused` if what is to be told has been compacted.
pub async fn run(store: &Store, args: &Args, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let end = args.escaped.optional(args.end.as_ref())?;
    let keys = keys(key, args.prefix, end);
    // A watch waits for nodes for ever. That none can be reached at all is told at once.
    let any = Range { limit: 1, keys_only: true, ..Range::of(keys.clone()) };
    store.range(any.clone(), Consistency::Serializable).await?;
    let watch = Watch {
        keys,
        from: args.rev.map(Revision),
        prev_kv: args.prev_kv,
        no_puts: args.no_puts,
        no_deletes: args.no_deletes,
        progress: args.progress,
        fragments: true,
    };
    let mut late = std::pin::pin!(tell_if_late(store, any));
    if args.once {
        let once = store.client().watch_once(watch);
        let events = tokio::select! {
            events = once => events.map_err(failure)?,
            () = late => return Ok(()),
        };
        return print(&events, output);
    }
    let mut server = Server::of(store);
    let mut watcher = store.client().watch(watch);
    loop {
        let batch = tokio::select! {
            biased;
            batch = watcher.next() => batch,
            () = server.told() => continue,
            () = &mut late => return Ok(()),
        };
        let Some(batch) = batch.transpose().map_err(failure)? else { return Ok(()) };
        print(&batch.events, output)?;
        if args.progress && batch.events.is_empty() {
            let revision = batch.revision;
            let json = json!({ "type": "progress", "revision": revision });
            let simple = || format!("progress notify: {revision}\n").into_bytes();
            output.show(&json, simple, || format!("{revision}  all told"))?;
        }
        output.finish()?;
    }
}

/// Says on stderr, once, that no node serves the watch and why, if it does not begin soon: it waits
/// for one for as long as it takes. Never ends.
async fn tell_if_late(store: &Store, any: Range) {
    /// Longer than a healthy cluster needs, elections included.
    const SOON: Duration = Duration::from_secs(3);
    let mut begun = store.client().watch_server();
    if timeout(SOON, begun.changed()).await.is_err() {
        let client = store.client().with_deadline(SOON);
        let why = match client.get(any, Consistency::Linearizable).await {
            Ok(_) => "no node serves it yet".to_owned(),
            Err(error) => failure(error).message,
        };
        // With stderr closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "the watch waits for a node that can serve it: {why}");
    }
    std::future::pending().await
}

/// Says on stderr when another node goes on with the watch.
struct Server {
    changes: WatchServer,
    /// Who served it last.
    last: Option<Arc<str>>,
}

impl Server {
    fn of(store: &Store) -> Self {
        Self { changes: store.client().watch_server(), last: None }
    }

    /// Says so once.
    async fn told(&mut self) {
        let now = self.changes.changed().await;
        let line = match (&self.last, &now) {
            (None, _) => None,
            (Some(last), None) => Some(format!("{last} does not answer: looking for another node")),
            (Some(_), Some(now)) => Some(format!("the watch goes on at {now}")),
        };
        if let Some(line) = line {
            // With stderr closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        }
        self.last = now.or_else(|| self.last.take());
    }
}

fn print(events: &[Event], output: &mut Output<'_>) -> Result<(), Failure> {
    let one = |event: &Event| output.show(&EventJson(event), || simple(event), || text(event));
    events.iter().try_for_each(one)
}
