//! Walks: sequential tests of the hypothesis that at least half of the first contacts succeed.
//!
//! A walk is a one-sided CUSUM of the log-likelihood ratio of a scanner (one contact in ten succeeds) to the worst
//! honest pod (one in two), floored at zero, so that earlier successes are no credit. A second sum with the success
//! rate of the literature serves for alerts. `walks` stores a bounded number of them by key. This module does not depend
//! on pods and runs, so the same type serves both.

use serde::{Deserialize, Serialize};

use super::weight::Weight;
use crate::detect::scan::contacts::{ContactVerdict, Target, VerdictChange};
use crate::detect::state::bounded;
use crate::limits;
use crate::model::{EventTime, Outcome, Severity};

/// Success rates of the worst honest pod (theta 0) and of a scanner (theta 1). The usual 0.8 and 0.2 would flag an
/// honest pod with 55 % successes with probability 0.999 in 3,000 contacts; 0.5 and 0.1 do not, and need some 30
/// contacts more.
const SUCCESS_HONEST: f64 = 0.5;
const SUCCESS_SCANNER: f64 = 0.1;

/// Success rate of a scanner for alerts: that of the literature (Threshold Random Walk, Jung et al. 2004), so that a
/// scan is detected of which up to a third is answered. Its honest rate of 0.8 would flag an agent within the hour if
/// half of its contacts fail, so theta 0 is the same for both sums.
const ALERT_SUCCESS_SCANNER: f64 = 0.2;

/// What one failure adds, in nats: ln(0.9 / 0.5) = 0.588.
pub(super) fn failure_nats() -> f64 {
    ((1.0 - SUCCESS_SCANNER) / (1.0 - SUCCESS_HONEST)).ln()
}

/// What one success subtracts, in nats: ln(0.5 / 0.1) = 1.609, so 2.7 failures.
pub(super) fn success_nats() -> f64 {
    (SUCCESS_HONEST / SUCCESS_SCANNER).ln()
}

/// The same for the alert sum: ln(0.8 / 0.5) = 0.470, and ln(0.5 / 0.2) = 0.916.
fn alert_failure_nats() -> f64 {
    ((1.0 - ALERT_SUCCESS_SCANNER) / (1.0 - SUCCESS_HONEST)).ln()
}

fn alert_success_nats() -> f64 {
    (SUCCESS_HONEST / ALERT_SUCCESS_SCANNER).ln()
}

/// Failures that a walk of weak failures loses per hour: ten, which are 1.5 nats of the quarantine sum. An agent behind
/// a firewall that tries 240 sites a day stays at zero; a scan with one target per 34 s adds 15.6 nats per hour.
const FADE_FAILURES_PER_HOUR: f64 = 10.0;

/// What the failures of one burst can add to a walk of a run, in nats, and how much of that budget is restored per
/// hour. In an outage all pods of a run fail at the same time, rarely for more than ten minutes: that adds 8 + 20 / 6 =
/// 11.3 nats, and the walk of an honest run rises the rest of the way with probability e^-8.7. A continuous scan
/// reaches the threshold within 40 minutes, and one with more than 35 targets per pod in that time is detected by the
/// pods' own walks.
const BURST_NATS: f64 = 8.0;
const BURST_NATS_PER_HOUR: f64 = 20.0;

/// Share of a failure that counts in the walk of a pod however much of the budget is used: a pod can make its own
/// servers fail, and what it does then must not be free. An alert sum of a pod counts all of them.
pub(super) const OUTAGE_SHARE_MIN: f64 = 0.1;

/// Failures by kind, for the text of the evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failures {
    pub(super) unanswered: u32,
    pub(super) refused: u32,
    pub(super) denied: u32,
}

