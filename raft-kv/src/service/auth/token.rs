//! Tokens: what somebody shows who has logged in.
//!
//! A token says who it is for, and is signed with a secret that all members have from the log. So
//! every member knows it at once, also after a restart, without a list of tokens anywhere, and
//! logging in puts nothing into the log. It names the revision at which its user was made or got
//! another password: what comes later ends it. The secret is another one each time authentication
//! is enabled, which ends all of them.
//!
//! It is valid for some time from when it was made, by the log's time, which every member has, and
//! from each use on the member where it was used, as with etcd. What a member remembers of uses
//! is bounded; of a token that it has forgotten it knows when it was made. A token stays valid
//! where a request or a stream that showed it goes on, however long that takes, for as many tokens
//! as are kept so; one beyond them is like any other.

#[cfg(feature = "etcd")]
use crate::api::Secret;
use crate::api::{AuthError, NAME_BYTES_MAX};
use crate::store::{Auth, AuthUser, StoreHandle};
use ring::hmac::{HMAC_SHA256, Key, Tag, sign, verify};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Most tokens whose last use is remembered.
const USES_MAX: usize = 64 * 1024;
/// And of these, most that are kept: they leave room for the others.
#[cfg(feature = "etcd")]
const KEPT_MAX: usize = USES_MAX / 2;
/// Bytes of a signature.
const SIGNATURE: usize = 32;
/// Longest token, in bytes of its text: two for each of its own.
const TOKEN_BYTES_MAX: usize = 2 * (NAME_BYTES_MAX + 32 + SIGNATURE);

/// See the module.
pub(in super::super) struct Tokens {
    life: Duration,
    uses: Arc<Mutex<Uses>>,
    now: Mutex<LogTime>,
}

/// Tells tokens apart: the beginning of a signature.
type TokenId = [u8; 16];

/// What is remembered of tokens.
#[derive(Default)]
struct Uses {
    by_token: HashMap<TokenId, Use>,
    /// How many of them are kept.
    #[cfg(feature = "etcd")]
    kept: usize,
}

/// How a token is used on this member.
#[derive(Clone, Copy)]
struct Use {
    last: Instant,
    /// How many requests and streams that showed it go on.
    kept: usize,
}

/// What time it is in the log.
#[derive(Clone, Copy)]
struct LogTime {
    time_ms: u64,
    /// When it was that time, or a little later.
    at: Instant,
}

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claim<'a> {
    user: &'a str,
    /// The revision at which the user got its password.
    since: u64,
    /// When it was made, in milliseconds of the log's time.
    made_ms: u64,
}

impl Tokens {
    /// Tokens that are valid for `life`.
    pub(in super::super) fn new(life: Duration) -> Self {
        let now = LogTime { time_ms: 0, at: Instant::now() };
        Self { life, uses: Arc::default(), now: Mutex::new(now) }
    }

    /// A token for a user who logs in.
    pub(super) fn sign(
        &self,
        name: &str,
        user: &AuthUser,
        auth: &Auth,
        epoch: u64,
        store: &StoreHandle,
    ) -> String {
        Self::signed_at(self.now_ms(store), name, user, auth, epoch)
    }

    /// A token for a user who is known anyway, with each request: the same for some time, so that
    /// many requests are one use.
    pub(super) fn sign_again(
        &self,
        name: &str,
        user: &AuthUser,
        auth: &Auth,
        epoch: u64,
        store: &StoreHandle,
    ) -> String {
        let period = u64::try_from(self.life.as_millis() / 16).map_or(1, |period| period.max(1));
        let now_ms = self.now_ms(store);
        Self::signed_at(now_ms - now_ms % period, name, user, auth, epoch)
    }

