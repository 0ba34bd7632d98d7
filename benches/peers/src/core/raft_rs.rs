//! raft-rs on its own memory storage, which it reads entries from and which is written as soon as
//! it asks for that.

use super::Nodes;
use bytes::Bytes;
use raft::prelude::{ConfState, Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

pub(super) struct Cluster {
    nodes: Vec<RawNode<MemStorage>>,
    applied: Vec<u64>,
}

impl Cluster {
    pub(super) fn new() -> Result<Self, String> {
        let nodes: Result<Vec<_>, _> = (1..=3).map(node).collect();
        let nodes = nodes.map_err(|error| error.to_string())?;
        let mut cluster = Self { nodes, applied: vec![0; 3] };
        cluster.nodes[0].campaign().map_err(|error| error.to_string())?;
        while cluster.turn() {}
        match cluster.nodes[0].raft.state {
            StateRole::Leader => Ok(cluster),
            other => Err(format!("the first node is {other:?}")),
        }
    }

    /// Handles what is ready on every node; whether there was anything.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        for position in 0..self.nodes.len() {
            if self.nodes[position].has_ready() {
                busy = true;
                self.ready(position);
            }
        }
        busy
    }

    fn ready(&mut self, position: usize) {
        let node = &mut self.nodes[position];
        let store = node.store().clone();
        let mut ready = node.ready();
        let mut messages = ready.take_messages();
        let mut committed = ready.take_committed_entries();
        if !ready.entries().is_empty() {
            store.wl().append(ready.entries()).expect("the entries follow");
        }
        if let Some(hard_state) = ready.hs() {
            store.wl().set_hardstate(hard_state.clone());
        }
        messages.extend(ready.take_persisted_messages());
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            store.wl().mut_hard_state().set_commit(commit);
        }
        messages.extend(light.take_messages());
        committed.extend(light.take_committed_entries());
        node.advance_apply();
        self.note_applied(position, &committed);
        self.deliver(messages);
    }

    fn note_applied(&mut self, position: usize, committed: &[Entry]) {
        if let Some(last) = committed.last() {
            self.applied[position] = last.index;
        }
    }

    fn deliver(&mut self, messages: Vec<Message>) {
        for message in messages {
            let to = message.to as usize - 1;
            self.nodes[to].step(message).expect("a message of a member");
        }
    }
}

impl Nodes for Cluster {
    fn commit(&mut self, commands: Vec<Bytes>) {
        let target = self.nodes[0].raft.raft_log.last_index() + commands.len() as u64;
        for command in commands {
            let mut message = Message::default();
            message.set_msg_type(raft::prelude::MessageType::MsgPropose);
            message.from = 1;
            // `propose` takes a vector; this hands the bytes on without copying them.
            let entry = Entry { data: command, ..Entry::default() };
            message.set_entries(vec![entry].into());
            self.nodes[0].step(message).expect("the first node leads");
        }
        while self.applied[0] < target {
            self.turn();
        }
    }

    fn compact(&mut self) {
        let applied = *self.applied.iter().min().expect("three nodes");
        for node in &self.nodes {
            node.store().wl().compact(applied).expect("all of it is applied");
        }
    }
}

/// As fast as it can be made: entries of one turn go in one message, as many as are there.
fn node(id: u64) -> Result<RawNode<MemStorage>, raft::Error> {
    let config = Config {
        id,
        max_size_per_msg: 1024 * 1024,
        max_inflight_msgs: 4096,
        batch_append: true,
        ..Config::default()
    };
    let members = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let store = MemStorage::new_with_conf_state(members);
    RawNode::new(&config, store, &Logger::root(Discard, o!()))
}
