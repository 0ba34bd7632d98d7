//! Alarms: those that somebody has raised, which are in the store, and those that follow from the
//! state of each member, which is asked.

use super::core::Core;
use super::error::{self, BAD_ALARM, Known};
use super::proto::etcdserverpb as pb;
use crate::api::{AlarmChange, AlarmKind, KvError, MemberAlarm, Space};
use pb::{AlarmMember, AlarmType};
use raft_core::types::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// How long a member has to say how it is, and for how long that counts.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the other members have said last of how they are, and when.
pub(super) type Heard = BTreeMap<NodeId, (Instant, Vec<AlarmKind>)>;

/// Which alarms are asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// Those of one member; of all if it is 0.
    pub(super) member: u64,
    /// Those of one kind; of all if it is that of none.
    pub(super) kind: i32,
}

impl Wanted {
    fn is_of(self, member: NodeId) -> bool {
        self.member == 0 || self.member == member.0
    }

    fn has(self, alarm: MemberAlarm) -> bool {
        let all = i32::from(AlarmType::None);
        self.is_of(alarm.member) && (self.kind == all || self.kind == i32::from(told(alarm.kind)))
    }
}

impl Core {
    /// Raises an alarm.
    pub(super) async fn raise(&self, alarm: MemberAlarm) -> Result<(), Status> {
        let until = self.until();
        match self.upgrading(until).await? {
            Some(why) => Err(error::of_upgrade(&why)),
            None => self.change_alarm(AlarmChange::Raise(alarm), until).await.map(drop),
        }
    }

    /// Clears an alarm; whether there was one. Those that follow from the state of a member stay as
    /// long as it does.
    pub(super) async fn clear(&self, alarm: MemberAlarm) -> Result<bool, Status> {
        let until = self.until();
        // As long as nobody can raise one, nobody has.
        let can_be_raised = self.upgrading(until).await?.is_none();
        if can_be_raised && self.change_alarm(AlarmChange::Clear(alarm), until).await? {
            return Ok(true);
        }
        let wanted = Wanted { member: alarm.member.0, kind: told(alarm.kind).into() };
        Ok(self.arisen(wanted, until).await?.contains(&alarm))
    }

    /// Why no alarm can be raised as yet: some member would not understand it.
    ///
    /// # Errors
    /// What the client is told, if this node cannot be sure of that by `until`.
    async fn upgrading(&self, until: Instant) -> Result<Option<KvError>, Status> {
        if self.service.refuses_alarms().is_some() {
            // Others may know already that this is over.
            let applied = self.catch_up(until).await?;
            let over = |core: &Self| core.service.refuses_alarms().is_none();
            timeout_at(until, self.tells_of(applied, over)).await.map_err(|_| self.late())??;
        }
        Ok(self.service.refuses_alarms())
    }

    async fn change_alarm(&self, change: AlarmChange, until: Instant) -> Result<bool, Status> {
        let changed = self.client_until(until).change_alarm(change).await;
        let changed = changed.map_err(|error| self.fail(&error))?;
        // From now on this node tells of it, too.
        self.reach(until, |core| {
            let alarms = core.service.store().alarms();
            match change {
                AlarmChange::Raise(alarm) => alarms.raised().any(|known| known == alarm),
                AlarmChange::Clear(alarm) => alarms.raised().all(|known| known != alarm),
            }
        })
        .await;
        Ok(changed)
    }

    /// The alarms that are `wanted`: sees every change answered before.
    pub(super) async fn alarms(&self, wanted: Wanted) -> Result<Vec<AlarmMember>, Status> {
        let until = self.until();
        self.catch_up(until).await?;
        let raised: Vec<_> = self.service.store().alarms().raised().collect();
        let mut alarms = self.arisen(wanted, until).await?;
        alarms.extend(raised.into_iter().filter(|alarm| wanted.has(*alarm)));
        Ok(listed(alarms))
    }

    /// What this node knows by itself of the cluster's alarms: its own, and those that were raised.
    pub(super) fn known_alarms(&self) -> Vec<AlarmMember> {
        let mut alarms: Vec<_> = self.service.store().alarms().raised().collect();
        alarms.extend(self.own_alarms());
        listed(alarms)
    }

