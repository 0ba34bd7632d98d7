//! `raft recover apply`: writes the data directory of a new cluster of one.
//!
//! It is built beside its place, checked by reading it back, and renamed as the last step: a crash
//! before leaves a `.partial` directory that the next try clears.

use super::plan::known;
use super::survivor::Survivor;
use crate::args::recover::RecoverApply;
use crate::directory::{failed, names, sync};
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::random::random;
use crate::serve::GROUP;
use crate::serve::data::CHECKPOINT_FILE;
use crate::serve::etcd_flags::identity::{self, Known};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, LogOp};
use raft_core::state_machine::{Snapshot, StateMachine};
use raft_core::types::{
    ClusterId, Entry, HardState, Identity, Incarnation, LogId, Member, NodeId, Payload, Run,
    SnapshotMeta,
};
use raft_kv::store::KvStore;
use raft_storage_redb::{ACK_FILE, LOCK_FILE, LOG_FILE, RedbLog, TAIL_FILE};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Entries written at once.
const CHUNK: usize = 4096;

/// Runs `raft recover apply`.
pub(super) fn run(args: &RecoverApply, output: &mut Output<'_>) -> Result<(), Failure> {
    let survivor = match args.checkpoint_only {
        true => Survivor::read_checkpoint(&args.from)?,
        false => Survivor::read(&args.from)?,
    };
    let cluster = args.cluster_id.map_or_else(|| random().map(ClusterId), Ok)?;
    let new = New::of(&survivor, cluster, &args.advertise)?;
    check_absent(&args.to)?;
    if !args.yes {
        let Identity { node, cluster: old, .. } = survivor.identity;
        let (from, to) = (args.from.display(), args.to.display());
        let text = format!(
            "nothing was written: this would make {to} of {from}, a new cluster of {node} alone \
             with what it has up to entry {}, and nobody else of cluster {old} could join it with \
             its old data",
            survivor.last()
        );
        return Err(Failure::usage(text).advice("add --yes to do it"));
    }
    new.write(&survivor, &args.to)?;
    new.report(&survivor, args, output)
}

/// What the new directory begins with.
pub(super) struct New {
    identity: Identity,
    hard_state: HardState,
    /// The membership of one, the last entry.
    last: Entry,
}

impl New {
    fn of(survivor: &Survivor, cluster: ClusterId, address: &str) -> Result<Self, Failure> {
        let old = survivor.identity;
        if cluster == old.cluster {
            let text = format!("--cluster-id {cluster} is that of the old cluster");
            return Err(Failure::usage(text).advice("its nodes must not meet the new ones"));
        }
        if survivor.membership().is_empty() {
            let text = format!("{} was never in a cluster", survivor.dir.display());
            return Err(Failure::new(Kind::Refused, text));
        }
        let incarnation = Incarnation(random()?);
        let member = Member { incarnation: Some(incarnation), ..Member::new(address) };
        let identity = Identity { cluster, node: old.node, incarnation };
        Ok(Self::with(survivor, identity, &BTreeMap::from([(old.node, member)]), founded_ms()))
    }

    /// What the directory of one of `members` begins with, of a cluster founded at this moment, in
    /// milliseconds since 1970: the history epoch. Two clusters made of the same backup must not
    /// take each other's positions for their own.
    pub(super) fn with(
        survivor: &Survivor,
        identity: Identity,
        members: &BTreeMap<NodeId, Member>,
        founded_ms: u64,
    ) -> Self {
        let term = survivor.term().next();
        let id = LogId { term, index: survivor.last().index.next() };
        let membership = survivor.membership().refounded(members.clone(), founded_ms);
        let vote = (members.len() == 1).then_some(identity.node);
        let last = Entry { id, payload: Payload::Membership(membership.into()) };
        Self { identity, hard_state: HardState { term, vote }, last }
    }

    /// Makes the directory `to`, whole and durable, or leaves none.
    pub(super) fn write(&self, survivor: &Survivor, to: &Path) -> Result<(), Failure> {
        let partial = partial(to);
        clear(&partial)?;
        fs::create_dir_all(&partial).map_err(|error| failed("make", &partial, &error))?;
        self.write_checkpoint(survivor, &partial)?;
        self.write_log(survivor, &partial)?;
        // So that it can be started with etcd's flags, which do not say it.
        let Identity { node, cluster, .. } = self.identity;
        identity::note(&partial, Known { id: node, cluster })?;
        sync(&partial)?;
        self.check(survivor, &partial)?;
        fs::rename(&partial, to).map_err(|error| failed("make", to, &error))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(parent.unwrap_or_else(|| Path::new(".")))
    }

