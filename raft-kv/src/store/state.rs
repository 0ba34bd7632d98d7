//! The replicated state: keys, sessions, membership, and how an entry of the log changes them.
//!
//! Deterministic: an entry and the state before it decide everything. It knows no disk.
//!
//! The state hash is chained: `h = XXH3-64(bytes, seed = h)`, from 0, first over each change record
//! of an entry, then, for a membership, over its postcard encoding, for a compaction, over its
//! revision as a little-endian `u64`, for leases and time as told in [`super::advance`], for users
//! and roles or alarms that have changed, over the change as postcard encodes it, and last
//! over nine little-endian `u64`: index, term, what the entry was (0 nothing, 1 command, 2
//! membership), what came of it (see [`Outcome`]), session, seq and lowest unanswered request (0
//! where there is none), revision and number of keys. Texts of errors are left out, so that another
//! version may word them differently.

use super::alarms::Alarms;
use super::auth::{Auth, leases_of};
use super::check::RollEntry;
use super::counts::Counts;
use super::format::Header;
use super::lease::{LeaseChange, LeaseTerm, Leases};
use super::legacy;
use super::mvcc::{Delta, Dropped, Mvcc};
use super::record::Record;
use super::run::{is_read_only, run};
use super::session::{Admission, Session, SessionChange, Sessions};
use super::time::Time;
use crate::api::{
    Action, ActionReply, AlarmChange, AuthChange, AuthError, Authority, Command, CommandReply,
    Fence, KvError, REQUEST_BYTES_MAX, SIGNED_BYTES_MAX,
};
use crate::codec;
use crate::integrity::HashRing;
use bytes::{Bytes, BytesMut};
use raft_core::types::{Entry, Index, Payload, SnapshotMeta, Version};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Everything that entries change.
pub(super) struct State {
    /// The last entry applied, and the membership there.
    pub(super) applied: SnapshotMeta,
    pub(super) mvcc: Mvcc,
    pub(super) leases: Leases,
    pub(super) sessions: Sessions,
    pub(super) time: Time,
    /// Users and roles, shared with whoever asks about them.
    pub(super) auth: Arc<Auth>,
    /// Whether they have changed since the last checkpoint.
    auth_changed: bool,
    /// The alarms that are raised, alike.
    pub(super) alarms: Arc<Alarms>,
    /// What was done since somebody last took this; no part of the state.
    pub(super) counts: Counts,
    /// The state hash after many entries.
    pub(super) hashes: HashRing,
}

/// The state, or what has changed of it, as of one entry.
pub(super) struct Frozen {
    pub(super) applied: SnapshotMeta,
    pub(super) revision: u64,
    pub(super) state_hash: u64,
    pub(super) compacted: u64,
    pub(super) time: Time,
    /// In the order they were made.
    pub(super) records: Vec<Record>,
    /// Changes, of these or earlier ones, that are of no use any more.
    pub(super) dropped: Vec<Dropped>,
    pub(super) sessions: Vec<SessionChange>,
    pub(super) leases: Vec<LeaseChange>,
    /// Users and roles, if they have changed, and there were ever any.
    pub(super) auth: Option<Arc<Auth>>,
    pub(super) alarms: Arc<Alarms>,
}

/// One thing that a checkpoint or snapshot holds.
pub(super) enum Item {
    Change(Record),
    Session(u64, Session),
    Lease(u64, LeaseTerm),
    Auth(Auth),
}

/// What came of an entry, as the state hash sees it.
#[derive(Clone, Copy)]
enum Outcome {
    /// No command.
    None = 0,
    /// It ran.
    Done = 1,
    /// It was refused, by the limits or by what it asked for.
    Refused = 2,
    /// Its session did not let it run.
    NotAdmitted = 3,
    /// It had run before.
    Repeated = 4,
}

impl State {
    /// The empty state; `checkpoints`: whether changes are collected for one.
    pub(super) fn new(checkpoints: bool) -> Self {
        Self {
            applied: SnapshotMeta::default(),
            mvcc: Mvcc::new(checkpoints),
            leases: Leases::new(checkpoints),
            sessions: Sessions::new(checkpoints),
            time: Time::default(),
            auth: Arc::default(),
            auth_changed: false,
            alarms: Arc::default(),
            counts: Counts::default(),
            hashes: HashRing::starting_at(Index::ZERO, 0),
        }
    }

