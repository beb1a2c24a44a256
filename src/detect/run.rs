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
//! Called by `engine`.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::attributed::Workload;
use super::contacts::{Change, Judged};
use super::engine::EngineConfig;
use super::recent::{Mark, Recent};
use super::saved;
use super::scan::{Crossing, Placed, Scan, Service, remember, standing};
use super::scope::Scope;
use super::spread::Spread;
use super::walk::{Bursts, Member, Rules, Seen, Walk, Walks};
use super::wording::{self, Account};
use crate::limits;
use crate::model::{EventTime, PodKey, Severity, Signature};

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
    targets: Recent,
    horizontal: Walks<Service>,
    vertical: Walks<IpAddr>,
    spread: Spread,
    #[serde(deserialize_with = "saved::queue::<_, _, { limits::LATEST_FAILURES_MAX }>")]
    failures: VecDeque<Seen>,
    /// Services on which the run's targets answer, and how often lately.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::RUN_SERVICES_MAX }>")]
    in_use: Vec<(Service, u32, EventTime)>,
    /// The pods that failures are booked on, by number.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::RUN_MEMBERS_MAX }>")]
    members: Vec<PodKey>,
}

/// A walk of a run above a line.
pub(super) struct RunCrossing<'a> {
    pub(super) signature: Signature,
    pub(super) severity: Severity,
    walk: &'a Walk,
    cause: Cause,
    /// Whether it may be news for every member, not only for the one that caused it.
    is_turn: bool,
    run: RunView<'a>,
}

/// The contact that brought a walk to where it is.
#[derive(Clone, Copy)]
struct Cause {
    contact: Judged,
    placed: Placed,
    by: Member,
}

#[derive(Clone, Copy)]
struct RunView<'a> {
    spread: &'a Spread,
    failures: &'a VecDeque<Seen>,
    members: &'a [PodKey],
}

impl Default for Run {
    fn default() -> Self {
        let rules = Rules {
            counted_max: limits::RUN_WALK_TARGETS_MAX,
            member_min: MEMBER_FAILURES_MIN,
            bursts: Bursts::Never,
        };
        Self {
            pod_count: 0,
            last: EventTime::MIN,
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
        }
    }
}

