//! Writes and changes of the members: done where this node leads, else forwarded to the leader,
//! once.
//!
//! A try that certainly had no effect is followed by another one until the deadline. A try whose
//! outcome is unknown is followed by another one only if the command may be repeated, because the
//! state machine answers a request it knows instead of running it again.

use super::auth::Asker;
use super::cause::not_leader;
use super::frame::{self, CommandHead};
use super::growth::{ALARMS_SINCE, is_upgrading, since, upgrading};
use super::lease::check_keep_alive;
use super::replica::Replica;
use super::{Clock, Door, too_large};
use crate::api::{
    Action, AuthChange, AuthError, CommandReply, KvError, LeaseId, Password, ReplyBody, Request,
    RequestBody, validate_changes,
};
use crate::{codec, wire};
use bytes::Bytes;
use raft_core::node::ProposeError;
use raft_core::transport::CallError;
use raft_core::types::{Change, NodeId};
use std::time::Duration;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::debug;

/// Pauses between tries: the first, and the longest they double up to.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What became of one try.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Try {
    /// The encoded reply for the caller.
    Answered(Bytes),
    /// Certainly no effect; the error says why.
    NotDone(KvError),
    /// It may have run; the text says why that is not known.
    InDoubt(String),
}

impl Try {
    fn refused(error: KvError) -> Self {
        Self::Answered(wire::encode_reply(&Err(error)))
    }

    /// What a proposal's failure means.
    pub(super) fn of_propose(error: &ProposeError) -> Self {
        match *error {
            ProposeError::NotLeader { leader } => {
                Self::NotDone(KvError::Unavailable(not_leader(leader)))
            }
            ProposeError::Overloaded => Self::NotDone(KvError::Overloaded),
            ProposeError::TooLarge { size, limit } => Self::refused(too_large(size, limit)),
            // A node that stopped will not learn the outcome, however often it is asked.
            ProposeError::Stopped => Self::refused(KvError::Unknown(error.to_string())),
            _ => Self::InDoubt(error.to_string()),
        }
    }

    /// What the leader's answer to a forwarded request means.
    pub(super) fn of_forwarded(answer: Result<Bytes, CallError>, leader: NodeId) -> Self {
        let reply = match answer {
            Ok(reply) => reply,
            Err(CallError::NotSent(why) | CallError::Refused(why)) => {
                let text = format!("leader {leader} cannot be reached: {why}");
                return Self::NotDone(KvError::Unavailable(text));
            }
            Err(error) => return Self::InDoubt(format!("leader {leader}: {error}")),
        };
        if frame::is_ok(&reply) {
            return Self::Answered(reply);
        }
        match wire::decode_reply(&reply) {
            Ok(Err(
                error @ (KvError::Unavailable(_)
                | KvError::Overloaded
                | KvError::Auth(AuthError::OldRevision)
                | KvError::NoQuorum { may_have_run: false, .. }),
            )) => Self::NotDone(error),
            Ok(Err(KvError::Unknown(why))) => Self::InDoubt(why),
            Ok(Err(KvError::NoQuorum { why, .. })) => Self::InDoubt(why.text),
            Ok(_) => Self::Answered(reply),
            Err(error) => Self::InDoubt(format!("leader {leader} answered with {error}")),
        }
    }
}

/// How far a write has come, for when its deadline passes.
#[derive(Default)]
struct Progress {
    /// A try is under way that may take effect.
    in_flight: bool,
    /// An earlier try may have taken effect.
    in_doubt: bool,
    /// Why the last try that certainly had no effect had none.
    last: Option<KvError>,
}

/// One write request.
struct Write {
    asker: Asker,
    frame: Bytes,
    work: Work,
    repeatable: bool,
    clock: Clock,
}

/// What a leader is to do.
enum Work {
    /// Propose this command.
    Command(Bytes),
    /// Change the members.
    Change(Vec<Change>),
    /// Keep these leases alive.
    KeepAlive(Vec<LeaseId>),
}

impl<N: Replica> Door<N> {
    /// Puts a command through the log; the encoded reply.
    pub(super) async fn write(
        &self,
        asker: &Asker,
        frame: Bytes,
        command: Bytes,
        clock: Clock,
    ) -> Bytes {
        let refuse = |error| wire::encode_reply(&Err(error));
        let (repeatable, changes_auth) = match CommandHead::of(&command) {
            Ok(head) if head.has_authority() && asker.caller.is_client() => {
                let text = "on whose authority a command runs, nodes say".into();
                return refuse(KvError::Malformed(text));
            }
            Ok(head) => (head.repeatable(), head.changes_auth()),
            Err(error) => return refuse(KvError::Malformed(format!("command: {error}"))),
        };
        let asker = asker.clone();
        let mut write =
            Write { asker, frame, work: Work::Command(command.clone()), repeatable, clock };
        if changes_auth && write.asker.caller.is_client() {
            match Box::pin(self.prepare(&write.asker, &command, clock)).await {
                Ok(command) => {
                    write.frame = resigned(&write.asker, command.clone(), clock);
                    write.work = Work::Command(command);
                }
                Err(error) => return refuse(error),
            }
        }
        self.carry_out(&write).await
    }

