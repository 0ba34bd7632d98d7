//! Who gets the name? Why time stamps cannot tell, and a log can.
//!
//! 1. Three ways to number events without asking anybody - odd and even numbers, the wall clock,
//!    blocks allocated in advance - each number an answer below its question.
//! 2. Lamport's clocks do not. But they order events only in hindsight: with them, two nodes give
//!    the same name to two people.
//! 3. A log decides: of many who claim a name through different nodes, one gets it.

mod support;

use raft_core::types::NodeId;
use raft_kv::clocks::{LamportClock, Stamp};
use std::collections::BTreeMap;
use support::{Cluster, Shown, ensure};
use tokio::task::JoinSet;

/// Numbers events of two nodes. It is not told that one event is the reason for the other.
trait Generator {
    fn next(&mut self, node: usize) -> u64;
}

/// Node 0 counts 0, 2, 4 and so on, node 1 counts 1, 3, 5.
#[derive(Default)]
struct OddAndEven([u64; 2]);

impl Generator for OddAndEven {
    fn next(&mut self, node: usize) -> u64 {
        self.0[node] += 1;
        2 * self.0[node] + node as u64
    }
}

/// Each node's idea of what time it is, in milliseconds. The second one is slow.
struct WallClock([u64; 2]);

impl Generator for WallClock {
    fn next(&mut self, node: usize) -> u64 {
        // Time passes for both of them.
        self.0 = self.0.map(|now| now + 1);
        self.0[node]
    }
}

/// Each node was given a block of numbers.
struct Blocks([u64; 2]);

impl Generator for Blocks {
    fn next(&mut self, node: usize) -> u64 {
        self.0[node] += 1;
        self.0[node]
    }
}

/// Somebody asks a question on the first node, and somebody who has read it answers on the second.
fn ask_and_answer(generator: &mut dyn Generator) -> (u64, u64) {
    for _ in 0..9 {
        generator.next(0);
    }
    (generator.next(0), generator.next(1))
}

fn numbers_that_contradict_causality() -> Shown {
    let generators: [(&str, Box<dyn Generator>); 3] = [
        ("odd and even numbers", Box::new(OddAndEven::default())),
        ("the wall clock", Box::new(WallClock([1_700_000_005_000, 1_700_000_000_000]))),
        ("blocks of numbers", Box::new(Blocks([1000, 0]))),
    ];
    for (name, mut generator) in generators {
        let (question, answer) = ask_and_answer(&mut *generator);
        println!("{name}: the answer ({answer}) stands before its question ({question})");
        ensure(answer < question, "the generator contradicts causality")?;
    }
    let [mut asked, mut answered] = [1, 2].map(|id| LamportClock::new(NodeId(id)));
    for _ in 0..9 {
        asked.tick();
    }
    let question = asked.tick();
    let answer = answered.receive(question);
    println!("Lamport's clocks: the question ({question}) stands before its answer ({answer})");
    ensure(question < answer, "Lamport's clocks respect causality")
}

/// Gives out names by the lowest stamp that it knows of.
struct Registrar {
    clock: LamportClock,
    claims: BTreeMap<Stamp, &'static str>,
}

impl Registrar {
    fn new(id: u64) -> Self {
        Self { clock: LamportClock::new(NodeId(id)), claims: BTreeMap::new() }
    }

    fn claim(&mut self, person: &'static str) -> Stamp {
        let stamp = self.clock.tick();
        self.claims.insert(stamp, person);
        stamp
    }

    /// Hears of another's claim.
    fn hear(&mut self, stamp: Stamp, person: &'static str) {
        self.clock.receive(stamp);
        self.claims.insert(stamp, person);
    }

    fn owner(&self) -> Option<&'static str> {
        self.claims.values().next().copied()
    }
}

fn two_winners_by_time_stamps() -> Shown {
    let (mut one, mut other) = (Registrar::new(1), Registrar::new(2));
    let (first, second) = (one.claim("Anna of Aachen"), other.claim("Anna of Zwolle"));
    // Each has to answer now. That there is no lower stamp it could only know after it has heard
    // from everybody, and with one node out of reach nobody could claim any name.
    let told = [one.owner(), other.owner()];
    println!("by time stamps `anna` belongs to {told:?}, who have both been told so");
    ensure(told == [Some("Anna of Aachen"), Some("Anna of Zwolle")], "both are told yes")?;
    one.hear(second, "Anna of Zwolle");
    other.hear(first, "Anna of Aachen");
    println!("later all agree on {:?}: too late for one of them", one.owner());
    ensure(one.owner() == other.owner(), "the total order is known in the end")
}

async fn one_winner_by_the_log() -> Shown {
    let cluster = Cluster::start()?;
    let mut claims = JoinSet::new();
    for person in 0..30 {
        let client = cluster.client(person % 3 + 1);
        claims.spawn(async move {
            let claim = client.create_if_absent("names/anna", format!("person {person}")).await;
            claim.map(|claim| (claim.swapped, claim.found))
        });
    }
    let mut winners = 0;
    let mut told = Vec::new();
    for claim in claims.join_all().await {
        let (won, found) = claim?;
        winners += usize::from(won);
        told.extend(found.map(|pair| pair.value));
    }
    println!("by the log 30 people claim `anna` through 3 nodes, {winners} gets it");
    ensure(winners == 1, "one of them gets the name")?;
    ensure(told.windows(2).all(|pair| pair[0] == pair[1]), "all others are told the same owner")
}

#[tokio::main]
pub(crate) async fn main() -> Shown {
    numbers_that_contradict_causality()?;
    two_winners_by_time_stamps()?;
    one_winner_by_the_log().await
}
