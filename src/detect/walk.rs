//! Walks: sequential tests of "half of the first contacts succeed at least".
//!
//! A walk is a one-sided CUSUM of the log-likelihood ratio of a scanner (one contact in ten
//! succeeds) to the worst honest pod (one in two), floored at zero: past successes are no credit.
//! Beside it runs the same sum with the textbook's rates, for alerts. [`Walks`] keeps a bounded
//! number of them by key. It knows nothing of pods and runs, so the same type serves the walks of
//! both. Called by `scan` and `run`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::contacts::{Change, Judged, Target};
use super::saved::{self, Sequence};
use super::weight::Weight;
use crate::limits;
use crate::model::{EventTime, Outcome, Severity};

/// Success rate of the worst honest pod (theta 0) and of a scanner (theta 1). The textbook's 0.8
/// against 0.2 flags an honest pod at 55 % success with probability 0.999 in 3,000 contacts;
/// 0.5 against 0.1 does not, and costs some 30 contacts more.
const SUCCESS_HONEST: f64 = 0.5;
const SUCCESS_SCANNER: f64 = 0.1;

/// Success rate of a scanner for alerts: that of the textbook (Threshold Random Walk, Jung et al.
/// 2004), so that a scan of which up to a third is answered is seen. The textbook's honest 0.8
/// would flag an agent of whose contacts half fail within the hour; theta 0 is that of the
/// quarantine for both.
const ALERT_SUCCESS_SCANNER: f64 = 0.2;

/// What one failure adds, in nats: ln(0.9 / 0.5) = 0.588.
pub(super) fn failure_nats() -> f64 {
    ((1.0 - SUCCESS_SCANNER) / (1.0 - SUCCESS_HONEST)).ln()
}

/// What one success takes away, in nats: ln(0.5 / 0.1) = 1.609, so 2.7 failures.
pub(super) fn success_nats() -> f64 {
    (SUCCESS_HONEST / SUCCESS_SCANNER).ln()
}

/// The same for the alert's sum: ln(0.8 / 0.5) = 0.470, and ln(0.5 / 0.2) = 0.916.
fn alert_failure_nats() -> f64 {
    ((1.0 - ALERT_SUCCESS_SCANNER) / (1.0 - SUCCESS_HONEST)).ln()
}

fn alert_success_nats() -> f64 {
    (SUCCESS_HONEST / ALERT_SUCCESS_SCANNER).ln()
}

/// What a walk of weak failures loses in an hour: ten of them, 1.5 nats of the sum for a quarantine.
/// An agent behind a wall that tries 240 sites a day stays at zero; a scan of one target per 34 s
/// adds 15.6 nats in the hour.
const FADE_FAILURES_PER_HOUR: f64 = 10.0;

/// What the failures of one burst can bring into a walk of a run, in nats, and how much of that
/// comes back in an hour. In an outage all pods of a run fail together, for ten minutes seldom
/// more: that makes 8 + 20 / 6 = 11.3 nats, and an honest run climbs the rest of the way with
/// probability e^-8.7. A scan that lasts goes on to the line within 40 minutes, and one that is
/// faster than 35 targets per pod in that time is the matter of the pods' own walks.
const BURST_NATS: f64 = 8.0;
const BURST_NATS_PER_HOUR: f64 = 20.0;

/// Failures by kind, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failures {
    pub(super) unanswered: u32,
    pub(super) refused: u32,
    pub(super) denied: u32,
}

impl Failures {
    /// All of them.
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

    /// Of which kind a failure was is not kept; most late answers come after silence.
    fn take_back(&mut self) {
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

/// A failed contact as an example, in little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) time: EventTime,
    pub(super) target: Target,
    pub(super) outcome: Outcome,
}

impl Seen {
    /// A judged contact.
    pub(super) fn of(contact: &Judged) -> Self {
        Self {
            time: contact.time,
            target: contact.target,
            outcome: contact.outcome,
        }
    }
}

/// Who a failure is booked on: always 0 in the walks of one pod, the pod's number in a run's.
pub(super) type Member = u16;

/// One walk. It exists from a first failure until successes have brought both sums back to zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Walk {
    /// The sum for a quarantine.
    pub(super) score_nats: f64,
    /// The sum for an alert.
    pub(super) alert_score_nats: f64,
    /// What failures would have added to the sum for a quarantine at which the log had not shown
    /// what passes, and the first of those.
    held_nats: f64,
    held_since: EventTime,
    pub(super) failures: Failures,
    pub(super) answered: u32,
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    /// How it began, unless another node saw that. Later examples come from the list of failures.
    pub(super) begin: Option<Seen>,
    /// What is left for the current burst, at the last failure; for walks of a run, and in outages.
    burst_nats: f64,
    /// 16 bits of the keyed hash of each failed target, so that a target that is tried again
    /// counts once even if the pod's memory of contacts has long forgotten it. Two targets share
    /// them once in 65,536: then one failure is missed.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::RUN_WALK_TARGETS_MAX }>")]
    counted: Vec<u16>,
    /// Whose they are; empty in the walks of one pod.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::RUN_WALK_TARGETS_MAX }>")]
    members: Vec<Member>,
    /// The last word to all members, and its failures: see [`Walk::is_turn`].
    said: Option<(Severity, u32)>,
    /// Failures, plus what the walk that it displaced had: see [`Walks`].
    weight: u32,
}