    /// Changes the members; the encoded reply. It is never done twice: a second run might undo what
    /// somebody else did after the first.
    pub(super) async fn change_members(
        &self,
        asker: Asker,
        frame: Bytes,
        changes: Vec<Change>,
        clock: Clock,
    ) -> Bytes {
        if let Err(error) = validate_changes(&changes) {
            return wire::encode_reply(&Err(error));
        }
        let work = Work::Change(changes);
        self.carry_out(&Write { asker, frame, work, repeatable: false, clock }).await
    }

    /// Keeps leases alive; the encoded reply.
    pub(super) async fn keep_alive(
        &self,
        asker: Asker,
        frame: Bytes,
        leases: Vec<LeaseId>,
        clock: Clock,
    ) -> Bytes {
        if let Err(error) = check_keep_alive(&leases) {
            return wire::encode_reply(&Err(error));
        }
        let work = Work::KeepAlive(leases);
        self.carry_out(&Write { asker, frame, work, repeatable: true, clock }).await
    }

    async fn carry_out(&self, write: &Write) -> Bytes {
        let mut progress = Progress::default();
        match timeout_at(write.clock.answer_by, self.route(write, &mut progress)).await {
            Ok(Ok(reply)) => settle(reply, &progress),
            Ok(Err(error)) => wire::encode_reply(&Err(error)),
            Err(_) => wire::encode_reply(&Err(self.expired(write, progress))),
        }
    }

    /// One try where this node leads.
    async fn try_here(&self, write: &Write) -> Try {
        match &write.work {
            Work::Command(command) => {
                match self.authorize(&write.asker, command, write.clock).await {
                    Ok(signed) => self.propose(signed.as_ref().unwrap_or(command)).await,
                    Err(error) => Try::refused(error),
                }
            }
            Work::Change(changes) => self.change(changes).await,
            Work::KeepAlive(leases) => self.renew(leases).await,
        }
    }

    /// Tries until there is an answer.
    async fn route(&self, write: &Write, progress: &mut Progress) -> Result<Bytes, KvError> {
        let mut pause = PAUSE_MIN;
        loop {
            let leader = self.node.status().leader;
            progress.in_flight = leader.is_some();
            let tried = match leader {
                Some(leader) if leader == self.id => self.try_here(write).await,
                Some(leader) if write.asker.caller.is_client() => self.forward(leader, write).await,
                _ => Try::NotDone(KvError::Unavailable(not_leader(leader))),
            };
            progress.in_flight = false;
            let error = match tried {
                Try::Answered(reply) => return Ok(reply),
                Try::NotDone(error) => error,
                Try::InDoubt(why) => {
                    progress.in_doubt = true;
                    KvError::Unknown(why)
                }
            };
            let certain = !error.may_have_run();
            let caller = write.asker.caller;
            debug!(?caller, ?leader, %error, "write not answered");
            if !caller.is_client() || !(certain || write.repeatable) {
                return Err(error);
            }
            progress.last = Some(error);
            Box::pin(self.pause(leader, &mut pause)).await;
        }
    }

    async fn propose(&self, command: &Bytes) -> Try {
        let action = match check(command) {
            Ok(action) => action,
            Err(error) => return Try::refused(error),
        };
        if let Err(error) = self.check_growth(&action) {
            return Try::refused(error);
        }
        if let Some(error) = upgrading(&self.node.status(), since(&action)) {
            return Try::NotDone(error);
        }
        match self.node.propose(command.clone()).await {
            Ok(done) if is_outdated(&done.reply) => {
                Try::NotDone(KvError::Auth(AuthError::OldRevision))
            }
            Ok(done) => Try::Answered(wire::encode_reply(&Ok(ReplyBody::Write(done.reply)))),
            Err(error) => Try::of_propose(&error),
        }
    }

    /// Sends the request to the leader as it is. A repeatable one is not left with a leader that
    /// has been replaced: a dead one would not even say that it is.
    async fn forward(&self, leader: NodeId, write: &Write) -> Try {
        if let Some(error) = self.too_new(&write.work) {
            return Try::NotDone(error);
        }
        let frame = match self.outgoing(write).await {
            Ok(frame) => frame,
            Err(error) => return Try::refused(error),
        };
        let answer = self.call_peer(leader, &frame, write.clock);
        if !write.repeatable {
            return Try::of_forwarded(answer.await, leader);
        }
        tokio::select! {
            answer = answer => Try::of_forwarded(answer, leader),
            () = self.replaced(leader) => Try::InDoubt(format!("leader {leader} was replaced")),
        }
    }

    /// Why a command is not forwarded yet: a leader of an older version would call it nonsense,
    /// and who has sent it would not learn that it needs only wait.
    fn too_new(&self, work: &Work) -> Option<KvError> {
        let Work::Command(command) = work else { return None };
        CommandHead::of(command).ok().filter(CommandHead::changes_alarms)?;
        upgrading(&self.node.status(), ALARMS_SINCE)
    }

