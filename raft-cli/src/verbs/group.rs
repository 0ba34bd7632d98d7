//! `raft group`: who is there.

use super::hold::{self, gave_up, hold, own_name, release};
use crate::args::group::{Action, Group as Args, Join, One};
use crate::client::{Store, failure};
use crate::failure::Failure;
use crate::output::{BytesField, Output, Table, printable};
use crate::serve::stop::StopRequests;
use bytes::Bytes;
use raft_kv::recipes::{Group, Member};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Members by id.
type Members = BTreeMap<Bytes, Member>;

const ID: BytesField = BytesField("id", "id_b64");
const DATA: BytesField = BytesField("data", "data_b64");

/// Joins, lists or watches.
///
/// # Errors
/// Of every kind, and the command's; `No` if another one has the id, `Unknown` if the membership
/// was lost.
pub async fn run(store: &Store, args: &Args, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.action {
        Action::Join(args) => join(store, args, output).await,
        Action::List(one) => list(store, one, output).await,
        Action::Watch(one) => watch(store, one, output).await,
    }
}

async fn join(store: &Store, args: &Join, output: &mut Output<'_>) -> Result<(), Failure> {
    let escaped = args.hold.escaped;
    let name = escaped.bytes(&args.name)?;
    let id = escaped.optional(args.id.as_ref())?.unwrap_or_else(own_name);
    let what = format!("the place of {} in the group {}", printable(&id), printable(&name));
    let mut stop = StopRequests::listen(false)?.or_hangup()?;
    let group = Group::new(store.client(), name);
    let membership = tokio::select! {
        joined = group.join(&id, escaped.bytes(&args.data)?, args.hold.ttl) => joined,
        request = stop.next() => return Err(gave_up(request, &what)),
    };
    let membership = membership.map_err(|error| hold::failure(&what, error))?;
    let (fence, lost) = (membership.fence(), membership.lost());
    let ended = hold(&args.hold, &what, fence, lost, &mut stop, output).await;
    release(&what, ended, membership.is_lost(), membership.leave()).await
}

fn group(store: &Store, one: &One) -> Result<Group, Failure> {
    Ok(Group::new(store.client(), one.escaped.bytes(&one.name)?))
}

async fn list(store: &Store, one: &One, output: &mut Output<'_>) -> Result<(), Failure> {
    let members = group(store, one)?.members().await.map_err(failure)?;
    let all: Vec<Value> = members.iter().map(|(id, member)| member_json(id, member)).collect();
    let simple = || members.iter().flat_map(|(id, member)| lines(&[id, &member.data])).collect();
    output.show(&json!({ "members": all }), simple, || {
        if members.is_empty() {
            return "nobody is there".to_owned();
        }
        let mut table = Table::new(&["ID", "DATA", ">SINCE"]);
        for (id, Member { data, since }) in &members {
            table.row(vec![printable(id), printable(data), since.to_string()]);
        }
        table.render()
    })
}

fn member_json(id: &Bytes, member: &Member) -> Value {
    let mut json = json!({ "since": member.since });
    ID.insert(&mut json, id);
    DATA.insert(&mut json, &member.data);
    json
}

fn lines(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [part, &b"\n"[..]].concat()).collect()
}

async fn watch(store: &Store, one: &One, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut view = group(store, one)?.watch().await.map_err(failure)?;
    let mut shown = Members::new();
    loop {
        let members = view.members();
        for (event, id, member) in changes(&shown, &members) {
            let mut json = member_json(id, member);
            json["event"] = event.into();
            let simple = || lines(&[event.to_uppercase().as_bytes(), id, &member.data]);
            output.show(&json, simple, || {
                let line = format!("{event}  {}  {}", printable(id), printable(&member.data));
                line.trim_end().to_owned()
            })?;
        }
        output.finish()?;
        shown = members;
        view.changed().await.map_err(failure)?;
    }
}

/// What has become of those who were there, and who has come. One that has left and come back has
/// done both.
fn changes<'a>(
    before: &'a Members,
    now: &'a Members,
) -> impl Iterator<Item = (&'static str, &'a Bytes, &'a Member)> {
    let left = before.iter().filter_map(|(id, member)| match now.get(id) {
        Some(other) if other.since == member.since => None,
        _ => Some(("left", id, member)),
    });
    let come = now.iter().filter_map(|(id, member)| match before.get(id) {
        Some(other) if other == member => None,
        Some(other) if other.since == member.since => Some(("changed", id, member)),
        _ => Some(("joined", id, member)),
    });
    left.chain(come)
}
