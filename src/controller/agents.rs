//! Reports of the node agents. Each agent renews a Lease while it runs, with an annotation about its sources. The
//! controller reads the Leases, so a node without an agent, or with an agent that lacks usable sources, makes
//! SignalsFresh false for the runs that have pods on that node.
//!
//! Pure. `heartbeat` writes the Leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::signals_annotation::{read, shorten_list};
use crate::api::labels;
use crate::limits;
use crate::signals::health::{Lacking, SignalsVerdict};

/// An agent counts as silent after this long without a renewal, which is two missed renewals.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(75);

/// Last report of an agent.
#[derive(Clone, Debug, PartialEq)]
struct AgentReport {
    renewed: Timestamp,
    signals: SignalsVerdict,
}

/// Last report of each agent, by node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AgentReports(BTreeMap<String, AgentReport>);

impl AgentReports {
    /// Reads the agents' Leases. An unreadable Lease counts as missing, so its node counts as silent.
    pub(super) fn of<'l>(leases: impl IntoIterator<Item = &'l Lease>) -> Self {
        let report_of = |lease: &Lease| {
            let spec = lease.spec.as_ref()?;
            let annotations = lease.metadata.annotations.as_ref()?;
            let report = AgentReport {
                renewed: spec.renew_time.as_ref()?.0,
                signals: read(annotations.get(labels::SIGNALS)?)?,
            };
            Some((spec.holder_identity.clone()?, report))
        };
        let reports = leases.into_iter().filter_map(report_of);
        Self(reports.take(limits::NODES_MAX).collect())
    }

    /// Verdict for a run with pods on these nodes. `own` is the verdict on the controller's own sources, which alone
    /// count if there are no agents.
    pub(super) fn verdict<'n>(
        &self,
        own: SignalsVerdict,
        nodes: impl IntoIterator<Item = &'n str>,
        now: Timestamp,
    ) -> SignalsVerdict {
        let nodes: BTreeSet<&str> = nodes.into_iter().collect();
        let own = own.on_nodes(&nodes);
        let is_severe = matches!(
            own,
            SignalsVerdict::Stale(_) | SignalsVerdict::Unusable { .. }
        );
        if self.0.is_empty() || is_severe {
            return own;
        }
        // For a run without pods, one agent with usable sources is sufficient.
        let is_anywhere = nodes.is_empty();
        let chosen: BTreeSet<&str> = if is_anywhere {
            self.0.keys().map(String::as_str).collect()
        } else {
            nodes
        };
        let (mut stale, mut unseen) = (Vec::new(), Vec::new());
        let (mut metrics, mut lossy) = (Vec::new(), Vec::new());
        let (mut unusable, mut partly) = (Vec::new(), Vec::new());
        let mut not_shown = Vec::new();
        for node in &chosen {
            match self.of_node(node, now) {
                SignalsVerdict::Fresh | SignalsVerdict::PartlyUnreadable(_) if is_anywhere => {
                    return own_or_fresh(own);
                }
                SignalsVerdict::Fresh => {}
                SignalsVerdict::PartlyUnreadable(names) => partly.extend(names),
                SignalsVerdict::Unusable { why, details } => {
                    unusable.extend(details.into_iter().map(|details| (why, details)));
                }
                SignalsVerdict::NoSource => stale.push(format!("{node} (its agent has no source)")),
                SignalsVerdict::Stale(names) => stale.extend(names),
                SignalsVerdict::NodesUnseen { nodes, .. } => unseen.extend(nodes),
                SignalsVerdict::AnswersNotShown { lacking, .. } => not_shown.extend(lacking),
                SignalsVerdict::MetricsStale(names) => metrics.extend(names),
                SignalsVerdict::Lossy(names) => lossy.extend(names),
            }
        }
        // The most severe first, as for the controller's own sources.
        if !stale.is_empty() {
            SignalsVerdict::Stale(shorten_list(stale))
        } else if let Some(why) = unusable.iter().map(|(why, _)| *why).min() {
            let details = unusable.into_iter().map(|(_, details)| details).collect();
            SignalsVerdict::Unusable {
                why,
                details: shorten_list(details),
            }
        } else if !unseen.is_empty() {
            SignalsVerdict::NodesUnseen {
                nodes: shorten_list(unseen),
                others: Box::new(own_or_fresh(own)),
            }
        } else if !not_shown.is_empty() {
            SignalsVerdict::AnswersNotShown {
                lacking: not_shown,
                others: Box::new(own_or_fresh(own)),
            }
        } else if !metrics.is_empty() {
            SignalsVerdict::MetricsStale(shorten_list(metrics))
        } else if !lossy.is_empty() {
            SignalsVerdict::Lossy(shorten_list(lossy))
        } else if !partly.is_empty() && own_or_fresh(own.clone()) == SignalsVerdict::Fresh {
            SignalsVerdict::PartlyUnreadable(shorten_list(partly))
        } else {
            own_or_fresh(own)
        }
    }

    /// Whether no agent has ever reported.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of agents that have reported.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verdict on each agent. If it changes, conditions must be updated.
    pub(super) fn verdicts(&self, now: Timestamp) -> Vec<(String, SignalsVerdict)> {
        let nodes = self.0.keys();
        nodes
            .map(|node| (node.clone(), self.of_node(node, now)))
            .collect()
    }

    fn of_node(&self, node: &str, now: Timestamp) -> SignalsVerdict {
        let Some(report) = self.0.get(node) else {
            return SignalsVerdict::Stale(vec![format!("{node} (no agent)")]);
        };
        let age = now.duration_since(report.renewed).unsigned_abs();
        if age >= SILENT_AFTER {
            return SignalsVerdict::Stale(vec![format!("{node} (its agent is silent)")]);
        }
        let on_node =
            |names: &[String]| names.iter().map(|name| format!("{node}: {name}")).collect();
        match &report.signals {
            SignalsVerdict::Stale(names) => SignalsVerdict::Stale(on_node(names)),
            SignalsVerdict::NodesUnseen { nodes, others } => SignalsVerdict::NodesUnseen {
                nodes: on_node(nodes),
                others: others.clone(),
            },
            SignalsVerdict::AnswersNotShown { lacking, others } => {
                let on_node = |lacking: &Lacking| Lacking {
                    node: Some(node.to_owned()),
                    what: format!("{node}: {}", lacking.what),
                };
                SignalsVerdict::AnswersNotShown {
                    lacking: lacking.iter().map(on_node).collect(),
                    others: others.clone(),
                }
            }
            SignalsVerdict::MetricsStale(names) => SignalsVerdict::MetricsStale(on_node(names)),
            SignalsVerdict::Lossy(names) => SignalsVerdict::Lossy(on_node(names)),
            SignalsVerdict::Unusable { why, details } => SignalsVerdict::Unusable {
                why: *why,
                details: on_node(details),
            },
            SignalsVerdict::PartlyUnreadable(names) => {
                SignalsVerdict::PartlyUnreadable(on_node(names))
            }
            other => other.clone(),
        }
    }
}

