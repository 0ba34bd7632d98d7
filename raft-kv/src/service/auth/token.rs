//! Tokens: what somebody shows who has logged in.
//!
//! A token says who it is for, and is signed with a secret that all members have from the log. So
//! every member knows it at once, also after a restart, without a list of tokens anywhere, and
//! logging in puts nothing into the log. It names the revision at which its user was made or got
//! another password: what comes later ends it. The secret is another one each time authentication
//! is enabled, which ends all of them.
//!
//! It is valid for five minutes from when it was made, by the log's time, which every member has,
//! and from each use on the member where it was used, as with etcd. What a member remembers of uses
//! is bounded; of a token that it has forgotten it knows when it was made.

use crate::api::{AuthError, NAME_BYTES_MAX};
use crate::store::{Auth, AuthUser, StoreHandle};
use ring::hmac::{HMAC_SHA256, Key, Tag, sign, verify};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a token is valid after its last use.
const LIFE: Duration = Duration::from_secs(300);
/// Most tokens whose last use is remembered.
const USES_MAX: usize = 64 * 1024;
/// Bytes of a signature.
const SIGNATURE: usize = 32;
/// Longest token, in bytes of its text: two for each of its own.
const TOKEN_BYTES_MAX: usize = 2 * (NAME_BYTES_MAX + 32 + SIGNATURE);

/// See the module.
pub(in super::super) struct Tokens {
    life: Duration,
    /// When some tokens were used last, by the beginning of their signature.
    uses: Mutex<HashMap<[u8; 16], Instant>>,
    now: Mutex<LogTime>,
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
    pub(in super::super) fn new() -> Self {
        let now = LogTime { time_ms: 0, at: Instant::now() };
        Self { life: LIFE, uses: Mutex::default(), now: Mutex::new(now) }
    }

    /// A token for a user.
    pub(super) fn sign(
        &self,
        name: &str,
        user: &AuthUser,
        auth: &Auth,
        epoch: u64,
        store: &StoreHandle,
    ) -> String {
        let claim = Claim { user: name, since: user.since, made_ms: self.now_ms(store) };
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
        if known.is_none() || !self.is_in_use(id, age) {
            return Err(AuthError::InvalidToken);
        }
        Ok(claim.user.into())
    }

    /// Whether a token of this age is valid still; if so, it is used now.
    fn is_in_use(&self, id: [u8; 16], age: Duration) -> bool {
        let now = Instant::now();
        let mut uses = lock(&self.uses);
        let used = uses.get(&id).is_some_and(|used| now - *used < self.life);
        if !used && age >= self.life {
            uses.remove(&id);
            return false;
        }
        if uses.len() >= USES_MAX && !uses.contains_key(&id) {
            make_room(&mut uses, now, self.life);
        }
        uses.insert(id, now);
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

/// Forgets what is over, and the oldest uses if that is not enough.
fn make_room(uses: &mut HashMap<[u8; 16], Instant>, now: Instant, life: Duration) {
    uses.retain(|_, used| now - *used < life);
    if uses.len() < USES_MAX / 16 * 15 {
        return;
    }
    let mut all: Vec<Instant> = uses.values().copied().collect();
    let (_, oldest, _) = all.select_nth_unstable(USES_MAX / 16);
    let oldest = *oldest;
    uses.retain(|_, used| *used > oldest);
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

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;
    use crate::api::{Action, AuthChange, Command, Password, ROOT, Secret};
    use crate::store::KvStore;
    use raft_core::state_machine::StateMachine;
    use raft_core::types::{Entry, LogId, Payload, Run};

    /// A store with a user root, and authentication enabled.
    fn enabled() -> KvStore {
        let mut store = KvStore::in_memory();
        let root = || ROOT.to_owned();
        let changes = [
            AuthChange::AddUser { user: root(), password: Password::None },
            AuthChange::GrantRole { user: root(), role: root() },
            AuthChange::Enable { secret: Secret([3; 32]) },
        ];
        for (index, change) in (1..).zip(changes) {
            let action = Action::Auth(change);
            let command = crate::codec::encode(&Command { request: None, fence: None, action });
            let entry = Entry { id: LogId::new(index, 1), payload: Payload::Command(command) };
            store.apply(&Run::new(vec![entry]).unwrap());
        }
        store
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_ends_five_minutes_after_its_last_use_here() {
        let store = enabled();
        let (handle, auth) = (store.handle(), store.handle().auth());
        let (here, elsewhere) = (Tokens::new(), Tokens::new());
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
        let tokens = Tokens::new();
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
        assert!(lock(&tokens.uses).len() <= USES_MAX);
        let newest = 2 * USES_MAX as u64 - 1;
        assert!(tokens.is_in_use(id(newest), LIFE) && !tokens.is_in_use(id(0), LIFE));
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
