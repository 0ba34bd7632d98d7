//! The language of `tests/scripts`: a verb with arguments does one thing to a [`Cluster`] and
//! prints what happened, a line per event.
//!
//! It knows no file format; whoever reads scripts hands it one command at a time. Verbs:
//!
//! | verb | what happens |
//! |---|---|
//! | `cluster nodes=3 leader=1` | a new cluster; with `leader`, that node has won an election |
//! | `cluster nodes=3 blank=yes` | nodes that are to form a cluster |
//! | `server 4` | a blank node comes in that waits to be added |
//! | `change 1 add=4 observe=5 promote=4 demote=2 remove=3 priority=2:9` | a membership change |
//! | `wipe 3`, `upgrade 3 version=2` | it starts as another life; as a program of that version |
//! | `disk 1 1@1 2@1 term=3 vote=2` | the node starts anew from such a disk |
//! | `tick 1 5`, `tick all 5` | ticks of a node's clock, or of every node's in turn |
//! | `campaign 1` | a pre-vote at once |
//! | `refuse 2 1` | node 2 is told, rightly or not, that nobody listens where node 1 does |
//! | `propose 1 x y` | commands, in one turn |
//! | `read 1`, `transfer 1 to=2` | requests |
//! | `deliver` | every message under way arrives |
//! | `drop`, `duplicate` | every message under way is lost, or arrives twice |
//! | `persist 1 until=3` | the disk completes its writes, all or up to a number |
//! | `settle` | deliver and persist until nothing is under way |
//! | `partition 1 2`, `cut 1 2`, `heal` | nodes apart from the rest; one link; all links work |
//! | `crash 1 kept=3`, `restart 1` | keeps what is durable, of open writes those up to a number |
//! | `freeze 1`, `flush 1` | the state machine begins a checkpoint; it makes one durable |
//! | `snapshot 1 3 ok=no` | the snapshot asked for is sent, or not |
//! | `restore 3`, `damage 3` | it is installed, or turns out damaged |
//! | `log`, `status`, `members`, `lease` | of the nodes named, or all |
//!
//! `deliver`, `drop` and `duplicate` take `from=1`, `to=2`, `kind=AppendEntries`, `skip=2`, `max=1`
//! to choose messages, and `order=newest` to begin with the last one sent.

use super::cluster::Cluster;
use crate::raft::{Config, Envelope, Loaded};
use crate::types::{
    Change, Entry, Index, LogId, NodeId, Payload, Run, SnapshotMeta, Term, Version, WriteSeq,
};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::str::FromStr;

/// An argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A value.
    Positional(String),
    /// `key=value`.
    Keyed(String, String),
}

/// Rounds after which a cluster that does not settle is taken to never do so.
const SETTLE_ROUNDS_MAX: usize = 1000;

/// Interprets commands.
#[derive(Debug, Default)]
pub struct Script {
    cluster: Option<Cluster>,
}

impl Script {
    /// Without a cluster yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cluster, once there is one.
    pub const fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Does one command and returns what happened, a line per event.
    ///
    /// # Errors
    /// What is wrong with the command.
    ///
    /// # Panics
    /// If an invariant breaks.
    pub fn run(&mut self, verb: &str, arguments: &[Argument]) -> Result<String, String> {
        let mut arguments = Arguments::new(arguments);
        if verb == "cluster" {
            self.cluster = Some(new_cluster(&mut arguments)?);
        }
        let cluster = self.cluster.as_mut().ok_or("the first command is cluster")?;
        let printed = match verb {
            "cluster" => Ok(String::new()),
            "log" | "status" | "members" | "lease" => show(cluster, verb, &mut arguments),
            "server" | "change" | "wipe" | "upgrade" => members(cluster, verb, &mut arguments),
            "tick" | "campaign" | "refuse" | "propose" | "read" | "transfer" => {
                request(cluster, verb, &mut arguments)
            }
            "deliver" | "drop" | "duplicate" => move_messages(cluster, verb, &mut arguments),
            "partition" | "cut" | "heal" => change_links(cluster, verb, &mut arguments),
            "settle" => settle(cluster).map(|()| String::new()),
            _ => store(cluster, verb, &mut arguments),
        }?;
        arguments.finish()?;
        Ok(cluster.take_trace() + &printed)
    }
}

