//! The configuration of the engine, and a time that several detectors share.
//!
//! Created by the operator and by `replay` from flags and files; read by the detectors.

use super::pool_list::PoolList;
use super::scope::Scopes;
use super::state::HashKey;

/// A contact without an answer fails after this time, in event time. Linux repeats a SYN after 1, 3 and 7 s; a host
/// that has not answered by then does not answer.
pub(crate) const ANSWER_WAIT_US: i64 = 10_000_000;

/// The accepted rate of false quarantines, and the number of contacts from which one can result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ErrorBudget {
    /// Monitored pods.
    pub pods: f64,
    /// First contacts without a DNS answer per pod and day.
    pub contacts_per_pod_day: f64,
    /// Accepted false quarantines per day.
    pub false_quarantines_per_day: f64,
}

impl ErrorBudget {
    /// The threshold of a quarantine, in nats. A walk of an honest pod, floored at zero, crosses h with probability
    /// e^-h per contact at most, so h = ln(pods x contacts / false quarantines).
    #[must_use]
    pub(crate) fn threshold_nats(self) -> f64 {
        let contacts_per_day = self.pods.max(1.0) * self.contacts_per_pod_day.max(1.0);
        (contacts_per_day / self.false_quarantines_per_day.max(1e-6)).ln()
    }

    /// The threshold of an alert, in nats: one false alert in 500 pod-days, over two sums of which each can cross it
    /// (see `scan::walk`). h = ln(2 x contacts x 500), which is ln 1e6 = 13.8 nats, 24 failures in a row. It does not
    /// depend on the number of pods: a team with more pods checks more alerts.
    #[must_use]
    pub(crate) fn alert_nats(self) -> f64 {
        (2.0 * self.contacts_per_pod_day.max(1.0) / FALSE_ALERTS_PER_POD_DAY).ln()
    }
}

/// See [`ErrorBudget::alert_nats`]. A team with 10,000 pods gets twenty false alerts a day if every pod is of the worst
/// honest kind.
const FALSE_ALERTS_PER_POD_DAY: f64 = 2e-3;

impl Default for ErrorBudget {
    /// 10,000 pods with 1,000 such contacts a day and one false quarantine in 50 days: ln(1e4 x 1e3 / 0.02) = ln 5e8 =
    /// 20.03 nats, which are 35 failures in a row (35 x 0.588 = 20.57).
    fn default() -> Self {
        Self {
            pods: 10_000.0,
            contacts_per_pod_day: 1_000.0,
            false_quarantines_per_day: 0.02,
        }
    }
}

/// The configuration of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The address ranges of the cluster.
    pub scopes: Scopes,
    /// The user's pool list.
    pub pools: PoolList,
    /// The user's list of tunnel services.
    pub tunnels: PoolList,
    /// The starter list of pools: a match is an alert and adds nothing to other evidence.
    pub starter_pools: PoolList,
    /// The starter list of tunnel services, with the same effect.
    pub starter_tunnels: PoolList,
    /// Score of a walk that leads to a quarantine, in nats; see [`ErrorBudget`].
    pub threshold_nats: f64,
    /// Score of a walk that leads to an alert, in nats.
    pub alert_nats: f64,
    /// The secret under which targets are hashed.
    pub hash_key: HashKey,
    /// Whether engines of other nodes may see pods of the same runs. If so, this engine keeps its contributions to them
    /// ([`Engine::take_contributions`](super::Engine::take_contributions)).
    pub shares_runs: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let budget = ErrorBudget::default();
        Self {
            scopes: Scopes::default(),
            pools: PoolList::default(),
            tunnels: PoolList::default(),
            starter_pools: PoolList::default(),
            starter_tunnels: PoolList::default(),
            threshold_nats: budget.threshold_nats(),
            alert_nats: budget.alert_nats(),
            hash_key: HashKey::default(),
            shares_runs: false,
        }
    }
}
