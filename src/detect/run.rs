//! Scans by a run: the walks of `scan` over the contacts of all pods of one run together, so that
//! a scan whose targets are shared out among pods is found.
//!
//! A target counts once per run, whichever pod tried it: a dead dependency of 200 pods is one
//! failure, and a target that answered one of them is known to be good. A pod's failures count only
//! from its fourth distinct one on in the same walk, then all of them. So pods of which each fails
//! on a neighbour that does not listen yet are no scan, and nobody is named who did next to
//! nothing; the price is that a run of N pods has 3 N probes per port before it is seen.
//!
//! In an outage all pods of a run fail together, and none of them often. So where the run's targets
//! used to answer on a service, what one burst brings into that walk is limited (see `walk`): such a
//! scan has to last. One that is faster than 34 failures per pod is found by the pods' own walks.
//!
//! Whom a finding is about: each pod whose failures count in that walk, and no other (INV-3). So an
//! attacker in one pod can incriminate another only together with failures of that pod's own, and
//! of its own run. The line is that of the pods' walks: a run's contacts are its pods' contacts, so
//! all runs together make no more of them in a day than the error budget reckons with.
//!
//! Where the pods of a run are spread over nodes with one engine each, the contacts that count are
//! handed from engine to engine (see `contribution`) and taken in here like those of own pods, so
//! that each engine has the walks that one engine over all logs would have. A target has the same
//! identity in all of them, so a contact that comes twice counts once.
//! Called by `engine`.

mod crossing;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::attributed::Workload;
use super::contacts::{Change, Judged};
use super::contribution::{Contribution, Ledger, RunHash, SharedContact};
use super::engine::EngineConfig;
use super::recent::{Mark, Recent};
use super::saved;
use super::scan::{Placed, Service, remember};
use super::scope::Scope;
use super::spread::Spread;
use super::walk::{Bursts, Member, Rules, Seen, Walks};
use crate::limits;
use crate::model::{EventTime, Outcome, PodKey, RunKey, Signature};

pub(super) use crossing::RunCrossing;

/// Failures of a pod in one walk from which on they count. In a ring or a grid each worker has two
/// to six neighbours, seldom more than three of which are late at the same time.
const MEMBER_FAILURES_MIN: usize = 4;

/// New targets that answered on a service lately from which on a burst of failures there may be an
/// outage; and how long that is remembered, to a half.
const USES_MIN: u32 = 10;
const USE_US: i64 = 21_600_000_000;

/// The key of what a pod did that was forgotten. No pod has it.
const NO_POD: &str = "";

/// What is known about the pods of one run together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// Pods with state; a run without any is kept while there is room, for the pods to come.
    #[serde(skip)]
    pub(super) pod_count: usize,
    /// The last contact.
    pub(super) last: EventTime,
    /// What the pods' owner said that they do, as of the last contact.
    workload: Workload,
    hash: RunHash,
    targets: Recent,
    horizontal: Walks<Service>,
    /// By the hash of the host.
    vertical: Walks<u64>,
    spread: Spread,
    #[serde(deserialize_with = "saved::queue::<_, _, { limits::LATEST_FAILURES_MAX }>")]
    failures: VecDeque<Seen>,
    /// Services on which the run's targets answer, and how often lately.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::RUN_SERVICES_MAX }>")]
    in_use: Vec<(Service, u32, EventTime)>,
    /// The pods that failures are booked on, by number.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::RUN_MEMBERS_MAX }>")]
    members: Vec<PodKey>,
    /// What other engines need to know; only where there may be others.
    ledger: Option<Box<Ledger>>,
}

/// Who saw a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeenBy {
    /// This engine, in its log.
    Here,
    /// This engine, before it was started again: it comes back from what it had contributed.
    HereBefore,
    /// The engine of another node.
    Elsewhere,
}

/// A contact on its way into the walks.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    /// On whom a failure is booked. An answer is booked on no pod.
    pod: Option<&'a PodKey>,
    /// Under its identity in the run.
    contact: Judged,
    shared: SharedContact,
    seen_by: SeenBy,
}

