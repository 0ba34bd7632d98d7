//! Who asks, and whether they may: before a request costs anything and, of reads, once more when
//! there is an answer, as users and roles are by then.
//!
//! Here a request is let in as the user its token names. What it does is decided where it takes
//! effect: the command that a write becomes says on whose authority it runs and as of which
//! revision of users and roles, and does not run where they are other ones by then; it is tried
//! again with what is known then. Whoever is refused for what this node knows is refused only after
//! it has made sure that it knows the newest.
//!
//! Where nobody has enabled it, all of this is one look at one number.

mod password;
mod token;

use super::read::summary;
use super::replica::Replica;
use super::{Clock, Door};
use crate::api::{
    Access, Action, AuthAnswer, AuthChange, AuthError, AuthQuestion, Authority, Command, Keys,
    KvError, LeaseStatus, Password, Query, Reply, ReplyBody, Request, RequestBody, Secret, Token,
};
use crate::store::Auth;
use crate::watch::Stream;
use crate::{codec, wire};
use bytes::Bytes;
pub(super) use password::Hashing;
use raft_core::node::ReadMode;
use raft_core::transport::Caller;
#[cfg(feature = "etcd")]
use raft_core::transport::ConnectionId;
#[cfg(feature = "etcd")]
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "etcd")]
pub(crate) use token::Kept;
pub(super) use token::Tokens;
#[cfg(feature = "testing")]
pub(crate) use token::sample;

/// Who has sent a request or opened a stream, as far as it says.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(super) caller: Caller,
    /// The token it has shown.
    token: Option<Token>,
    source: Source,
    /// A token that was looked at already, and stays valid as long as this is there.
    #[cfg(feature = "etcd")]
    kept: Option<Arc<Kept>>,
}

/// Whose requests wait for each other: those of one connection.
pub(super) type Whose = (Source, Caller);

/// By which way it came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    /// From outside.
    Network,
    /// Through a door of this process, which has one session for all of its clients.
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "there is no door then"))]
    Door,
    /// From such a door itself, which looks after what its clients may do.
    DoorItself,
}

