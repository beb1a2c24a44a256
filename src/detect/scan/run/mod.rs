//! Scans by a run: the walks over the contacts of all pods of one run together, so that a scan is detected even if its
//! targets are divided among pods.
//!
//! A target counts once per run, whichever pod tried it: an unavailable dependency of 200 pods is one failure, and a
//! target that answered one of them is known to be reachable. The failures of a pod count only from its fourth distinct
//! one on in the same walk, then all of them. Pods that each fail on a neighbour that does not listen yet are therefore
//! no scan, and no pod with hardly any failure gets a finding. The cost is that a run of N pods has 3 N probes per port
//! before it is detected.
//!
//! In an outage all pods of a run fail at the same time, each of them a few times. If targets of the run have answered
//! on a service before, the effect of one burst of failures on its walk is limited (see `walk`), so that such a scan
//! must continue for some time to be detected. One with more than 34 failures per pod is detected by the walks of the
//! pods.
//!
//! A finding concerns each pod with enough failures in that walk, and no other (INV-3). An attacker in one pod can thus
//! bring a finding about another pod only together with failures of that pod, and only in its own run. The threshold is
//! that of the pods' walks: the contacts of a run are those of its pods, so all runs together have no more of them per
//! day than the error budget assumes.
//!
//! If the pods of a run are on several nodes with one engine each, the engines exchange the contacts that count (see
//! `contribution`) and process them like those of their own pods, so that each engine has the walks that one engine
//! over all logs would have. A target has the same hash in all of them, so a contact that arrives twice counts once.
//! Called by `engine`.

mod detection;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::contribution::{Contribution, Ledger, RunHash, SharedContact};
use super::evidence::keep_failure;
use super::peer_to_peer::PeerToPeerProfile;
use super::placement::Placement;
use super::service::Service;
use super::walk::{Bursts, FailedContact, Member, WalkRules};
use super::walks::{Payer, Walks};
use crate::detect::attributed::Workload;
use crate::detect::config::EngineConfig;
use crate::detect::scan::contacts::{ContactVerdict, VerdictChange};
use crate::detect::scope::Scope;
use crate::detect::state::bounded;
use crate::detect::state::generational_cache::{TargetCache, TargetState};
use crate::limits;
use crate::model::{EventTime, Outcome, PodKey, RunKey, Signature};

pub(in crate::detect) use detection::RunDetection;

/// Failures of a pod in one walk from which on they count. In a ring or a grid each worker has two to six neighbours,
/// and rarely more than three of them are late at the same time.
const MEMBER_FAILURES_MIN: usize = 4;

/// Number of new targets that answered on a service recently from which on a burst of failures may be an outage, and
/// the time after which that number is halved.
const ANSWERED_MIN: u32 = 10;
const ANSWERED_HALVED_US: i64 = 21_600_000_000;

/// The key for the contacts of removed pods. No pod has it.
const REMOVED_POD: &str = "";

/// The scan state of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::detect) struct Run {
    /// Number of pods with state. A run without any is kept while there is room, for later pods.
    #[serde(skip)]
    pub(in crate::detect) pod_count: usize,
    /// Time of the last contact.
    pub(in crate::detect) last: EventTime,
    /// The declared workload, as of the last contact.
    workload: Workload,
    hash: RunHash,
    targets: TargetCache,
    horizontal: Walks<Service>,
    /// By hash of the host.
    vertical: Walks<u64>,
    peer_to_peer: PeerToPeerProfile,
    #[serde(deserialize_with = "bounded::queue::<_, _, { limits::LATEST_FAILURES_MAX }>")]
    failures: VecDeque<FailedContact>,
    /// Services on which the run's targets answer, how many of them did recently, and since when they are counted.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::RUN_SERVICES_MAX }>")]
    answering: Vec<(Service, u32, EventTime)>,
    /// The pods that failures are attributed to, by member number.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::RUN_MEMBERS_MAX }>")]
    members: Vec<PodKey>,
    /// The contacts to share with other engines. `None` if there are no others.
    ledger: Option<Box<Ledger>>,
}

/// Where a contact was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ObservedBy {
    /// By this engine, in its log.
    ThisEngine,
    /// By this engine before a restart: it is restored from the engine's own contribution.
    BeforeRestart,
    /// By the engine of another node.
    OtherEngine,
}

/// A contact that is to be added to the walks.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    /// The pod that a failure is attributed to. An answer is attributed to no pod.
    pod: Option<&'a PodKey>,
    /// With its hash in the run.
    contact: ContactVerdict,
    shared: SharedContact,
    observed_by: ObservedBy,
}

