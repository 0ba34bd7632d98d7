//! Passwords and their hashes. Hashing takes long on purpose: it is done apart from the threads
//! that serve, few at a time, and only so many wait for it. Of these, only some are for one name:
//! whoever guesses a password does not keep others from logging in. A name that is nobody's has as
//! many places as another, and waits as long: what becomes of a login does not tell whether there
//! is such a user. The price is that many names, made up or not, take all places.

use crate::api::{AuthError, KvError, NAME_BYTES_MAX, PASSWORD_BYTES_MAX};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// How many are hashed at a time: others have to work, too.
const AT_ONCE: usize = 2;
/// How many are hashed or wait for it.
const WAITING_MAX: usize = 64;
/// And how many of these are for the same.
const OF_SAME_MAX: usize = 8;
/// How often a line tells of logins that failed, at most.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// Letters of a name that are told: it may be any.
const TOLD_MAX: usize = 64;

/// What something is hashed for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// A password is set.
    Change,
    /// A login by this name, whether somebody has it or not.
    Login(String),
}

/// See the module.
pub(in super::super) struct Hashing {
    /// What a hash costs: twice as much with each.
    cost: u32,
    places: Arc<Semaphore>,
    waiting: Arc<Mutex<BTreeMap<Purpose, usize>>>,
    failures: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    told_at: Option<Instant>,
    /// Since then.
    untold: u64,
}

impl Hashing {
    pub(in super::super) fn new(cost: u32) -> Self {
        Self {
            // What the function takes.
            cost: cost.clamp(4, 31),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::default(),
            failures: Mutex::default(),
        }
    }

    /// The hash of a password.
    pub(super) async fn hash(&self, password: String, until: Instant) -> Result<String, KvError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AuthError::TooLarge.into());
        }
        let cost = self.cost;
        let hash = self.apart(Purpose::Change, until, move || bcrypt::hash(password, cost)).await?;
        hash.map_err(|error| KvError::Unavailable(format!("no hash: {error}")))
    }

    /// Whether it is what `hash` was made of; `name` logs in. Without a hash it takes as long to
    /// say no.
    pub(super) async fn is_right(
        &self,
        password: String,
        name: &str,
        hash: Option<String>,
        until: Instant,
    ) -> Result<bool, KvError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let cost = self.cost;
        // Longer names nobody has: all of one beginning count as one.
        let name = name.chars().take(NAME_BYTES_MAX).collect();
        self.apart(Purpose::Login(name), until, move || match hash {
            Some(hash) => bcrypt::verify(password, &hash).unwrap_or(false),
            None => {
                drop(bcrypt::hash_with_salt(password, cost, [0; 16]));
                false
            }
        })
        .await
    }

    /// Somebody was not who he said: told in the log, but no line for each.
    pub(super) fn failed(&self, name: &str) {
        let now = Instant::now();
        let mut failures = lock(&self.failures);
        failures.untold += 1;
        if failures.told_at.is_some_and(|at| now - at < TELL_INTERVAL) {
            return;
        }
        let failed = std::mem::take(&mut failures.untold);
        failures.told_at = Some(now);
        drop(failures);
        let last: String = name.chars().take(TOLD_MAX).collect();
        warn!(failed, ?last, "logins failed");
    }

    /// Does `work` on a thread where it holds up nobody.
    async fn apart<T: Send + 'static>(
        &self,
        purpose: Purpose,
        until: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KvError> {
        let waiting = Waiting::take(&self.waiting, purpose).ok_or(KvError::Overloaded)?;
        let place = timeout_at(until, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(KvError::Overloaded)?;
        let done = spawn_blocking(move || {
            // Held until it is done, should nobody wait for it any more.
            let _held = (waiting, place);
            work()
        });
        timeout_at(until, done).await.ok().and_then(Result::ok).ok_or(KvError::Overloaded)
    }
}

/// A place among those who wait.
struct Waiting {
    all: Arc<Mutex<BTreeMap<Purpose, usize>>>,
    purpose: Purpose,
}

impl Waiting {
    fn take(all: &Arc<Mutex<BTreeMap<Purpose, usize>>>, purpose: Purpose) -> Option<Self> {
        let mut counts = lock(all);
        let same = counts.get(&purpose).copied().unwrap_or(0);
        // There is always room for those who set passwords: they have shown who they are.
        let full = purpose != Purpose::Change && counts.values().sum::<usize>() >= WAITING_MAX;
        if full || same >= OF_SAME_MAX {
            return None;
        }
        counts.insert(purpose.clone(), same + 1);
        Some(Self { all: Arc::clone(all), purpose })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = lock(&self.all);
        match counts.get_mut(&self.purpose) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.purpose)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every statement leaves it consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn who_guesses_keeps_out_only_those_whose_names_are_guessed() {
        let hashing = Arc::new(Hashing::new(4));
        let until = Instant::now() + Duration::from_secs(3600);
        let hash = hashing.hash("secret".into(), until).await.unwrap();
        let busy = hashing.places.clone().acquire_many_owned(AT_ONCE as u32).await.unwrap();
        let mut logins = JoinSet::new();
        let mut log_in = |name: &'static str, known: bool, password: &str| {
            let (hashing, password) = (Arc::clone(&hashing), password.to_owned());
            let hash = known.then(|| hash.clone());
            logins.spawn(async move { hashing.is_right(password, name, hash, until).await });
        };
        for _ in 0..10 {
            log_in("root", true, "guess");
            log_in("nobody", false, "guess");
        }
        // Of names that are nobody's, each has places of its own, as others have.
        log_in("no other", false, "guess");
        log_in("alice", true, "secret");
        // Only those that find no room end while the places are taken.
        for _ in 0..2 * (10 - OF_SAME_MAX) {
            assert_eq!(logins.join_next().await.unwrap().unwrap(), Err(KvError::Overloaded));
        }
        drop(busy);
        let mut right = 0;
        while let Some(ended) = logins.join_next().await {
            right += usize::from(ended.unwrap().unwrap());
        }
        assert_eq!(right, 1);
        assert!(lock(&hashing.waiting).is_empty());
    }

    #[tokio::test]
    async fn passwords_are_set_however_many_log_in() {
        let hashing = Arc::new(Hashing::new(4));
        let logins = (0..WAITING_MAX).map(|number| Purpose::Login((number / 4).to_string()));
        let logins: Vec<_> = logins.map(|user| Waiting::take(&hashing.waiting, user)).collect();
        assert!(logins.iter().all(Option::is_some));
        let other = Purpose::Login("other".into());
        assert!(Waiting::take(&hashing.waiting, other.clone()).is_none());
        let until = Instant::now() + Duration::from_secs(3600);
        hashing.hash("secret".into(), until).await.unwrap();
        drop(logins);
        assert!(Waiting::take(&hashing.waiting, other).is_some());
    }
}