impl Run {
    /// Takes in a contact that a pod of the run made; returns the walks that stand above a line
    /// and rest on several pods.
    pub(super) fn observe(
        &mut self,
        pod: &PodKey,
        contact: &Judged,
        config: &EngineConfig,
        workload: Workload,
    ) -> Vec<RunCrossing<'_>> {
        self.last = self.last.max(contact.time);
        let before = self.targets.touch(contact.id);
        let placed = Placed::of(contact, config, workload);
        if placed.service.scope == Scope::Internet && before.is_none() {
            let host = config.hash_key.host(placed.host);
            self.spread.observe(contact.target, host);
        }
        if contact.change == Change::Unshown {
            if before.is_none() {
                self.targets.insert(contact.id, Mark::Open);
                if contact.may_have_answered() {
                    self.horizontal
                        .answer(placed.service, contact, placed.weight);
                }
            }
            return Vec::new();
        }
        if contact.change != Change::Failed {
            if before != Some(Mark::Good) {
                self.count_use(placed.service, contact.time);
                self.targets.insert(contact.id, Mark::Good);
                self.horizontal
                    .answer(placed.service, contact, placed.weight);
                self.vertical
                    .answer(placed.host, contact, placed.port_weight);
            }
            return Vec::new();
        }
        if matches!(before, Some(Mark::Failed | Mark::Good)) {
            return Vec::new();
        }
        self.targets.insert(contact.id, Mark::Failed);
        let Some(member) = self.member(pod) else {
            return Vec::new();
        };
        remember(&mut self.failures, contact);
        let mut contact = *contact;
        contact.is_in_outage |= self.is_in_use(placed.service);
        let contact = &contact;
        let Self {
            horizontal,
            vertical,
            spread,
            failures,
            members,
            ..
        } = self;
        let run = RunView {
            spread,
            failures,
            members,
        };
        let cause = Cause {
            contact: *contact,
            placed,
            by: member,
        };
        // What honest pods have all day is not added up: a run has any number of pods.
        let walk = if placed.is_neighbour || placed.weight.fades {
            None
        } else {
            horizontal.fail(placed.service, contact, placed.weight, member)
        };
        let mut crossings: Vec<_> = walk
            .and_then(|walk| RunCrossing::new(Signature::HorizontalScan, walk, cause, run, config))
            .into_iter()
            .collect();
        if placed.is_port && !placed.port_weight.fades {
            let walk = vertical.fail(placed.host, contact, placed.port_weight, member);
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

impl<'a> RunCrossing<'a> {
    fn new(
        signature: Signature,
        walk: &'a mut Walk,
        cause: Cause,
        run: RunView<'a>,
        config: &EngineConfig,
    ) -> Option<Self> {
        let severity = standing(walk, config)?;
        let count = walk.count_of(cause.by);
        if count < MEMBER_FAILURES_MIN {
            return None;
        }
        // With its fourth failure a member begins to count.
        let is_turn = walk.is_turn(severity) || count == MEMBER_FAILURES_MIN;
        Some(Self {
            signature,
            severity,
            walk,
            cause,
            is_turn,
            run,
        })
    }

    /// For whom it may be news.
    pub(super) fn pods(&self) -> Vec<(Member, &'a PodKey)> {
        let members = if self.is_turn {
            self.counting()
        } else {
            vec![self.cause.by]
        };
        let named = |member: Member| Some((member, self.run.members.get(usize::from(member))?));
        members.into_iter().filter_map(named).collect()
    }

    /// Whether it rests on several pods. One pod alone is the matter of its own walks.
    pub(super) fn is_shared(&self) -> bool {
        self.counting().len() >= 2
    }

    /// Whom it is about.
    fn counting(&self) -> Vec<Member> {
        let counts = |member: &Member| self.walk.count_of(*member) >= MEMBER_FAILURES_MIN;
        self.walk.members().into_iter().filter(counts).collect()
    }

    /// If the contacts of this pod, or those of the run together, look like peer-to-peer traffic.
    pub(super) fn peers_around(&self, scan: &Scan) -> Option<(usize, usize)> {
        let Service {
            scope,
            transport,
            port,
        } = self.cause.placed.service;
        if self.signature == Signature::VerticalScan || scope != Scope::Internet {
            return None;
        }
        scan.peers_around(self.cause.placed.service)
            .or_else(|| self.run.spread.peers_around(transport, port))
    }

    /// The size of the judgement.
    pub(super) fn word(&self, severity: Severity) -> super::told::Word {
        wording::word_of(self.signature, severity, self.walk)
    }

    /// The judgement about one of its pods.
    pub(super) fn crossing(
        &self,
        member: Member,
        severity: Severity,
        peers: Option<(usize, usize)>,
        has_dns: bool,
        config: &EngineConfig,
    ) -> Crossing {
        let by = format!(
            " by {} pods of the run, {} of them by this one,",
            self.counting().len(),
            self.walk.count_of(member)
        );
        let placed = self.cause.placed;
        let is_vertical = self.signature == Signature::VerticalScan;
        let what = if is_vertical {
            wording::ports_tried(placed.host, placed.service.scope, &by)
        } else {
            wording::hosts_tried(placed.service, &by)
        };
        let is_alike = |seen: &&Seen| {
            if is_vertical {
                seen.target.host == placed.host
            } else {
                placed.is_same_service(seen, config)
            }
        };
        let account = Account {
            signature: self.signature,
            severity,
            walk: self.walk,
            what,
            against: wording::against(self.walk, peers, self.cause.contact.is_lossy, has_dns),
            latest: self.run.failures.iter().filter(is_alike).copied().collect(),
        };
        account.crossing(config)
    }
}
