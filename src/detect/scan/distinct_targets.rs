//! Counters of a pod's distinct targets, for scans that walks cannot detect.
//!
//! A walk detects nothing if most targets answer, and an attacker can add successes on purpose. Counters therefore count
//! distinct targets regardless of other contacts: hosts that answered on one service without a DNS name, and internal
//! targets that failed, unless the cluster's DNS names them. Both lead to alerts at most: service discovery and parallel reads look the
//! same, and there is no error budget for them. Called by `pod`.
//!
//! An attacker avoids them with fewer answers per hour, and then needs ten hours for a network of 1,000 hosts. To
//! displace a counter with other services takes as many contacts on each of them.

use serde::{Deserialize, Serialize};

use super::evidence::bounded_sentences;
use super::hourly_count::HourlyCount;
use super::service::Service;
use crate::detect::attributed::Workload;
use crate::detect::context::ScanContext;
use crate::detect::detection::Detection;
use crate::detect::reported::ReportLevel;
use crate::detect::scan::contacts::{ContactVerdict, VerdictChange};
use crate::detect::scope::Scope;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::{BoundedText, EventTime, Evidence, Example, Neighbour, duration};

/// Distinct targets in an hour that lead to an alert. Elastic's rule for a network sweep started with 10 hosts and had
/// to be raised to 100. The busiest honest pods of the error budget reach 42.
const TARGETS_ALERT: f64 = 100.0;

/// What one counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum CountedKind {
    Answered(Service),
    Failed(Scope),
    /// Hosts on a service, if the log does not show answers.
    Unobserved(Service),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct DistinctCounter {
    kind: CountedKind,
    count: HourlyCount,
}

/// A pod's counters. Empty for a pod that looks up all its targets in the cluster's DNS.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DistinctTargets(
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::TALLIES_MAX }>")]
    Vec<DistinctCounter>,
);

impl DistinctTargets {
    /// Counts a contact if it is of a kind that is counted. Returns a detection that is to be reported.
    pub(super) fn observe(
        &mut self,
        contact: &ContactVerdict,
        service: Service,
        context: ScanContext<'_>,
    ) -> Option<Detection> {
        let host = || context.config.hash_key.host(contact.target.host);
        let (kind, hash) = match contact.change {
            VerdictChange::Failed => (CountedKind::Failed(service.scope), contact.id),
            VerdictChange::Unobserved => (CountedKind::Unobserved(service), host()),
            VerdictChange::Answered | VerdictChange::Recovered => {
                (CountedKind::Answered(service), host())
            }
        };
        let is_neighbour = contact.neighbour != Neighbour::Stranger;
        if is_neighbour || contact.is_server_answer || !is_counted(kind, context) {
            return None;
        }
        let counter = self.counter(kind, contact.time)?;
        let level = counter
            .count
            .count(contact.time, hash, TARGETS_ALERT, context.config)?;
        context
            .reported
            .should_report(level)
            .then(|| counter.detection(contact, level, context))
    }

    fn counter(&mut self, kind: CountedKind, now: EventTime) -> Option<&mut DistinctCounter> {
        let known = self.0.iter().position(|counter| counter.kind == kind);
        let index = if let Some(index) = known {
            index
        } else {
            if self.0.len() >= limits::TALLIES_MAX {
                let counts = self.0.iter().enumerate();
                let least = counts.min_by_key(|(_, counter)| counter.count.observed_count);
                let index = least.map(|(index, _)| index)?;
                self.0.swap_remove(index);
            }
            self.0.reserve_exact(1);
            self.0.push(DistinctCounter {
                kind,
                count: HourlyCount::since(now),
            });
            self.0.len() - 1
        };
        self.0.get_mut(index)
    }
}

/// Whether a contact of this kind is counted. On the Internet an answer is evidence only if the log contains the pod's
/// names and the host is no web server: a client that uses DNS over HTTPS contacts hundreds of those without a name in
/// the log. Failures there, such as dead links and peers, count in walks only.
fn is_counted(kind: CountedKind, context: ScanContext<'_>) -> bool {
    match kind {
        CountedKind::Answered(service) | CountedKind::Unobserved(service)
            if service.scope == Scope::Internet =>
        {
            context.has_dns
                && context.workload != Workload::Crawler
                && !matches!(service.port, 80 | 443)
        }
        CountedKind::Answered(_) | CountedKind::Unobserved(_) => true,
        CountedKind::Failed(scope) => scope != Scope::Internet,
    }
}

impl DistinctCounter {
    fn detection(
        &self,
        contact: &ContactVerdict,
        level: ReportLevel,
        context: ScanContext<'_>,
    ) -> Detection {
        let (count, span) = (
            level.contact_count,
            duration::rounded(self.count.last.micros_since(self.count.first)),
        );
        let (summary, against) = match self.kind {
            CountedKind::Answered(service) => (
                format!(
                    "About {count} {} hosts answered on {}/{} within {span}, none of them known from a DNS answer. An inventory of a network looks like this.",
                    service.scope.adjective(),
                    service.transport.name(),
                    service.port,
                ),
                "the targets answered, as those of service discovery and parallel reads do",
            ),
            CountedKind::Unobserved(service) => (
                format!(
                    "About {count} {} hosts were tried on {}/{} within {span}, none of them known from a DNS answer. The log has not shown whether they answered. An inventory of a network looks like this.",
                    service.scope.adjective(),
                    service.transport.name(),
                    service.port,
                ),
                "the log has shown no answers over this transport recently, so all of them may have answered",
            ),
            CountedKind::Failed(scope) => (
                format!(
                    "About {count} {} targets failed within {span}. Successes between them do not lower this count.",
                    scope.adjective(),
                ),
                "other contacts succeeded, or the targets spread over many ports and hosts",
            ),
        };
        let mut against = vec![against.to_owned()];
        if !context.has_dns {
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
        Detection {
            signature: level.signature,
            severity: level.severity,
            evidence: Evidence {
                score: level.score,
                threshold: context.config.alert_nats,
                first: self.count.first,
                last: self.count.last,
                contact_count: level.contact_count,
                summary: BoundedText::new(&summary),
                examples: vec![example],
                against: bounded_sentences(&against),
            },
        }
    }
}