/// The latest failed contact of a walk.
#[derive(Clone, Copy)]
struct Cause {
    contact: ContactVerdict,
    placement: Placement,
    /// Hash of its host.
    host: u64,
    by: Member,
}

impl Placement {
    /// Whether a contact counts in the walk of its service over a run. Failures that honest pods have all day do not
    /// count, because a run may have any number of pods.
    const fn is_horizontal(&self) -> bool {
        !self.is_neighbour && !self.weight.fades
    }

    /// Whether a contact counts in the walk of its host over a run.
    const fn is_vertical(&self) -> bool {
        self.is_port && !self.port_weight.fades
    }
}

#[derive(Clone, Copy)]
struct RunContext<'a> {
    peer_to_peer: &'a PeerToPeerProfile,
    failures: &'a VecDeque<FailedContact>,
    members: &'a [PodKey],
    hash: RunHash,
}

impl Run {
    /// A run without contacts. `is_shared`: whether other engines may see pods of it.
    pub(in crate::detect) fn new(key: &RunKey, is_shared: bool) -> Self {
        let rules = WalkRules {
            targets_max: limits::RUN_WALK_TARGETS_MAX,
            member_min: MEMBER_FAILURES_MIN,
            bursts: Bursts::Never,
        };
        Self {
            pod_count: 0,
            last: EventTime::MIN,
            workload: Workload::default(),
            hash: RunHash::of(key),
            targets: TargetCache::new(limits::RUN_CONTACTS_GENERATION_MAX),
            horizontal: Walks::new(WalkRules {
                bursts: Bursts::InOutage,
                ..rules
            }),
            vertical: Walks::new(rules),
            peer_to_peer: PeerToPeerProfile::default(),
            failures: VecDeque::new(),
            answering: Vec::new(),
            members: Vec::new(),
            ledger: is_shared.then(Box::default),
        }
    }