impl Walk {
    fn new(contact: &Judged, weight: u32) -> Self {
        Self {
            score_nats: 0.0,
            alert_score_nats: 0.0,
            held_nats: 0.0,
            held_since: contact.time,
            failures: Failures::default(),
            answered: 0,
            first: contact.time,
            last: contact.time,
            begin: (!contact.is_elsewhere).then(|| Seen::of(contact)),
            burst_nats: BURST_NATS,
            counted: Vec::new(),
            members: Vec::new(),
            said: None,
            weight,
        }
    }

    /// Failures that are booked on a member.
    pub(super) fn count_of(&self, member: Member) -> usize {
        self.members
            .iter()
            .filter(|known| **known == member)
            .count()
    }

    /// Whether the judgement is more severe, or rests on twice as many failures, than when all
    /// members were looked at last; if so, they are now. Looking at all of them at every contact
    /// would cost too much.
    pub(super) fn is_turn(&mut self, severity: Severity) -> bool {
        let count = self.failures.total();
        let is_turn = self.said.is_none_or(|(known, known_count)| {
            severity > known || count >= known_count.saturating_mul(2)
        });
        if is_turn {
            self.said = Some((severity, count));
        }
        is_turn
    }

    /// The members that failures are booked on, each once, in their order.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut members = self.members.clone();
        members.sort_unstable();
        members.dedup();
        members
    }

    fn position(&self, contact: &Judged) -> Option<usize> {
        let id = short(contact.id);
        self.counted.iter().position(|known| *known == id)
    }

    /// The score for an alert: the higher of both sums.
    pub(super) fn highest_alert_nats(&self) -> f64 {
        self.score_nats.max(self.alert_score_nats)
    }

    /// Whether failures are held back, because the log has not shown what passes.
    pub(super) fn is_held(&self) -> bool {
        self.held_nats > 0.0
    }

    /// Adds to the sum for a quarantine, or to what is held back from it. What is held counts once the
    /// log is seen to show what passes, unless it began to do so long after. What the log of another
    /// node shows proves nothing of this one's, and what is held there counts for an alert alone here.
    fn add(&mut self, contact: &Judged, nats: f64) {
        if contact.is_elsewhere {
            self.score_nats += if contact.shown_since.is_some() {
                nats
            } else {
                0.0
            };
            return;
        }
        let Some(since) = contact.shown_since else {
            if !self.is_held() {
                self.held_since = contact.time;
            }
            self.held_since = self.held_since.min(contact.time);
            self.held_nats += nats;
            return;
        };
        if self.is_held() && since <= self.held_since {
            self.score_nats += self.held_nats;
        }
        self.held_nats = 0.0;
        self.score_nats += nats;
    }

    /// Books so many failures at once.
    fn fail(&mut self, contact: &Judged, failures: f64, weight: Weight) {
        if weight.fades {
            let faded = FADE_FAILURES_PER_HOUR * self.hours_until(contact.time);
            let score = self.score_nats - faded * failure_nats() * Weight::WEAK.quarantine;
            let alert_score = self.alert_score_nats - faded * alert_failure_nats() * weight.alert;
            self.score_nats = score.max(0.0);
            self.alert_score_nats = alert_score.max(0.0);
        }
        self.add(contact, failure_nats() * failures * weight.quarantine);
        self.alert_score_nats += alert_failure_nats() * failures * weight.alert;
        self.failures.count(contact.outcome);
        self.weight = self.weight.saturating_add(1);
        self.first = self.first.min(contact.time);
        self.last = self.last.max(contact.time);
    }

    /// Books an answer, which takes back so many failures of this weight.
    fn answer(&mut self, failures: f64, weight: Weight, change: Change) {
        let (taken, alert_taken) = (failures * weight.quarantine, failures * weight.alert);
        let score = self.score_nats - success_nats() * weight.answer - failure_nats() * taken;
        let alert_score = self.alert_score_nats
            - alert_success_nats() * weight.alert_answer
            - alert_failure_nats() * alert_taken;
        self.score_nats = score.max(0.0);
        self.alert_score_nats = alert_score.max(0.0);
        self.held_nats = (self.held_nats - success_nats() * weight.answer).max(0.0);
        if change != Change::Unshown {
            self.answered = self.answered.saturating_add(1);
        }
    }

    #[allow(clippy::cast_precision_loss)] // microseconds of years
    fn hours_until(&self, time: EventTime) -> f64 {
        time.micros_since(self.last).max(0) as f64 / 3.6e9
    }

    /// The share of the burst's nats that is left at a time. It depends on the past alone, so a
    /// contact that weighs this much keeps the bound of the walk: E[LR^share] <= 1 under the null.
    fn burst_share(&self, time: EventTime) -> f64 {
        let refilled = self.burst_nats + BURST_NATS_PER_HOUR * self.hours_until(time);
        refilled.min(BURST_NATS) / BURST_NATS
    }

    /// Takes what so many failures bring in from the current burst; returns their share.
    fn use_burst(&mut self, time: EventTime, failures: f64) -> f64 {
        let share = self.burst_share(time);
        let used = failure_nats() * failures * share;
        self.burst_nats = (share * BURST_NATS - used).max(0.0);
        share
    }
}