/// What somebody has to be allowed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need<'a> {
    /// Being some user.
    User,
    /// Everything.
    Root,
    /// To read these keys.
    Read(&'a Keys),
    /// To be told this.
    Told(&'a AuthQuestion),
    /// To have this done.
    Write(&'a Command),
}

impl Asker {
    pub(super) const fn of(caller: Caller) -> Self {
        Self::by(Source::Network, caller, None)
    }

    /// A client of a door of this process, with the token it has shown. The door numbers its
    /// connections as it likes.
    #[cfg(feature = "etcd")]
    pub(crate) fn through_door(connection: ConnectionId, token: Option<&str>) -> Self {
        Self::by(Source::Door, Caller::Client(connection), token.map(Token::from))
    }

    /// The door itself, on behalf of one of its connections: it may open any watch.
    #[cfg(feature = "etcd")]
    pub(crate) const fn door(connection: ConnectionId) -> Self {
        Self::by(Source::DoorItself, Caller::Client(connection), None)
    }

    /// The same, where a token that it shows was looked at already.
    #[cfg(feature = "etcd")]
    pub(crate) fn keeping(self, kept: Option<Arc<Kept>>) -> Self {
        Self { kept, ..self }
    }

    const fn by(source: Source, caller: Caller, token: Option<Token>) -> Self {
        Self {
            caller,
            token,
            source,
            #[cfg(feature = "etcd")]
            kept: None,
        }
    }

    /// Whose requests wait for each other.
    pub(super) const fn whose(&self) -> Whose {
        (self.source, self.caller)
    }

    /// A request with the same token.
    pub(super) fn sign(&self, body: RequestBody) -> RequestBody {
        match self.token.clone() {
            Some(token) => RequestBody::Signed { token, body: Box::new(body) },
            None => body,
        }
    }

    /// The same with the token of the request itself.
    pub(super) fn signed(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }
}

impl<N: Replica> Door<N> {
    /// Whether somebody may do something, as far as this node knows now: who it is. `None` if
    /// everybody may do everything.
    pub(super) fn judge(&self, asker: &Asker, need: Need<'_>) -> Result<Option<User>, AuthError> {
        if !self.store.is_auth_enabled() {
            return Ok(None);
        }
        let auth = self.store.auth();
        if !auth.is_enabled() {
            return Ok(None);
        }
        let token = asker.token.as_ref().map(|token| &*token.0).filter(|token| !token.is_empty());
        let token = token.ok_or(AuthError::UserEmpty)?;
        let name = self.user(asker, token, &auth)?;
        check(&auth, &name, need)?;
        let since = auth.user(&name).map_or(0, |user| user.since);
        Ok(Some(User { name, since, revision: auth.revision() }))
    }

    /// Who shows a token.
    fn user(&self, asker: &Asker, token: &str, auth: &Auth) -> Result<String, AuthError> {
        let epoch = self.epoch();
        #[cfg(feature = "etcd")]
        if let Some(user) = asker.kept.as_ref().and_then(|kept| kept.user(token, auth, epoch)) {
            return Ok(user.into());
        }
        #[cfg(not(feature = "etcd"))]
        let _ = asker;
        self.tokens.user(token, auth, epoch, &self.store)
    }

    /// The same as [`judge`](Self::judge), by what the whole cluster knows if this node would
    /// refuse; `local` if that is not to be asked.
    pub(super) async fn allow(
        &self,
        asker: &Asker,
        need: Need<'_>,
        local: bool,
        clock: Clock,
    ) -> Result<Option<User>, KvError> {
        match self.judge(asker, need) {
            Err(_) if !local => {
                Box::pin(self.catch_up(clock)).await?;
                Ok(self.judge(asker, need)?)
            }
            judged => Ok(judged?),
        }
    }

    /// Waits until this node knows all that was acknowledged before.
    async fn catch_up(&self, clock: Clock) -> Result<(), KvError> {
        summary(&self.query(&Query::Summary, ReadMode::Lease, clock).await?).map(drop)
    }

    /// The history epoch: tokens of another one are not valid.
    fn epoch(&self) -> u64 {
        self.node.status().membership.epoch()
    }

    /// A token for a user whom a door of this process knows by other means than a password; `None`
    /// where users do not count, or there is no such user.
    #[cfg(feature = "etcd")]
    pub(super) fn token_for(&self, name: &str) -> Option<String> {
        let auth = self.store.auth();
        let known = auth.is_enabled().then(|| auth.user(name)).flatten()?;
        Some(self.tokens.sign_again(name, known, &auth, self.epoch(), &self.store))
    }

    /// Keeps a token valid here as long as what is returned is there; `None` if it is not valid.
    #[cfg(feature = "etcd")]
    pub(super) fn keep_token(&self, token: &str) -> Option<Kept> {
        let auth = self.store.auth();
        let counts = auth.is_enabled();
        counts.then(|| self.tokens.keep(token, &auth, self.epoch(), &self.store)).flatten()
    }

    /// The same token, as new: what was looked at here is not to be too old for the next node.
    fn renewed(&self, user: &User) -> Option<String> {
        let auth = self.store.auth();
        let known = auth.user(&user.name).filter(|known| known.since == user.since)?;
        Some(self.tokens.sign_again(&user.name, known, &auth, self.epoch(), &self.store))
    }

    /// The request as it is forwarded: the leader looks at it again.
    pub(super) fn forwarded(
        &self,
        frame: Bytes,
        user: Option<&User>,
        body: impl FnOnce() -> RequestBody,
        clock: Clock,
    ) -> Bytes {
        let Some(token) = user.and_then(|user| self.renewed(user)) else { return frame };
        let body = RequestBody::Signed { token: token.into(), body: Box::new(body()) };
        wire::encode_request(&Request { deadline_ms: clock.remaining_ms(), body })
    }

    /// A command as it goes into the log: with the authority of whoever asks. `None` if it is to go
    /// there as it is.
    pub(super) async fn authorize(
        &self,
        asker: &Asker,
        command: &Bytes,
        clock: Clock,
    ) -> Result<Option<Bytes>, KvError> {
        match self.store.is_auth_enabled() {
            true => Box::pin(self.authorize_user(asker, command, clock)).await,
            false => Ok(None),
        }
    }

    async fn authorize_user(
        &self,
        asker: &Asker,
        command: &Bytes,
        clock: Clock,
    ) -> Result<Option<Bytes>, KvError> {
        let command = codec::decode::<Command>(command)?;
        if matches!(command.action, Action::As(..)) {
            // Another node has done this.
            return Ok(None);
        }
        let allowed = self.allow(asker, Need::Write(&command), false, clock).await?;
        let Some(User { name, revision, .. }) = allowed else { return Ok(None) };
        let shared_session = asker.source != Source::Network;
        let authority = Authority::User { name, revision, shared_session };
        let action = Action::As(authority, Box::new(command.action));
        Ok(Some(codec::encode(&Command { action, ..command })))
    }

    /// A change of users and roles as it may go into the log: with hashes in the place of
    /// passwords, and a secret that nobody knows.
    pub(super) async fn prepare(
        &self,
        asker: &Asker,
        command: &Bytes,
        clock: Clock,
    ) -> Result<Bytes, KvError> {
        // Hashing costs much: it is done only for those who may have it done.
        self.allow(asker, Need::Root, false, clock).await?;
        let mut command = codec::decode::<Command>(command)?;
        match &mut command.action {
            Action::Auth(
                AuthChange::AddUser { password, .. } | AuthChange::ChangePassword { password, .. },
            ) => {
                let typed = std::mem::replace(password, Password::None);
                *password = match typed {
                    Password::None => Password::None,
                    // Forgotten rather than meant.
                    Password::Plain(typed) if typed.is_empty() => {
                        return Err(AuthError::InvalidManagement.into());
                    }
                    Password::Plain(typed) => {
                        Password::Hashed(self.hashing.hash(typed, clock.answer_by).await?)
                    }
                    Password::Hashed(_) => return Err(AuthError::InvalidManagement.into()),
                };
            }
            Action::Auth(AuthChange::Enable { secret }) => *secret = new_secret()?,
            _ => {}
        }
        Ok(codec::encode(&command))
    }

    /// Logs a user in.
    pub(super) async fn authenticate(
        &self,
        name: String,
        password: Password,
        clock: Clock,
    ) -> Reply {
        self.catch_up(clock).await?;
        let auth = self.store.auth();
        if !auth.is_enabled() {
            return Err(AuthError::NotEnabled.into());
        }
        let Password::Plain(password) = password else { return Err(AuthError::Failed.into()) };
        let user = auth.user(&name).filter(|user| user.hash.is_some());
        // Who is none waits as if he were one, also where what hashes cost was set anew.
        let hash = user.map_or_else(|| auth.some_hash(&name), |user| user.hash.as_ref()).cloned();
        let right = self.hashing.is_right(password, &name, hash, clock.answer_by).await?;
        let Some(user) = user.filter(|_| right) else {
            self.hashing.failed(&name);
            return Err(AuthError::Failed.into());
        };
        let token = self.tokens.sign(&name, user, &auth, self.epoch(), &self.store);
        Ok(ReplyBody::Token(token.into()))
    }

    /// Tells about users and roles.
    pub(super) async fn tell_auth(
        &self,
        asker: &Asker,
        question: AuthQuestion,
        clock: Clock,
    ) -> Reply {
        self.catch_up(clock).await?;
        self.judge(asker, Need::Told(&question))?;
        let auth = self.store.auth();
        let answer = match question {
            AuthQuestion::Status => AuthAnswer::Status(auth.status()),
            AuthQuestion::User(name) => {
                let user = auth.user(&name).ok_or(AuthError::UserNotFound)?;
                AuthAnswer::User(user.roles().cloned().collect())
            }
            AuthQuestion::Users => AuthAnswer::Users(auth.users().cloned().collect()),
            AuthQuestion::Role(role) => {
                AuthAnswer::Role(auth.permissions(&role).ok_or(AuthError::RoleNotFound)?)
            }
            AuthQuestion::Roles => AuthAnswer::Roles(auth.roles().cloned().collect()),
        };
        Ok(ReplyBody::Auth(answer))
    }

    /// What of a lease may be told: who may not read its keys may not have them named.
    pub(super) fn check_lease_told(
        &self,
        asker: &Asker,
        lease: Option<&LeaseStatus>,
    ) -> Result<(), KvError> {
        self.judge(asker, Need::User)?;
        for key in lease.into_iter().flat_map(|lease| &lease.keys) {
            self.judge(asker, Need::Read(&Keys::One(key.clone())))?;
        }
        Ok(())
    }
}

/// A user who was let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct User {
    pub(super) name: String,
    /// Which of those who had that name.
    since: u64,
    /// The revision of users and roles by which that was decided.
    revision: u64,
}

impl User {
    /// The same user, if it is there still and may read.
    fn again(self, auth: &Auth, keys: &Keys) -> Result<Self, AuthError> {
        let known = auth.user(&self.name).filter(|user| user.since == self.since);
        known.ok_or(AuthError::InvalidToken)?;
        auth.check(&self.name, Access::Read, keys)?;
        Ok(Self { revision: auth.revision(), ..self })
    }
}

fn check(auth: &Auth, user: &str, need: Need<'_>) -> Result<(), AuthError> {
    match need {
        Need::User => Ok(()),
        Need::Root => auth.check_root(user),
        Need::Read(keys) => auth.check(user, Access::Read, keys),
        Need::Write(Command { fence, action, .. }) => {
            auth.check_action(user, action, fence.as_ref())
        }
        Need::Told(question) => match question {
            AuthQuestion::User(name) if name == user => Ok(()),
            AuthQuestion::Role(role) if auth.user(user).is_some_and(|user| user.has(role)) => {
                Ok(())
            }
            _ => auth.check_root(user),
        },
    }
}

fn new_secret() -> Result<Secret, KvError> {
    let mut secret = Secret::default();
    let filled = getrandom::fill(&mut secret.0);
    filled.map_err(|error| KvError::Unavailable(format!("no random numbers: {error}")))?;
    Ok(secret)
}

/// What the watches of a stream may be told, as users and roles change. What is watched, the stream
/// itself knows: watches also end by themselves.
pub(super) struct WatchRights {
    asker: Asker,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Who it is, once that was needed: the token may be old by the time of the next watch.
    user: Option<User>,
    /// Whether some watch has begun while nobody needed a right.
    by_anybody: bool,
}

impl WatchRights {
    pub(super) fn of(asker: Asker) -> Self {
        Self { asker, seen: Mutex::default() }
    }

    /// Whether a watch may begin; if so it has to begin at once, before anything is checked.
    pub(super) async fn begin<N: Replica>(
        &self,
        door: &Door<N>,
        keys: &Keys,
    ) -> Result<(), KvError> {
        if self.asker.source == Source::DoorItself {
            return Ok(());
        }
        let known = self.lock().user.clone();
        let allowed = match known.map(|user| user.again(&door.store.auth(), keys)) {
            Some(Ok(user)) => Some(user),
            _ => {
                let clock = Clock::new(DEADLINE_MS, door.deadline_max);
                door.allow(&self.asker, Need::Read(keys), false, clock).await?
            }
        };
        let mut seen = self.lock();
        seen.by_anybody |= allowed.is_none();
        if let Some(user) = allowed {
            // Of all that is watched, only as of the older revision is it known to be right.
            let known = seen.user.get_or_insert_with(|| user.clone());
            known.revision = known.revision.min(user.revision);
        }
        Ok(())
    }

    /// Whether all watches of `stream` may go on, and one of `ended` might have. To be asked before
    /// anything is told, and when a watch was ended of which something may wait to be told: a right
    /// that this node knows to be gone by then is not used.
    pub(super) fn check<N: Replica>(
        &self,
        door: &Door<N>,
        stream: &Stream,
        ended: Option<Keys>,
    ) -> Result<(), KvError> {
        if !door.store.is_auth_enabled() || self.asker.source == Source::DoorItself {
            return Ok(());
        }
        let auth = door.store.auth();
        let mut seen = self.lock();
        if seen.by_anybody {
            // It is to begin again.
            return Err(AuthError::UserEmpty.into());
        }
        let Some(user) = &seen.user else { return Ok(()) };
        if user.revision == auth.revision() {
            return Ok(());
        }
        for keys in stream.keys().into_iter().chain(ended) {
            user.clone().again(&auth, &keys)?;
        }
        seen.user.iter_mut().for_each(|user| user.revision = auth.revision());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Every statement leaves it consistent.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long it may take to find out whether a watch may begin.
const DEADLINE_MS: u32 = 5_000;
