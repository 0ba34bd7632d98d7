//! Makes trouble by a plan that follows from a seed: which, when, for how long and to whom. Takes
//! down what was done and when. Whatever it has broken it mends before it ends; should it be
//! dropped before, [`mend`] does.

use super::cluster::LocalCluster;
use super::history::Fault;
use super::proxy::Weather;
use super::recorder::Recorder;
use crate::failure::Failure;
use clap::ValueEnum;
use nix::sys::signal::Signal;
use raft_core::testing::Random;
use raft_core::types::NodeId;
use std::time::Duration;
use tokio::time::sleep;

/// How long a cluster may take to have a leader after trouble.
const LEADER_MAX: Duration = Duration::from_secs(180);

/// Trouble.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum)]
pub enum Kind {
    /// A process is killed (SIGKILL), and started again.
    Kill,
    /// A process is stopped (SIGSTOP), and goes on.
    Pause,
    /// A node hears nobody, and nobody hears it.
    Partition,
    /// A node hears nobody, or nobody hears it.
    OneWay,
    /// Datagrams are lost.
    Loss,
    /// Datagrams are late.
    Delay,
    /// Datagrams come twice.
    Duplicate,
    /// Datagrams overtake each other.
    Reorder,
}

/// Who is hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim {
    /// Whoever leads.
    Leader,
    /// One of those that do not lead: the first or the second, by their numbers.
    Follower(usize),
}

/// One thing that is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// How long there is no trouble before.
    pub after: Duration,
    /// What is done.
    pub kind: Kind,
    /// To whom; of no meaning where it is all datagrams.
    pub victim: Victim,
    /// How long it lasts.
    pub lasts: Duration,
    /// How bad it is, where that can be said: datagrams in a thousand, or milliseconds.
    pub strength: u64,
    /// One-way: whether the victim is not heard; it hears nobody otherwise.
    pub silenced: bool,
}

impl Kind {
    /// Its name, in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
        }
    }
}

/// What to do within `duration`: every kind in turn, in an order of chance, with pauses between.
pub fn plan(seed: u64, kinds: &[Kind], duration: Duration) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = Vec::new();
    let mut left = duration;
    let mut turn: Vec<Kind> = Vec::new();
    while !kinds.is_empty() {
        if turn.is_empty() {
            turn = kinds.to_vec();
            for at in (1..turn.len()).rev() {
                turn.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
        let Some(kind) = turn.pop() else { break };
        let step = step(&mut random, kind);
        let Some(rest) = left.checked_sub(step.after + step.lasts) else { break };
        left = rest;
        steps.push(step);
    }
    steps
}

/// One step of a kind, of chance.
pub fn step(random: &mut Random, kind: Kind) -> Step {
    let milliseconds = |random: &mut Random, from: u64, to: u64| {
        Duration::from_millis(from + random.below(to - from))
    };
    let after = milliseconds(random, 500, 2000);
    // Short of an election timeout and beyond it.
    let lasts = milliseconds(random, 300, 3500);
    let victim = match random.below(4) {
        0 => Victim::Follower(0),
        1 => Victim::Follower(1),
        _ => Victim::Leader,
    };
    let strength = match kind {
        Kind::Loss => 20 + random.below(280),
        Kind::Delay => 5 + random.below(145),
        _ => 50 + random.below(450),
    };
    Step { after, kind, victim, lasts, strength, silenced: random.once_in(2) }
}

/// Follows a plan; afterwards all nodes run, the network is well, and one of them leads.
///
/// # Errors
/// If a node does not start again, or none leads for long.
pub async fn follow(
    steps: &[Step],
    cluster: &mut LocalCluster,
    recorder: &Recorder,
) -> Result<(), Failure> {
    for step in steps {
        sleep(step.after).await;
        make(step, cluster, recorder).await?;
    }
    cluster.observer.leader(LEADER_MAX).await?;
    Ok(())
}

/// Makes one trouble, waits as long as it lasts, and mends it.
///
/// # Errors
/// If a node does not start again, or none leads to begin with.
async fn make(step: &Step, cluster: &mut LocalCluster, recorder: &Recorder) -> Result<(), Failure> {
    let leader = cluster.observer.leader(LEADER_MAX).await?.id;
    let others: Vec<NodeId> = cluster.nodes().into_iter().filter(|id| *id != leader).collect();
    let victim = match step.victim {
        Victim::Leader => leader,
        Victim::Follower(which) => others.get(which).copied().unwrap_or(leader),
    };
    let role = if victim == leader { "the leader" } else { "a follower" };
    let start = recorder.now();
    let what = begin(step, cluster, victim, role).await;
    let made = Some(recorder.now());
    sleep(step.lasts).await;
    let mended = mend(cluster).await;
    let (fault, end) = (step.kind.name().to_owned(), recorder.now());
    recorder.fault(Fault { fault, what, start, made, end });
    mended
}

/// Ends whatever trouble there is: mends the network, has nodes that are stopped go on, and starts
/// those that do not run.
///
/// # Errors
/// If a node does not start again; the others are mended nevertheless.
pub async fn mend(cluster: &mut LocalCluster) -> Result<(), Failure> {
    cluster.proxy.heal();
    let mut mended = Ok(());
    for id in cluster.nodes() {
        if cluster.processes.is_running(id) {
            cluster.processes.signal(id, Signal::SIGCONT);
        } else {
            mended = mended.and(cluster.start_node(id).await);
        }
    }
    mended
}

async fn begin(step: &Step, cluster: &mut LocalCluster, victim: NodeId, role: &str) -> String {
    let strength = step.strength;
    let percent = format!("{}.{} %", strength / 10, strength % 10);
    let weather = |weather| cluster.proxy.set_weather(weather);
    match step.kind {
        Kind::Kill => {
            cluster.processes.kill(victim).await;
            format!("{victim}, {role}, was killed with SIGKILL and started again")
        }
        Kind::Pause => {
            cluster.processes.signal(victim, Signal::SIGSTOP);
            format!("{victim}, {role}, was stopped with SIGSTOP and continued")
        }
        Kind::Partition => {
            cut(cluster, victim, true, true);
            format!("{victim}, {role}, was cut off from the others")
        }
        Kind::OneWay if step.silenced => {
            cut(cluster, victim, true, false);
            format!("{victim}, {role}, heard the others and was not heard")
        }
        Kind::OneWay => {
            cut(cluster, victim, false, true);
            format!("{victim}, {role}, was heard and did not hear the others")
        }
        Kind::Loss => {
            weather(Weather { loss: strength, ..Weather::default() });
            format!("{percent} of all datagrams between nodes were lost")
        }
        Kind::Delay => {
            let delay = Duration::from_millis(strength);
            weather(Weather { delay, ..Weather::default() });
            format!("all datagrams between nodes were {strength} ms late")
        }
        Kind::Duplicate => {
            weather(Weather { duplicate: strength, ..Weather::default() });
            format!("{percent} of all datagrams between nodes came twice")
        }
        Kind::Reorder => {
            weather(Weather { reorder: strength, ..Weather::default() });
            format!("{percent} of all datagrams between nodes were overtaken")
        }
    }
}

fn cut(cluster: &LocalCluster, victim: NodeId, from: bool, to: bool) {
    for other in cluster.nodes().into_iter().filter(|id| *id != victim) {
        cluster.proxy.cut(victim, other, from);
        cluster.proxy.cut(other, victim, to);
    }
}