#[allow(clippy::cast_possible_truncation)] // some bits of the hash
fn short(id: u64) -> u16 {
    (id >> 40) as u16
}

/// Makes room for one, then for a few more, not for twice as many: most pods have a failure or two,
/// and most walks stay short.
fn reserve<T>(list: &mut Vec<T>, count: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact(if list.is_empty() { 1 } else { count });
    }
}

/// How walks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rules {
    /// Failed targets that one walk knows by heart.
    pub(super) counted_max: usize,
    /// Failures of a member from which on they count; 1 in the walks of one pod.
    pub(super) member_min: usize,
    /// When failures count against the budget of a burst.
    pub(super) bursts: Bursts,
}

impl Rules {
    fn are_bounded(self) -> bool {
        let bound = limits::RUN_WALK_TARGETS_MAX;
        self.counted_max <= bound && (1..=bound).contains(&self.member_min)
    }
}

/// When an outage is likely enough that a burst of failures is not believed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Bursts {
    /// An outage does not look like this: many ports of one host.
    Never,
    /// When known targets fail too, or a run fails where its targets used to answer.
    InOutage,
}

/// A bounded set of walks.
///
/// When it is full, a new walk takes the place of the one with the fewest failures and inherits
/// that number as its weight (Metwally's Space-Saving). So a key that gets more than one in
/// [`limits::WALKS_MAX`] of all failures always has its walk: noise on many other ports cannot
/// push it out, and cannot keep it from entering. The score itself is never inherited.
#[derive(Clone, Debug)]
pub(super) struct Walks<K> {
    rules: Rules,
    /// Beside the walks, so that a search reads little.
    keys: Vec<K>,
    list: Vec<Walk>,
}

impl<K: Serialize> Serialize for Walks<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { rules, keys, list } = self;
        let walks = Sequence(keys.iter().zip(list));
        (rules, walks).serialize(serializer)
    }
}

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Walks<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (rules, SavedWalks(walks)) = <(Rules, SavedWalks<K>)>::deserialize(deserializer)?;
        let (keys, list): (Vec<_>, Vec<Walk>) = walks.into_iter().unzip();
        if !rules.are_bounded() || list.iter().any(|walk| !walk.is_sound(rules)) {
            return Err(D::Error::custom("a walk is out of its bounds"));
        }
        Ok(Self { rules, keys, list })
    }
}

#[derive(Deserialize)]
#[serde(bound = "K: Deserialize<'de>")]
struct SavedWalks<K>(
    #[serde(deserialize_with = "saved::list::<_, _, { limits::WALKS_MAX }>")] Vec<(K, Walk)>,
);