    /// The request as it is forwarded.
    async fn outgoing(&self, write: &Write) -> Result<Bytes, KvError> {
        let Work::Command(command) = &write.work else { return Ok(write.frame.clone()) };
        let signed = self.authorize(&write.asker, command, write.clock).await?;
        let Some(signed) = signed else { return Ok(write.frame.clone()) };
        let deadline_ms = write.clock.remaining_ms();
        Ok(wire::encode_request(&Request { deadline_ms, body: RequestBody::Write(signed) }))
    }

    /// Sends a request to another node, with what is left of its time.
    pub(super) async fn call_peer(
        &self,
        to: NodeId,
        frame: &Bytes,
        clock: Clock,
    ) -> Result<Bytes, CallError> {
        let frame = wire::with_deadline(frame, clock.remaining_ms())
            .map_err(|error| CallError::NotSent(error.to_string()))?;
        self.peers.call(self.group, to, frame).await
    }

    /// Waits until another node than `leader` leads.
    async fn replaced(&self, leader: NodeId) {
        let mut known = self.leader.clone();
        let other = |known: &Option<NodeId>| known.is_some_and(|known| known != leader);
        let replaced = known.wait_for(other).await.is_ok();
        if !replaced {
            // The node has stopped; nothing will replace anything any more.
            std::future::pending().await
        }
    }

    /// Waits until another node than `tried` leads, and in any case not much longer than `pause`.
    async fn pause(&self, tried: Option<NodeId>, pause: &mut Duration) {
        let mut known = self.leader.clone();
        let news = known.wait_for(|known| known.is_some() && *known != tried);
        // Without a node that could tell any more, the pause is just one.
        let closed = matches!(timeout(*pause, news).await, Ok(Err(_)));
        if closed {
            sleep(*pause).await;
        }
        *pause = (*pause * 2).min(PAUSE_MAX);
    }

    fn expired(&self, write: &Write, progress: Progress) -> KvError {
        let why = self.why(write.clock);
        debug!(caller = ?write.asker.caller, ?why, "write expired");
        match progress.last {
            _ if progress.in_flight || progress.in_doubt => why.unknown(),
            Some(KvError::Overloaded) => KvError::Overloaded,
            // There is a leader, and it has said what is in the way.
            Some(error)
                if why.is_led()
                    && (matches!(write.work, Work::Change(_)) || is_upgrading(&error)) =>
            {
                error
            }
            _ => why.unavailable(),
        }
    }
}

/// What a leader refuses before it is in the log, as growth of a store that is full by now, says
/// nothing about the fate of an earlier try; nor does a session or a right that is gone. Whatever
/// else the state machine answers is about the request, whichever try brought it there.
fn settle(reply: Bytes, progress: &Progress) -> Bytes {
    if !progress.in_doubt {
        return reply;
    }
    let refused = match wire::decode_reply(&reply) {
        Ok(Err(error)) if !error.may_have_run() => error,
        Ok(Ok(ReplyBody::Write(inner))) => match codec::decode::<CommandReply>(&inner) {
            Ok(Err(error @ KvError::SessionUnknown(_))) => error,
            // Rights are looked at before it is known whether it ran.
            Ok(Err(error @ KvError::Auth(AuthError::Denied | AuthError::UserEmpty))) => error,
            _ => return reply,
        },
        _ => return reply,
    };
    wire::encode_reply(&Err(KvError::Unknown(format!("sent again: {refused}"))))
}

/// The request with another command in it.
fn resigned(asker: &Asker, command: Bytes, clock: Clock) -> Bytes {
    let body = asker.sign(RequestBody::Write(command));
    wire::encode_request(&Request { deadline_ms: clock.remaining_ms(), body })
}

/// Whether users and roles had changed by the time a command came to its place in the log, so that
/// it did not run. What sessions keep is never this.
fn is_outdated(reply: &[u8]) -> bool {
    /// Version, `Err`, which one, and which of those: a reply is nearly never so short.
    const LENGTH: usize = 4;
    let old = || codec::encode(&CommandReply::Err(KvError::Auth(AuthError::OldRevision)));
    reply.len() == LENGTH && *reply == *old()
}

/// What the state machine would refuse is refused here, before it costs a log entry; and so is what
/// only leaders may ask of it. Returns what is asked.
fn check(command: &Bytes) -> Result<Action, KvError> {
    let command: crate::api::Command =
        codec::decode(command).map_err(|error| KvError::Malformed(format!("command: {error}")))?;
    crate::store::validate(&command.action)?;
    match command.action.inner() {
        Action::Advance(_) => {
            return Err(KvError::Malformed("time is advanced by leaders only".into()));
        }
        Action::Auth(
            AuthChange::AddUser { password: Password::Plain(_), .. }
            | AuthChange::ChangePassword { password: Password::Plain(_), .. },
        ) => return Err(KvError::Malformed("passwords are hashed by nodes".into())),
        _ => {}
    }
    Ok(command.action)
}
