//! Users and roles, and logging in.
//!
//! A client that was given a user logs in by itself when it is first asked who it is for, shows the
//! token with everything it asks, and logs in again when that is not valid any more. All clones
//! share the token.

use super::call::unexpected;
use super::exchange::Exchange;
use super::{Client, ClientError, Shared, millis};
use crate::api::{
    Action, ActionReply, AuthAnswer, AuthChange, AuthError, AuthQuestion, AuthStatus, Keys,
    KvError, Password, Permission, ReplyBody, Request, RequestBody, Secret, StreamRequest,
};
use crate::wire;
use bytes::Bytes;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A user and how it logs in.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials of {:?}", self.user)
    }
}

/// What a client that was given a user knows.
pub(super) struct Login {
    credentials: Credentials,
    known: Mutex<Option<Known>>,
    /// Held by whoever logs in.
    logging_in: tokio::sync::Mutex<()>,
}

/// What logging in has come to.
#[derive(Clone, PartialEq, Eq)]
enum Known {
    Token(Arc<str>),
    /// Nobody has to.
    NotNeeded,
}

/// What a request shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Signing {
    /// Nothing.
    No,
    /// This token.
    With(Arc<str>),
    /// The token that logging in gives.
    ByLogin,
}

impl Login {
    pub(super) fn of(credentials: Credentials) -> Self {
        Self { credentials, known: Mutex::default(), logging_in: tokio::sync::Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        // One assignment is all that happens under it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// The same client for whoever has this token.
    #[cfg(feature = "etcd")]
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same client, whose requests go another way to the node it is connected to: what it does
    /// beside them does not.
    #[cfg(feature = "etcd")]
    pub(crate) fn by_way_of(&self, way: Arc<dyn raft_core::transport::Channel>) -> Self {
        Self { way: Some(way), ..self.clone() }
    }

    /// What requests show.
    pub(super) fn signing(&self) -> Signing {
        match &self.token {
            Some(token) => Signing::With(Arc::clone(token)),
            None if self.shared.login.is_some() => Signing::ByLogin,
            None => Signing::No,
        }
    }

    /// The token that this client shows, if it shows one: for requests that are sent otherwise than
    /// through it, as [`Backup::begin_as`](super::Backup::begin_as). Logs in if need be.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate).
    pub async fn token(&self) -> Result<Option<Arc<str>>, ClientError> {
        let deadline = Instant::now() + self.deadline;
        self.shared.shown(&self.signing(), deadline).await
    }

    /// Logs a user in: a token, which nodes take for five minutes after its last use. A client
    /// [of a user](super::ClientOptions::user) does that by itself.
    ///
    /// # Errors
    /// See [`ClientError`]. [`AuthError::Failed`] for a wrong name or password,
    /// [`AuthError::NotEnabled`] where nobody has to log in.
    pub async fn authenticate(
        &self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<String, ClientError> {
        let (name, password) = (user.into(), Password::Plain(password.into()));
        match self.request(RequestBody::Authenticate { name, password }, true).await? {
            ReplyBody::Token(token) => Ok(token.0),
            _ => Err(unexpected(false)),
        }
    }

    /// Changes users or roles, exactly once; their revision after it.
    ///
    /// # Errors
    /// See [`ClientError`]; [`AuthError`] says why it cannot be.
    pub async fn change_auth(&self, change: AuthChange) -> Result<u64, ClientError> {
        match self.unfenced().write(&Action::Auth(change)).await? {
            ActionReply::Auth(revision) => Ok(revision),
            _ => Err(unexpected(true)),
        }
    }

    /// From now on everybody has to log in. There must be a user `root` with the role `root`.
    ///
    /// # Errors
    /// As [`change_auth`](Self::change_auth).
    pub async fn enable_auth(&self) -> Result<u64, ClientError> {
        self.change_auth(AuthChange::Enable { secret: Secret::default() }).await
    }

    /// Asks about users and roles. Linearizable.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn ask_auth(&self, question: AuthQuestion) -> Result<AuthAnswer, ClientError> {
        match self.request(RequestBody::Auth(question), true).await? {
            ReplyBody::Auth(answer) => Ok(answer),
            _ => Err(unexpected(false)),
        }
    }

    /// Whether users and roles count. Linearizable.
    ///
    /// # Errors
    /// As [`ask_auth`](Self::ask_auth).
    pub async fn auth_status(&self) -> Result<AuthStatus, ClientError> {
        match self.ask_auth(AuthQuestion::Status).await? {
            AuthAnswer::Status(status) => Ok(status),
            _ => Err(unexpected(false)),
        }
    }

    /// Makes a user; without a password it can only come with a certificate.
    ///
    /// # Errors
    /// As [`change_auth`](Self::change_auth).
    pub async fn add_user(
        &self,
        user: impl Into<String>,
        password: Option<String>,
    ) -> Result<u64, ClientError> {
        let (user, password) = (user.into(), password.map_or(Password::None, Password::Plain));
        self.change_auth(AuthChange::AddUser { user, password }).await
    }

    /// Gives a role a permission.
    ///
    /// # Errors
    /// As [`change_auth`](Self::change_auth).
    pub async fn grant_permission(
        &self,
        role: impl Into<String>,
        permission: Permission,
    ) -> Result<u64, ClientError> {
        self.change_auth(AuthChange::GrantPermission { role: role.into(), permission }).await
    }

    /// Takes a permission from a role.
    ///
    /// # Errors
    /// As [`change_auth`](Self::change_auth).
    pub async fn revoke_permission(
        &self,
        role: impl Into<String>,
        keys: Keys,
    ) -> Result<u64, ClientError> {
        self.change_auth(AuthChange::RevokePermission { role: role.into(), keys }).await
    }
}

impl Shared {
    /// The token to be shown.
    pub(super) async fn shown(
        self: &Arc<Self>,
        signing: &Signing,
        deadline: Instant,
    ) -> Result<Option<Arc<str>>, ClientError> {
        match (signing, &self.login) {
            (Signing::With(token), _) => Ok(Some(Arc::clone(token))),
            (Signing::ByLogin, Some(login)) => Box::pin(self.log_in(login, deadline)).await,
            _ => Ok(None),
        }
    }

    /// That what was shown is not taken: it is to be asked for anew. Whether that may help.
    pub(super) fn forget_token(&self, signing: &Signing, shown: Option<&Arc<str>>) -> bool {
        let (Signing::ByLogin, Some(login)) = (signing, &self.login) else { return false };
        let mut known = login.lock();
        let was = shown.map_or(Known::NotNeeded, |token| Known::Token(Arc::clone(token)));
        if *known == Some(was) {
            *known = None;
        }
        true
    }

    /// The token, asked for by one caller while the others wait.
    async fn log_in(
        self: &Arc<Self>,
        login: &Login,
        deadline: Instant,
    ) -> Result<Option<Arc<str>>, ClientError> {
        let of = |known: Known| match known {
            Known::Token(token) => Some(token),
            Known::NotNeeded => None,
        };
        if let Some(known) = login.lock().clone() {
            return Ok(of(known));
        }
        let Ok(_logging_in) = timeout_at(deadline, login.logging_in.lock()).await else {
            return Err(super::error::gave_up(false, None));
        };
        if let Some(known) = login.lock().clone() {
            return Ok(of(known));
        }
        let Credentials { user, password } = login.credentials.clone();
        let password = Password::Plain(password);
        let asked = self.ask_unsigned(RequestBody::Authenticate { name: user, password }, deadline);
        let known = match asked.await {
            Ok(ReplyBody::Token(token)) => Known::Token(token.0.into()),
            Ok(_) => return Err(unexpected(false)),
            Err(ClientError::Refused(KvError::Auth(AuthError::NotEnabled))) => Known::NotNeeded,
            // A token that was made for nobody has no effect.
            Err(ClientError::Unknown { reason, source }) => {
                return Err(ClientError::NotDone { reason, source });
            }
            Err(error) => return Err(error),
        };
        *login.lock() = Some(known.clone());
        Ok(of(known))
    }

    async fn ask_unsigned(
        self: &Arc<Self>,
        body: RequestBody,
        deadline: Instant,
    ) -> Result<ReplyBody, ClientError> {
        // Whatever one node may take: a password is looked at for long on purpose.
        let attempt = self.attempt.max(LOGIN_ATTEMPT);
        let left = deadline.saturating_duration_since(Instant::now());
        let frame_ms = millis(attempt.min(left));
        let frame = wire::encode_request(&Request { deadline_ms: frame_ms, body });
        let mut exchange = Exchange {
            frame,
            frame_ms,
            attempt,
            deadline,
            repeatable: true,
            in_doubt: false,
            signing: Signing::No,
            way: None,
        };
        // It asks for no token itself, so this goes no deeper.
        Box::pin(self.exchange(&mut exchange)).await
    }
}

/// How long one node may take to look at a password.
const LOGIN_ATTEMPT: Duration = Duration::from_secs(3);

/// Whether an error may be one of the token only.
pub(super) const fn is_about_token(error: &KvError) -> bool {
    matches!(error, KvError::Auth(AuthError::InvalidToken | AuthError::UserEmpty))
}

/// A stream request that shows a token.
pub(super) fn signed_stream(request: StreamRequest, token: Option<&str>) -> Bytes {
    crate::codec::encode(&match token {
        Some(token) => StreamRequest::Signed { token: token.into(), request: Box::new(request) },
        None => request,
    })
}
