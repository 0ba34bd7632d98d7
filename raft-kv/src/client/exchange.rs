//! Getting one request answered: tries, retries, and what is certain about them.

use super::auth::{Signing, is_about_token};
use super::directory::{Connected, EndpointId, Fault, Pick};
use super::error::{Cause, ClientError, Trouble, gave_up};
use super::{Shared, millis};
use crate::api::{KvError, Reply, ReplyBody, Request, RequestBody};
use crate::wire;
use bytes::Bytes;
use raft_core::transport::{CallError, Channel};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a connection is waited for before another node is tried beside it.
const STAGGER: Duration = Duration::from_millis(200);
/// Pauses between tries: the first, and the longest they double up to.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How many handshakes with one node are under way beside each other before it counts as not to be
/// reached.
const HANDSHAKES_MAX: usize = 4;

/// How often a request is sent again with another token.
const LOGINS_MAX: usize = 2;
/// How often a node is asked for a cluster that is not formed yet, or has no leader.
const LEARN_TRIES_MAX: usize = 100;
/// How often a client that prefers the leader asks who that is.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// With less time left nothing is tried again: it would only make an outcome unknown.
const TRY_MIN: Duration = Duration::from_millis(20);

/// A request and how it may be treated.
pub(super) struct Exchange {
    /// The encoded request.
    pub(super) frame: Bytes,
    /// The deadline written in it.
    pub(super) frame_ms: u32,
    /// How long one node may take.
    pub(super) attempt: Duration,
    /// When the caller is told that it did not work.
    pub(super) deadline: Instant,
    /// Whether it may be sent again although an earlier try may have run.
    pub(super) repeatable: bool,
    /// Whether an earlier try may have run.
    pub(super) in_doubt: bool,
    /// What it shows.
    pub(super) signing: Signing,
    /// The way it goes; otherwise over the connection of whoever is asked.
    pub(super) way: Option<Arc<dyn Channel>>,
}

/// What a failed try means for the next one.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// It may have run.
    in_doubt: bool,
    /// Pause even if there are other nodes to try at once.
    pause: bool,
    /// Whom to blame, and for what.
    fault: Option<Fault>,
}

/// One try without an answer that settles the matter.
struct Failed {
    node: Option<Connected>,
    trouble: Trouble,
}

