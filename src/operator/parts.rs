//! The parts of a running program, built from the configuration and shared by its tasks. Nothing is
//! decided here: a part knows only what it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::config::{Component, OperatorConfig, ResponseConfig};
use crate::cluster::{
    ClusterDeny, LeaderGate, RateLimiter, RunMembership, StoreWriters, Stores, WatchHealth, Writer,
};
use crate::controller::{Controller, Heartbeat, Parts, Role};
use crate::detect::Scopes;
use crate::limits;
use crate::model::EventTime;
use crate::notify::{Notifier, NotifyCounters, Wakeup};
use crate::observability::{Counters, FindingResult, LatencyHistogram};
use crate::pipeline::LineCounters;
use crate::pipeline::contact_reports::{ContactReports, ReportObserver};
use crate::pipeline::pod_facts::pod_facts;
use crate::pipeline::saved_state::SavedStateCounters;
use crate::respond::{
    IncidentQueue, Recorder, ResetQueue, Responder, ResponderParts, RunSettings, TrafficMonitor,
    TrafficObserver,
};
use crate::signals::attribute::Index;
use crate::signals::health::SignalHealth;
use crate::signals::source::HealthReader;
use crate::signals::source::relay::RelayCounters;
use crate::signals::source::scrape::ScrapeCounters;

/// The window in which a source's lines are judged together, as a multiple of the silence that makes
/// the source stale.
const HEALTH_WINDOW_FACTOR: u32 = 5;

/// The kinds that a controller and a node agent watch.
const SHARED_KINDS: [&str; 6] = [
    "AgentRun",
    "GuardrailPolicy",
    "Incident",
    "Pod",
    "Job",
    "ContactReport",
];

/// The kinds that only one of them watches.
const CONTROLLER_KINDS: [&str; 4] = ["NetworkPolicy", "ResourceQuota", "LimitRange", "Lease"];
const NODE_AGENT_KINDS: [&str; 1] = ["ConfigMap"];

/// Counters and health of a running log source.
pub(super) struct SourceReader {
    pub(super) name: String,
    pub(super) health: HealthReader,
    pub(super) relay: Option<Arc<RelayCounters>>,
}

/// The shared parts.
pub(super) struct Operator {
    pub(super) config: OperatorConfig,
    pub(super) writer: Writer,
    pub(super) stores: Stores,
    pub(super) membership: RunMembership,
    pub(super) traffic: TrafficMonitor,
    pub(super) health: SignalHealth,
    pub(super) resets: ResetQueue,
    pub(super) index: Arc<RwLock<Index>>,
    pub(super) scopes: watch::Sender<Scopes>,
    pub(super) controller: Arc<Controller>,
    pub(super) incidents: IncidentQueue,
    pub(super) reports: ContactReports,
    pub(super) reports_left_out: Arc<AtomicU64>,
    pub(super) lines: Arc<LineCounters>,
    pub(super) saved_state: Arc<SavedStateCounters>,
    pub(super) records: Arc<Counters<FindingResult>>,
    pub(super) wakeup: Wakeup,
    pub(super) notified: Arc<NotifyCounters>,
    pub(super) isolation_latency: LatencyHistogram,
    pub(super) watches: Vec<(&'static str, WatchHealth)>,
    /// Whether the leader's Lease can be read.
    pub(super) reads_lease: Arc<AtomicBool>,
    pub(super) sources: Mutex<Vec<SourceReader>>,
    pub(super) scrapes: Mutex<Vec<(String, Arc<ScrapeCounters>)>>,
}

impl Operator {
    pub(super) fn new(config: OperatorConfig, client: Client) -> (Self, StoreWriters) {
        let (stores, writers) = Stores::new();
        let limit = Duration::from_secs(limits::API_TIMEOUT_S);
        let writer = Writer::new(client, limit, initial_gate(&config.component));
        let metrics = config.metrics.iter().map(|source| source.name.clone());
        let logs = config.sources.iter().map(super::config::LogSource::name);
        let window = config.stale_after * HEALTH_WINDOW_FACTOR;
        let health = SignalHealth::with_metrics(logs, metrics).judged_over(window);
        let membership = RunMembership::default();
        let index: Arc<RwLock<Index>> = Arc::default();
        let (scopes, _) = watch::channel(config.engine.scopes.clone());
        let role = match config.component {
            Component::Controller(_) => Role::Operator,
            Component::NodeAgent { .. } => Role::Observer,
        };
        let controller = Controller::new(Parts {
            role,
            stores: stores.clone(),
            writer: writer.clone(),
            membership: membership.clone(),
            index: Arc::clone(&index),
            cluster_deny: ClusterDeny::default(),
            signal_health: health.clone(),
            signals_stale_after: config.stale_after,
            configured_facts: config.facts.clone(),
            scopes: scopes.clone(),
            namespace: config.agent_namespace.clone(),
        });
        let settings = settings_of(&controller);
        let operator = Self {
            incidents: IncidentQueue::new(&stores, membership.clone(), settings),
            reports: ContactReports::new(
                ReportObserver {
                    name: config.component.observer_name(),
                    is_controller: config.component.is_controller(),
                },
                stores.contact_reports.clone(),
            ),
            reports_left_out: writers.contact_reports.left_out(),
            writer,
            stores,
            membership,
            traffic: TrafficMonitor::with_health(health.clone()),
            health,
            resets: ResetQueue::default(),
            index,
            scopes,
            controller,
            lines: Arc::default(),
            saved_state: Arc::default(),
            records: Arc::default(),
            wakeup: Wakeup::default(),
            notified: Arc::default(),
            isolation_latency: LatencyHistogram::default(),
            watches: watched_kinds(&config.component)
                .map(|kind| (kind, WatchHealth::default()))
                .collect(),
            reads_lease: Arc::default(),
            sources: Mutex::default(),
            scrapes: Mutex::default(),
            config,
        };
        (operator, writers)
    }