    fn signed_at(made_ms: u64, name: &str, user: &AuthUser, auth: &Auth, epoch: u64) -> String {
        let claim = Claim { user: name, since: user.since, made_ms };
        let mut bytes = bytes::BytesMut::new();
        raft_core::codec::put(&claim, &mut bytes);
        let tag = tag(auth, epoch, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        hex(&bytes)
    }

    /// Who shows a token.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`].
    pub(super) fn user(
        &self,
        token: &str,
        auth: &Auth,
        epoch: u64,
        store: &StoreHandle,
    ) -> Result<String, AuthError> {
        let (name, id, age) = self.look(token, auth, epoch, store)?;
        if self.is_in_use(id, age) { Ok(name) } else { Err(AuthError::InvalidToken) }
    }

    /// Keeps a token valid here until what is returned is dropped; `None` if it is not valid now,
    /// or too many are kept: then it ends as if nothing went on.
    #[cfg(feature = "etcd")]
    pub(super) fn keep(
        &self,
        token: &str,
        auth: &Auth,
        epoch: u64,
        store: &StoreHandle,
    ) -> Option<Kept> {
        let (user, id, age) = self.look(token, auth, epoch, store).ok()?;
        if !self.is_in_use(id, age) {
            return None;
        }
        let since = auth.user(&user)?.since;
        if !lock(&self.uses).keep(id) {
            return None;
        }
        let (uses, secret) = (Arc::clone(&self.uses), auth.secret().clone());
        Some(Kept { id, uses, token: token.into(), user, since, epoch, secret })
    }

    /// Who has a token that was signed here, which it is, and how old.
    fn look(
        &self,
        token: &str,
        auth: &Auth,
        epoch: u64,
        store: &StoreHandle,
    ) -> Result<(String, TokenId, Duration), AuthError> {
        let bytes = unhex(token).ok_or(AuthError::InvalidToken)?;
        let (claimed, signature) =
            bytes.split_last_chunk::<SIGNATURE>().ok_or(AuthError::InvalidToken)?;
        verify(&key(auth), &signed(epoch, claimed), signature)
            .map_err(|_| AuthError::InvalidToken)?;
        let mut rest = claimed;
        let claim: Claim<'_> =
            raft_core::codec::take(&mut rest).map_err(|_| AuthError::InvalidToken)?;
        let known = auth.user(claim.user).filter(|user| user.since == claim.since);
        let mut id = [0; 16];
        id.copy_from_slice(&signature[..16]);
        let age = Duration::from_millis(self.now_ms(store).saturating_sub(claim.made_ms));
        known.map(|_| (claim.user.into(), id, age)).ok_or(AuthError::InvalidToken)
    }

    /// Whether a token of this age is valid still; if so, it is used now.
    fn is_in_use(&self, id: TokenId, age: Duration) -> bool {
        let now = Instant::now();
        let mut uses = lock(&self.uses);
        match uses.by_token.get_mut(&id) {
            Some(used) if used.kept > 0 || now - used.last < self.life => used.last = now,
            _ if age >= self.life => {
                uses.by_token.remove(&id);
                return false;
            }
            Some(used) => used.last = now,
            None => {
                if uses.by_token.len() >= USES_MAX {
                    uses.make_room(now, self.life);
                }
                uses.by_token.insert(id, Use { last: now, kept: 0 });
            }
        }
        true
    }

    /// What time it is in the log, or a little earlier: never faster than it is there.
    fn now_ms(&self, store: &StoreHandle) -> u64 {
        let time_ms = store.gauges().time_ms;
        let mut known = lock(&self.now);
        if known.time_ms != time_ms {
            *known = LogTime { time_ms, at: Instant::now() };
        }
        let elapsed = u64::try_from(known.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        time_ms.saturating_add(elapsed)
    }
}

/// A token that is shown by something that goes on.
#[cfg(feature = "etcd")]
pub(crate) struct Kept {
    id: TokenId,
    uses: Arc<Mutex<Uses>>,
    token: Box<str>,
    user: String,
    /// What was so when it was found to be right.
    since: u64,
    epoch: u64,
    secret: Secret,
}

#[cfg(feature = "etcd")]
impl Kept {
    /// Who shows `token`, if it is this one and all is as it was when that was found to be right:
    /// it is in use, and what was signed need not be looked at again.
    pub(super) fn user(&self, token: &str, auth: &Auth, epoch: u64) -> Option<&str> {
        let same = *self.token == *token && self.epoch == epoch && self.secret == *auth.secret();
        let known = auth.user(&self.user).is_some_and(|user| user.since == self.since);
        (same && known).then_some(&*self.user)
    }
}

#[cfg(feature = "etcd")]
impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever has the token is the user.
        out.debug_struct("Kept").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(feature = "etcd")]
impl Drop for Kept {
    fn drop(&mut self) {
        let mut uses = lock(&self.uses);
        // What is kept is not forgotten.
        let Some(used) = uses.by_token.get_mut(&self.id) else { return };
        *used = Use { last: Instant::now(), kept: used.kept - 1 };
        uses.kept -= usize::from(used.kept == 0);
    }
}

impl Uses {
    /// Keeps a token that is remembered; false if too many are.
    #[cfg(feature = "etcd")]
    fn keep(&mut self, id: TokenId) -> bool {
        let Some(used) = self.by_token.get_mut(&id) else { return false };
        if used.kept == 0 {
            if self.kept >= KEPT_MAX {
                return false;
            }
            self.kept += 1;
        }
        used.kept += 1;
        true
    }

