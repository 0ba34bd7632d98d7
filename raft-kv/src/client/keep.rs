//! Leases that are kept alive for as long as somebody holds them.
//!
//! One task per client renews all of its leases, each when a third of its time has passed, and all
//! that are due soon in one request. It waits for none of these requests: a lease is not renewed
//! late because another one's renewal takes its time. It ends with the last lease.
//!
//! What is believed about a lease errs to one side only: it is held until its time has passed
//! since the last successful request to renew it was *sent*. The store counts from a later moment,
//! so it still has the lease when its holder gives it up. Once given up, a lease is not taken back,
//! even if the store turns out to have it still: somebody may have acted on its loss.

use super::{Client, ClientError, Granted, Revoked};
use crate::api::{Fence, KEEP_ALIVE_MAX, KvError, LeaseId};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Renewals come this often in the time of a lease.
const RENEWALS: u32 = 3;
/// Longest time one node may take to renew. As long as a lease can wait, so can its holder: a store
/// that is slow, but renews, does not lose anybody's lease.
const ROUND_MAX: Duration = Duration::from_secs(10);

impl Client {
    /// Makes a lease and keeps it alive until it is [revoked](Lease::revoke), dropped or
    /// [lost](Lease::lost).
    ///
    /// ```
    /// # use raft_kv::{Client, api::Put, client::ClientError};
    /// # use std::time::Duration;
    /// # async fn work() {}
    /// # async fn example(client: Client) -> Result<(), ClientError> {
    /// let lease = client.lease(Duration::from_secs(10)).await?;
    /// client.put_with(Put::new("workers/7", "host-a").with_lease(lease.id())).await?;
    /// tokio::select! {
    ///     () = work() => {}
    ///     () = lease.lost() => println!("the others may think that we are gone"),
    /// }
    /// lease.revoke().await?; // and the key is gone, too
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`ClientError`]. After [`ClientError::Unknown`] there may be a lease that nobody keeps
    /// alive.
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, ClientError> {
        // The time of the lease does not begin before it is asked for.
        let asked = Instant::now();
        let granted = self.grant_lease(None, ttl).await?;
        let held = Arc::new(Held::new(granted, asked));
        let lease = Lease { held: Arc::clone(&held), client: self.unfenced(), revoke: true };
        lease.keeper().keep(&lease.client, held);
        Ok(lease)
    }
}

/// A lease that is kept alive for as long as this lives; see [`Client::lease`].
///
/// Dropping it stops that, and sends a request to revoke the lease in the background; if that does
/// not arrive, the lease expires by itself.
pub struct Lease {
    held: Arc<Held>,
    client: Client,
    /// Whether it is to be revoked when it is dropped.
    revoke: bool,
}

impl Lease {
    /// The lease, to hang keys on.
    pub fn id(&self) -> LeaseId {
        self.held.id
    }

    /// How long it lives without being kept alive.
    pub fn ttl(&self) -> Duration {
        self.held.ttl
    }

    /// Whether it cannot be relied on any more. Never becomes false again.
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// For how long it is certain to live, whatever happens to this process or the network.
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Ends when the lease cannot be relied on any more: it is gone, or it may be, because no
    /// renewal was answered for as long as it lives. It relies on the machine's monotonic clock; a
    /// process that was paused learns of it when it goes on, which may be after others hold what it
    /// held. Writes that must not happen then carry a [`Fence`](crate::api::Fence).
    pub fn lost(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        let (held, client) = (Arc::clone(&self.held), self.client.clone());
        Box::pin(async move { held.lost(&client).await })
    }

    /// Ends it, with the keys that hang on it. It is not kept alive any more whatever this returns.
    ///
    /// # Errors
    /// See [`ClientError`]; [`KvError::LeaseNotFound`](crate::api::KvError::LeaseNotFound) if it
    /// was gone already.
    pub async fn revoke(mut self) -> Result<Revoked, ClientError> {
        self.keeper().drop_lease(self.id());
        let revoked = self.client.revoke_lease(self.id()).await;
        self.revoke = !matches!(&revoked, Ok(_) | Err(ClientError::Refused(_)));
        revoked
    }

