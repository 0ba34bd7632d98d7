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
    store.range(any, Consistency::Serializable).await?;
    let watch = Watch {
        keys,
        from: args.rev.map(Revision),
        prev_kv: args.prev_kv,
        no_puts: args.no_puts,
        no_deletes: args.no_deletes,
        progress: args.progress,
        fragments: true,
    };
    if args.once {
        let events = store.client().watch_once(watch).await.map_err(failure)?;
        return print(&events, output);
    }
    let mut server = Server::of(store);
    let mut watcher = store.client().watch(watch);
    loop {
        let batch = tokio::select! {
            biased;
            batch = watcher.next() => batch,
            () = server.told() => continue,
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