    /// Applies the next entry; returns its reply, cut from `out`.
    pub(super) fn apply(&mut self, entry: &Entry, out: &mut BytesMut) -> Bytes {
        let last = self.applied.last;
        assert!(
            entry.id.index == last.index.next() && entry.id.term >= last.term,
            "entry {} does not follow {last}, the last applied",
            entry.id
        );
        let index = entry.id.index.0;
        let (kind, (outcome, request, reply)) = match &entry.payload {
            Payload::Noop => (0, (Outcome::None, [0; 3], Bytes::new())),
            Payload::Command(command) => (1, self.apply_command(index, command, out)),
            Payload::Membership(membership) => {
                raft_core::codec::put(membership, out);
                let before =
                    std::mem::replace(&mut self.applied.membership, (**membership).clone());
                if membership.version() > before.version() {
                    // Earlier versions may have counted what came before otherwise.
                    self.mvcc.restart_hash();
                    self.hashes = HashRing::starting_at(Index::ZERO, 0);
                }
                self.mvcc.mix(&out.split());
                let is_new = !before.is_empty() && membership.epoch() > before.epoch();
                // Before that version none began, and logs of then are read as they were.
                if is_new && membership.version() >= Version(3) {
                    self.begin_history(index);
                }
                (2, (Outcome::None, [0; 3], Bytes::new()))
            }
        };
        self.applied.last = entry.id;
        let [session, seq, unanswered_from] = request;
        let (revision, live) = (self.mvcc.revision(), self.mvcc.live());
        let term = entry.id.term.0;
        let mixed =
            [index, term, kind, outcome as u64, session, seq, unanswered_from, revision, live];
        let mut bytes = [0; 72];
        for (place, number) in bytes.chunks_exact_mut(8).zip(mixed) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.mvcc.mix(&bytes);
        self.hashes.push(entry.id.index, self.mvcc.hash());
        reply
    }

    fn apply_command(
        &mut self,
        index: u64,
        bytes: &[u8],
        out: &mut BytesMut,
    ) -> (Outcome, [u64; 3], Bytes) {
        let command = match decode(bytes) {
            Ok(command) => command,
            Err(error) => return (Outcome::Refused, [0; 3], encode(&Err(error), out)),
        };
        let Command { request, fence, action } = command;
        let (authority, action) = action.with_authority();
        let fence = fence.as_ref();
        if let Err(error) = self.check_authority(authority.as_ref(), &action, fence) {
            return (Outcome::Refused, [0; 3], encode(&Err(error.into()), out));
        }
        let owner = self.owner(authority.as_ref());
        let Some(request) = request else {
            let reply = match &action {
                Action::OpenSession => Ok(ActionReply::Session(self.open_session(index, owner))),
                Action::Advance(advance) => self.advance(index, advance),
                _ => self.run(index, &action, fence),
            };
            return (outcome_of(&reply), [0; 3], encode(&reply, out));
        };
        if self.auth.is_enabled() && !self.sessions.belongs_to(request.session, owner) {
            let error = KvError::SessionUnknown(request.session);
            return (Outcome::NotAdmitted, [0; 3], encode(&Err(error), out));
        }
        let mixed = [request.session.0, request.seq, request.unanswered_from];
        match self.sessions.admit(&request, index, &self.time) {
            Admission::Run => {
                let reply = self.run(index, &action, fence);
                let encoded = encode(&reply, out);
                if !is_read_only(&action) {
                    let legacy = if is_legacy(bytes) { legacy::encode_reply(&reply) } else { None };
                    self.sessions.keep(&request, legacy.as_ref().unwrap_or(&encoded));
                }
                (outcome_of(&reply), mixed, encoded)
            }
            Admission::Repeated(reply) => {
                let reply = if is_legacy(&reply) { legacy::present_reply(reply) } else { reply };
                (Outcome::Repeated, mixed, reply)
            }
            Admission::Refused(error) => (Outcome::NotAdmitted, mixed, encode(&Err(error), out)),
        }
    }

    /// Runs what clients ask for, if they still may.
    fn run(&mut self, index: u64, action: &Action, fence: Option<&Fence>) -> CommandReply {
        if let Some(fence) = fence {
            self.check_fence(fence)?;
        }
        self.alarms.check(action)?;
        match action {
            Action::Auth(change) => self.change_auth(index, change),
            Action::Alarm(change) => self.change_alarms(index, change),
            Action::Grant { id, ttl_ms } => self.grant(index, *id, *ttl_ms),
            Action::Revoke(id) => self.revoke(*id),
            action => run(&mut self.mvcc, &mut self.leases, &mut self.counts, action),
        }
    }

    /// Whether a command may run on this authority as users and roles are at its place in the log,
    /// whatever was known when it was proposed.
    fn check_authority(
        &self,
        authority: Option<&Authority>,
        action: &Action,
        fence: Option<&Fence>,
    ) -> Result<(), AuthError> {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        let (name, revision) = match authority {
            // Only leaders propose it.
            _ if matches!(action, Action::Advance(_)) => return Ok(()),
            None => return Err(AuthError::UserEmpty),
            Some(Authority::Cluster) => return Ok(()),
            Some(Authority::User { name, revision, .. }) => (name, *revision),
        };
        if revision != self.auth.revision() {
            return Err(AuthError::OldRevision);
        }
        self.auth.check_action(name, action, fence)?;
        leases_of(action)
            .into_iter()
            .try_for_each(|lease| self.auth.check_lease(name, |at| self.leases.key_from(lease, at)))
    }