fn new_cluster(arguments: &mut Arguments) -> Result<Cluster, String> {
    let mut config = Config {
        id: NodeId(1),
        election_ticks_min: 10,
        election_ticks_max: 20,
        heartbeat_ticks: 3,
        ..Config::default()
    };
    arguments.set("in-flight", &mut config.in_flight_max)?;
    arguments.set("message-bytes", &mut config.message_bytes_max)?;
    arguments.set("command-bytes", &mut config.command_bytes_max)?;
    arguments.set("trailing-bytes", &mut config.log_trailing_bytes)?;
    arguments.set("log-bytes", &mut config.log_bytes_max)?;
    arguments.set("uncommitted-bytes", &mut config.uncommitted_bytes_max)?;
    arguments.set("in-flight-bytes", &mut config.in_flight_bytes_max)?;
    arguments.set("trailing-entries", &mut config.log_trailing_entries)?;
    arguments.set("stall-ticks", &mut config.disk_stall_ticks)?;
    arguments.set("version", &mut config.version.0)?;
    config.lease_reads = arguments.flag("leases")?;
    config.readmit = !arguments.flag("strangers")?;
    let (mut nodes, mut seed) = (3, 1);
    arguments.set("nodes", &mut nodes)?;
    arguments.set("seed", &mut seed)?;
    let mut cluster = match arguments.flag("blank")? {
        true => Cluster::blank(nodes, &config, seed, true),
        false => Cluster::new(nodes, &config, seed, true),
    };
    if let Some(leader) = arguments.keyed("leader")? {
        cluster.campaign(NodeId(leader));
        settle(&mut cluster)?;
        cluster.tick(NodeId(leader));
        settle(&mut cluster)?;
        cluster.take_trace();
    }
    Ok(cluster)
}

fn request(cluster: &mut Cluster, verb: &str, arguments: &mut Arguments) -> Result<String, String> {
    let mut printed = String::new();
    if verb == "tick" {
        let nodes = arguments.nodes_or_all(cluster, 1)?;
        let ticks = arguments.next()?.unwrap_or(1);
        for id in (0..ticks).flat_map(|_| &nodes) {
            cluster.tick(*id);
        }
        return Ok(printed);
    }
    let id = arguments.node(cluster)?;
    match verb {
        "campaign" => cluster.campaign(id),
        "refuse" => {
            let node = arguments.node(cluster)?;
            cluster.refuse(id, node);
        }
        "read" => drop(cluster.read(id)),
        "transfer" => {
            let to = arguments.keyed("to")?.map(NodeId);
            if let Some(Err(refusal)) = cluster.transfer(id, to) {
                let _ = writeln!(printed, "{id} refuses: {refusal:?}");
            }
        }
        _ => {
            let commands: Vec<Bytes> = arguments.rest().into_iter().map(Bytes::from).collect();
            for (command, result) in commands.iter().zip(cluster.propose(id, &commands)) {
                if let Err(refusal) = result {
                    let command = Payload::Command(command.clone());
                    let _ = writeln!(printed, "{id} refuses {command}: {refusal:?}");
                }
            }
        }
    }
    Ok(printed)
}

fn members(cluster: &mut Cluster, verb: &str, arguments: &mut Arguments) -> Result<String, String> {
    if verb == "server" {
        cluster.add_server(NodeId(arguments.next()?.ok_or("which node?")?));
        return Ok(String::new());
    }
    let id = arguments.node(cluster)?;
    match verb {
        "wipe" => cluster.wipe(id),
        "upgrade" => cluster.upgrade(id, Version(arguments.keyed("version")?.unwrap_or(1))),
        _ => {
            if let Some(Err(refusal)) = cluster.change(id, &changes(arguments)?) {
                return Ok(format!("{id} refuses: {refusal:?}\n"));
            }
        }
    }
    Ok(String::new())
}

fn changes(arguments: &mut Arguments) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for (key, promote) in [("add", true), ("observe", false)] {
        for node in arguments.listed(key)? {
            changes.push(Change::Add { node, address: node.to_string(), promote });
        }
    }
    for node in arguments.listed("promote")? {
        changes.push(Change::Promote { node });
    }
    for node in arguments.listed("demote")? {
        changes.push(Change::Demote { node });
    }
    for node in arguments.listed("remove")? {
        changes.push(Change::Remove { node });
    }
    if let Some(priority) = arguments.keyed::<String>("priority")? {
        let (node, priority) = priority.split_once(':').ok_or("priority=NODE:PRIORITY")?;
        let (node, priority) = (NodeId(parse(node)?), parse(priority)?);
        changes.push(Change::Prioritize { node, priority });
    }
    Ok(changes)
}