    fn write_checkpoint(&self, survivor: &Survivor, partial: &Path) -> Result<(), Failure> {
        let to = partial.join(CHECKPOINT_FILE);
        if survivor.is_backup {
            return restore(survivor, &to);
        }
        let from = survivor.dir.join(CHECKPOINT_FILE);
        match fs::copy(&from, &to) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("copy", &from, &error)),
        }
        // Opening repairs what a crash may have left, and checks all of it.
        let store = KvStore::open(&to).map_err(storage)?;
        expect_equal(&store.applied(), &survivor.checkpoint, &to)?;
        drop(store);
        sync(&to)
    }

    fn write_log(&self, survivor: &Survivor, partial: &Path) -> Result<(), Failure> {
        let mut log = RedbLog::open(partial).map_err(storage)?;
        let mut ops = vec![LogOp::Identity(self.identity), LogOp::HardState(self.hard_state)];
        if survivor.boundary != SnapshotMeta::default() {
            ops.push(LogOp::Reset(survivor.boundary.clone()));
        }
        let chunks = survivor.entries.chunks(CHUNK).map(<[Entry]>::to_vec);
        for entries in chunks.chain([vec![self.last.clone()]]) {
            ops.extend(Run::new(entries).map(LogOp::Append));
            let grouped: Vec<GroupOp> =
                ops.drain(..).map(|op| GroupOp { group: GROUP, op }).collect();
            log.write(&grouped).map_err(storage)?;
        }
        drop(log);
        [ACK_FILE, TAIL_FILE, LOG_FILE].iter().try_for_each(|name| sync(&partial.join(name)))
    }

    /// Reads everything back.
    fn check(&self, survivor: &Survivor, partial: &Path) -> Result<(), Failure> {
        let written = Survivor::read(partial)?;
        expect_equal(&written.identity, &self.identity, partial)?;
        expect_equal(&written.hard_state, &self.hard_state, partial)?;
        expect_equal(&written.boundary, &survivor.boundary, partial)?;
        expect_equal(&written.checkpoint, &survivor.checkpoint, partial)?;
        let expected = survivor.entries.iter().chain([&self.last]);
        let equal = written.entries.iter().eq(expected);
        expect_equal(&equal, &true, partial)
    }

    /// The history epoch that begins with it.
    pub(super) fn epoch(&self) -> u64 {
        match &self.last.payload {
            Payload::Membership(membership) => membership.epoch(),
            _ => 0,
        }
    }

    fn report(
        &self,
        survivor: &Survivor,
        args: &RecoverApply,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let Identity { cluster, node, .. } = self.identity;
        let members = survivor.membership().members().keys().copied();
        let others: Vec<NodeId> = members.filter(|member| *member != node).collect();
        let (committed, last) = (survivor.checkpoint.last, survivor.last());
        let epoch = self.epoch();
        let json = json!({
            "dir": args.to,
            "node": node.0,
            "cluster": cluster.to_string(),
            "epoch": epoch,
            "last": { "index": last.index.0, "term": last.term.0 },
            "committed": { "index": committed.index.0, "term": committed.term.0 },
        });
        output.print(&json, || {
            let mut text = format!(
                "{} is {node} of the new cluster {cluster}, history epoch {epoch}, alone.\n\
                 It has the entries up to {last}; {}. They are all kept.\n\
                 Its revision leaps by 1,000,000,000, and everything before counts as compacted.\n",
                args.to.display(),
                known(committed, last),
            );
            text.push_str(&self.commands(args, &others));
            text
        })
    }

    /// What to run next.
    fn commands(&self, args: &RecoverApply, others: &[NodeId]) -> String {
        let Identity { cluster, node, .. } = self.identity;
        let mut text = format!(
            "\nStart it:\n  raft serve --id {} --data-dir {} --join --cluster-id {cluster} \\\n    \
             --advertise {} --ca CA --cert CERT --key KEY\n",
            node.0,
            args.to.display(),
            args.advertise,
        );
        if others.is_empty() {
            return text;
        }
        text.push_str("\nThen add the others, one after the other, each on a blank directory:\n");
        for other in others {
            text.push_str(&format!(
                "  raft serve --id {} --data-dir NEWDIR --join --cluster-id {cluster} \\\n    \
                 --listen HOST:PORT --ca CA --cert CERT --key KEY\n  \
                 raft --endpoints {} member add {other}=HOST:PORT\n",
                other.0, args.advertise,
            ));
        }
        text
    }
}

/// Makes the checkpoint `to` of a backup.
fn restore(backup: &Survivor, to: &Path) -> Result<(), Failure> {
    let file = File::open(&backup.dir).map_err(|error| failed("read", &backup.dir, &error))?;
    let (meta, data) = (backup.checkpoint.clone(), Box::new(file));
    let mut store = KvStore::open(to).map_err(storage)?;
    store.restore(Snapshot { meta, data }).map_err(storage)?;
    expect_equal(&store.applied(), &backup.checkpoint, to)?;
    drop(store);
    sync(to)
}

/// Where the directory `to` is built.
fn partial(to: &Path) -> PathBuf {
    let mut name = OsString::from(to);
    name.push(".partial");
    name.into()
}

/// Refuses to write over anything.
pub(super) fn check_absent(to: &Path) -> Result<(), Failure> {
    let there = to.try_exists().map_err(|error| failed("look at", to, &error))?;
    if there && (!to.is_dir() || !names(to)?.is_empty()) {
        let text = format!("{} is there already, and not empty", to.display());
        return Err(Failure::usage(text).advice("give a directory that is absent or empty"));
    }
    Ok(())
}

/// Removes what an interrupted try has left; only files that it makes.
fn clear(partial: &Path) -> Result<(), Failure> {
    if !partial.try_exists().map_err(|error| failed("look at", partial, &error))? {
        return Ok(());
    }
    for name in names(partial)? {
        let path = partial.join(&name);
        let ours = [LOG_FILE, TAIL_FILE, ACK_FILE, LOCK_FILE, CHECKPOINT_FILE, identity::FILE];
        if ours.iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
        }
    }
    fs::remove_dir(partial).map_err(|error| failed("remove", partial, &error))
}

fn expect_equal<T: PartialEq>(written: &T, wanted: &T, path: &Path) -> Result<(), Failure> {
    if written == wanted {
        return Ok(());
    }
    let text = format!("{} does not hold what was written to it", path.display());
    Err(Failure::new(Kind::Local, text))
}

fn storage(error: StorageError) -> Failure {
    Failure::new(Kind::Local, error)
}

/// Now, in milliseconds since 1970; 0 on a machine that is set to before that.
pub(super) fn founded_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