impl Shared {
    /// Sends a request until it is answered, wherever that works, or its deadline passes.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with what the nodes refuse at once; otherwise it depends on whether
    /// a try may have run, which stays noted in `exchange`.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        exchange: &mut Exchange,
    ) -> Result<ReplyBody, ClientError> {
        let mut explanation: Option<Trouble> = None;
        let mut failures = 0;
        let mut refusals = 0;
        let mut shown = self.sign(exchange).await?;
        loop {
            let failed = match self.attempt(exchange).await {
                Ok(Ok(body)) => return Ok(body),
                Ok(Err(refused))
                    if is_about_token(&refused)
                        && refusals < LOGINS_MAX
                        && self.forget_token(&exchange.signing, shown.as_ref()) =>
                {
                    refusals += 1;
                    shown = self.sign(exchange).await?;
                    continue;
                }
                Ok(Err(refused)) if exchange.in_doubt => {
                    // It says nothing about the earlier try, which another node may have let pass.
                    let cause = Cause::Node(refused);
                    return Err(gave_up(true, Some(Trouble { address: None, cause })));
                }
                Ok(Err(refused)) => return Err(ClientError::refused(refused)),
                Err(failed) => failed,
            };
            let refused = matches!(failed.trouble.cause, Cause::Call(CallError::Refused(_)));
            if refused && self.directory.all_refused() {
                // Nobody lets this client in, and that will not change while it waits.
                self.note_trouble(&failed.trouble);
                return Err(gave_up(exchange.in_doubt, Some(failed.trouble)));
            }
            let verdict = verdict(&failed.trouble.cause);
            exchange.in_doubt |= verdict.in_doubt;
            if let (Some(node), Some(fault)) = (&failed.node, verdict.fault) {
                self.failed(node, fault);
            }
            if explanation.as_ref().map_or(0, Trouble::weight) <= failed.trouble.weight() {
                self.note_trouble(&failed.trouble);
                explanation = Some(failed.trouble);
            }
            failures += 1;
            let pause = match verdict.pause || failures >= self.directory.len() {
                true => self.pause(failures),
                false => Duration::ZERO,
            };
            let left = exchange.deadline.saturating_duration_since(Instant::now());
            if left < pause + TRY_MIN || (exchange.in_doubt && !exchange.repeatable) {
                return Err(gave_up(exchange.in_doubt, explanation));
            }
            sleep(pause).await;
        }
    }

    /// Has the request show what it is to show, which is returned.
    async fn sign(
        self: &Arc<Self>,
        exchange: &mut Exchange,
    ) -> Result<Option<Arc<str>>, ClientError> {
        let shown = self.shown(&exchange.signing, exchange.deadline).await;
        let shown = shown.map_err(|error| match error {
            // Of an earlier try it says nothing.
            ClientError::NotDone { reason, source } if exchange.in_doubt => {
                ClientError::Unknown { reason, source }
            }
            ClientError::Refused(error) if exchange.in_doubt => {
                gave_up(true, Some(Trouble { address: None, cause: Cause::Node(error) }))
            }
            error => error,
        })?;
        if exchange.signing != Signing::No {
            exchange.frame = wire::with_token(&exchange.frame, shown.as_deref())
                .expect("the frame was encoded here");
        }
        Ok(shown)
    }

    /// Has others move on from a node that failed.
    pub(super) fn failed(self: &Arc<Self>, node: &Connected, fault: Fault) {
        if let Some((id, address)) = self.directory.failed(node, fault) {
            self.connect(id, address);
        }
        if fault == Fault::Silent && self.directory.suspect(node) {
            let (shared, node) = (Arc::clone(self), node.clone());
            tokio::spawn(async move {
                if shared.is_there(&node).await {
                    shared.directory.trust(node.id);
                } else {
                    shared.failed(&node, Fault::Broken);
                }
            });
        }
    }

    /// Whether a node answers a question that costs it nothing, whatever it says.
    pub(super) async fn is_there(self: &Arc<Self>, node: &Connected) -> bool {
        let deadline_ms = millis(self.attempt);
        let status = Request { deadline_ms, body: RequestBody::Status };
        let mut call = node.channel.call(wire::encode_request(&status));
        if let Ok(answer) = timeout(self.attempt / 2, &mut call).await {
            return answer.is_ok();
        }
        // If this comes to nothing, there shall be another one to move on to.
        if let Some((id, address)) = self.directory.spare(node) {
            self.connect(id, address);
        }
        matches!(timeout(self.attempt / 2, call).await, Ok(Ok(_)))
    }

    /// Waits until a node that has taken its time to answer is found not to be there; for ever if
    /// it is.
    async fn until_missed(self: &Arc<Self>, node: &Connected, since: Instant) {
        tokio::time::sleep_until(since).await;
        if self.is_there(node).await {
            std::future::pending().await
        }
    }

    /// One try with one node.
    async fn attempt(self: &Arc<Self>, exchange: &mut Exchange) -> Result<Reply, Failed> {
        let node = match self.directory.preferred() {
            Some(node) => node,
            None => {
                let until = exchange.deadline.min(Instant::now() + self.attempt);
                let channel = Box::pin(self.channel(until)).await;
                channel.map_err(|trouble| Failed { node: None, trouble })?
            }
        };
        let now = Instant::now();
        let time = exchange.attempt.min(exchange.deadline.saturating_duration_since(now));
        let time_ms = millis(time);
        if time_ms < exchange.frame_ms {
            exchange.frame_ms = time_ms;
            exchange.frame =
                wire::with_deadline(&exchange.frame, time_ms).expect("the frame was encoded here");
        }
        let way = exchange.way.as_ref().unwrap_or(&node.channel);
        let mut call = way.call(exchange.frame.clone());
        let early = timeout_at(now + time.min(self.attempt) / 2, &mut call).await;
        let answer = match early {
            Ok(answer) => Some(answer),
            Err(_) => {
                // If this comes to nothing, there shall be another one to move on to.
                if let Some((id, address)) = self.directory.spare(&node) {
                    self.connect(id, address);
                }
                let missed = Box::pin(self.until_missed(&node, now + self.attempt));
                tokio::select! {
                    answer = timeout_at(now + time, call) => answer.ok(),
                    () = missed => None,
                }
            }
        };
        let cause = match answer {
            Some(Ok(reply)) => match wire::decode_reply(&reply) {
                Ok(Err(error)) if is_for_now(&error) => Cause::Node(error),
                Ok(reply) => return Ok(reply),
                Err(error) => Cause::Answer(error),
            },
            Some(Err(error)) => Cause::Call(error),
            None => Cause::Silent(now.elapsed()),
        };
        let trouble = Trouble { address: Some(Arc::clone(&node.address)), cause };
        Err(Failed { node: Some(node), trouble })
    }

    /// A connection to some node, the preferred one if possible. After a while without one it
    /// tries others beside it and takes whichever is there first.
    pub(super) async fn channel(self: &Arc<Self>, until: Instant) -> Result<Connected, Trouble> {
        let mut widen = false;
        let mut connecting: Option<Arc<str>> = None;
        loop {
            let mut changed = pin!(self.directory.changed());
            // Enabled before looking: what happens after the look is not missed.
            changed.as_mut().enable();
            match self.directory.pick(widen) {
                Pick::Use(node) => return Ok(node),
                Pick::Connect(id, address) => {
                    connecting.get_or_insert_with(|| Arc::clone(&address));
                    self.connect(id, address);
                }
                Pick::Wait => {}
                Pick::Nothing(address, why) => {
                    let address = (!address.is_empty()).then_some(address);
                    return Err(Trouble { address, cause: Cause::Call(why) });
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble { address: connecting, cause: Cause::NoConnection });
            }
            widen = timeout(left.min(STAGGER), changed).await.is_err();
        }
    }

    /// Connects to a node in the background and learns from it who else there is.
    pub(super) fn connect(self: &Arc<Self>, id: EndpointId, address: Arc<str>) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            match shared.handshake(&address).await {
                Ok(channel) => {
                    shared.directory.connect_ended(id, Ok(Arc::clone(&channel)));
                    if shared.prefer_leader && !shared.following.swap(true, Ordering::Relaxed) {
                        tokio::spawn(follow_the_leader(Arc::downgrade(&shared)));
                    }
                    learn_of_cluster(shared, channel).await;
                }
                Err(error) => shared.directory.connect_ended(id, Err(error)),
            }
        });
    }

    /// A connection to `address`. A handshake that takes long goes on while the next one begins
    /// beside it, each after twice the time: the next one finds a node at once that has just come
    /// back, and a node that is slow because everybody wants to connect would never end one if all
    /// were broken off.
    async fn handshake(&self, address: &str) -> Result<Arc<dyn Channel>, CallError> {
        let begun_at = Instant::now();
        let (mut begun, mut failed) = (JoinSet::new(), None);
        let mut patience = self.attempt;
        for _ in 0..HANDSHAKES_MAX {
            begun.spawn(self.connector.connect(address));
            if let Ok(end) = timeout(patience, first_up(&mut begun, &mut failed)).await {
                return end;
            }
            patience *= 2;
        }
        let waited = begun_at.elapsed().as_secs_f64();
        let why = failed.map(|error| format!("; one handshake ended with: {error}"));
        let why = why.unwrap_or_default();
        Err(CallError::NotSent(format!("no connection within {waited:.1} s{why}")))
    }

    /// Asks a node for the members of its cluster and who leads; whether to ask again, because it
    /// belongs to none yet, nobody leads, or it is too busy to answer. A client that knew one node
    /// only could go nowhere when that one fails.
    async fn learn(self: &Arc<Self>, channel: &dyn Channel) -> bool {
        let deadline_ms = millis(self.attempt);
        let status = Request { deadline_ms, body: RequestBody::Status };
        let call = channel.call(wire::encode_request(&status));
        let reply = match timeout(self.attempt, call).await {
            Ok(Ok(reply)) => reply,
            // With the next connection it is asked anew.
            Ok(Err(_)) => return false,
            Err(_) => return true,
        };
        let Ok(Ok(ReplyBody::Status(status))) = wire::decode_reply(&reply) else { return false };
        self.take_in(&status);
        status.members.is_empty() || status.leader.is_none()
    }

    /// How long to wait after so many failures: longer each time, and never the same for all.
    pub(super) fn pause(&self, failures: usize) -> Duration {
        let doublings = u32::try_from(failures).unwrap_or(u32::MAX).clamp(1, 8) - 1;
        let pause = (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX);
        // A Weyl sequence: evenly spread, and one atomic addition.
        let step = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let half = (step >> 32) as f64 / f64::from(u32::MAX) / 2.0;
        pause.mul_f64(0.5 + half)
    }
}

