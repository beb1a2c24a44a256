//! Walks: sequential tests of "half of the first contacts succeed at least".
//!
//! A walk is a one-sided CUSUM of the log-likelihood ratio of a scanner (one contact in ten
//! succeeds) to the worst honest pod (one in two), floored at zero: past successes are no credit.
//! [`Walks`] keeps a bounded number of them by key. It knows nothing of pods, so the same type
//! serves walks over other groups of contacts. Called by `scan`.

use std::collections::BTreeMap;

use super::contacts::{Judged, Target};
use crate::limits;
use crate::model::{EventTime, Outcome};

/// Success rate of the worst honest pod (theta 0) and of a scanner (theta 1). The textbook's 0.8
/// against 0.2 flags an honest pod at 55 % success with probability 0.999 in 3,000 contacts;
/// 0.5 against 0.1 does not, and costs some 30 contacts more.
const SUCCESS_HONEST: f64 = 0.5;
const SUCCESS_SCANNER: f64 = 0.1;

/// Examples that a walk keeps: the first ones, which show how it began.
const WALK_EXAMPLES_MAX: usize = 5;

/// What one failure adds, in nats: ln(0.9 / 0.5) = 0.588.
pub(super) fn failure_nats() -> f64 {
    ((1.0 - SUCCESS_SCANNER) / (1.0 - SUCCESS_HONEST)).ln()
}

/// What one success takes away, in nats: ln(0.5 / 0.1) = 1.609, so 2.7 failures.
pub(super) fn success_nats() -> f64 {
    (SUCCESS_HONEST / SUCCESS_SCANNER).ln()
}

/// Failures by kind, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// A failed contact as an example, in little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) time: EventTime,
    pub(super) target: Target,
    pub(super) outcome: Outcome,
}

/// One walk. It exists from a first failure until successes have brought it back to zero.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) score_nats: f64,
    pub(super) failures: Failures,
    pub(super) answered: u32,
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    pub(super) examples: Vec<Seen>,
    /// Failures, plus what the walk that it displaced had: see [`Walks`].
    weight: u32,
}

impl Walk {
    fn new(time: EventTime, weight: u32) -> Self {
        Self {
            score_nats: 0.0,
            failures: Failures::default(),
            answered: 0,
            first: time,
            last: time,
            examples: Vec::new(),
            weight,
        }
    }

    fn fail(&mut self, contact: &Judged, share: f64) {
        self.score_nats += failure_nats() * share;
        self.failures.count(contact.outcome);
        self.weight = self.weight.saturating_add(1);
        self.first = self.first.min(contact.time);
        self.last = self.last.max(contact.time);
        if self.examples.len() < WALK_EXAMPLES_MAX {
            let Judged {
                target,
                time,
                outcome,
                ..
            } = *contact;
            self.examples.push(Seen {
                time,
                target,
                outcome,
            });
        }
    }
}

/// A bounded set of walks.
///
/// When it is full, a new walk takes the place of the one with the fewest failures and inherits
/// that number as its weight (Metwally's Space-Saving). So a key that gets more than one in
/// [`limits::WALKS_MAX`] of all failures always has its walk: noise on many other ports cannot
/// push it out, and cannot keep it from entering. The score itself is never inherited.
#[derive(Clone, Debug)]
pub(super) struct Walks<K> {
    walks: BTreeMap<K, Walk>,
}

impl<K> Default for Walks<K> {
    fn default() -> Self {
        Self {
            walks: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy> Walks<K> {
    /// Counts a failed contact; `share` below one makes it weigh less.
    pub(super) fn fail(&mut self, key: K, contact: &Judged, share: f64) -> &Walk {
        let inherited = if self.walks.contains_key(&key) {
            0
        } else {
            self.make_room()
        };
        let walk = self
            .walks
            .entry(key)
            .or_insert_with(|| Walk::new(contact.time, inherited));
        walk.fail(contact, share);
        walk
    }

    /// Counts a success. A walk that stands at zero is nothing to keep: without one, a success
    /// changes nothing.
    pub(super) fn succeed(&mut self, key: K) {
        self.lower(key, success_nats(), false);
    }

    /// A contact that had counted as a failure of this `share` has answered after all.
    pub(super) fn recover(&mut self, key: K, share: f64) {
        self.lower(key, failure_nats() * share + success_nats(), true);
    }

    fn lower(&mut self, key: K, nats: f64, was_failure: bool) {
        let Some(walk) = self.walks.get_mut(&key) else {
            return;
        };
        walk.score_nats -= nats;
        walk.answered = walk.answered.saturating_add(1);
        if was_failure {
            // Of which kind the failure was is not kept; most late answers come after silence.
            let Failures {
                unanswered,
                refused,
                denied,
            } = &mut walk.failures;
            let counter = [unanswered, refused, denied]
                .into_iter()
                .find(|count| **count > 0);
            if let Some(counter) = counter {
                *counter -= 1;
            }
        }
        if walk.score_nats <= 0.0 {
            self.walks.remove(&key);
        }
    }

    /// The highest score of all walks; 0 without any.
    pub(super) fn highest_nats(&self) -> f64 {
        self.walks
            .values()
            .map(|walk| walk.score_nats)
            .fold(0.0, f64::max)
    }

    /// Makes room for one walk, and says which weight it inherits.
    fn make_room(&mut self) -> u32 {
        if self.walks.len() < limits::WALKS_MAX {
            return 0;
        }
        let least = self
            .walks
            .iter()
            .min_by_key(|(key, walk)| (walk.weight, walk.last, **key));
        let Some((key, weight)) = least.map(|(key, walk)| (*key, walk.weight)) else {
            return 0;
        };
        self.walks.remove(&key);
        weight
    }
}