    /// Forgets what is over, and the oldest uses if that is not enough.
    fn make_room(&mut self, now: Instant, life: Duration) {
        self.by_token.retain(|_, used| used.kept > 0 || now - used.last < life);
        if self.by_token.len() < USES_MAX / 16 * 15 {
            return;
        }
        // Those that are kept are not among them, or nothing might be forgotten.
        let others = self.by_token.values().filter(|used| used.kept == 0);
        let mut others: Vec<Instant> = others.map(|used| used.last).collect();
        let (_, oldest, _) = others.select_nth_unstable(USES_MAX / 16);
        let oldest = *oldest;
        self.by_token.retain(|_, used| used.kept > 0 || used.last > oldest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every statement under it leaves it consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(auth: &Auth) -> Key {
    Key::new(HMAC_SHA256, &auth.secret().0)
}

fn tag(auth: &Auth, epoch: u64, claim: &[u8]) -> Tag {
    sign(&key(auth), &signed(epoch, claim))
}

/// What is signed: a token of another history of the cluster is none.
fn signed(epoch: u64, claim: &[u8]) -> Vec<u8> {
    [&b"raft-kv token\0"[..], &epoch.to_le_bytes(), claim].concat()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)].into());
    bytes.iter().flat_map(digits).collect::<Vec<char>>().into_iter().collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() > TOKEN_BYTES_MAX || !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Tokens of a store that is always the same, for tests and fuzz targets.
#[cfg(any(test, feature = "testing"))]
pub(crate) mod sample {
    use super::{Tokens, lock};
    use crate::api::{Action, AuthChange, Authority, Command, Password, ROOT, Secret};
    use crate::store::KvStore;
    use raft_core::state_machine::StateMachine;
    use raft_core::types::{Entry, LogId, Payload, Run};

    /// A store with a user root, and authentication enabled.
    pub(crate) fn enabled() -> KvStore {
        let mut store = KvStore::in_memory();
        let root = || ROOT.to_owned();
        let changes = [
            AuthChange::AddUser { user: root(), password: Password::None },
            AuthChange::GrantRole { user: root(), role: root() },
            AuthChange::Enable { secret: Secret([3; 32]) },
        ];
        apply(&mut store, changes);
        store
    }

    /// Applies these, as the cluster's own.
    pub(super) fn apply(store: &mut KvStore, changes: impl IntoIterator<Item = AuthChange>) {
        let from = store.applied().last.index.0 + 1;
        for (index, change) in (from..).zip(changes) {
            let action = Action::As(Authority::Cluster, Box::new(Action::Auth(change)));
            let command = crate::codec::encode(&Command { request: None, fence: None, action });
            let entry = Entry { id: LogId::new(index, 1), payload: Payload::Command(command) };
            store.apply(&Run::new(vec![entry]).expect("there is an entry"));
        }
    }