    /// Whose sessions a command may use, and opens: `None` for those of nobody.
    fn owner<'a>(&self, authority: Option<&'a Authority>) -> Option<&'a str> {
        match authority {
            Some(Authority::User { name, shared_session: false, .. }) if self.auth.is_enabled() => {
                Some(name)
            }
            _ => None,
        }
    }

    fn change_auth(&mut self, index: u64, change: &AuthChange) -> CommandReply {
        if Arc::make_mut(&mut self.auth).change(change, index)? {
            self.auth_changed = true;
            let mut bytes = BytesMut::new();
            raft_core::codec::put(change, &mut bytes);
            self.mvcc.mix(&bytes);
        }
        Ok(ActionReply::Auth(self.auth.revision()))
    }

    fn change_alarms(&mut self, index: u64, change: &AlarmChange) -> CommandReply {
        let mut next = (*self.alarms).clone();
        let changed = next.change(change, index)?;
        if changed {
            self.alarms = Arc::new(next);
            let mut bytes = BytesMut::new();
            raft_core::codec::put(change, &mut bytes);
            self.mvcc.mix(&bytes);
        }
        Ok(ActionReply::Alarm(changed))
    }

    /// Calls `each` for users and roles, and for alarms, if there were ever any, from the number
    /// `start` on.
    pub(super) fn visit_singles_from(
        &self,
        start: u64,
        mut each: impl FnMut(RollEntry) -> ControlFlow<()>,
    ) {
        if start == 0 && !self.auth.is_untouched() && each(self.auth.entry()).is_break() {
            return;
        }
        if start <= 1 && !self.alarms.is_untouched() {
            // Two are all there is.
            let _ = each(self.alarms.entry());
        }
    }

    /// Whether the lock is still held by the key that was created at the token.
    fn check_fence(&self, fence: &Fence) -> Result<(), KvError> {
        let held = self.mvcc.current(&fence.key).map(|record| record.header().create_revision);
        let token = fence.token;
        if held == Some(token.0) { Ok(()) } else { Err(KvError::Fenced { token }) }
    }

    /// An empty state, to [`State::load`] what `header` announces.
    pub(super) fn begin_load(checkpoints: bool, header: &Header) -> Self {
        let mut state = Self::new(checkpoints);
        state.mvcc.begin_load(header.later.compacted);
        state
    }

    /// Takes in what a checkpoint or snapshot holds: the changes in order, then the sessions, then
    /// the leases, then users and roles.
    pub(super) fn load(&mut self, item: Item) {
        match item {
            Item::Change(record) => self.mvcc.load(record),
            Item::Session(id, session) => self.sessions.load(id, session),
            Item::Lease(id, term) => self.leases.load(id, term),
            Item::Auth(auth) => self.auth = Arc::new(auth),
        }
    }

    /// Ends loading: all that `header` announces has been taken in.
    pub(super) fn loaded(&mut self, header: Header) {
        self.mvcc.loaded(header.revision, header.state_hash);
        self.mvcc.visit_leased(|key, lease| self.leases.attach(key, lease));
        self.hashes = HashRing::starting_at(header.applied.last.index, header.state_hash);
        self.applied = header.applied;
        self.alarms = header.alarms;
        self.time = header.later.time;
        self.sessions.loaded(&self.time);
    }

    /// What has changed since the last call, to be written to a checkpoint.
    pub(super) fn freeze_changes(&mut self) -> Frozen {
        let (delta, sessions) = (self.mvcc.take_delta(), self.sessions.take_changes());
        let leases = self.leases.take_changes();
        let changed = std::mem::take(&mut self.auth_changed);
        let auth = changed.then(|| Arc::clone(&self.auth));
        Frozen { auth, ..self.freeze(delta, sessions, leases) }
    }

    /// All of it.
    pub(super) fn freeze_all(&self) -> Frozen {
        let delta = Delta { records: self.mvcc.records(), dropped: Vec::new() };
        let auth = (!self.auth.is_untouched()).then(|| Arc::clone(&self.auth));
        Frozen { auth, ..self.freeze(delta, self.sessions.all(), self.leases.all()) }
    }

    fn freeze(
        &self,
        delta: Delta,
        sessions: Vec<SessionChange>,
        leases: Vec<LeaseChange>,
    ) -> Frozen {
        Frozen {
            applied: self.applied.clone(),
            revision: self.mvcc.revision(),
            state_hash: self.mvcc.hash(),
            compacted: self.mvcc.compacted(),
            time: self.time.clone(),
            records: delta.records,
            dropped: delta.dropped,
            sessions,
            leases,
            auth: None,
            alarms: Arc::clone(&self.alarms),
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Command, KvError> {
    if bytes.len() > REQUEST_BYTES_MAX + SIGNED_BYTES_MAX {
        let (size, limit) = (bytes.len() as u64, REQUEST_BYTES_MAX as u64);
        return Err(KvError::TooLarge { what: "request".into(), size, limit });
    }
    let command = if is_legacy(bytes) { legacy::decode(bytes) } else { codec::decode(bytes) };
    Ok(command?)
}

/// Whether an older program has encoded a command or a reply.
fn is_legacy(bytes: &[u8]) -> bool {
    bytes.first() == Some(&legacy::VERSION)
}

fn encode(reply: &CommandReply, out: &mut BytesMut) -> Bytes {
    codec::encode_into(reply, out);
    out.split().freeze()
}

const fn outcome_of(reply: &CommandReply) -> Outcome {
    if reply.is_ok() { Outcome::Done } else { Outcome::Refused }
}