/// Current verdict on each node agent, by node, from their Leases. For `yellowjack doctor`.
#[must_use]
pub(crate) fn agent_verdicts(leases: &[Lease], now: Timestamp) -> Vec<(String, SignalsVerdict)> {
    AgentReports::of(leases).verdicts(now)
}

/// Verdict on the controller's own sources. Without any, a fresh agent is sufficient.
fn own_or_fresh(own: SignalsVerdict) -> SignalsVerdict {
    match own {
        SignalsVerdict::NoSource => SignalsVerdict::Fresh,
        own => own,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use kube::api::ObjectMeta;

    use super::*;
    use crate::signals::health::UnusableReason;

    const NOW_S: i64 = 1_700_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(node: &str, details: &str, renewed_s: i64) -> Lease {
        Lease {
            metadata: ObjectMeta {
                annotations: Some([(labels::SIGNALS.to_owned(), details.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(node.to_owned()),
                renew_time: Some(MicroTime(at(renewed_s))),
                ..LeaseSpec::default()
            }),
        }
    }

    fn unusable(details: &str) -> SignalsVerdict {
        SignalsVerdict::Unusable {
            why: UnusableReason::NotUnderstood,
            details: vec![details.to_owned()],
        }
    }

    #[test]
    fn a_log_that_an_agent_cannot_use_concerns_the_runs_on_its_node_and_silence_leads() {
        let leases = [
            lease("n1", "NotUnderstood: a", NOW_S),
            lease("n2", "Fresh: b", NOW_S),
            lease("n3", "FlowsStale: c", NOW_S),
        ];
        check(&leases, &["n1", "n2"], unusable("n1: a"));
        let partly = SignalsVerdict::PartlyUnreadable(vec!["n2: b".to_owned()]);
        check(&leases, &["n2"], partly);
        let stale = SignalsVerdict::Stale(vec!["n3: c".to_owned()]);
        check(&leases, &["n1", "n3"], stale);
        check(&leases, &[], SignalsVerdict::Fresh);
    }

    #[allow(clippy::needless_pass_by_value)] // literals at the call
    fn check(leases: &[Lease], nodes: &[&str], expected: SignalsVerdict) {
        let agents = AgentReports::of(leases);
        let found = agents.verdict(SignalsVerdict::NoSource, nodes.iter().copied(), at(NOW_S));
        assert_eq!(found, expected);
    }

    #[test]
    fn signals_are_fresh_if_every_node_of_a_run_has_an_agent_with_fresh_sources() {
        let leases = [
            lease("n1", "Fresh", NOW_S - 20),
            lease("n2", "Fresh", NOW_S),
        ];
        check(&leases, &["n1", "n2"], SignalsVerdict::Fresh);
        check(
            &leases,
            &["n1", "n3"],
            SignalsVerdict::Stale(vec!["n3 (no agent)".to_owned()]),
        );
    }

    #[test]
    fn a_silent_agent_and_one_without_sources_see_nothing() {
        let leases = [
            lease("n1", "Fresh", NOW_S - 80),
            lease("n2", "NoSource", NOW_S),
            lease("n3", "FlowsStale: /var/log/a.json", NOW_S),
        ];
        check(
            &leases,
            &["n1", "n2", "n3"],
            SignalsVerdict::Stale(vec![
                "n1 (its agent is silent)".to_owned(),
                "n2 (its agent has no source)".to_owned(),
                "n3: /var/log/a.json".to_owned(),
            ]),
        );
    }

    #[test]
    fn other_nodes_do_not_matter_and_a_run_without_pods_takes_any() {
        let leases = [
            lease("n1", "Fresh", NOW_S),
            lease("n2", "EventsLost: a", NOW_S),
        ];
        check(&leases, &["n1"], SignalsVerdict::Fresh);
        check(&leases, &[], SignalsVerdict::Fresh);
        check(
            &leases,
            &["n2"],
            SignalsVerdict::Lossy(vec!["n2: a".to_owned()]),
        );
    }

    #[test]
    fn without_agents_only_the_controllers_own_sources_count() {
        check(&[], &["n1"], SignalsVerdict::NoSource);
        check(
            &[lease("n1", "nonsense", NOW_S)],
            &["n1"],
            SignalsVerdict::NoSource,
        );
        let agents = AgentReports::of(&[lease("n1", "Fresh", NOW_S)]);
        let own = SignalsVerdict::Stale(vec!["own".to_owned()]);
        assert_eq!(agents.verdict(own.clone(), ["n1"], at(NOW_S)), own);
    }
}
