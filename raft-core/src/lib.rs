//! The Raft consensus algorithm as a library: a core without I/O, the traits around it, and a tokio
//! driver that runs it.
//!
//! * [`raft`] is the core: no clock, no randomness, no socket, no disk, no thread, no runtime. It
//!   takes events and returns work. Everything that must be right is in there.
//! * [`log_store`], [`state_machine`] and [`transport`] hold the three traits a node is put
//!   together from, each with an implementation in memory.
//! * `node` (feature `tokio`, on by default) runs a core over them: [`Node::start`] is all a user
//!   needs to call. What it does shows in its [status](node::Status), as a stream of
//!   [events](node::NodeEvent), in spans of `tracing`, and (feature `metrics`, on by default) in
//!   the [metrics](node::metrics) of every stage.
//! * [`codec`] turns messages and log operations into bytes, for wire and disk alike.
//! * `testing` (feature `testing`) has what implementers and their tests need.
//!
//! # Example
//!
//! Three nodes in one process, over a network and logs in memory, are 37 lines:
//! `examples/three_nodes.rs`. One node is:
//!
//! ```
//! # #[cfg(feature = "tokio")] mod example {
//! use raft_core::log_store::MemoryLog;
//! use raft_core::node::{Node, NodeConfig};
//! use raft_core::raft::Config;
//! use raft_core::state_machine::Journal;
//! use raft_core::transport::MemoryNetwork;
//! use raft_core::types::{Member, NodeId};
//!
//! # pub async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let id = NodeId(1);
//! let config = NodeConfig {
//!     raft: Config { id, initial: [(id, Member::default())].into(), ..Config::default() },
//!     ..NodeConfig::default()
//! };
//! let transport = MemoryNetwork::new().transport(id);
//! let node = Node::start(config, MemoryLog::new(), Journal::new(), transport)?;
//! while node.status().leader.is_none() {
//!     node.status_changed().await;
//! }
//! let written = node.propose("hello".into()).await?;
//! println!("committed as entry {}", written.id);
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "tokio")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! #     runtime.block_on(example::run())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # The contract of the core
//!
//! *Everything in an [`Output`](raft::Output) may be done at once and in any order; within one list
//! in order, and from one output to the next as well; report completion.* The core itself holds
//! back every message that promises something not yet durable. There is no second mode and no order
//! of calls to learn, so a driver is a loop of three calls: `step`, a request, `take_output`. What
//! [`take_output_into`](raft::Raft::take_output_into) and
//! [`take_write_into`](raft::Raft::take_write_into) do besides is to spare allocations and turns.
//!
//! # The life of a write
//!
//! 1. [`Node::propose`] puts the command into the loop's bounded queue, or refuses it at the door.
//! 2. The loop takes in everything that is queued; [`Raft::propose`](raft::Raft::propose) appends
//!    each command to the leader's log in memory.
//! 3. [`Raft::take_output`](raft::Raft::take_output) seals the turn's entries into one shared
//!    [`Run`](types::Run): one write, and one `AppendEntries` per follower.
//! 4. The storage thread makes one durable commit of every write that waits
//!    ([`LogStore::write`](log_store::LogStore::write)), while the transport
//!    ([`Transport::send`](transport::Transport::send)) carries the run to the followers.
//! 5. A follower checks that its log holds what comes before (§5.3), appends what is missing, and
//!    writes it; its acknowledgement is held until that is durable.
//! 6. Completions return as [`Input::Persisted`](raft::Input::Persisted), acknowledgements as
//!    [`Input::Message`](raft::Input::Message).
//! 7. The leader commits the highest entry of its own term that a quorum has on disk (§5.4.2).
//! 8. Committed runs that are durable here go to the applier thread, or are quick and applied at
//!    once.
//! 9. [`StateMachine::apply`](state_machine::StateMachine::apply) runs the commands and replies.
//! 10. The loop wakes the proposers, all of a batch in one pass. Followers learn the commit index
//!     with the next append; to one that nothing is under way to, an empty one is sent at once.
//!
//! # Beyond writing and reading
//!
//! * **Forming a cluster.** Nodes with blank logs form one once all of
//!   [`Config::initial`](raft::Config::initial) are there; one of them alone is a cluster, too. A
//!   node without initial members waits until it is added.
//! * **Changing it.** [`Node::change_membership`] takes any number of
//!   [`Change`](types::Change)s at once, by joint consensus (§6). A node that is added receives the
//!   log as a learner, and votes once it keeps up, or stays an observer. One node grows to three
//!   and back without a restart: `examples/grow_and_shrink.rs`.
//! * **Losing a directory.** A node that comes back with a blank log is another life of itself:
//!   what it says does not count until the leader has demoted the old life, and brought it up to
//!   date ([`Config::readmit`](raft::Config::readmit)).
//! * **Reading**, in four ways ([`ReadMode`](node::ReadMode)): linearizable on any node (thesis
//!   §6.4); by a leader's lease, if that is switched on; from some position on, which makes
//!   reading causal; and whatever is here, with how stale it may be.
//! * **Moving leadership.** [`Node::transfer_leadership`]; by itself when the leader is removed,
//!   when its disk stalls while those of the others work, or when a voter of higher priority keeps
//!   up.
//! * **Watching it.** [`Node::status`], [`Node::events`], causes of refusal as data
//!   ([`NoQuorum`](node::NoQuorum)), a warning with a suggestion where the election timeout does
//!   not suit network and disk ([`Timing`](node::Timing)), spans of each stage of a write, and the
//!   counters and histograms of [`node::metrics`].
//!
//! `docs/protocol.md` leads from every rule of the paper and the thesis to its function and its
//! test.
//!
//! # Limits
//!
//! | what | bound | where |
//! |---|---|---|
//! | one command | 2 MiB | [`Config::command_bytes_max`] |
//! | entries in memory | 256 MiB | [`Config::log_bytes_max`] |
//! | uncommitted entries of a leader | 64 MiB | [`Config::uncommitted_bytes_max`] |
//! | one append message | 256 KiB, or one entry | [`Config::message_bytes_max`] |
//! | appends in flight to a follower | 4, of 4 MiB together | [`Config::in_flight_max`] |
//! | snapshots made or sent at once | 2 | [`NodeConfig::snapshots_max`] |
//! | events kept for a slow listener | 1024 | [`Node::events`] |
//! | requests that wait | 16 384 | [`NodeConfig::requests_max`](node::NodeConfig::requests_max) |
//!
//! [`Config::command_bytes_max`]: raft::Config::command_bytes_max
//! [`Node::change_membership`]: node::Node::change_membership
//! [`Node::status`]: node::Node::status
//! [`Node::transfer_leadership`]: node::Node::transfer_leadership
//! [`Config::in_flight_max`]: raft::Config::in_flight_max
//! [`Config::log_bytes_max`]: raft::Config::log_bytes_max
//! [`Config::message_bytes_max`]: raft::Config::message_bytes_max
//! [`Config::uncommitted_bytes_max`]: raft::Config::uncommitted_bytes_max
//! [`Node::events`]: node::Node::events
//! [`Node::start`]: node::Node::start
//! [`NodeConfig::snapshots_max`]: node::NodeConfig::snapshots_max
//! [`Node::propose`]: node::Node::propose

pub mod codec;
pub mod log_store;
#[cfg(feature = "tokio")]
pub mod node;
pub mod raft;
pub mod state_machine;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod types;