fn store(cluster: &mut Cluster, verb: &str, arguments: &mut Arguments) -> Result<String, String> {
    if verb == "persist" {
        let until = arguments.keyed("until")?.map(WriteSeq);
        for id in arguments.nodes_or_all(cluster, usize::MAX)? {
            cluster.persist(id, until);
        }
        return Ok(String::new());
    }
    let id = arguments.node(cluster)?;
    match verb {
        "disk" => {
            let disk = disk(cluster, arguments)?;
            cluster.crash(id, None);
            cluster.replace_disk(id, disk);
            cluster.restart(id);
        }
        "crash" => cluster.crash(id, arguments.keyed("kept")?.map(WriteSeq)),
        "restart" => cluster.restart(id),
        "freeze" => cluster.freeze(id),
        "flush" => drop(cluster.flush(id)),
        "restore" => cluster.restore(id),
        "damage" => cluster.refuse_restore(id),
        "snapshot" => {
            let to = arguments.node(cluster)?;
            let ok = arguments.keyed::<String>("ok")?.is_none_or(|ok| ok == "yes");
            if !cluster.send_snapshot(id, to, ok) {
                return Err(format!("{id} has not been asked for a snapshot for {to}"));
            }
        }
        _ => return Err(format!("unknown verb {verb}")),
    }
    Ok(String::new())
}

fn disk(cluster: &Cluster, arguments: &mut Arguments) -> Result<Loaded, String> {
    let mut disk = Loaded {
        snapshot: SnapshotMeta { last: LogId::ZERO, membership: cluster.membership() },
        ..Loaded::default()
    };
    disk.hard_state.term = Term(arguments.keyed("term")?.unwrap_or(0));
    disk.hard_state.vote = arguments.keyed("vote")?.map(NodeId);
    let ids = arguments.rest();
    let ids = ids.iter().map(|id| {
        let (index, term) = id.split_once('@').ok_or_else(|| format!("no log id: {id}"))?;
        Ok(LogId::new(parse(index)?, parse(term)?))
    });
    let ids = ids.collect::<Result<Vec<_>, String>>()?;
    // As leaders make them: the membership first, then what each term begins with.
    let payload = |id: LogId| match id.index {
        Index(1) => Payload::Membership(cluster.membership().into()),
        _ => Payload::Noop,
    };
    let entries = ids.into_iter().map(|id| Entry { id, payload: payload(id) }).collect();
    disk.entries.extend(Run::new(entries));
    Ok(disk)
}

fn change_links(
    cluster: &mut Cluster,
    verb: &str,
    arguments: &mut Arguments,
) -> Result<String, String> {
    match verb {
        "heal" => cluster.heal(),
        "cut" => {
            let (from, to) = (arguments.node(cluster)?, arguments.node(cluster)?);
            cluster.cut(from, to);
        }
        _ => {
            let apart = arguments.nodes_or_all(cluster, usize::MAX)?;
            let ids: Vec<NodeId> = cluster.servers().keys().copied().collect();
            for rest in ids.iter().filter(|id| !apart.contains(id)) {
                for id in &apart {
                    cluster.cut(*id, *rest);
                    cluster.cut(*rest, *id);
                }
            }
        }
    }
    Ok(String::new())
}

fn show(cluster: &Cluster, verb: &str, arguments: &mut Arguments) -> Result<String, String> {
    let mut printed = String::new();
    for id in arguments.nodes_or_all(cluster, usize::MAX)? {
        let line = match cluster.server(id).raft() {
            None => format!("{id} down"),
            Some(raft) if verb == "status" => raft.status().to_string(),
            Some(raft) if verb == "members" => format!("{id} {}", raft.membership()),
            Some(raft) if verb == "lease" => match raft.lease() {
                Some(lease) => format!("{id} lease index={} since={}", lease.index, lease.since),
                None => format!("{id} no lease"),
            },
            Some(raft) => {
                let ids: Vec<String> = raft.log_ids().iter().map(LogId::to_string).collect();
                format!("{id} log {}", ids.join(" "))
            }
        };
        let _ = writeln!(printed, "{line}");
    }
    Ok(printed)
}