impl Failures {
    /// The number of all failures.
    pub(super) fn total(self) -> u32 {
        self.unanswered
            .saturating_add(self.refused)
            .saturating_add(self.denied)
    }

    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Denied => &mut self.denied,
            Outcome::Refused => &mut self.refused,
            _ => &mut self.unanswered,
        };
        *counter = counter.saturating_add(1);
    }

    /// Removes one failure. Its kind is not stored; most late answers follow an unanswered contact.
    pub(super) fn remove_failure(&mut self) {
        let Self {
            unanswered,
            refused,
            denied,
        } = self;
        let counter = [unanswered, refused, denied]
            .into_iter()
            .find(|count| **count > 0);
        if let Some(counter) = counter {
            *counter -= 1;
        }
    }
}

/// A failed contact, stored as an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedContact {
    pub(super) time: EventTime,
    pub(super) target: Target,
    pub(super) outcome: Outcome,
}

impl FailedContact {
    /// The example of a failed contact.
    pub(super) fn of(contact: &ContactVerdict) -> Self {
        Self {
            time: contact.time,
            target: contact.target,
            outcome: contact.outcome,
        }
    }
}

/// The number of the pod that a failure is attributed to: always 0 in the walks of one pod.
pub(super) type Member = u16;

/// One walk. It exists from the first failure until successes have reduced both sums to zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Walk {
    /// The quarantine sum, in nats.
    pub(super) score_nats: f64,
    /// The alert sum, in nats.
    pub(super) alert_score_nats: f64,
    /// What failures would have added to the quarantine sum from times at which the log had not shown allowed flows,
    /// and the time of the first of them.
    deferred_nats: f64,
    deferred_since: EventTime,
    pub(super) failures: Failures,
    pub(super) answered: u32,
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    /// The first failure, unless another node observed it. Later examples come from the list of failures.
    pub(super) first_failed: Option<FailedContact>,
    /// Remaining budget of the current burst as of the last failure; for walks of a run, and in outages.
    burst_nats: f64,
    /// 16 bits of the keyed hash of each failed target, so that a target that is tried again counts once even after the
    /// pod's cache of contacts has lost it. Two targets have the same bits once in 65,536 pairs: then one failure is
    /// missed.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::RUN_WALK_TARGETS_MAX }>")]
    pub(super) targets: Vec<u16>,
    /// The member of each of them; empty in the walks of one pod.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::RUN_WALK_TARGETS_MAX }>")]
    pub(super) members: Vec<Member>,
    /// Severity and number of failures at the last report to all members: see [`Walk::is_report_due`].
    last_report: Option<(Severity, u32)>,
    /// Number of failures, plus the weight of the walk that it replaced: see [`Walks`].
    pub(super) weight: u32,
}

impl Walk {
    pub(super) fn new(contact: &ContactVerdict, weight: u32) -> Self {
        Self {
            score_nats: 0.0,
            alert_score_nats: 0.0,
            deferred_nats: 0.0,
            deferred_since: contact.time,
            failures: Failures::default(),
            answered: 0,
            first: contact.time,
            last: contact.time,
            first_failed: (!contact.is_remote).then(|| FailedContact::of(contact)),
            burst_nats: BURST_NATS,
            targets: Vec::new(),
            members: Vec::new(),
            last_report: None,
            weight,
        }
    }

    /// Number of failures of a member.
    pub(super) fn count_of(&self, member: Member) -> usize {
        self.members
            .iter()
            .filter(|known| **known == member)
            .count()
    }

    /// Whether the severity is higher, or the number of failures twice as high, as at the last report to all members;
    /// if so, a report is recorded. To check all members at every contact would cost too much.
    pub(super) fn is_report_due(&mut self, severity: Severity) -> bool {
        let count = self.failures.total();
        let is_report_due = self.last_report.is_none_or(|(known, known_count)| {
            severity > known || count >= known_count.saturating_mul(2)
        });
        if is_report_due {
            self.last_report = Some((severity, count));
        }
        is_report_due
    }

