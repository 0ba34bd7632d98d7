//! From a call to its answer: names for writes, deadlines, and the session behind it all.

use super::auth::Signing;
use super::error::{Cause, ClientError, Trouble, gave_up};
use super::exchange::Exchange;
use super::session::{Session, Ticket};
use super::{Client, Shared, frame};
use crate::api::{
    Action, ActionReply, CommandReply, KvError, Op, REQUEST_BYTES_MAX, ReplyBody, Request,
    RequestBody, SESSION_WINDOW_MAX, SessionId,
};
use crate::codec::{self, WireError};
use crate::wire;
use bytes::Bytes;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

impl Client {
    pub(super) async fn request(
        &self,
        body: RequestBody,
        repeatable: bool,
    ) -> Result<ReplyBody, ClientError> {
        let read = body.is_read();
        let deadline = Instant::now() + self.deadline;
        // What takes long takes as long on another node, which would have to begin anew.
        let attempt = match body.takes_long() {
            true => self.shared.attempt.max(self.deadline / 2),
            false => self.shared.attempt,
        };
        match self.exchange(body, repeatable, attempt, deadline).await {
            // A read has no effect that could be in doubt.
            Err(ClientError::Unknown { reason, source }) if read => {
                Err(ClientError::NotDone { reason, source })
            }
            answer => answer,
        }
    }

    /// Has one request answered; one node may take as long as `attempt`.
    pub(super) async fn exchange(
        &self,
        body: RequestBody,
        repeatable: bool,
        attempt: Duration,
        deadline: Instant,
    ) -> Result<ReplyBody, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let frame_ms = millis(attempt.min(left));
        // Whoever logs in has no token.
        let is_login = matches!(body, RequestBody::Authenticate { .. });
        let frame = wire::encode_request(&Request { deadline_ms: frame_ms, body });
        let signing = match is_login {
            true => Signing::No,
            false => self.signing(),
        };
        let (in_doubt, way) = (false, self.way.clone());
        let mut exchange =
            Exchange { frame, frame_ms, attempt, deadline, repeatable, in_doubt, signing, way };
        self.shared.exchange(&mut exchange).await
    }

    /// Puts an action through the log, exactly once.
    pub(super) async fn write(&self, action: &Action) -> Result<ActionReply, ClientError> {
        // What no node would take is told at once, and for certain.
        let lists = crate::store::validate_lists(action, self.shared.txn_ops_max);
        lists.and_then(|()| crate::store::validate(action)).map_err(ClientError::Refused)?;
        let deadline = Instant::now() + self.deadline;
        loop {
            let ticket = self.ticket(deadline).await?;
            let frame_ms = self.frame_ms(deadline);
            let request = ticket.request();
            let frame = frame::encode_write(
                frame_ms,
                Some(request),
                self.fence.as_deref(),
                action,
                size_of(action),
            );
            if frame.len() > REQUEST_BYTES_MAX {
                let (size, limit) = (frame.len() as u64, REQUEST_BYTES_MAX as u64);
                let error = KvError::TooLarge { what: "request".into(), size, limit };
                return Err(ClientError::Refused(error));
            }
            let mut exchange = self.repeatable(frame, frame_ms, deadline);
            let body = self.shared.exchange(&mut exchange).await?;
            match command_reply(&body) {
                Ok(Ok(reply)) => return Ok(reply),
                // Nothing was sent under the old session that could have run: start over in a new
                // one.
                Ok(Err(KvError::SessionUnknown(session)))
                    if !exchange.in_doubt && Instant::now() < deadline =>
                {
                    self.shared.forget_session(session);
                }
                Ok(Err(error @ KvError::SessionUnknown(session))) => {
                    self.shared.forget_session(session);
                    let trouble = Trouble { address: None, cause: Cause::Node(error) };
                    return Err(gave_up(exchange.in_doubt, Some(trouble)));
                }
                Ok(Err(error)) => return Err(ClientError::refused(error)),
                Err(_) => return Err(unexpected(true)),
            }
        }
    }

    /// A name for a new write.
    async fn ticket(&self, deadline: Instant) -> Result<Ticket, ClientError> {
        let session = match self.shared.current_session() {
            Some(session) => session,
            None => Box::pin(self.open_session(deadline)).await?,
        };
        timeout_at(deadline, session.ticket()).await.map_err(|_| {
            let cause = Cause::WindowFull(SESSION_WINDOW_MAX);
            gave_up(false, Some(Trouble { address: None, cause }))
        })
    }

    /// The session, opened by one caller while the others wait.
    async fn open_session(&self, deadline: Instant) -> Result<Arc<Session>, ClientError> {
        let shared = &self.shared;
        let Ok(_opening) = timeout_at(deadline, shared.opening.lock()).await else {
            return Err(gave_up(false, shared.last_trouble()));
        };
        if let Some(session) = shared.current_session() {
            return Ok(session);
        }
        let frame_ms = self.frame_ms(deadline);
        let frame = frame::encode_write(frame_ms, None, None, &Action::OpenSession, 0);
        let mut exchange = self.repeatable(frame, frame_ms, deadline);
        let body = match shared.exchange(&mut exchange).await {
            Ok(body) => body,
            // A session that may have been opened has no effect on what the caller wants.
            Err(ClientError::Unknown { reason, source }) => {
                return Err(ClientError::NotDone { reason, source });
            }
            Err(error) => return Err(error),
        };
        match command_reply(&body) {
            Ok(Ok(ActionReply::Session(id))) => {
                let session = Arc::new(Session::new(id));
                shared.set_session(Some(Arc::clone(&session)));
                Ok(session)
            }
            Ok(Err(error)) => Err(ClientError::refused(error)),
            _ => Err(unexpected(false)),
        }
    }

    fn repeatable(&self, frame: Bytes, frame_ms: u32, deadline: Instant) -> Exchange {
        let attempt = self.shared.attempt;
        let (signing, way) = (self.signing(), self.way.clone());
        let (repeatable, in_doubt) = (true, false);
        Exchange { frame, frame_ms, attempt, deadline, repeatable, in_doubt, signing, way }
    }

    /// The deadline a request is first encoded with.
    fn frame_ms(&self, deadline: Instant) -> u32 {
        millis(self.shared.attempt.min(deadline.saturating_duration_since(Instant::now())))
    }
}

impl Shared {
    fn current_session(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_session(&self, session: Option<Arc<Session>>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Lets a session go that the cluster does not know any more.
    fn forget_session(&self, id: SessionId) {
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_some_and(|session| session.id() == id) {
            *session = None;
        }
    }

    fn last_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_trouble(&self, trouble: &Trouble) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.clone());
    }
}

/// Milliseconds for a request; never 0, which would leave a node no time at all.
pub(super) fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn command_reply(body: &ReplyBody) -> Result<CommandReply, WireError> {
    let ReplyBody::Write(reply) = body else { return Err(WireError::Malformed) };
    codec::decode(reply)
}

/// A reply of another kind than the request: the node speaks nonsense.
pub(super) fn unexpected(may_have_run: bool) -> ClientError {
    let cause = Cause::Answer(WireError::Malformed);
    gave_up(may_have_run, Some(Trouble { address: None, cause }))
}

/// Roughly the bytes of an action, to make room for it at once.
fn size_of(action: &Action) -> usize {
    match action {
        Action::Op(Op::Put(put)) => put.key.len() + put.value.as_ref().map_or(0, Bytes::len),
        Action::Txn(_) => 512,
        _ => 64,
    }
}
