//! Arguments of `raft broadcast` and `raft subscribe`.

use super::connection::Connection;
use super::text::{self, Escaped, Place};
use clap::Args;
use std::ffi::OsString;

const BROADCAST_EXAMPLES: &str = "\
Examples:
  raft broadcast deploys 'v42 is out'
  date | raft broadcast deploys -
  raft broadcast deploys --drop-until 1043      forget old messages, up to revision 1043

All subscribers see all messages of a topic in one order, each once. The messages stay until they
are dropped; a subscriber that has not had them then is told so.";

const SUBSCRIBE_EXAMPLES: &str = "\
Examples:
  raft subscribe deploys                 all messages there are, then those to come
  raft subscribe deploys --from 0:1043   from revision 1043 on: go on after the last one seen
  raft subscribe deploys --new           only those to come
  raft -o json subscribe deploys | jq -r .value

Each message has a place, EPOCH:REVISION: to go on later, give the last one's with 1 added to the
revision. A cluster that was made anew, of a backup or of what survived, is in another epoch:
others were told other messages then, and so this is said and ends with exit code 3. A revision
without an epoch is taken as one of whatever history there is. The subscription lives on when its
node dies.";

/// Send a message to all subscribers of a topic.
#[derive(Args, Clone, Debug)]
#[command(after_help = BROADCAST_EXAMPLES)]
pub struct Broadcast {
    /// The topic: any name.
    #[arg(value_name = "TOPIC")]
    pub topic: OsString,
    /// The message; `-` reads it from stdin.
    #[arg(value_name = "MESSAGE", allow_hyphen_values = true)]
    #[arg(required_unless_present = "drop_until", conflicts_with = "drop_until")]
    pub message: Option<OsString>,
    /// Send nothing, and drop the messages up to this revision.
    #[arg(long, value_name = "REVISION")]
    pub drop_until: Option<u64>,
    /// Whether topics and messages hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Print the messages of a topic as they come.
#[derive(Args, Clone, Debug)]
#[command(after_help = SUBSCRIBE_EXAMPLES)]
pub struct Subscribe {
    /// The topic.
    #[arg(value_name = "TOPIC")]
    pub topic: OsString,
    /// Begin with the first message at this place or later.
    #[arg(long, value_name = "[EPOCH:]REVISION", default_value = "0", value_parser = text::place)]
    #[arg(hide_default_value = true)]
    pub from: Place,
    /// Begin with the next message.
    #[arg(long, conflicts_with = "from")]
    pub new: bool,
    /// End after so many messages; 0 for never.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Whether topics hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