    /// The members with failures, sorted and each of them once.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut members = self.members.clone();
        members.sort_unstable();
        members.dedup();
        members
    }

    pub(super) fn position(&self, contact: &ContactVerdict) -> Option<usize> {
        let id = short(contact.id);
        self.targets.iter().position(|known| *known == id)
    }

    /// The score for an alert: the higher of the two sums, in nats.
    pub(super) fn highest_alert_nats(&self) -> f64 {
        self.score_nats.max(self.alert_score_nats)
    }

    /// Whether failures are deferred because the log has not shown allowed flows.
    pub(super) fn has_deferred(&self) -> bool {
        self.deferred_nats > 0.0
    }

    /// Adds to the quarantine sum, or to its deferred part. Deferred failures count as soon as the log has shown
    /// allowed flows, unless it started to show them long afterwards. The log of another node is no evidence about this
    /// one, so what is deferred there counts only for an alert here.
    fn add(&mut self, contact: &ContactVerdict, nats: f64) {
        if contact.is_remote {
            self.score_nats += if contact.shown_since.is_some() {
                nats
            } else {
                0.0
            };
            return;
        }
        let Some(since) = contact.shown_since else {
            if !self.has_deferred() {
                self.deferred_since = contact.time;
            }
            self.deferred_since = self.deferred_since.min(contact.time);
            self.deferred_nats += nats;
            return;
        };
        if self.has_deferred() && since <= self.deferred_since {
            self.score_nats += self.deferred_nats;
        }
        self.deferred_nats = 0.0;
        self.score_nats += nats;
    }

    /// Adds these numbers of failures to the quarantine sum and to the alert sum.
    pub(super) fn fail(
        &mut self,
        contact: &ContactVerdict,
        (failures, alert_failures): (f64, f64),
        weight: Weight,
    ) {
        if weight.fades {
            let faded = FADE_FAILURES_PER_HOUR * self.hours_until(contact.time);
            let score = self.score_nats - faded * failure_nats() * Weight::WEAK.quarantine;
            let alert_score = self.alert_score_nats - faded * alert_failure_nats() * weight.alert;
            self.score_nats = score.max(0.0);
            self.alert_score_nats = alert_score.max(0.0);
        }
        self.add(contact, failure_nats() * failures * weight.quarantine);
        self.alert_score_nats += alert_failure_nats() * alert_failures * weight.alert;
        self.failures.count(contact.outcome);
        self.weight = self.weight.saturating_add(1);
        self.first = self.first.min(contact.time);
        self.last = self.last.max(contact.time);
    }

    /// Adds an answer, which removes this number of failures of this weight, and pays for others or does not.
    pub(super) fn answer(
        &mut self,
        failures: f64,
        (weight, pays): (Weight, bool),
        change: VerdictChange,
    ) {
        let (taken, alert_taken) = (failures * weight.quarantine, failures * weight.alert);
        let paid = if pays { 1.0 } else { 0.0 };
        let paid_nats = success_nats() * weight.answer * paid;
        let score = self.score_nats - paid_nats - failure_nats() * taken;
        let alert_score = self.alert_score_nats
            - alert_success_nats() * weight.alert_answer * paid
            - alert_failure_nats() * alert_taken;
        self.score_nats = score.max(0.0);
        self.alert_score_nats = alert_score.max(0.0);
        self.deferred_nats = (self.deferred_nats - paid_nats).max(0.0);
        if change != VerdictChange::Unobserved {
            self.answered = self.answered.saturating_add(1);
        }
    }

    #[allow(clippy::cast_precision_loss)] // microseconds of years
    fn hours_until(&self, time: EventTime) -> f64 {
        time.micros_since(self.last).max(0) as f64 / 3.6e9
    }

    /// The remaining share of the burst budget at a time. It depends only on the past, so contacts with this factor
    /// keep the bound of the walk: E[LR^share] <= 1 under the null hypothesis.
    fn burst_share(&self, time: EventTime) -> f64 {
        let refilled = self.burst_nats + BURST_NATS_PER_HOUR * self.hours_until(time);
        refilled.min(BURST_NATS) / BURST_NATS
    }

    /// Uses the burst budget for this number of failures. Returns their share.
    pub(super) fn use_burst(&mut self, time: EventTime, failures: f64) -> f64 {
        let share = self.burst_share(time);
        let used = failure_nats() * failures * share;
        self.burst_nats = (share * BURST_NATS - used).max(0.0);
        share
    }
}