    /// The token of root, as it is made at the beginning of the log's time.
    pub(crate) fn token() -> String {
        let auth = enabled().handle().auth();
        let root = auth.user(ROOT).expect("it was added");
        Tokens::signed_at(0, ROOT, root, &auth, 0)
    }

    /// Whose token it is, if it is one.
    pub(crate) fn user(token: &str) -> Option<String> {
        let (handle, tokens) = (enabled().handle(), Tokens::new(crate::service::TOKEN_LIFE));
        let user = tokens.user(token, &handle.auth(), 0, &handle).ok();
        // What is remembered is of tokens that were signed here.
        assert_eq!(lock(&tokens.uses).by_token.len(), usize::from(user.is_some()));
        user
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::sample::enabled;
    use super::*;
    use crate::api::ROOT;

    const LIFE: Duration = crate::service::TOKEN_LIFE;

    #[tokio::test(start_paused = true)]
    async fn a_token_ends_five_minutes_after_its_last_use_here() {
        let store = enabled();
        let (handle, auth) = (store.handle(), store.handle().auth());
        let (here, elsewhere) = (Tokens::new(LIFE), Tokens::new(LIFE));
        let token = here.sign(ROOT, auth.user(ROOT).unwrap(), &auth, 0, &handle);
        let on = |tokens: &Tokens, epoch| tokens.user(&token, &auth, epoch, &handle).is_ok();
        assert!(on(&here, 0) && on(&elsewhere, 0));
        assert!(!on(&here, 1), "of another history");
        for _ in 0..3 {
            tokio::time::advance(LIFE - Duration::from_secs(1)).await;
            assert!(on(&here, 0));
        }
        assert!(!on(&elsewhere, 0), "it was not used there");
        tokio::time::advance(LIFE).await;
        assert!(!on(&here, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn uses_are_remembered_of_so_many_only() {
        let tokens = Tokens::new(LIFE);
        let id = |number: u64| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        };
        for number in 0..2 * USES_MAX as u64 {
            assert!(tokens.is_in_use(id(number), Duration::ZERO));
            if number % 1024 == 0 {
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        }
        assert!(lock(&tokens.uses).by_token.len() <= USES_MAX);
        let newest = 2 * USES_MAX as u64 - 1;
        assert!(tokens.is_in_use(id(newest), LIFE) && !tokens.is_in_use(id(0), LIFE));
    }

    #[cfg(feature = "etcd")]
    #[tokio::test(start_paused = true)]
    async fn a_token_holds_as_long_as_something_goes_on_that_showed_it() {
        let store = enabled();
        let (handle, auth) = (store.handle(), store.handle().auth());
        let tokens = Tokens::new(LIFE);
        let token = tokens.sign(ROOT, auth.user(ROOT).unwrap(), &auth, 0, &handle);
        let keep = || tokens.keep(&token, &auth, 0, &handle);
        let valid = || tokens.user(&token, &auth, 0, &handle).is_ok();
        let (first, second) = (keep().unwrap(), keep().unwrap());
        tokio::time::advance(3 * LIFE).await;
        assert!(valid());
        drop(first);
        tokio::time::advance(3 * LIFE).await;
        lock(&tokens.uses).make_room(Instant::now(), LIFE);
        assert!(valid());
        tokio::time::advance(3 * LIFE).await;
        drop(second);
        tokio::time::advance(LIFE / 2).await;
        assert!(valid(), "that was its last use");
        tokio::time::advance(LIFE).await;
        assert!(!valid() && keep().is_none());
        assert_eq!(lock(&tokens.uses).by_token.len(), 0);
        assert!(tokens.keep("00", &auth, 0, &handle).is_none());
    }

    /// What is signed is looked at once for all that goes on with it; not so what may end it.
    #[cfg(feature = "etcd")]
    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_kept_names_its_user_as_long_as_all_is_as_it_was() {
        use super::sample::apply;
        use crate::api::{AuthChange, Password};
        let mut store = enabled();
        let (handle, auth) = (store.handle(), store.handle().auth());
        let tokens = Tokens::new(LIFE);
        let token = tokens.sign(ROOT, auth.user(ROOT).unwrap(), &auth, 0, &handle);
        let kept = tokens.keep(&token, &auth, 0, &handle).unwrap();
        assert_eq!(kept.user(&token, &auth, 0), Some(ROOT));
        assert_eq!(kept.user(&token[2..], &auth, 0), None);
        assert_eq!(kept.user(&token, &auth, 1), None, "of another history");
        let mut after = |changes: Vec<AuthChange>| {
            apply(&mut store, changes);
            let auth = store.handle().auth();
            let named = kept.user(&token, &auth, 0).is_some();
            assert_eq!(named, tokens.user(&token, &auth, 0, &handle).is_ok());
            named
        };
        assert!(after(vec![AuthChange::AddRole { role: "any".into() }]));
        let enable = AuthChange::Enable { secret: Secret([4; 32]) };
        assert!(!after(vec![AuthChange::Disable, enable]));
        let enable = AuthChange::Enable { secret: Secret([3; 32]) };
        assert!(after(vec![AuthChange::Disable, enable]));
        let (user, password) = (ROOT.to_owned(), Password::Hashed("other".into()));
        assert!(!after(vec![AuthChange::ChangePassword { user, password }]));
        assert!(!format!("{kept:?}").contains(&token));
    }

    /// However many go on with tokens of their own, what is remembered is bounded, and uses of
    /// others are among it.
    #[cfg(feature = "etcd")]
    #[tokio::test(start_paused = true)]
    async fn so_many_tokens_are_kept_and_leave_room() {
        let store = enabled();
        let (handle, auth) = (store.handle(), store.handle().auth());
        let tokens = Tokens::new(LIFE);
        let token = |number| Tokens::signed_at(number, ROOT, auth.user(ROOT).unwrap(), &auth, 0);
        let keep = |number| tokens.keep(&token(number), &auth, 0, &handle);
        let mut kept: Vec<Option<Kept>> = (0..KEPT_MAX as u64).map(keep).collect();
        assert!(kept.iter().all(Option::is_some));
        assert!(keep(KEPT_MAX as u64).is_none() && keep(0).is_some());
        tokio::time::advance(LIFE / 2).await;
        let first = KEPT_MAX as u64 + 1;
        let more = USES_MAX as u64;
        for number in first..first + more {
            assert!(tokens.user(&token(number), &auth, 0, &handle).is_ok());
            if number % 1024 == 0 {
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        }
        assert!(lock(&tokens.uses).by_token.len() <= USES_MAX);
        drop(kept.pop());
        kept.push(keep(first + more));
        assert!(kept.last().is_some_and(Option::is_some), "there is room again, for one");
        assert!(keep(first + more + 1).is_none());
        tokio::time::advance(3 * LIFE).await;
        assert!(tokens.user(&token(0), &auth, 0, &handle).is_ok(), "it is kept");
        kept.clear();
        assert_eq!(lock(&tokens.uses).kept, 0);
    }

    /// With each request of a user who has a certificate, or is forwarded, there is a token.
    #[tokio::test(start_paused = true)]
    async fn tokens_that_nobody_was_given_are_few() {
        let store = enabled();
        let (handle, auth) = (store.handle(), store.handle().auth());
        let tokens = Tokens::new(LIFE);
        for _ in 0..1000 {
            let user = auth.user(ROOT).unwrap();
            let token = tokens.sign_again(ROOT, user, &auth, 0, &handle);
            assert!(tokens.user(&token, &auth, 0, &handle).is_ok());
            tokio::time::advance(LIFE / 1000).await;
        }
        assert!(lock(&tokens.uses).by_token.len() <= 17);
    }

    #[test]
    fn a_token_is_hexadecimal() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009fff"), Some(vec![0, 0x9f, 0xff]));
        for wrong in ["0", "0g", "0F", "\u{e9}", "00 0"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
        assert_eq!(unhex(&"0".repeat(TOKEN_BYTES_MAX + 2)), None);
    }
}