/// The contact that brought a walk to where it is.
#[derive(Clone, Copy)]
struct Cause {
    contact: Judged,
    placed: Placed,
    /// The hash of its host.
    host: u64,
    by: Member,
}

impl Placed {
    /// Whether a contact counts in the walk of its service over a run. What honest pods have all day
    /// is not added up: a run has any number of pods.
    const fn is_horizontal(&self) -> bool {
        !self.is_neighbour && !self.weight.fades
    }

    /// Whether a contact counts in the walk of its host over a run.
    const fn is_vertical(&self) -> bool {
        self.is_port && !self.port_weight.fades
    }
}

#[derive(Clone, Copy)]
struct RunView<'a> {
    spread: &'a Spread,
    failures: &'a VecDeque<Seen>,
    members: &'a [PodKey],
    hash: RunHash,
}

impl Run {
    /// A run without contacts. `is_shared` says whether other engines may see pods of it.
    pub(super) fn new(key: &RunKey, is_shared: bool) -> Self {
        let rules = Rules {
            counted_max: limits::RUN_WALK_TARGETS_MAX,
            member_min: MEMBER_FAILURES_MIN,
            bursts: Bursts::Never,
        };
        Self {
            pod_count: 0,
            last: EventTime::MIN,
            workload: Workload::default(),
            hash: RunHash::of(key),
            targets: Recent::new(limits::RUN_CONTACTS_GENERATION_MAX),
            horizontal: Walks::new(Rules {
                bursts: Bursts::InOutage,
                ..rules
            }),
            vertical: Walks::new(rules),
            spread: Spread::default(),
            failures: VecDeque::new(),
            in_use: Vec::new(),
            members: Vec::new(),
            ledger: is_shared.then(Box::default),
        }
    }