impl<K: Ord + Copy> Walks<K> {
    /// No walks yet.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            keys: Vec::new(),
            list: Vec::new(),
        }
    }

    /// Counts a failed contact of a member. Returns the walk unless the target had counted before.
    pub(super) fn fail(
        &mut self,
        key: K,
        contact: &Judged,
        weight: Weight,
        member: Member,
    ) -> Option<&mut Walk> {
        let rules = self.rules;
        let walk = self.walk_for(key, contact)?;
        if walk.position(contact).is_some() {
            return None;
        }
        let is_shared = rules.member_min > 1;
        if walk.counted.len() >= rules.counted_max && is_shared {
            walk.make_room_for(member, rules)?;
        }
        if walk.counted.len() < rules.counted_max {
            reserve(&mut walk.counted, 4);
            walk.counted.push(short(contact.id));
            if is_shared {
                reserve(&mut walk.members, 4);
                walk.members.push(member);
            }
        }
        let mut failures = 1.0;
        if is_shared {
            failures = walk.failures_added(rules, member);
        }
        if rules.bursts == Bursts::InOutage && contact.is_in_outage {
            failures *= walk.use_burst(contact.time, failures * weight.quarantine);
        }
        walk.fail(contact, failures, weight);
        Some(walk)
    }

    /// Counts an answer. A target that had counted as a failure of this weight is taken back.
    /// Without a walk there is nothing to lower: past successes are no credit.
    pub(super) fn answer(&mut self, key: K, contact: &Judged, weight: Weight) {
        let rules = self.rules;
        let Some(index) = self.keys.iter().position(|known| *known == key) else {
            return;
        };
        let Some(walk) = self.list.get_mut(index) else {
            return;
        };
        let taken_back = if let Some(position) = walk.position(contact) {
            walk.take_back(rules, position)
        } else if contact.change == Change::Recovered && walk.counted.len() >= rules.counted_max {
            walk.failures.take_back();
            1.0
        } else {
            0.0
        };
        walk.answer(taken_back, weight, contact.change);
        if walk.alert_score_nats <= 0.0 && walk.score_nats <= 0.0 {
            self.keys.swap_remove(index);
            self.list.swap_remove(index);
        }
    }

    /// Whether there is a walk for this key.
    pub(super) fn has(&self, key: K) -> bool {
        self.keys.contains(&key)
    }

    /// The highest score of all walks; 0 without any.
    pub(super) fn highest_nats(&self) -> f64 {
        self.list
            .iter()
            .map(|walk| walk.score_nats)
            .fold(0.0, f64::max)
    }

    /// The members on whom any failure is booked.
    pub(super) fn booked(&self) -> impl Iterator<Item = Member> + '_ {
        self.list
            .iter()
            .flat_map(|walk| walk.members.iter().copied())
    }

    fn walk_for(&mut self, key: K, contact: &Judged) -> Option<&mut Walk> {
        let known = self.keys.iter().position(|known| *known == key);
        let index = if let Some(index) = known {
            index
        } else {
            let inherited = self.make_room();
            reserve(&mut self.keys, 3);
            reserve(&mut self.list, 3);
            self.keys.push(key);
            self.list.push(Walk::new(contact, inherited));
            self.list.len() - 1
        };
        self.list.get_mut(index)
    }

    /// Makes room for one walk, and says which weight it inherits.
    fn make_room(&mut self) -> u32 {
        if self.list.len() < limits::WALKS_MAX {
            return 0;
        }
        let ranked = self.keys.iter().zip(&self.list).enumerate();
        let least = ranked.min_by_key(|(_, (key, walk))| (walk.weight, walk.last, **key));
        let Some((index, weight)) = least.map(|(index, (_, walk))| (index, walk.weight)) else {
            return 0;
        };
        self.keys.swap_remove(index);
        self.list.swap_remove(index);
        weight
    }
}

impl Walk {
    /// Whether it is one that these rules can bring about.
    fn is_sound(&self, rules: Rules) -> bool {
        let member_count = if rules.member_min > 1 {
            self.counted.len()
        } else {
            0
        };
        let scores = [
            self.score_nats,
            self.alert_score_nats,
            self.burst_nats,
            self.held_nats,
        ];
        self.counted.len() <= rules.counted_max
            && self.members.len() == member_count
            && scores.iter().all(|nats| (0.0..1e9).contains(nats))
    }

    /// How many failures the newest one of a member brings into the sums: none while the member
    /// has too few, then all of them at once.
    fn failures_added(&self, rules: Rules, member: Member) -> f64 {
        match self.count_of(member) {
            count if count < rules.member_min => 0.0,
            #[allow(clippy::cast_precision_loss)] // a handful
            count if count == rules.member_min => count as f64,
            _ => 1.0,
        }
    }

    /// Takes a failure out of the list; returns how many it had brought into the sums.
    fn take_back(&mut self, rules: Rules, position: usize) -> f64 {
        self.failures.take_back();
        let failures = match self.members.get(position) {
            Some(member) => self.failures_added(rules, *member),
            None => 1.0,
        };
        self.counted.remove(position);
        if position < self.members.len() {
            self.members.remove(position);
        }
        failures
    }

    /// Drops a failure from the list, not from the sums, for one of this member: the oldest one of another member
    /// that has too few to count, of those with the fewest, so that many members with one each cannot keep others
    /// from getting there; else the oldest one of the member with the most, which still counts without it. Of several
    /// members the first gives way again and again, else none would get there. A member's own are kept
    /// while it has too few, else one that begins when the list is full would never count.
    /// There is no room when all have just enough to count.
    fn make_room_for(&mut self, member: Member, rules: Rules) -> Option<()> {
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
        self.counted.remove(position);
        self.members.remove(position);
        Some(())
    }
}