    /// The same, and if `fence` does not hold any more that is told: with
    /// [`KvError::Fenced`](crate::api::KvError::Fenced), after it was ended all the same.
    pub(crate) async fn revoke_under(mut self, fence: Fence) -> Result<Revoked, ClientError> {
        self.keeper().drop_lease(self.id());
        let revoked = self.client.fenced(fence).revoke_lease(self.id()).await;
        if matches!(revoked, Err(ClientError::Refused(KvError::Fenced { .. }))) {
            // Lost or not is known; what else hangs on it goes now or when it expires.
            let _ = self.revoke().await;
        } else {
            self.revoke = !matches!(&revoked, Ok(_) | Err(ClientError::Refused(_)));
        }
        revoked
    }

    fn keeper(&self) -> &Keeper {
        &self.client.shared.keeper
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper().drop_lease(self.id());
        self.held.lose();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.revoke {
            let (client, id) = (self.client.clone(), self.id());
            // If it fails, the lease expires.
            runtime.spawn(async move { client.revoke_lease(id).await });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({}, {:?} left)", self.id(), self.remaining())
    }
}

/// What is known of a lease.
struct Held {
    id: LeaseId,
    ttl: Duration,
    standing: watch::Sender<Standing>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Certainly there until then.
    Until(Instant),
    /// For good.
    Lost,
}

impl Held {
    fn new(Granted { id, ttl }: Granted, asked: Instant) -> Self {
        Self { id, ttl, standing: watch::Sender::new(Standing::Until(later(asked, ttl))) }
    }

    fn is_lost(&self) -> bool {
        self.change(Standing::Until);
        *self.standing.borrow() == Standing::Lost
    }

    fn remaining(&self) -> Duration {
        match *self.standing.borrow() {
            Standing::Until(until) => until.saturating_duration_since(Instant::now()),
            Standing::Lost => Duration::ZERO,
        }
    }

    /// Waits until it is lost. If nobody renews the leases of `client` any more, because the
    /// runtime on which that was done has ended, it is done on the present one from now on.
    async fn lost(&self, client: &Client) {
        let mut news = self.standing.subscribe();
        while !self.is_lost() {
            client.shared.keeper.keep_going(client);
            let standing = *news.borrow_and_update();
            if let Standing::Until(until) = standing {
                // It was renewed, nobody does that any more, or its time has come: that is looked
                // at next.
                let _ = timeout_at(until, news.changed()).await;
            }
        }
    }

    /// A request to renew it was sent at `sent`, and the store answered that it lives for `left`.
    fn renewed(&self, sent: Instant, left: Duration) {
        let renewed = later(sent, left);
        self.change(|until| Standing::Until(until.max(renewed)));
    }

    fn lose(&self) {
        self.change(|_| Standing::Lost);
    }

    /// Has those who wait look again.
    fn wake(&self) {
        self.standing.send_modify(|_| {});
    }

    /// Changes the standing of a lease that is not lost by now.
    fn change(&self, change: impl FnOnce(Instant) -> Standing) {
        self.standing.send_if_modified(|standing| {
            let Standing::Until(until) = *standing else { return false };
            let new = if until <= Instant::now() { Standing::Lost } else { change(until) };
            std::mem::replace(standing, new) != new
        });
    }
}

/// `time` after `from`, or so late that it makes no difference: clocks do not reach any further.
fn later(from: Instant, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    from + time.min(CENTURY)
}

/// Keeps the leases of one client alive.
#[derive(Default)]
pub(super) struct Keeper {
    kept: Mutex<Kept>,
    /// Told when a lease comes or goes.
    news: Notify,
}

#[derive(Default)]
struct Kept {
    leases: BTreeMap<LeaseId, Due>,
    /// Whether there is a task that renews them.
    running: bool,
}

struct Due {
    held: Arc<Held>,
    /// When to renew it next.
    at: Instant,
    /// Whether a request to renew it is under way.
    asked: bool,
}

impl Keeper {
    fn keep(&self, client: &Client, held: Arc<Held>) {
        let at = later(Instant::now(), interval(held.ttl));
        let mut kept = self.kept();
        kept.leases.insert(held.id, Due { held, at, asked: false });
        drop(kept);
        self.news.notify_one();
        self.keep_going(client);
    }