    /// Fills the index with the pods of the store; pods that are no longer in it have ended.
    pub(super) fn reset_index(&self) {
        let pods = self.stores.pods.state();
        let living = pods
            .iter()
            .filter(|pod| !pod.has_ended())
            .filter_map(|pod| pod_facts(pod));
        let now = EventTime::from(Timestamp::now());
        self.index.write().reset(living, now);
    }

    pub(super) fn recorder(&self) -> Recorder {
        Recorder {
            stores: self.stores.clone(),
            membership: self.membership.clone(),
            writer: self.writer.clone(),
            observer: self.config.component.observer_name(),
            settings: settings_of(&self.controller),
            observe_all: self.config.observe_all,
            counters: Arc::clone(&self.records),
        }
    }

    pub(super) fn heartbeat(&self, node: &str) -> Heartbeat {
        Heartbeat {
            writer: self.writer.clone(),
            health: self.health.clone(),
            stale_after: self.config.stale_after,
            node: node.to_owned(),
            namespace: self.config.agent_namespace.clone(),
        }
    }

    pub(super) fn observer(&self, node: &str) -> TrafficObserver {
        TrafficObserver {
            stores: self.stores.clone(),
            writer: self.writer.clone(),
            traffic: self.traffic.clone(),
            node: node.to_owned(),
        }
    }

    pub(super) fn responder(&self, response: &ResponseConfig) -> Responder {
        Responder::new(ResponderParts {
            stores: self.stores.clone(),
            membership: self.membership.clone(),
            writer: self.writer.clone(),
            traffic: self.traffic.clone(),
            limiter: RateLimiter::new(response.actions_per_second),
            cluster_deny: self.controller.cluster_deny(),
            run_settings: settings_of(&self.controller),
            settings: response.settings.clone(),
            deletions: self.incidents.deletions(),
            resets: self.resets.clone(),
            isolation_latency: self.isolation_latency.clone(),
        })
    }

    /// Notifications of a controller; with several replicas, only the leader sends them.
    pub(super) fn notifier(&self, response: &ResponseConfig) -> Notifier {
        let gate = self.writer.gate().clone();
        Notifier {
            stores: self.stores.clone(),
            writer: self.writer.clone(),
            settings: response.notify.as_ref().clone(),
            instance: std::env::var("HOSTNAME").unwrap_or_else(|_| "yellowjack".to_owned()),
            wakeup: self.wakeup.clone(),
            is_leader: Arc::new(move || gate.is_open()),
            counters: Arc::clone(&self.notified),
        }
    }
}

/// The settings of a run within the ceilings of its policy.
fn settings_of(controller: &Arc<Controller>) -> RunSettings {
    let controller = Arc::clone(controller);
    Arc::new(move |run| controller.effective(run))
}

/// The gate of a process that has just started. That of a node agent never opens: it only observes.
fn initial_gate(component: &Component) -> LeaderGate {
    match component {
        Component::Controller(response) if response.election.is_none() => {
            LeaderGate::without_election()
        }
        Component::Controller(_) | Component::NodeAgent { .. } => LeaderGate::closed(),
    }
}

/// The kinds that this component watches.
fn watched_kinds(component: &Component) -> impl Iterator<Item = &'static str> {
    let own: &[&str] = match component {
        Component::Controller(_) => &CONTROLLER_KINDS,
        Component::NodeAgent { .. } => &NODE_AGENT_KINDS,
    };
    SHARED_KINDS.iter().chain(own).copied()
}
