//! Tells people about Incidents: Kubernetes Events, Alertmanager, a webhook.
//!
//! `payload` is pure and says what is told; the tasks here and in `deliver` say it, each driven by the
//! store of Incidents and none by a queue of its own: what was not told yet is told from the Incident,
//! however long a receiver was away and however often the controller was started meanwhile. See
//! docs/decisions/0010-notifications.md. Nothing here decides or delays a response.

pub mod deliver;
pub mod payload;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kube::runtime::reflector::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::Incident;
use crate::cluster::{ClientError, Stores, Writer};
use crate::model::Severity;
use deliver::{Alertmanager, Post, Signer, Teller, Times, Traces, Webhook};
use payload::{Format, Origin};

/// Whether this process is the one that tells. Asked before each thing told, so that a replica that
/// lost its lead stops at once.
pub type Gate = Arc<dyn Fn() -> bool + Send + Sync>;

/// Who is told, and of what.
#[derive(Clone, Debug, Default)]
pub struct NotifySettings {
    /// The cluster's name in what is told.
    pub cluster: Option<String>,
    /// The weakest finding that is told to receivers outside; Events tell of all.
    pub level_min: Option<Severity>,
    /// The Alertmanagers, each of which gets everything.
    pub alertmanagers: Vec<http::Uri>,
    /// The webhook.
    pub webhook: Option<WebhookSettings>,
    /// The OpenTelemetry collector that gets traces.
    pub otlp: Option<http::Uri>,
    /// Who signs the receivers' certificates, where it is not one that the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// The webhook.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where it is.
    pub url: http::Uri,
    /// The file with its signing secrets.
    pub secret_file: PathBuf,
    /// What the data of an event is.
    pub format: Format,
}

/// Says that something may have to be told. Cheap to clone; a burst is one call.
#[derive(Clone, Debug)]
pub struct Bell(watch::Sender<()>);

impl Default for Bell {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Bell {
    /// An Incident or a run changed.
    pub fn ring(&self) {
        self.0.send_replace(());
    }
}

/// What became of what was told to one kind of receiver, since the start.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Requests that were accepted.
    pub sent: AtomicU64,
    /// Requests that failed and are tried again.
    pub failed: AtomicU64,
    /// Notifications that were given up.
    pub dead_lettered: AtomicU64,
}

/// What became of everything that was told.
#[derive(Debug, Default)]
pub struct NotifyCounters {
    /// Events.
    pub events: Deliveries,
    /// Posts to Alertmanagers.
    pub alertmanager: Deliveries,
    /// Notifications to the webhook.
    pub webhook: Deliveries,
    /// Posts of spans to a collector.
    pub otlp: Deliveries,
}

/// Starts what tells.
pub struct Notifier {
    /// What the cluster looks like.
    pub stores: Stores,
    /// The way to the API server.
    pub writer: Writer,
    /// Who is told.
    pub settings: NotifySettings,
    /// Who says so in Events: the name of the pod.
    pub instance: String,
    /// Rung by the watches.
    pub bell: Bell,
    /// Whether this process tells.
    pub gate: Gate,
    /// What became of it.
    pub counters: Arc<NotifyCounters>,
}

impl Notifier {
    /// Starts a task for each receiver; they run for ever, and may be dropped at any point: what was
    /// on its way is told again.
    pub fn start(&self, tasks: &mut JoinSet<()>) -> Result<(), ClientError> {
        let settings = &self.settings;
        let origin = Origin {
            cluster: settings.cluster.clone(),
        };
        let level_min = settings.level_min.unwrap_or(Severity::Alert);
        tasks.spawn(Teller::new(self).run(self.bell.0.subscribe()));
        for url in &settings.alertmanagers {
            let url = below(url, "/api/v2/alerts");
            let task = Alertmanager {
                post: Post::connect(&url, settings.ca_file.as_deref())?,
                incidents: self.incidents(),
                origin: origin.clone(),
                level_min,
                gate: Arc::clone(&self.gate),
                counters: Arc::clone(&self.counters),
                times: Times::default(),
            };
            tasks.spawn(task.run(self.bell.0.subscribe()));
        }
        if let Some(webhook) = &settings.webhook {
            let task = Webhook {
                post: Post::connect(&webhook.url, settings.ca_file.as_deref())?,
                signer: Signer::new(webhook.secret_file.clone()),
                format: webhook.format,
                incidents: self.incidents(),
                writer: self.writer.clone(),
                origin: origin.clone(),
                level_min,
                gate: Arc::clone(&self.gate),
                counters: Arc::clone(&self.counters),
                times: Times::default(),
            };
            tasks.spawn(task.run(self.bell.0.subscribe()));
        }
        if let Some(url) = &settings.otlp {
            let url = below(url, "/v1/traces");
            let task = Traces {
                post: Post::connect(&url, settings.ca_file.as_deref())?,
                incidents: self.incidents(),
                origin,
                level_min,
                gate: Arc::clone(&self.gate),
                counters: Arc::clone(&self.counters),
                times: Times::default(),
            };
            tasks.spawn(task.run(self.bell.0.subscribe()));
        }
        Ok(())
    }

    fn incidents(&self) -> Incidents {
        Incidents {
            stores: self.stores.clone(),
        }
    }
}

/// The Incidents, once the store was filled.
#[derive(Clone)]
pub struct Incidents {
    stores: Stores,
}

impl Incidents {
    /// Waits for the first list; `false` where the program is ending.
    async fn are_there(&self) -> bool {
        self.stores.wait_until_ready().await
    }

    fn store(&self) -> &Store<Incident> {
        &self.stores.incidents
    }
}

/// The path of an API behind an address, which may have a prefix.
fn below(url: &http::Uri, path: &str) -> http::Uri {
    let prefix = url.path().trim_end_matches('/');
    let path = format!("{prefix}{path}");
    let mut parts = url.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    http::Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}
