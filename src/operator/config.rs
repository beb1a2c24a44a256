//! The configuration of a running program: everything that the command line decides. Made by `cli`,
//! read by the rest of `operator`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::cluster::{KubeletTrust, LeaseTimings};
use crate::detect::EngineConfig;
use crate::guardrails::ClusterFacts;
use crate::notify::NotifySettings;
use crate::respond::ResponderSettings;
use crate::signals::decode::{Format, MetricsFormat};
use crate::signals::source::StartAt;
use crate::signals::source::relay::RelayTarget;

/// The prefix of a `--source` that names a Hubble Relay.
pub(crate) const RELAY_PREFIX: &str = "hubble-relay:";

/// Which of the two long-running programs this process is.
#[derive(Clone, Debug)]
pub(crate) enum Component {
    /// The controller: guardrails and response, and detection where it has sources.
    Controller(ResponseConfig),
    /// The agent of one node: detection only.
    NodeAgent {
        /// The node's name.
        name: String,
        /// Whether flows are attributed to pods of other nodes too.
        all_pods: bool,
    },
}

impl Component {
    /// The name under which this process writes evidence and observations.
    pub(super) fn observer_name(&self) -> String {
        match self {
            // Two replicas with one name would overwrite each other's entries.
            Self::Controller(response) => response
                .election
                .as_ref()
                .map_or_else(|| "controller".to_owned(), |e| e.replica.clone()),
            Self::NodeAgent { name, .. } => name.clone(),
        }
    }

    pub(super) const fn is_controller(&self) -> bool {
        matches!(self, Self::Controller(_))
    }
}

/// How a controller responds to Incidents.
#[derive(Clone, Debug)]
pub(crate) struct ResponseConfig {
    /// Limits of the response.
    pub settings: ResponderSettings,
    /// The most actions per second.
    pub actions_per_second: f64,
    /// The receivers of notifications.
    pub notify: Box<NotifySettings>,
    /// Leader election among replicas. `None`: this process is the only one.
    pub election: Option<ElectionConfig>,
}

/// How replicas elect a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ElectionConfig {
    /// The Lease's name.
    pub lease: String,
    /// This replica's name.
    pub replica: String,
    /// Durations of the Lease.
    pub timings: LeaseTimings,
}

/// Everything that the command line decides.
#[derive(Clone, Debug)]
pub(crate) struct OperatorConfig {
    /// Which program this process is.
    pub component: Component,
    /// The egress logs.
    pub sources: Vec<LogSource>,
    /// The sources of node metrics.
    pub metrics: Vec<MetricsSource>,
    /// Where reading begins in a log that has no checkpoint.
    pub start_at: StartAt,
    /// The folder for checkpoints and detection state.
    pub checkpoint_dir: Option<PathBuf>,
    /// Settings of the detectors.
    pub engine: EngineConfig,
    /// Whether every run is treated as in Observe mode.
    pub observe_all: bool,
    /// The silence after which a source is stale.
    pub stale_after: Duration,
    /// Configured facts about the cluster.
    pub facts: ClusterFacts,
    /// The address of the HTTP endpoints. `None`: they are not served.
    pub listen: Option<SocketAddr>,
    /// The only namespace that is watched. `None`: all namespaces.
    pub namespace: Option<String>,
    /// The namespace in which node agents keep their Leases.
    pub agent_namespace: String,
}

/// An egress log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSource {
    /// Where the lines come from.
    pub location: LogLocation,
    /// Their format. `None`: it is detected from the lines.
    pub format: Option<Format>,
}

/// Where the lines of a log come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogLocation {
    /// Standard input.
    Stdin,
    /// A file or a folder.
    Path(PathBuf),
    /// Hubble Relay.
    Relay(RelayTarget),
}

impl LogSource {
    /// The source's name in logs, metrics and conditions.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        match &self.location {
            LogLocation::Stdin => "standard input".to_owned(),
            LogLocation::Path(path) => path.display().to_string(),
            LogLocation::Relay(target) => {
                let host = target.url.authority().map_or("", |host| host.as_str());
                format!("{RELAY_PREFIX}{host}")
            }
        }
    }
}

/// A source of node metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricsSource {
    /// The source's name in logs, metrics and conditions.
    pub name: String,
    /// The format of its answers.
    pub format: MetricsFormat,
    /// The server that is scraped.
    pub endpoint: MetricsEndpoint,
    /// Path and query of the request.
    pub path: String,
    /// Time between two scrapes.
    pub interval: Duration,
}

/// The server that a source of node metrics scrapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetricsEndpoint {
    /// A kubelet, with this program's credentials.
    Kubelet(Uri, KubeletTrust),
    /// An exporter, without credentials.
    Exporter(Uri),
    /// The API server.
    ApiServer,
}