/// Asks a node for its cluster, and again as long as it does not tell, or there is none: a client
/// may come before its cluster is formed. Ends with the client.
async fn learn_of_cluster(shared: Arc<Shared>, channel: Arc<dyn Channel>) {
    let client = Arc::downgrade(&shared);
    let mut shared = Some(shared);
    for tries in 1..=LEARN_TRIES_MAX {
        let Some(present) = shared.take().or_else(|| client.upgrade()) else { return };
        if !present.learn(&*channel).await {
            return;
        }
        let pause = present.pause(tries);
        drop(present);
        sleep(pause).await;
    }
}

/// Asks the preferred node again and again who leads: leadership moves. Ends with the client.
async fn follow_the_leader(client: Weak<Shared>) {
    loop {
        sleep(FOLLOW_INTERVAL).await;
        let Some(shared) = client.upgrade() else { return };
        if let Some(node) = shared.directory.preferred() {
            shared.learn(&*node.channel).await;
        }
    }
}

/// The first of these connections that comes about, or why the last of them does not. Why one has
/// failed stays in `failed`, also if this is given up because others take long.
async fn first_up(
    begun: &mut JoinSet<Result<Arc<dyn Channel>, CallError>>,
    failed: &mut Option<CallError>,
) -> Result<Arc<dyn Channel>, CallError> {
    while let Some(end) = begun.join_next().await {
        match end {
            Ok(Ok(channel)) => return Ok(channel),
            Ok(Err(error)) => *failed = Some(error),
            Err(error) => *failed = Some(CallError::NotSent(error.to_string())),
        }
    }
    let failed = failed.take();
    Err(failed.unwrap_or_else(|| CallError::NotSent("no connection was begun".into())))
}

/// Whether an error is about the moment, not about the request.
const fn is_for_now(error: &KvError) -> bool {
    matches!(
        error,
        KvError::Overloaded
            | KvError::Unavailable(_)
            | KvError::Unknown(_)
            | KvError::NoQuorum { .. }
    )
}

fn verdict(cause: &Cause) -> Verdict {
    let (in_doubt, pause, fault) = match cause {
        Cause::Node(KvError::Overloaded) => (false, true, None),
        Cause::Node(error) => (error.may_have_run(), true, Some(Fault::Unable)),
        Cause::Call(CallError::NotSent(_) | CallError::Refused(_)) | Cause::NoConnection => {
            (false, false, Some(Fault::Broken))
        }
        Cause::WindowFull(_) => (false, true, None),
        Cause::Silent(_) => (true, false, Some(Fault::Silent)),
        Cause::Call(_) | Cause::Answer(_) => (true, false, Some(Fault::Broken)),
    };
    Verdict { in_doubt, pause, fault }
}
