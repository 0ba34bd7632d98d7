//! What an operator should know before it hurts, each said once.

use super::Driver;
use crate::node::Status;
use crate::node::timing::{Flushes, Timing};
use crate::types::{Incarnation, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was measured, and what was said already.
#[derive(Default)]
pub(super) struct Warnings {
    pub(super) flushes: Flushes,
    pub(super) timing: Timing,
    /// The voters whose even number was complained of.
    even: Vec<NodeId>,
    unbound: bool,
    other_lives: BTreeMap<NodeId, OtherLife>,
}

/// A life of a peer that is not the one the cluster knows.
struct OtherLife {
    life: Incarnation,
    /// The tick it was first noticed at.
    since: u64,
    said: bool,
}

impl Driver {
    /// Measures how long being heard and answered takes, and says so if that is too long.
    pub(super) fn measure(&mut self) {
        let Self { config, warnings, raft, .. } = self;
        let membership = raft.membership();
        if membership.voter_count() < 2 {
            warnings.timing = Timing::default();
            return;
        }
        // Largest is best where a quorum is asked for; what is not known is worst.
        let own = self.identity.node;
        let closeness = membership.quorum_value(|node| {
            let trip = match node == own {
                true => Some(Duration::ZERO),
                false => self.transport.round_trip(config.group, node),
            };
            trip.map_or(0, |trip| u64::MAX - u64::try_from(trip.as_nanos()).unwrap_or(u64::MAX))
        });
        let round_trip = (closeness > 0).then(|| Duration::from_nanos(u64::MAX - closeness));
        let timeout = config.tick.saturating_mul(config.raft.election_ticks_min);
        let timing = Timing::new(round_trip, warnings.flushes.usual_most(), timeout);
        let before = std::mem::replace(&mut warnings.timing, timing);
        if timing.suggested.is_some() != before.suggested.is_some() {
            let node = self.identity.node;
            match timing.suggested {
                Some(_) => tracing::warn!(%node, "{timing}"),
                None => tracing::info!(%node, "{timing}"),
            }
        }
        let seconds = round_trip.unwrap_or_default().as_secs_f64();
        self.threads.metrics.round_trip_seconds.set(seconds);
    }

    /// Says what is odd about the cluster as `status` shows it.
    pub(super) fn warn(&mut self, status: &Status) {
        self.warn_of_even_voters(status);
        self.warn_of_own_life(status);
        self.warn_of_other_lives(status);
    }

    fn warn_of_even_voters(&mut self, status: &Status) {
        let (node, membership) = (self.identity.node, &status.membership);
        let even = membership.voters().len().is_multiple_of(2) && !membership.is_empty();
        if !even || membership.is_joint() || self.warnings.even == membership.voters() {
            return;
        }
        self.warnings.even = membership.voters().to_vec();
        let (voters, tolerated) = (membership.voter_count(), membership.tolerated_failures());
        tracing::warn!(
            %node, voters, tolerated,
            "an even number of voters bears no more failures than one voter less would"
        );
    }

    fn warn_of_own_life(&mut self, status: &Status) {
        let node = self.identity.node;
        let unbound = !status.bound && status.membership.contains(node);
        if unbound && !self.warnings.unbound {
            let incarnation = self.identity.incarnation;
            tracing::warn!(
                %node, %incarnation,
                "the cluster knows another life of this node, with another data directory: it does \
                 not vote until the leader takes it back"
            );
        }
        self.warnings.unbound = unbound;
    }

    /// Two lives of one node that are heard by turns are two processes; one that is silent since
    /// the other is heard was replaced.
    fn warn_of_other_lives(&mut self, status: &Status) {
        let (node, now) = (self.identity.node, self.ticks);
        let lives = &mut self.warnings.other_lives;
        lives.retain(|id, _| status.membership.contains(*id));
        for peer in &status.peers {
            let Some(life) = peer.other_life else {
                lives.remove(&peer.id);
                continue;
            };
            let first = || OtherLife { life, since: now, said: false };
            let other = lives.entry(peer.id).or_insert_with(first);
            if other.life != life {
                *other = first();
            }
            let ago = self
                .config
                .tick
                .saturating_mul(u32::try_from(now - other.since).unwrap_or(u32::MAX));
            if !other.said && peer.heard.is_some_and(|heard| heard < ago) {
                other.said = true;
                tracing::warn!(
                    %node, peer = %peer.id, incarnation = %life,
                    "two processes speak as this peer: one with another data directory and the \
                     same certificate"
                );
            }
        }
    }
}
