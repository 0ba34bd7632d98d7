//! A secondary index that is never wrong: who lives in a city is kept beside where each one lives,
//! and both change in one transaction. Whatever revision is read, the index says the same as the
//! data.

mod support;

use raft_kv::Client;
use raft_kv::api::{
    Compare, Consistency, KeyValue, Keys, Op, Operator, Put, Range, Revision, Target, Txn,
};
use std::collections::BTreeSet;
use support::{Cluster, Failed, Shown, ensure};
use tokio::task::JoinSet;

const CITIES: [&str; 3] = ["berlin", "lagos", "lima"];
const PEOPLE: u64 = 10;
const MOVES: u64 = 50;

fn home(person: u64) -> String {
    format!("home/{person}")
}

fn resident(city: &str, person: u64) -> String {
    format!("residents/{city}/{person}")
}

/// Moves a person, unless somebody else does meanwhile: then it looks again.
async fn move_to(client: &Client, person: u64, city: &str) -> Shown {
    loop {
        let before = client.get_one(home(person)).await?;
        let unchanged = Compare {
            keys: Keys::One(home(person).into()),
            operator: Operator::Equal,
            target: Target::ModRevision(before.as_ref().map_or(Revision(0), of)),
        };
        let mut success = vec![Op::Put(Put::new(home(person), city.to_owned()))];
        let old = before.as_ref().map(|pair| std::str::from_utf8(&pair.value)).transpose()?;
        if old != Some(city) {
            success.push(Op::Put(Put::new(resident(city, person), "")));
            success.extend(old.map(|old| Op::Delete {
                keys: Keys::One(resident(old, person).into()),
                prev_kv: false,
            }));
        }
        let txn = Txn { compares: vec![unchanged], success, ..Txn::default() };
        if client.txn(txn).await?.succeeded {
            return Ok(());
        }
    }
}

const fn of(pair: &KeyValue) -> Revision {
    pair.mod_revision
}

/// Who lives where at `revision`, by the keys that begin with `prefix`, as `told`.
async fn scan(
    client: &Client,
    revision: Revision,
    prefix: &str,
    told: impl Fn(&str, &str) -> Option<(String, String)>,
) -> Result<BTreeSet<(String, String)>, Failed> {
    let range = Range { revision: Some(revision), ..Range::of(Keys::prefix(prefix.to_owned())) };
    let found = client.get(range, Consistency::Serializable).await?;
    let mut all = BTreeSet::new();
    for pair in &found.kvs {
        let (key, value) = (std::str::from_utf8(&pair.key)?, std::str::from_utf8(&pair.value)?);
        all.extend(key.strip_prefix(prefix).and_then(|rest| told(rest, value)));
    }
    Ok(all)
}

#[tokio::main]
pub(crate) async fn main() -> Shown {
    let cluster = Cluster::start()?;
    let mut movers = JoinSet::new();
    for node in 1..=3 {
        let client = cluster.client(node);
        movers.spawn(async move {
            for number in 0..MOVES {
                // Everybody moves everybody about, through every node.
                let (person, city) = ((node + number) % PEOPLE, (node * number) as usize);
                move_to(&client, person, CITIES[city % CITIES.len()]).await?;
            }
            Ok::<_, Failed>(client)
        });
    }
    while let Some(moved) = movers.join_next().await {
        moved??;
    }
    let client = cluster.client(1);
    let last = client.get(Range::of(Keys::all()), Consistency::Linearizable).await?.revision;
    let mut moves = 0;
    for revision in (1..=last.0).map(Revision) {
        let homes = scan(&client, revision, "home/", |person, city| {
            Some((city.to_owned(), person.to_owned()))
        });
        let index = scan(&client, revision, "residents/", |rest, _| {
            let (city, person) = rest.split_once('/')?;
            Some((city.to_owned(), person.to_owned()))
        });
        let (homes, index) = (homes.await?, index.await?);
        ensure(homes == index, "the index says the same as the data, at every revision")?;
        moves += 1;
    }
    println!("index and data agree at each of {moves} revisions");
    ensure(moves > 3 * MOVES, "every move was one revision")
}
