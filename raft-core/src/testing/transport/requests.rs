//! Requests and streams, of nodes and of clients, and what becomes of them when a node goes.

use super::Network;
use super::parties::{
    CLIENT, CLUSTER, Desk, GROUP, GROUPS, HOLD, NO_GROUP, NOBODY, Scene, pattern,
};
use super::wait::{all, both, lock, pause, within};
use crate::testing::breach::Breach;
use crate::transport::{
    BoxFuture, CallError, Caller, Channel, Duplex, FrameSource, Peers as _, StreamError,
};
use crate::types::{GroupId, NodeId};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Reply = Result<Bytes, CallError>;

/// Requests under way at once.
const AT_ONCE: usize = 200;
/// How long a sender that waits is watched before that is believed.
const WAITS: Duration = Duration::from_millis(300);
/// Frames that nobody reads.
const UNREAD: usize = 1024;
/// Bytes of each.
const UNREAD_BYTES: usize = 256 * 1024;

/// Who asks whom.
#[derive(Clone)]
enum Asker {
    Node(usize),
    Client(Arc<dyn Channel>),
}

impl<N: Network> Scene<'_, N> {
    fn call(&self, asker: &Asker, to: NodeId, group: GroupId, request: Bytes) -> BoxFuture<Reply> {
        match asker {
            Asker::Node(from) => self.parties[*from].transport.call(group, to, request),
            Asker::Client(channel) => channel.call(request),
        }
    }

    fn caller(&self, asker: &Asker) -> Caller {
        match asker {
            Asker::Node(from) => Caller::Node(self.parties[*from].node()),
            Asker::Client(_) => CLIENT,
        }
    }

    fn request(&mut self, rest: &[u8]) -> (u64, Bytes) {
        let number = self.number();
        (number, [&number.to_be_bytes()[..], rest].concat().into())
    }

    /// The first node, and a client, if there are clients, of the second node.
    async fn askers(&self) -> Result<Vec<Asker>, Breach> {
        let mut askers = vec![Asker::Node(0)];
        if let Some(connecting) = self.network.connect(&self.parties[1].address) {
            let breach = |found| Err(Breach::new("arrives", "a client connects", "it can", found));
            match within(self.network.patience(), connecting).await {
                Some(Ok(channel)) => askers.push(Asker::Client(channel)),
                Some(Err(error)) => return breach(error.to_string()),
                None => return breach("nothing comes of it".into()),
            }
        }
        Ok(askers)
    }

    pub(super) async fn requests(&mut self) -> Result<(), Breach> {
        for asker in self.askers().await? {
            self.answered(&asker, 1, "arrives").await?;
            for size in [0, 1, 4096, 70_000, 1 << 20] {
                self.answered_at_once(&asker, 0, size, 3).await?;
            }
            self.answered_at_once(&asker, 0, 100, AT_ONCE).await?;
            self.slow(&asker).await?;
        }
        self.answered_at_once(&Asker::Node(0), 1, 100, AT_ONCE).await?;
        let nowhere = [(NOBODY, GROUP, "a node that does not exist")];
        let nowhere = nowhere.into_iter().chain([(NodeId(2), NO_GROUP, "a group not served")]);
        for (to, group, what) in nowhere {
            let (_, request) = self.request(b"nobody");
            let call = self.call(&Asker::Node(0), to, group, request);
            self.fails(call, &format!("a request to {what}")).await?;
        }
        Ok(())
    }

    /// Asks the second node until it answers.
    async fn answered(
        &mut self,
        asker: &Asker,
        to: usize,
        rule: &'static str,
    ) -> Result<(), Breach> {
        let (began, patience) = (Instant::now(), self.network.patience());
        let node = self.parties[to].node();
        let mut found = "nothing".into();
        while began.elapsed() < patience {
            let (_, request) = self.request(b"are you there?");
            let expected = Desk::reply(node, GROUP, self.caller(asker), &request);
            match within(patience, self.call(asker, node, GROUP, request)).await {
                Some(Ok(reply)) if reply == expected => return Ok(()),
                Some(Ok(reply)) => {
                    let step = format!("a request to {node}");
                    return Err(Breach::new("reply", step, show(&expected), show(&reply)));
                }
                Some(Err(error)) => found = error.to_string(),
                None => break,
            }
            pause(Duration::from_millis(20)).await;
        }
        let step = format!("{node} is asked again and again");
        Err(Breach::new(rule, step, "a reply", found))
    }

    /// Asks so many at once, each of which must be answered with its own reply and run once.
    async fn answered_at_once(
        &mut self,
        asker: &Asker,
        group: usize,
        size: usize,
        count: usize,
    ) -> Result<(), Breach> {
        let (node, caller) = (self.parties[1].node(), self.caller(asker));
        let rest = pattern(size);
        let requests: Vec<_> = (0..count).map(|_| self.request(&rest)).collect();
        let step = format!("{count} requests of {} bytes at once to {node}", size + 8);
        let calls = requests.iter();
        let calls =
            calls.map(|(_, it)| self.call(asker, node, GROUPS[group], it.clone())).collect();
        let Some(replies) = within(self.network.patience(), all(calls)).await else {
            return Err(Breach::new("reply", step, "all are answered", "some are not"));
        };
        for ((number, request), reply) in requests.iter().zip(replies) {
            let expected = Desk::reply(node, GROUPS[group], caller, request);
            let found = reply.unwrap_or_else(|error| Bytes::from(error.to_string()));
            if found != expected {
                return Err(Breach::new("reply", step, show(&expected), show(&found)));
            }
            let runs = lock(&self.parties[1].desks[group].runs).get(number).copied();
            if runs != Some(1) {
                let found = format!("it ran {} times", runs.unwrap_or_default());
                return Err(Breach::new("once", step, "each of them runs once", found));
            }
            self.report.requests += 1;
        }
        Ok(())
    }

    /// One that waits holds up no other.
    async fn slow(&mut self, asker: &Asker) -> Result<(), Breach> {
        let (node, patience) = (self.parties[1].node(), self.network.patience());
        let (_, request) = self.request(HOLD);
        let expected = Desk::reply(node, GROUP, self.caller(asker), &request);
        let slow = self.call(asker, node, GROUP, request);
        let desk = Arc::clone(&self.parties[1].desks[0]);
        let rest = async {
            let held = within(patience, desk.held.next()).await;
            let done = self.answered_at_once(asker, 0, 10, 20).await;
            desk.gate.push(());
            held.is_some().then_some(done)
        };
        let (reply, rest) = both(within(patience, slow), rest).await;
        let step = "a request that waits for others to be answered";
        rest.ok_or_else(|| Breach::new("arrives", step, "it runs", "it does not"))?
            .map_err(|breach| breach.during("while another request waits"))?;
        match reply {
            Some(Ok(reply)) if reply == expected => Ok(()),
            other => Err(Breach::new("reply", step, show(&expected), format!("{other:?}"))),
        }
    }

    /// Waits for a call that must fail.
    async fn fails(&self, call: BoxFuture<Reply>, step: &str) -> Result<(), Breach> {
        let patience = self.network.patience();
        match within(patience, call).await {
            Some(Err(_)) => Ok(()),
            Some(Ok(reply)) => Err(Breach::new("ends", step, "an error", show(&reply))),
            None => Err(Breach::new("ends", step, "an error", format!("none in {patience:?}"))),
        }
    }

    /// Opens a stream to the second node; both ends of it.
    async fn stream(&mut self, asker: &Asker) -> Result<(Duplex, Duplex), Breach> {
        let (patience, node) = (self.network.patience(), self.parties[1].node());
        let step = format!("a stream to {node}");
        let what_for = pattern(40);
        let opening = match asker {
            Asker::Node(from) => {
                self.parties[*from].transport.open_stream(GROUP, node, what_for.clone())
            }
            Asker::Client(channel) => channel.open_stream(what_for.clone()),
        };
        let desk = Arc::clone(&self.parties[1].desks[0]);
        let opened = both(within(patience, opening), within(patience, desk.streams.next())).await;
        match opened {
            (Some(Ok(near)), Some((caller, first, far)))
                if caller == self.caller(asker) && first == what_for =>
            {
                self.report.streams += 1;
                Ok((near, far))
            }
            (near, far) => {
                let near = near.map(|near| near.err().map(|error| error.to_string()));
                let far = far.map(|(caller, first, _)| format!("{caller:?} {}", show(&first)));
                let found = format!("{near:?} here, {far:?} there");
                Err(Breach::new("stream", step, "both ends know of it", found))
            }
        }
    }

    pub(super) async fn streams(&mut self) -> Result<(), Breach> {
        for asker in self.askers().await? {
            let (near, far) = self.stream(&asker).await?;
            let (Duplex { sink, source }, other) = (near, far);
            self.one_way(sink, other.source, "there").await?;
            self.one_way(other.sink, source, "back").await?;

            let (near, mut far) = self.stream(&asker).await?;
            drop(near.sink);
            let received = within(self.network.patience(), far.source.receive()).await;
            if !matches!(received, Some(Err(StreamError::Broken(_)))) {
                let step = "a sink is dropped without being finished";
                let found = format!("{received:?}");
                return Err(Breach::new("stream", step, "the other end says broken", found));
            }
            drop((near.source, far));
            self.unread(&asker).await?;
        }
        Ok(())
    }

    /// Frames in one direction until its clean end.
    async fn one_way(
        &self,
        mut sink: Box<dyn crate::transport::FrameSink>,
        mut source: Box<dyn FrameSource>,
        way: &str,
    ) -> Result<(), Breach> {
        let sizes = [0, 1, 4096, 4097, 100_000, 1 << 20].into_iter().chain([7; 300]);
        let frames: Vec<_> = sizes.map(pattern).collect();
        let sending = async {
            for frame in &frames {
                sink.send(frame.clone()).await?;
            }
            sink.finish().await
        };
        let flow = both(sending, rest(&mut *source));
        let step = format!("frames are sent {way}, and the stream is finished");
        match within(self.network.patience(), flow).await {
            Some((Ok(()), Ok(received))) if received == frames => Ok(()),
            Some((sent, received)) => {
                let received = received.map(|frames| format!("{} frames", frames.len()));
                let found = format!("sent: {sent:?}, received: {received:?}");
                let expected = format!("all {} frames, in order, and the end", frames.len());
                Err(Breach::new("stream", step, expected, found))
            }
            None => Err(Breach::new("stream", step, "they arrive", "not all, and no error")),
        }
    }

    /// A stream that nobody reads makes its sender wait, and loses nothing.
    async fn unread(&mut self, asker: &Asker) -> Result<(), Breach> {
        let (mut near, mut far) = self.stream(asker).await?;
        let step = format!("frames of {UNREAD_BYTES} bytes are sent that nobody receives");
        let frame = pattern(UNREAD_BYTES);
        let mut sent = 0;
        while let Some(result) = within(WAITS, near.sink.send(frame.clone())).await {
            sent += 1;
            if let Err(error) = result {
                return Err(Breach::new("stream", step, "they wait", error.to_string()));
            }
            if sent == UNREAD {
                let found = format!("{sent} of them were taken");
                return Err(Breach::new("bounded", step, "the sender has to wait", found));
            }
        }
        let flow = both(near.sink.finish(), rest(&mut *far.source));
        let found = match within(self.network.patience(), flow).await {
            // The last one may have been sent or not.
            Some((Ok(()), Ok(frames)))
                if (sent..=sent + 1).contains(&frames.len())
                    && frames.iter().all(|received| *received == frame) =>
            {
                return Ok(());
            }
            Some((_, Ok(frames))) => format!("{} frames", frames.len()),
            Some((_, Err(error))) => error.to_string(),
            None => "not all, and no error".into(),
        };
        let step = format!("{step}, and then are, after {sent}");
        Err(Breach::new("stream", step, "all of them", found))
    }

    /// A node goes, and comes back.
    pub(super) async fn gone(&mut self) -> Result<(), Breach> {
        let patience = self.network.patience();
        let asker = Asker::Node(0);
        self.answered(&asker, 1, "arrives").await?;
        let (mut near, far) = self.stream(&asker).await?;
        let (_, request) = self.request(HOLD);
        let call = self.call(&asker, self.parties[1].node(), GROUP, request);
        let gone = self.parties.remove(1);
        let (node, desk) = (gone.node(), Arc::clone(&gone.desks[0]));
        let stopping = async {
            let began = within(patience, desk.held.next()).await.is_some();
            self.network.stop(node, gone.transport).await;
            // What runs in a process ends with it.
            desk.gate.push(());
            drop(far);
            began
        };
        let (ended, began) = both(within(patience * 2, call), stopping).await;
        let step = format!("{node} stops while it runs a request");
        if !began {
            return Err(Breach::new("arrives", step, "the request runs", "it does not"));
        }
        if ended.is_none() {
            return Err(Breach::new("ends", step, "the call ends", "it does not"));
        }
        let received = within(patience, near.source.receive()).await;
        if !matches!(received, Some(Err(_))) {
            let step = format!("{node} stops while there is a stream to it");
            let found = received.map_or_else(|| "nothing".into(), |it| format!("{it:?}"));
            return Err(Breach::new("ends", step, "the stream is broken", found));
        }
        let (_, request) = self.request(b"still there?");
        let call = self.call(&asker, node, GROUP, request);
        self.fails(call, &format!("a request to {node}, which has stopped")).await?;
        self.unsent(0, node)?;

        let back = self.start(CLUSTER, node.0);
        self.parties.insert(1, back);
        self.introduce(&[]);
        self.answered(&asker, 1, "reconnects").await?;
        let message = super::parties::heartbeat();
        self.deliver((0, 2), 0, &message, "reconnects").await
    }
}

async fn rest(source: &mut dyn FrameSource) -> Result<Vec<Bytes>, StreamError> {
    let mut frames = Vec::new();
    while let Some(frame) = source.receive().await? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Bytes as text, and not too many.
fn show(bytes: &[u8]) -> String {
    let text: String = bytes.escape_ascii().take(80).map(char::from).collect();
    format!("{} bytes \"{text}\"", bytes.len())
}
