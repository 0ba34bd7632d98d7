//! `raft snapshot restore`: writes the data directories of a new cluster that begins with what is
//! in a backup. The same as `raft recover apply` does with a survivor's checkpoint.

use super::apply::{New, check_absent, founded_ms};
use super::survivor::Survivor;
use crate::args::snapshot::SnapshotRestore;
use crate::failure::Failure;
use crate::output::Output;
use crate::random::random;
use raft_core::types::{ClusterId, Identity, Incarnation, Member, NodeId};
use raft_kv::store::HISTORY_REVISIONS;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Makes a new cluster of a backup.
///
/// # Errors
/// Of kind `Usage` if the members make no sense or a directory is there already, `Local` if the
/// backup is damaged or a directory cannot be written: then those before it are there, whole.
pub fn run(args: &SnapshotRestore, output: &mut Output<'_>) -> Result<(), Failure> {
    let members = members(&args.members)?;
    let dir = |node: &NodeId| -> PathBuf {
        if members.len() == 1 { args.to.clone() } else { args.to.join(node.to_string()) }
    };
    members.keys().try_for_each(|node| check_absent(&dir(node)))?;
    let (survivor, info) = Survivor::of_backup(&args.file)?;
    let cluster = args.cluster_id.map_or_else(|| random().map(ClusterId), Ok)?;
    let (mut epoch, founded_ms) = (0, founded_ms());
    for (node, member) in &members {
        let incarnation = member.incarnation.unwrap_or_default();
        let identity = Identity { cluster, node: *node, incarnation };
        let new = New::with(&survivor, identity, &members, founded_ms);
        new.write(&survivor, &dir(node))?;
        epoch = new.epoch();
    }
    let revision = info.revision.0.saturating_add(HISTORY_REVISIONS);
    let dirs: BTreeMap<u64, PathBuf> = members.keys().map(|node| (node.0, dir(node))).collect();
    let json = json!({
        "dirs": dirs,
        "cluster": cluster.to_string(),
        "epoch": epoch,
        "keys": info.keys,
        "revision": revision,
        "backup_revision": info.revision,
    });
    output.print(&json, || {
        let mut text = format!(
            "a new cluster {cluster}, history epoch {epoch}, with {} keys; it begins at revision \
             {revision}, before which everything counts as compacted.\n\nStart {}:\n",
            info.keys,
            if members.len() == 1 { "it" } else { "all of them" },
        );
        for (node, member) in &members {
            text.push_str(&format!(
                "  raft serve --id {} --data-dir {} --join --cluster-id {cluster} \\\n    \
                 --listen {} --ca CA --cert CERT --key KEY\n",
                node.0,
                dir(node).display(),
                member.address,
            ));
        }
        text
    })
}

/// The members, each bound to a life of its own.
fn members(args: &[(NodeId, String)]) -> Result<BTreeMap<NodeId, Member>, Failure> {
    let mut members = BTreeMap::new();
    for (node, address) in args {
        let incarnation = Some(Incarnation(random()?));
        let member = Member { incarnation, ..Member::new(address.clone()) };
        if members.insert(*node, member).is_some() {
            return Err(Failure::usage(format!("--members names {node} twice")));
        }
    }
    Ok(members)
}
