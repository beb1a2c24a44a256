//! Tallies: how many distinct targets a pod met, for what walks cannot see.
//!
//! A walk sees nothing where most targets answer, and an attacker can feed it successes. So two
//! kinds of tally count distinct targets whatever else happens: hosts that answered on one service
//! without a DNS name, and targets inside that failed. Both are alerts at most: service discovery
//! and parallel reads look alike, and no error budget is known for them. Called by `scan`.
//!
//! An attacker stays below by taking fewer answers an hour; then a network of 1,000 hosts takes it
//! ten hours, and more of them a day. Filling the tallies with other services needs as many hosts on each of them.

use serde::{Deserialize, Serialize};

use super::attributed::Workload;
use super::contacts::{Change, Judged};
use super::saved;
use super::scan::{Crossing, Service, Surroundings};
use super::scope::Scope;
use super::sketch::HyperLogLog;
use super::told::Word;
use super::wording::bounded;
use crate::limits;
use crate::model::{
    BoundedText, EventTime, Evidence, Example, Neighbour, Severity, Signature, duration,
};

/// Distinct targets in an hour from which on it is said. Elastic's rule for a network sweep began
/// with 10 hosts and had to go to 100. The busiest honest pods of the error budget meet 42.
const TARGETS_ALERT: f64 = 100.0;

/// A tally begins anew after an hour: client-side load balancing, and peers that fail, come to any
/// number of addresses in a day.
const TALLY_US: i64 = 3_600_000_000;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    Answered(Service),
    Failed(Scope),
    /// The log cannot show whether they answered.
    Unshown(Service),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tally {
    what: What,
    sketch: HyperLogLog,
    first: EventTime,
    last: EventTime,
    seen_count: u32,
}

/// A pod's tallies. Empty for a pod that asks DNS for all that it contacts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tallies(
    #[serde(deserialize_with = "saved::list::<_, _, { limits::TALLIES_MAX }>")] Vec<Tally>,
);

impl Tallies {
    /// Counts a judged contact, if it is of a kind that is counted.
    pub(super) fn observe(
        &mut self,
        contact: &Judged,
        service: Service,
        around: Surroundings<'_>,
    ) -> Option<Crossing> {
        let host = || around.config.hash_key.host(contact.target.host);
        let (what, hash) = match contact.change {
            Change::Failed => (What::Failed(service.scope), contact.id),
            Change::Unshown => (What::Unshown(service), host()),
            Change::Answered | Change::Recovered => (What::Answered(service), host()),
        };
        let is_neighbour = contact.neighbour != Neighbour::Stranger;
        if is_neighbour || contact.is_server_answer || !is_counted(what, around) {
            return None;
        }
        let tally = self.tally(what, contact.time)?;
        tally.first = tally.first.min(contact.time);
        tally.last = tally.last.max(contact.time);
        tally.seen_count = tally.seen_count.saturating_add(1);
        if !tally.sketch.insert(hash) {
            return None;
        }
        let estimate = tally.sketch.estimate();
        if estimate < TARGETS_ALERT {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a positive estimate
        let contact_count = estimate.round() as u64;
        // A count is no likelihood. It is put on the alert's scale, so that score and line relate
        // to each other as count and limit do.
        let word = Word {
            signature: Signature::HorizontalScan,
            severity: Severity::Alert,
            contact_count,
            score: around.config.alert_nats * estimate / TARGETS_ALERT,
        };
        around
            .told
            .is_news(word)
            .then(|| tally.crossing(contact, word, around))
    }

    fn tally(&mut self, what: What, now: EventTime) -> Option<&mut Tally> {
        let known = self.0.iter().position(|tally| tally.what == what);
        let index = if let Some(index) = known {
            index
        } else {
            if self.0.len() >= limits::TALLIES_MAX {
                let counts = self.0.iter().enumerate();
                let least = counts.min_by_key(|(_, tally)| tally.seen_count);
                let index = least.map(|(index, _)| index)?;
                self.0.swap_remove(index);
            }
            self.0.reserve_exact(1);
            self.0.push(Tally::new(what, now));
            self.0.len() - 1
        };
        let tally = self.0.get_mut(index)?;
        if now.micros_since(tally.first) > TALLY_US {
            *tally = Tally::new(what, now);
        }
        Some(tally)
    }
}

/// On the Internet a host that answers says something only if the pod's names are in the log, and
/// if it is no web server: a client that asks DNS over HTTPS meets hundreds of those. What fails
/// there, dead links and peers, is the walks' matter alone.
fn is_counted(what: What, around: Surroundings<'_>) -> bool {
    match what {
        What::Answered(service) | What::Unshown(service) if service.scope == Scope::Internet => {
            around.has_dns
                && around.workload != Workload::Crawler
                && !matches!(service.port, 80 | 443)
        }
        What::Answered(_) | What::Unshown(_) => true,
        What::Failed(scope) => scope != Scope::Internet,
    }
}

impl Tally {
    fn new(what: What, now: EventTime) -> Self {
        Self {
            what,
            sketch: HyperLogLog::default(),
            first: now,
            last: now,
            seen_count: 0,
        }
    }

    fn crossing(&self, contact: &Judged, word: Word, around: Surroundings<'_>) -> Crossing {
        let (count, span) = (
            word.contact_count,
            duration::rounded(self.last.micros_since(self.first)),
        );
        let (summary, against) = match self.what {
            What::Answered(service) => (
                format!(
                    "About {count} {} hosts answered on {}/{} within {span}, none of them known from a DNS answer. An inventory of a network looks like this.",
                    service.scope.adjective(),
                    service.transport.name(),
                    service.port,
                ),
                "the targets answered, as those of service discovery and parallel reads do",
            ),
            What::Unshown(service) => (
                format!(
                    "About {count} {} hosts were tried on {}/{} within {span}, none of them known from a DNS answer. The log has not shown whether they answered. An inventory of a network looks like this.",
                    service.scope.adjective(),
                    service.transport.name(),
                    service.port,
                ),
                "the log has shown no answers over this transport lately, so all of them may have answered",
            ),
            What::Failed(scope) => (
                format!(
                    "About {count} {} targets failed within {span}, none of them known from a DNS answer. Successes between them do not lower this count.",
                    scope.adjective(),
                ),
                "other contacts succeeded, or the targets spread over many ports and hosts",
            ),
        };
        let mut against = vec![against.to_owned()];
        if !around.has_dns {
            against.push(
                "no DNS answer of this pod is in the log, so names may stand behind these addresses"
                    .to_owned(),
            );
        }
        let example = Example {
            time: contact.time,
            destination: contact.target.host,
            port: contact.target.port,
            transport: contact.target.transport,
            outcome: contact.outcome,
            name: None,
        };
        Crossing {
            signature: word.signature,
            severity: word.severity,
            evidence: Evidence {
                score: word.score,
                threshold: around.config.alert_nats,
                first: self.first,
                last: self.last,
                contact_count: word.contact_count,
                summary: BoundedText::new(&summary),
                examples: vec![example],
                against: bounded(&against),
            },
        }
    }
}