fn move_messages(
    cluster: &mut Cluster,
    verb: &str,
    arguments: &mut Arguments,
) -> Result<String, String> {
    let from = arguments.keyed("from")?.map(NodeId);
    let to = arguments.keyed("to")?.map(NodeId);
    let kind: Option<String> = arguments.keyed("kind")?;
    let skip = arguments.keyed("skip")?.unwrap_or(0);
    let max = arguments.keyed("max")?.unwrap_or(usize::MAX);
    let newest = arguments.keyed::<String>("order")?.is_some_and(|order| order == "newest");
    let chosen = |envelope: &Envelope| {
        from.is_none_or(|from| from == envelope.from)
            && to.is_none_or(|to| to == envelope.to)
            && kind.as_ref().is_none_or(|kind| {
                envelope.message.to_string().split(' ').next() == Some(kind.as_str())
            })
    };
    let pool = cluster.pool().iter().enumerate();
    let mut positions: Vec<usize> =
        pool.filter(|(_, envelope)| chosen(envelope)).map(|(position, _)| position).collect();
    if newest {
        positions.reverse();
    }
    positions.drain(..skip.min(positions.len()));
    positions.truncate(max);
    for (done, position) in positions.into_iter().enumerate() {
        // Those taken out of the pool before stood in front of this one, if the oldest go first.
        let shift = if newest || verb == "duplicate" { 0 } else { done };
        match verb {
            "deliver" => cluster.deliver(position - shift),
            "drop" => cluster.drop_message(position - shift),
            _ => cluster.duplicate(position),
        }
    }
    Ok(String::new())
}

fn settle(cluster: &mut Cluster) -> Result<(), String> {
    for _ in 0..SETTLE_ROUNDS_MAX {
        let ids: Vec<NodeId> = cluster.servers().keys().copied().collect();
        for id in &ids {
            cluster.persist(*id, None);
        }
        let messages = cluster.pool().len();
        for _ in 0..messages {
            cluster.deliver(0);
        }
        let writes = ids.iter().any(|id| !cluster.server(*id).writes().is_empty());
        if messages == 0 && !writes {
            return Ok(());
        }
    }
    Err("does not settle".into())
}

fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("cannot read {text}"))
}

/// What is left of a command's arguments.
struct Arguments {
    positional: VecDeque<String>,
    keyed: BTreeMap<String, String>,
}

impl Arguments {
    fn new(arguments: &[Argument]) -> Self {
        let mut this = Self { positional: VecDeque::new(), keyed: BTreeMap::new() };
        for argument in arguments {
            match argument.clone() {
                Argument::Positional(value) => this.positional.push_back(value),
                Argument::Keyed(key, value) => {
                    this.keyed.insert(key, value);
                }
            }
        }
        this
    }

    fn next<T: FromStr>(&mut self) -> Result<Option<T>, String> {
        self.positional.pop_front().map(|value| parse(&value)).transpose()
    }

    fn rest(&mut self) -> Vec<String> {
        self.positional.drain(..).collect()
    }

    fn keyed<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        self.keyed.remove(key).map(|value| parse(&value)).transpose()
    }

    fn set<T: FromStr>(&mut self, key: &str, into: &mut T) -> Result<(), String> {
        if let Some(value) = self.keyed(key)? {
            *into = value;
        }
        Ok(())
    }

    /// Whether `key=yes` is there.
    fn flag(&mut self, key: &str) -> Result<bool, String> {
        Ok(self.keyed::<String>(key)?.is_some_and(|value| value == "yes"))
    }

    /// The nodes of `key=1,2`.
    fn listed(&mut self, key: &str) -> Result<Vec<NodeId>, String> {
        let Some(list) = self.keyed::<String>(key)? else { return Ok(Vec::new()) };
        list.split(',').map(|id| parse(id).map(NodeId)).collect()
    }

    fn node(&mut self, cluster: &Cluster) -> Result<NodeId, String> {
        let id = NodeId(self.next()?.ok_or("which node?")?);
        if cluster.servers().contains_key(&id) { Ok(id) } else { Err(format!("there is no {id}")) }
    }

    /// The next `max` nodes at most, or every one if none is named or the word is `all`.
    fn nodes_or_all(&mut self, cluster: &Cluster, max: usize) -> Result<Vec<NodeId>, String> {
        let all = self.positional.front().is_some_and(|word| word == "all");
        if all || self.positional.is_empty() {
            self.positional.pop_front();
            return Ok(cluster.servers().keys().copied().collect());
        }
        let count = self.positional.len().min(max);
        (0..count).map(|_| self.node(cluster)).collect()
    }

    fn finish(&self) -> Result<(), String> {
        let keyed = self.keyed.keys().next();
        match self.positional.front().or(keyed) {
            Some(left) => Err(format!("too much: {left}")),
            None => Ok(()),
        }
    }
}
