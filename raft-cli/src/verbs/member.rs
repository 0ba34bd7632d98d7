//! `raft member`: who is in the cluster, and changes of it.

use crate::args::member::{Action, Add, Member, Priority};
use crate::client::Store;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::members::{MembersJson, names, simple, text};
use raft_core::types::{Change, ClusterId, NodeId};
use serde_json::json;

/// Shows or changes the members.
///
/// # Errors
/// Of kind `Refused`, `Unavailable` or `Unknown`.
pub async fn run(store: &Store, args: &Member, output: &mut Output<'_>) -> Result<(), Failure> {
    let one = |node, change| (vec![change], format!("{node} "));
    let (changes, done) = match &args.action {
        Action::List(_) => {
            let members = store.members().await?;
            let json = MembersJson::of(&members);
            return output.show(&json, || simple(&members), || text(&members));
        }
        Action::Add(args) => return add(store, args, output).await,
        Action::Remove(args) => {
            let remove = |node: &NodeId| Change::Remove { node: *node };
            let done = format!("{} removed", names(&args.nodes));
            (args.nodes.iter().map(remove).collect(), done)
        }
        Action::Promote(args) => {
            let (changes, done) = one(args.node, Change::Promote { node: args.node });
            (changes, done + "votes now")
        }
        Action::Demote(args) => {
            let (changes, done) = one(args.node, Change::Demote { node: args.node });
            (changes, done + "is an observer now")
        }
        Action::Priority(Priority { node, priority, .. }) => {
            let change = Change::Prioritize { node: *node, priority: *priority };
            let (changes, done) = one(*node, change);
            (changes, done + &format!("has priority {priority} now"))
        }
        Action::Move(args) => {
            let (node, address) = args.member.clone();
            let done = format!("{node} is expected at {address} now: restart it there");
            (vec![Change::Readdress { node, address }], done)
        }
    };
    let members = store.change_members(changes).await?;
    output.print(&MembersJson::of(&members), || format!("{done}\n{}\n", members.summary()))
}

async fn add(store: &Store, args: &Add, output: &mut Output<'_>) -> Result<(), Failure> {
    let (node, address) = args.member.clone();
    let promote = !args.observer;
    let add = Change::Add { node, address: address.clone(), promote };
    let members = store.change_members(vec![add]).await?;
    let start = start_command(node, &address, members.cluster);
    let json = json!({ "members": MembersJson::of(&members), "start": start });
    output.print(&json, || {
        let becomes = match promote {
            true => "a learner; it votes once it has caught up",
            false => "an observer",
        };
        let summary = members.summary();
        format!("{node} added as {becomes}\n{summary}\nstart it with:\n  {start}\n")
    })
}

/// What starts a node that was added.
fn start_command(node: NodeId, address: &str, cluster: ClusterId) -> String {
    format!(
        "raft serve --id {} --data-dir {node} --advertise {address} --join --cluster-id {cluster} \
         --ca ca.pem --cert {node}.pem --key {node}-key.pem",
        node.0
    )
}