    /// Starts the task unless it runs: it may also have ended with the runtime it was started on.
    fn keep_going(&self, client: &Client) {
        let mut kept = self.kept();
        if kept.leases.is_empty() || std::mem::replace(&mut kept.running, true) {
            return;
        }
        drop(kept);
        tokio::spawn(renew_all(Running { client: client.clone(), over: false }));
    }

    fn drop_lease(&self, id: LeaseId) {
        self.kept().leases.remove(&id);
        self.news.notify_one();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every statement leaves it consistent.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether there is nothing to keep any more; then the task ends.
    fn is_over(&mut self) -> bool {
        self.leases.retain(|_, due| !due.held.is_lost());
        self.running = !self.leases.is_empty();
        !self.running
    }

    /// When the next one is due of those for which no request is under way.
    fn next(&self) -> Option<Instant> {
        self.leases.values().filter(|due| !due.asked).map(|due| due.at).min()
    }

    /// Those that are due, and those that will be soon: in step, they cost one request, which is
    /// under way from now on.
    fn take_due(&mut self) -> Vec<Arc<Held>> {
        let now = Instant::now();
        let soon = |due: &&mut Due| !due.asked && due.at <= later(now, interval(due.held.ttl) / 2);
        let mut due: Vec<&mut Due> = self.leases.values_mut().filter(soon).collect();
        due.sort_by_key(|due| due.at);
        due.truncate(KEEP_ALIVE_MAX);
        due.iter_mut().for_each(|due| due.asked = true);
        due.iter().map(|due| Arc::clone(&due.held)).collect()
    }

    /// The request to renew a lease is over; it is renewed next at `at`.
    fn answered(&mut self, held: &Arc<Held>, at: Instant) {
        if let Some(due) = self.leases.get_mut(&held.id)
            && Arc::ptr_eq(&due.held, held)
        {
            (due.at, due.asked) = (at, false);
        }
    }
}

/// That the task runs, or will. If it ends although there are leases, because its runtime did,
/// whoever waits for the loss of one, or takes another one, starts it anew.
struct Running {
    client: Client,
    /// It was noted already that it does not run any more.
    over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut kept = self.client.shared.keeper.kept();
        kept.running = false;
        for due in kept.leases.values_mut() {
            due.asked = false;
            due.held.wake();
        }
    }
}

fn interval(ttl: Duration) -> Duration {
    ttl / RENEWALS
}

/// Renews leases when they are due, as long as there are any.
async fn renew_all(mut running: Running) {
    let client = running.client.clone();
    let keeper = &client.shared.keeper;
    // One for each lease at most, and usually one.
    let mut renewals = JoinSet::new();
    loop {
        running.over = keeper.kept().is_over();
        if running.over {
            return;
        }
        let next = keeper.kept().next();
        tokio::select! {
            () = until(next) => {
                let due = keeper.kept().take_due();
                renewals.spawn(renew(client.clone(), due));
            }
            () = keeper.news.notified() => {}
            Some(_) = renewals.join_next() => {}
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Renews leases, for which no other request is under way.
async fn renew(client: Client, due: Vec<Arc<Held>>) {
    let ids: Vec<LeaseId> = due.iter().map(|held| held.id).collect();
    let Some(patience) = due.iter().map(|held| interval(held.ttl)).min() else { return };
    let patience = patience.min(ROUND_MAX);
    let sent = Instant::now();
    let renewal = client.keep_alive_within(&ids, patience, patience).await;
    let mut kept = client.shared.keeper.kept();
    let Ok(lives) = renewal else {
        // What took its time is tried again at once, what is refused at once after a while.
        let again = Instant::now().max(sent + patience / 4);
        due.iter().for_each(|held| kept.answered(held, again));
        return;
    };
    for (held, left) in due.iter().zip(lives) {
        if left.is_zero() {
            held.lose();
        } else {
            held.renewed(sent, left);
        }
        kept.answered(held, later(sent, interval(held.ttl)));
    }
}