#[allow(clippy::cast_possible_truncation)] // some bits of the hash
pub(super) fn short(id: u64) -> u16 {
    (id >> 40) as u16
}

/// Reserves room for one entry, then for a few more instead of twice as many: most pods have one or two failures, and
/// most walks stay short.
pub(super) fn reserve<T>(list: &mut Vec<T>, count: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact(if list.is_empty() { 1 } else { count });
    }
}

/// Rules by which a set of walks counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WalkRules {
    /// Maximum number of failed targets that one walk stores.
    pub(super) targets_max: usize,
    /// Failures of a member from which on they count; 1 in the walks of one pod.
    pub(super) member_min: usize,
    /// When failures use the burst budget.
    pub(super) bursts: Bursts,
}

impl WalkRules {
    pub(super) fn are_bounded(self) -> bool {
        let bound = limits::RUN_WALK_TARGETS_MAX;
        self.targets_max <= bound && (1..=bound).contains(&self.member_min)
    }
}

/// When an outage is likely enough to limit the effect of a burst of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Bursts {
    /// Never: many failed ports of one host do not look like an outage.
    Never,
    /// While known targets fail as well, or if a run fails on a service on which its targets answered before.
    InOutage,
}

impl Walk {
    /// Whether these rules can lead to this walk.
    pub(super) fn is_within_bounds(&self, rules: WalkRules) -> bool {
        let member_count = if rules.member_min > 1 {
            self.targets.len()
        } else {
            0
        };
        let scores = [
            self.score_nats,
            self.alert_score_nats,
            self.burst_nats,
            self.deferred_nats,
        ];
        self.targets.len() <= rules.targets_max
            && self.members.len() == member_count
            && scores.iter().all(|nats| (0.0..1e9).contains(nats))
    }

    /// How many failures the newest failure of a member adds to the sums: none while the member has too few, then all
    /// of them at once.
    pub(super) fn failures_added(&self, rules: WalkRules, member: Member) -> f64 {
        match self.count_of(member) {
            count if count < rules.member_min => 0.0,
            #[allow(clippy::cast_precision_loss)] // a handful
            count if count == rules.member_min => count as f64,
            _ => 1.0,
        }
    }

    /// Removes a failure from the list. Returns how many failures it had added to the sums.
    pub(super) fn remove_failure(&mut self, rules: WalkRules, position: usize) -> f64 {
        self.failures.remove_failure();
        let failures = match self.members.get(position) {
            Some(member) => self.failures_added(rules, *member),
            None => 1.0,
        };
        self.targets.remove(position);
        if position < self.members.len() {
            self.members.remove(position);
        }
        failures
    }

    /// Removes a failure from the list, not from the sums, to make room for one of this member. It is the oldest
    /// failure of another member with too few failures to count, of those with the fewest, so that many members with
    /// one failure each cannot keep others from reaching the minimum. Otherwise it is the oldest one of the member with
    /// the most failures, which still counts without it. Of several members it is always the first one, because
    /// otherwise none would reach the minimum. A member keeps its own failures while it has too few, because otherwise
    /// one that starts when the list is full would never count. There is no room if all members have just enough
    /// failures to count.
    pub(super) fn make_room_for(&mut self, member: Member, rules: WalkRules) -> Option<()> {
        let ranked =
            |(position, owner): (usize, &Member)| (position, *owner, self.count_of(*owner));
        let ranked: Vec<_> = self.members.iter().enumerate().map(ranked).collect();
        let too_few = ranked
            .iter()
            .filter(|(_, owner, count)| *owner != member && *count < rules.member_min)
            .min_by_key(|(_, owner, count)| (*count, *owner));
        let enough = ranked
            .iter()
            .filter(|(_, _, count)| *count > rules.member_min)
            .min_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        let (position, ..) = *too_few.or(enough)?;
        self.targets.remove(position);
        self.members.remove(position);
        Some(())
    }
}
