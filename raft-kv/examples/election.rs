//! Leader election: three candidates, one of whom leads at a time; when it leaves, or fails, the next
//! one does. Everybody can see who leads.

mod support;

use raft_kv::recipes::Election;
use std::time::Duration;
use support::{Cluster, Shown, ensure};
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
pub(crate) async fn main() -> Shown {
    let cluster = Cluster::start()?;
    let (elected, mut leaders) = mpsc::channel(3);
    for id in 1..=3 {
        let (client, elected) = (cluster.client(id), elected.clone());
        tokio::spawn(async move {
            let election = Election::new(&client, "elections/example");
            let leadership = election.campaign(format!("candidate {id}"), TTL).await;
            // Whoever receives it leads.
            let _ = elected.send((client, leadership)).await;
        });
    }
    let election = Election::new(&cluster.client(1), "elections/example");
    let mut observer = election.observe().await?;
    let mut token = None;
    for term in 1..=3 {
        let (client, leadership) = leaders.recv().await.ok_or("there are candidates")?;
        let leadership = leadership?;
        // Followers see the same leader.
        let seen = loop {
            match observer.next().await? {
                Some(leader) if leader.fence == leadership.fence() => break leader,
                _ => {}
            }
        };
        println!("{} leads, with token {}", String::from_utf8_lossy(&seen.value), seen.fence.token);
        ensure(Some(seen.fence.token) > token, "the tokens of leaders grow")?;
        token = Some(seen.fence.token);
        client.fenced(leadership.fence()).put("decision", format!("of term {term}")).await?;
        if term < 3 {
            leadership.resign().await?;
        } else {
            // Without a word: dropped, as by a panic.
            drop(leadership);
        }
    }
    while observer.next().await?.is_some() {}
    println!("nobody leads");
    ensure(election.leader().await?.is_none(), "nobody leads")
}