    /// Takes in a contact that a pod of the run made; returns the walks that stand above a line
    /// and rest on several pods.
    pub(super) fn observe(
        &mut self,
        pod: &PodKey,
        contact: &Judged,
        config: &EngineConfig,
        workload: Workload,
    ) -> Vec<RunCrossing<'_>> {
        self.workload = workload;
        let scope = config.scopes.classify(contact.target.host);
        let shared = self.hash.shared(contact, scope);
        let incoming = Incoming {
            pod: Some(pod),
            contact: Judged {
                id: config.hash_key.word(shared.target),
                ..*contact
            },
            shared,
            seen_by: SeenBy::Here,
        };
        self.take_in(incoming, config)
    }

    /// Takes in a contact that another engine saw, or this one before it was started again.
    pub(super) fn observe_shared(
        &mut self,
        pod: Option<&PodKey>,
        shared: &SharedContact,
        is_own: bool,
        config: &EngineConfig,
    ) -> Vec<RunCrossing<'_>> {
        let incoming = Incoming {
            pod,
            contact: shared.judged(config.hash_key.word(shared.target)),
            shared: *shared,
            seen_by: if is_own {
                SeenBy::HereBefore
            } else {
                SeenBy::Elsewhere
            },
        };
        self.take_in(incoming, config)
    }

    /// The score of the highest walk.
    #[cfg(test)]
    pub(super) fn highest_nats(&self) -> f64 {
        self.horizontal
            .highest_nats()
            .max(self.vertical.highest_nats())
    }

    /// Comes out of a saved state, into an engine that shares runs or does not.
    pub(super) fn restored(&mut self, is_shared: bool) {
        let ledger = self.ledger.take().filter(|_| is_shared);
        self.ledger = ledger.or_else(|| is_shared.then(Box::default));
        if let Some(ledger) = &mut self.ledger {
            ledger.repeat();
        }
    }

    /// What this engine's pods contribute, if it may have changed since the last call.
    pub(super) fn take_contribution(&mut self, now: EventTime) -> Option<Contribution> {
        let spread = &self.spread;
        let looks_like_peers = |service: Service| {
            service.scope == Scope::Internet
                && spread
                    .peers_around(service.transport, service.port)
                    .is_some()
        };
        self.ledger
            .as_mut()?
            .take_changed(now, MEMBER_FAILURES_MIN, looks_like_peers)
    }

    fn take_in(&mut self, incoming: Incoming<'_>, config: &EngineConfig) -> Vec<RunCrossing<'_>> {
        let Incoming {
            pod,
            mut contact,
            shared,
            seen_by,
        } = incoming;
        self.last = self.last.max(contact.time);
        let before = self.targets.touch(contact.id);
        let placed = Placed::within(shared.scope, &contact, self.workload);
        let host = config.hash_key.word(shared.host);
        if shared.scope == Scope::Internet && before.is_none() {
            self.spread.observe(contact.target, host);
        }
        if contact.change == Change::Unshown {
            if before.is_none() {
                self.targets.insert(contact.id, Mark::Open);
                if contact.may_have_answered() {
                    self.may_have_answered(&contact, &shared, placed, seen_by);
                }
            }
            return Vec::new();
        }
        if contact.change != Change::Failed {
            if before != Some(Mark::Good) {
                self.answer(&contact, &shared, placed, (before, seen_by), host);
            }
            return Vec::new();
        }
        if matches!(before, Some(Mark::Failed | Mark::Good)) {
            if before == Some(Mark::Failed)
                && seen_by == SeenBy::HereBefore
                && let (Some(pod), Some(ledger)) = (pod, &mut self.ledger)
            {
                let counts = (placed.is_horizontal(), placed.is_vertical());
                ledger.restore(pod, &shared, counts, MEMBER_FAILURES_MIN);
            }
            if before == Some(Mark::Good)
                && seen_by == SeenBy::Elsewhere
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
        self.targets.insert(contact.id, Mark::Failed);
        let Some((pod, member)) = pod.and_then(|pod| Some((pod, self.member(pod)?))) else {
            return Vec::new();
        };
        contact.is_in_outage |= self.is_in_use(placed.service);
        let cause = Cause {
            contact,
            placed,
            host,
            by: member,
        };
        self.note_failure(pod, cause, &shared, seen_by);
        self.fail(cause, config)
    }

    fn answer(
        &mut self,
        contact: &Judged,
        shared: &SharedContact,
        placed: Placed,
        (before, seen_by): (Option<Mark>, SeenBy),
        host: u64,
    ) {
        let has_failed = before == Some(Mark::Failed);
        let matters = has_failed || self.horizontal.has(placed.service) || self.vertical.has(host);
        self.count_use(placed.service, contact.time);
        self.targets.insert(contact.id, Mark::Good);
        let contact = &Judged {
            change: if has_failed {
                Change::Recovered
            } else {
                contact.change
            },
            ..*contact
        };
        self.horizontal
            .answer(placed.service, contact, placed.weight);
        self.vertical.answer(host, contact, placed.port_weight);
        let Some(ledger) = self.ledger.as_mut().filter(|_| matters) else {
            return;
        };
        if seen_by == SeenBy::Elsewhere {
            ledger.forget(shared.target);
        } else {
            ledger.answer(shared);
        }
        if !self.horizontal.has(placed.service) {
            ledger.service_ended(placed.service);
        }
        if !self.vertical.has(host) {
            ledger.host_ended(shared.host);
        }
    }

    /// A contact that may have been answered, for all that its log shows, pays for failures of the
    /// same service like an answer. It says nothing of its host.
    fn may_have_answered(
        &mut self,
        contact: &Judged,
        shared: &SharedContact,
        placed: Placed,
        seen_by: SeenBy,
    ) {
        let matters = self.horizontal.has(placed.service);
        self.horizontal
            .answer(placed.service, contact, placed.weight);
        let Some(ledger) = self.ledger.as_mut().filter(|_| matters) else {
            return;
        };
        if seen_by != SeenBy::Elsewhere {
            ledger.answer(&SharedContact {
                outcome: Outcome::Unseen,
                ..*shared
            });
        }
        if !self.horizontal.has(placed.service) {
            ledger.service_ended(placed.service);
        }
    }

    /// Keeps a failure for evidence and for other engines.
    fn note_failure(
        &mut self,
        pod: &PodKey,
        cause: Cause,
        shared: &SharedContact,
        seen_by: SeenBy,
    ) {
        if !cause.contact.is_elsewhere {
            remember(&mut self.failures, &cause.contact);
        }
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        if seen_by == SeenBy::Elsewhere {
            return ledger.contest(shared);
        }
        let shared = SharedContact {
            is_in_outage: cause.contact.is_in_outage,
            ..*shared
        };
        let counts = (cause.placed.is_horizontal(), cause.placed.is_vertical());
        ledger.fail(pod, &shared, counts, MEMBER_FAILURES_MIN);
    }

    fn fail(&mut self, cause: Cause, config: &EngineConfig) -> Vec<RunCrossing<'_>> {
        let Self {
            horizontal,
            vertical,
            spread,
            failures,
            members,
            hash,
            ..
        } = self;
        let run = RunView {
            spread,
            failures,
            members,
            hash: *hash,
        };
        let Cause {
            contact,
            placed,
            host,
            by,
        } = &cause;
        let mut crossings = Vec::new();
        if cause.placed.is_horizontal() {
            let walk = horizontal.fail(placed.service, contact, placed.weight, *by);
            crossings.extend(walk.and_then(|walk| {
                RunCrossing::new(Signature::HorizontalScan, walk, cause, run, config)
            }));
        }
        if cause.placed.is_vertical() {
            let walk = vertical.fail(*host, contact, placed.port_weight, *by);
            crossings.extend(walk.and_then(|walk| {
                RunCrossing::new(Signature::VerticalScan, walk, cause, run, config)
            }));
        }
        crossings
    }

    /// Books what a pod did so far on no pod: it stays in the sums, and a pod of that key that comes again
    /// is a new member.
    pub(super) fn disown(&mut self, pod: &PodKey) {
        for member in self.members.iter_mut().filter(|known| *known == pod) {
            *member = PodKey::from(NO_POD);
        }
    }

    /// Contributes nothing of a pod any more.
    pub(super) fn withdraw(&mut self, pod: &PodKey) {
        if let Some(ledger) = &mut self.ledger {
            ledger.withdraw(pod);
        }
    }

    /// Lets its members' keys be those that the pods have, where they have state: one text instead of two.
    pub(super) fn share_keys(&mut self, known: impl Fn(&PodKey) -> Option<PodKey>) {
        for member in &mut self.members {
            if let Some(key) = known(member) {
                *member = key;
            }
        }
    }

    /// New targets of the run answer on this service. The least used makes room.
    fn count_use(&mut self, service: Service, time: EventTime) {
        let known = self.in_use.iter_mut().find(|(known, ..)| *known == service);
        if let Some((_, count, since)) = known {
            if time.micros_since(*since) > USE_US {
                (*count, *since) = (*count / 2, time);
            }
            *count = count.saturating_add(1);
            return;
        }
        if self.in_use.len() >= limits::RUN_SERVICES_MAX {
            let counts = self.in_use.iter().enumerate();
            if let Some((index, _)) = counts.min_by_key(|(_, (_, count, _))| *count) {
                self.in_use.swap_remove(index);
            }
        }
        self.in_use.push((service, 1, time));
    }

    fn is_in_use(&self, service: Service) -> bool {
        let is_known =
            |(known, count, _): &(Service, u32, EventTime)| *known == service && *count >= USES_MIN;
        self.in_use.iter().any(is_known)
    }

    /// A pod's number. When all are taken, one that has no failure in any walk is given again.
    fn member(&mut self, pod: &PodKey) -> Option<Member> {
        if let Some(position) = self.members.iter().position(|known| known == pod) {
            return Member::try_from(position).ok();
        }
        let position = if self.members.len() < limits::RUN_MEMBERS_MAX {
            self.members.push(pod.clone());
            self.members.len() - 1
        } else {
            let mut booked: Vec<_> = self
                .horizontal
                .booked()
                .chain(self.vertical.booked())
                .collect();
            booked.sort_unstable();
            let is_free = |position: &usize| {
                Member::try_from(*position)
                    .is_ok_and(|member| booked.binary_search(&member).is_err())
            };
            let position = (0..self.members.len()).find(is_free)?;
            *self.members.get_mut(position)? = pod.clone();
            position
        };
        Member::try_from(position).ok()
    }
}