    /// Processes a contact of a pod of the run. Returns the walks that are above a threshold because of it.
    pub(in crate::detect) fn observe(
        &mut self,
        pod: &PodKey,
        contact: &ContactVerdict,
        config: &EngineConfig,
        workload: Workload,
    ) -> Vec<RunDetection<'_>> {
        self.workload = workload;
        let scope = config.scopes.classify(contact.target.host);
        let shared = self.hash.shared(contact, scope);
        let incoming = Incoming {
            pod: Some(pod),
            contact: ContactVerdict {
                id: config.hash_key.word(shared.target),
                ..*contact
            },
            shared,
            observed_by: ObservedBy::ThisEngine,
        };
        self.apply(incoming, config)
    }

    /// Processes a contact that another engine observed, or this one before a restart.
    pub(in crate::detect) fn observe_shared(
        &mut self,
        pod: Option<&PodKey>,
        shared: &SharedContact,
        is_own: bool,
        config: &EngineConfig,
    ) -> Vec<RunDetection<'_>> {
        let incoming = Incoming {
            pod,
            contact: shared.verdict(config.hash_key.word(shared.target)),
            shared: *shared,
            observed_by: if is_own {
                ObservedBy::BeforeRestart
            } else {
                ObservedBy::OtherEngine
            },
        };
        self.apply(incoming, config)
    }

    /// The score of the highest walk, in nats.
    #[cfg(test)]
    pub(in crate::detect) fn highest_nats(&self) -> f64 {
        self.horizontal
            .highest_nats()
            .max(self.vertical.highest_nats())
    }

    /// Adapts a restored run to an engine that shares runs or does not.
    pub(in crate::detect) fn after_restore(&mut self, is_shared: bool) {
        let ledger = self.ledger.take().filter(|_| is_shared);
        self.ledger = ledger.or_else(|| is_shared.then(Box::default));
        if let Some(ledger) = &mut self.ledger {
            ledger.repeat();
        }
    }

    /// The contribution of this engine's pods, if it may have changed since the last call.
    pub(in crate::detect) fn take_contribution(&mut self, now: EventTime) -> Option<Contribution> {
        let peer_to_peer = &self.peer_to_peer;
        let looks_peer_to_peer = |service: Service| {
            service.scope == Scope::Internet
                && peer_to_peer
                    .peer_to_peer_counts(service.transport, service.port)
                    .is_some()
        };
        self.ledger
            .as_mut()?
            .take_changed(now, MEMBER_FAILURES_MIN, looks_peer_to_peer)
    }

    fn apply(&mut self, incoming: Incoming<'_>, config: &EngineConfig) -> Vec<RunDetection<'_>> {
        let Incoming {
            pod,
            mut contact,
            shared,
            observed_by,
        } = incoming;
        self.last = self.last.max(contact.time);
        let before = self.targets.touch(contact.id);
        let placement = Placement::within(shared.scope, &contact, self.workload);
        let host = config.hash_key.word(shared.host);
        if shared.scope == Scope::Internet && before.is_none() {
            self.peer_to_peer.observe(contact.target, host);
        }
        if contact.change == VerdictChange::Unobserved {
            if before.is_none() {
                self.targets.insert(contact.id, TargetState::Open);
                if contact.may_have_answered() {
                    self.may_have_answered(&contact, &shared, placement, observed_by);
                }
            }
            return Vec::new();
        }
        if contact.change != VerdictChange::Failed {
            if before != Some(TargetState::Good) {
                self.answer(&contact, &shared, placement, (before, observed_by), host);
            }
            return Vec::new();
        }
        if matches!(before, Some(TargetState::Failed | TargetState::Good)) {
            if before == Some(TargetState::Failed)
                && observed_by == ObservedBy::BeforeRestart
                && let (Some(pod), Some(ledger)) = (pod, &mut self.ledger)
            {
                let counts = (placement.is_horizontal(), placement.is_vertical());
                ledger.restore(pod, &shared, counts, MEMBER_FAILURES_MIN);
            }
            if before == Some(TargetState::Good)
                && observed_by == ObservedBy::OtherEngine
                && let Some(ledger) = &mut self.ledger
            {
                // The other engine does not know that the target answers.
                ledger.contest(&shared);
                ledger.answer(&SharedContact {
                    outcome: Outcome::Answered,
                    ..shared
                });
            }
            return Vec::new();
        }
        self.targets.insert(contact.id, TargetState::Failed);
        let Some((pod, member)) = pod.and_then(|pod| Some((pod, self.member(pod)?))) else {
            return Vec::new();
        };
        contact.is_in_outage |= self.is_answering(placement.service);
        let cause = Cause {
            contact,
            placement,
            host,
            by: member,
        };
        self.record_failure(pod, cause, &shared, observed_by);
        self.fail(cause, config)
    }

    fn answer(
        &mut self,
        contact: &ContactVerdict,
        shared: &SharedContact,
        placement: Placement,
        (before, observed_by): (Option<TargetState>, ObservedBy),
        host: u64,
    ) {
        let has_failed = before == Some(TargetState::Failed);
        let matters =
            has_failed || self.horizontal.has(placement.service) || self.vertical.has(host);
        self.count_answering(placement.service, contact.time);
        self.targets.insert(contact.id, TargetState::Good);
        let contact = &ContactVerdict {
            change: if has_failed {
                VerdictChange::Recovered
            } else {
                contact.change
            },
            ..*contact
        };
        let weight = (placement.weight, Payer::Each);
        self.horizontal.answer(placement.service, contact, weight);
        let weight = (placement.port_weight, Payer::Each);
        self.vertical.answer(host, contact, weight);
        let Some(ledger) = self.ledger.as_mut().filter(|_| matters) else {
            return;
        };
        if observed_by == ObservedBy::OtherEngine {
            ledger.forget(shared.target);
        } else {
            ledger.answer(shared);
        }
        if !self.horizontal.has(placement.service) {
            ledger.service_ended(placement.service);
        }
        if !self.vertical.has(host) {
            ledger.host_ended(shared.host);
        }
    }

    /// Processes a contact that may have been answered according to its log. It offsets failures of the same service
    /// like an answer, but is no evidence about its host.
    fn may_have_answered(
        &mut self,
        contact: &ContactVerdict,
        shared: &SharedContact,
        placement: Placement,
        observed_by: ObservedBy,
    ) {
        let matters = self.horizontal.has(placement.service);
        let weight = (placement.weight, Payer::Each);
        self.horizontal.answer(placement.service, contact, weight);
        let Some(ledger) = self.ledger.as_mut().filter(|_| matters) else {
            return;
        };
        if observed_by != ObservedBy::OtherEngine {
            ledger.answer(&SharedContact {
                outcome: Outcome::Unseen,
                ..*shared
            });
        }
        if !self.horizontal.has(placement.service) {
            ledger.service_ended(placement.service);
        }
    }

    /// Stores a failure as an example and for other engines.
    fn record_failure(
        &mut self,
        pod: &PodKey,
        cause: Cause,
        shared: &SharedContact,
        observed_by: ObservedBy,
    ) {
        if !cause.contact.is_remote {
            keep_failure(&mut self.failures, &cause.contact);
        }
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        if observed_by == ObservedBy::OtherEngine {
            return ledger.contest(shared);
        }
        let shared = SharedContact {
            is_in_outage: cause.contact.is_in_outage,
            ..*shared
        };
        let counts = (
            cause.placement.is_horizontal(),
            cause.placement.is_vertical(),
        );
        ledger.fail(pod, &shared, counts, MEMBER_FAILURES_MIN);
    }

    fn fail(&mut self, cause: Cause, config: &EngineConfig) -> Vec<RunDetection<'_>> {
        let Self {
            horizontal,
            vertical,
            peer_to_peer,
            failures,
            members,
            hash,
            ..
        } = self;
        let run = RunContext {
            peer_to_peer,
            failures,
            members,
            hash: *hash,
        };
        let Cause {
            contact,
            placement,
            host,
            by,
        } = &cause;
        let mut detections = Vec::new();
        if cause.placement.is_horizontal() {
            let walk = horizontal.fail(placement.service, contact, placement.weight, *by);
            detections.extend(walk.and_then(|walk| {
                RunDetection::new(Signature::HorizontalScan, walk, cause, run, config)
            }));
        }
        if cause.placement.is_vertical() {
            let walk = vertical.fail(*host, contact, placement.port_weight, *by);
            detections.extend(walk.and_then(|walk| {
                RunDetection::new(Signature::VerticalScan, walk, cause, run, config)
            }));
        }
        detections
    }

    /// Attributes the contacts of a pod to no pod any more. They stay in the sums, and a pod with the same key becomes
    /// a new member.
    pub(in crate::detect) fn detach_pod(&mut self, pod: &PodKey) {
        for member in self.members.iter_mut().filter(|known| *known == pod) {
            *member = PodKey::from(REMOVED_POD);
        }
    }

    /// Removes the contacts of a pod from the contribution.
    pub(in crate::detect) fn withdraw_pod(&mut self, pod: &PodKey) {
        if let Some(ledger) = &mut self.ledger {
            ledger.withdraw_pod(pod);
        }
    }

    /// Replaces the keys of members by those that the pods with state have, so that both share one text.
    pub(in crate::detect) fn intern_keys(&mut self, known: impl Fn(&PodKey) -> Option<PodKey>) {
        for member in &mut self.members {
            if let Some(key) = known(member) {
                *member = key;
            }
        }
    }

    /// Counts a new target of the run that answered on this service. If the list is full, the least used service is
    /// replaced.
    fn count_answering(&mut self, service: Service, time: EventTime) {
        let known = self
            .answering
            .iter_mut()
            .find(|(known, ..)| *known == service);
        if let Some((_, count, since)) = known {
            if time.micros_since(*since) > ANSWERED_HALVED_US {
                (*count, *since) = (*count / 2, time);
            }
            *count = count.saturating_add(1);
            return;
        }
        if self.answering.len() >= limits::RUN_SERVICES_MAX {
            let counts = self.answering.iter().enumerate();
            if let Some((index, _)) = counts.min_by_key(|(_, (_, count, _))| *count) {
                self.answering.swap_remove(index);
            }
        }
        self.answering.push((service, 1, time));
    }

    fn is_answering(&self, service: Service) -> bool {
        let is_known = |(known, count, _): &(Service, u32, EventTime)| {
            *known == service && *count >= ANSWERED_MIN
        };
        self.answering.iter().any(is_known)
    }

    /// The member number of a pod. If all are used, a number without failures in any walk is reused.
    fn member(&mut self, pod: &PodKey) -> Option<Member> {
        if let Some(position) = self.members.iter().position(|known| known == pod) {
            return Member::try_from(position).ok();
        }
        let position = if self.members.len() < limits::RUN_MEMBERS_MAX {
            self.members.push(pod.clone());
            self.members.len() - 1
        } else {
            let mut used: Vec<_> = self
                .horizontal
                .members_with_failures()
                .chain(self.vertical.members_with_failures())
                .collect();
            used.sort_unstable();
            let is_free = |position: &usize| {
                Member::try_from(*position).is_ok_and(|member| used.binary_search(&member).is_err())
            };
            let position = (0..self.members.len()).find(is_free)?;
            *self.members.get_mut(position)? = pod.clone();
            position
        };
        Member::try_from(position).ok()
    }
}
