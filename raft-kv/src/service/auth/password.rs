//! Passwords and their hashes. Hashing takes long on purpose: it is done apart from the threads
//! that serve, few at a time, and only so many wait for it.

use crate::api::{AuthError, KvError, PASSWORD_BYTES_MAX};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// How many are hashed at a time: others have to work, too.
const AT_ONCE: usize = 2;
/// How many are hashed or wait for it.
const WAITING_MAX: usize = 64;

/// See the module.
pub(in super::super) struct Hashing {
    /// What a hash costs: twice as much with each.
    cost: u32,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Hashing {
    pub(in super::super) fn new(cost: u32) -> Self {
        let [places, waiting] = [AT_ONCE, WAITING_MAX].map(|many| Arc::new(Semaphore::new(many)));
        // What the function takes.
        Self { cost: cost.clamp(4, 31), places, waiting }
    }

    /// The hash of a password.
    pub(super) async fn hash(&self, password: String, until: Instant) -> Result<String, KvError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AuthError::TooLarge.into());
        }
        let cost = self.cost;
        let hash = self.apart(until, move || bcrypt::hash(password, cost)).await?;
        hash.map_err(|error| KvError::Unavailable(format!("no hash: {error}")))
    }

    /// Whether it is the password that `hash` was made of. Where there is none it takes as long to
    /// say so.
    pub(super) async fn is_right(
        &self,
        password: String,
        hash: Option<String>,
        until: Instant,
    ) -> Result<bool, KvError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let cost = self.cost;
        self.apart(until, move || match hash {
            Some(hash) => bcrypt::verify(password, &hash).unwrap_or(false),
            None => {
                drop(bcrypt::hash_with_salt(password, cost, [0; 16]));
                false
            }
        })
        .await
    }

    /// Does `work` on a thread where it holds up nobody.
    async fn apart<T: Send + 'static>(
        &self,
        until: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KvError> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let waiting = waiting.map_err(|_| KvError::Overloaded)?;
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
