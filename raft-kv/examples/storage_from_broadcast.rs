//! Storage from total-order broadcast: a linearizable register whose replicas only follow a topic.
//!
//! Reads through the log, reads after asking for the end of the log, and reads from a replica that
//! writes wait for all pass the checker. Reads of whatever a replica has do not: the order of
//! messages does not say when they come.

mod support;

use raft_core::testing::linear::RegisterOp;
use raft_kv::api::Revision;
use raft_kv::recipes::{Subscription, Topic};
use support::storage::{Broadcast, Delivery, ReadMethod, Storage};
use support::{Cluster, Failed, Shown, ensure};

/// A topic of the store.
#[derive(Clone)]
struct Log(Topic);

impl Broadcast for Log {
    async fn broadcast(&self, message: String) -> Result<u64, Failed> {
        Ok(self.0.broadcast(message).await?.0)
    }

    async fn end(&self) -> Result<u64, Failed> {
        Ok(self.0.last().await?.unwrap_or_default().0)
    }

    fn deliver(&self) -> impl Delivery {
        Messages(self.0.subscribe(Revision(0)))
    }
}

struct Messages(Subscription);

impl Delivery for Messages {
    async fn next(&mut self) -> Result<(u64, String), Failed> {
        let message = self.0.next().await?;
        Ok((message.revision.0, String::from_utf8(message.value.into())?))
    }
}

#[tokio::main]
pub(crate) async fn main() -> Shown {
    let cluster = Cluster::start()?;
    let topic = |name: &str| Log(Topic::new(&cluster.client(1), format!("topics/{name}")));

    for method in
        [ReadMethod::ThroughTheLog, ReadMethod::LogPosition, ReadMethod::SynchronousReplica]
    {
        let storage = Storage::new(&topic(&format!("{method:?}")), method);
        storage.work(15).await?;
        let operations = storage.check()?;
        println!("{method:?}: {operations} operations at three replicas are linearizable");
    }

    let storage = Storage::new(&topic("naive"), ReadMethod::Naive);
    storage.hold(1, true);
    storage.call(0, RegisterOp::Write(1)).await?;
    storage.call(1, RegisterOp::Read).await?;
    storage.hold(1, false);
    let rejected = storage.check().err().map(|failure| failure.to_string());
    println!("Naive: {}", rejected.as_deref().unwrap_or("accepted"));
    ensure(rejected.is_some(), "a read of what a replica has is not linearizable")
}