    /// The alarms that follow from the state of each member that answers, and from what this node
    /// knows of the others.
    ///
    /// # Errors
    /// What the client is told, if they were not asked by `until`: a list that lacks those who
    /// would have answered says too little.
    async fn arisen(&self, wanted: Wanted, until: Instant) -> Result<Vec<MemberAlarm>, Status> {
        let mut alarms: Vec<_> = self.own_alarms().collect();
        let divergent = self.service.integrity().divergent.into_iter();
        alarms.extend(divergent.map(|member| MemberAlarm { kind: AlarmKind::Corrupt, member }));
        let heard = timeout_at(until, self.hear(wanted)).await;
        for (member, kinds) in heard.map_err(|_| self.late())? {
            alarms.extend(kinds.into_iter().map(|kind| MemberAlarm { kind, member }));
        }
        alarms.retain(|alarm| wanted.has(*alarm));
        Ok(alarms)
    }

    /// What the other members say of how they are. Whoever asks while they are being asked, or
    /// shortly after that, is told the same: many who ask cost no more than one.
    async fn hear(&self, wanted: Wanted) -> Vec<(NodeId, Vec<AlarmKind>)> {
        let mut heard = self.heard.lock().await;
        let status = self.status();
        let (own, now) = (status.identity.node, Instant::now());
        heard.retain(|id, (at, _)| status.membership.contains(*id) && now < *at + PATIENCE);
        let mut asking = JoinSet::new();
        for id in status.membership.members().keys().copied() {
            if id != own && wanted.is_of(id) && !heard.contains_key(&id) {
                let service = self.service.clone();
                asking.spawn(async move { (id, service.health_of(id, PATIENCE).await) });
            }
        }
        let answers = asking.join_all().await;
        // Counted from here: who waits for its turn while a member keeps silent asks no more.
        let answered = Instant::now();
        for (id, health) in answers {
            let kinds = health.map_or_else(Vec::new, |health| {
                kinds(health.space, health.integrity.alarm.is_some()).collect()
            });
            heard.insert(id, (answered, kinds));
        }
        heard.iter().map(|(id, (_, kinds))| (*id, kinds.clone())).collect()
    }

    /// What is wrong with this node.
    fn own_alarms(&self) -> impl Iterator<Item = MemberAlarm> + use<> {
        let member = self.status().identity.node;
        kinds(self.service.space(), self.service.integrity().alarm.is_some())
            .map(move |kind| MemberAlarm { kind, member })
    }
}

/// An alarm in the interface's form as one of ours.
///
/// # Errors
/// If it is none that there is: etcd itself comes to its end by one of the kind `NONE`.
pub(super) fn asked(member: u64, kind: i32) -> Result<MemberAlarm, Known> {
    let kind = match AlarmType::try_from(kind) {
        Ok(AlarmType::Nospace) => AlarmKind::NoSpace,
        Ok(AlarmType::Corrupt) => AlarmKind::Corrupt,
        Ok(AlarmType::None) | Err(_) => return Err(BAD_ALARM),
    };
    Ok(MemberAlarm { kind, member: NodeId(member) })
}

/// Alarms in the interface's form and as etcd lists them: those of a kind together, by member.
pub(super) fn listed(mut alarms: Vec<MemberAlarm>) -> Vec<AlarmMember> {
    alarms.sort_unstable();
    alarms.dedup();
    let told = |alarm: MemberAlarm| AlarmMember {
        member_id: alarm.member.0,
        alarm: told(alarm.kind).into(),
    };
    alarms.into_iter().map(told).collect()
}

/// An alarm as etcd prints it in a status.
pub(super) fn text(alarm: &AlarmMember) -> String {
    let name = match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE",
        Ok(AlarmType::Corrupt) => "CORRUPT",
        _ => "NONE",
    };
    match alarm.member_id {
        0 => format!("alarm:{name} "),
        id => format!("memberID:{id} alarm:{name} "),
    }
}

fn kinds(space: Space, is_damaged: bool) -> impl Iterator<Item = AlarmKind> + use<> {
    let full = (space.bytes >= space.quota).then_some(AlarmKind::NoSpace);
    full.into_iter().chain(is_damaged.then_some(AlarmKind::Corrupt))
}

const fn told(kind: AlarmKind) -> AlarmType {
    match kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    }
}
