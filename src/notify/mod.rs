//! Notifications about Incidents: Kubernetes Events, Alertmanager, a webhook, traces.
//!
//! `payload` builds the messages and is pure. The tasks in `deliver` send them. There is no queue: each task
//! computes the transitions that are not delivered yet from the Incidents in the store, so that nothing is lost when
//! a receiver is unavailable or the controller restarts. See docs/decisions/0010-notifications.md. Notifications
//! neither decide nor delay a response.

pub(crate) mod deliver;
pub(crate) mod payload;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::cluster::{ClientError, Stores, Writer};
use crate::model::Severity;
use deliver::{Alertmanager, Context, EventWriter, Post, Signer, Timeouts, Traces, Webhook};
use payload::{Format, Origin};

pub(crate) use deliver::{IsLeader, NotifyCounters, Wakeup};

/// The receivers of notifications, and what they receive.
#[derive(Clone, Debug, Default)]
pub(crate) struct NotifySettings {
    /// The cluster's name in notifications.
    pub cluster: Option<String>,
    /// The lowest severity that is sent to external receivers. Events are written for every severity.
    pub severity_min: Option<Severity>,
    /// The Alertmanagers. Each of them receives every alert.
    pub alertmanagers: Vec<http::Uri>,
    /// The webhook.
    pub webhook: Option<WebhookSettings>,
    /// The OpenTelemetry collector that receives traces.
    pub otlp: Option<http::Uri>,
    /// A certificate authority for the receivers' certificates, instead of those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// A webhook that receives CloudEvents.
#[derive(Clone, Debug)]
pub(crate) struct WebhookSettings {
    /// Address of the webhook.
    pub url: http::Uri,
    /// The file with its signing secrets.
    pub secret_file: PathBuf,
    /// Format of the data in each CloudEvent.
    pub format: Format,
}

/// Starts one task for each receiver.
pub(crate) struct Notifier {
    /// The objects of the cluster.
    pub stores: Stores,
    /// Writes Events, and the record of deliveries in Incidents.
    pub writer: Writer,
    /// The receivers.
    pub settings: NotifySettings,
    /// The reporting instance in Events: the name of the operator's pod.
    pub instance: String,
    /// Wakes the tasks when an Incident or a run changes.
    pub wakeup: Wakeup,
    /// Whether this process delivers notifications.
    pub is_leader: IsLeader,
    /// Results of the deliveries.
    pub counters: Arc<NotifyCounters>,
}

impl Notifier {
    /// Starts the tasks. They run until they are aborted, which is safe at any point: an interrupted delivery is
    /// repeated after the next start.
    pub(crate) fn start(&self, tasks: &mut JoinSet<()>) -> Result<(), ClientError> {
        let settings = &self.settings;
        let ca_file = settings.ca_file.as_deref();
        let events = EventWriter::new(self.context(), self.writer.clone(), &self.instance);
        tasks.spawn(events.run(self.wakeup.subscribe()));
        for url in &settings.alertmanagers {
            let post = Post::connect(&below(url, "/api/v2/alerts"), ca_file)?;
            let context = self.context();
            tasks.spawn(Alertmanager { post, context }.run(self.wakeup.subscribe()));
        }
        if let Some(webhook) = &settings.webhook {
            let task = Webhook {
                post: Post::connect(&webhook.url, ca_file)?,
                signer: Signer::new(webhook.secret_file.clone()),
                format: webhook.format,
                writer: self.writer.clone(),
                context: self.context(),
            };
            tasks.spawn(task.run(self.wakeup.subscribe()));
        }
        if let Some(url) = &settings.otlp {
            let post = Post::connect(&below(url, "/v1/traces"), ca_file)?;
            let context = self.context();
            tasks.spawn(Traces { post, context }.run(self.wakeup.subscribe()));
        }
        Ok(())
    }

    fn context(&self) -> Context {
        Context {
            stores: self.stores.clone(),
            origin: Origin {
                cluster: self.settings.cluster.clone(),
            },
            severity_min: self.settings.severity_min.unwrap_or(Severity::Alert),
            is_leader: Arc::clone(&self.is_leader),
            counters: Arc::clone(&self.counters),
            timeouts: Timeouts::default(),
        }
    }
}

/// Appends the path of an API to an address, which may have a path of its own.
fn below(url: &http::Uri, path: &str) -> http::Uri {
    let prefix = url.path().trim_end_matches('/');
    let path = format!("{prefix}{path}");
    let mut parts = url.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    http::Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}
