//! The operator, assembled: watches, sources, pipeline, recorder, responder, controller.
//!
//! Nothing is decided here. The parts know nothing of each other but what they are given.

mod lead;
mod memory;
mod metrics;
mod readings;
mod telling;
mod watches;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::lead::{Election, ReadsLease};
use super::election;
use super::metrics::MetricsSource;
use super::sources::{Place, SourceArg};
use crate::cluster::{
    ClusterDeny, Owners, Pacer, Roster, StoreWriters, Stores, WatchHealth, Writer, connect,
};
use crate::controller::contact_reports::{
    ContactReports, ReportKeeper, ReportObserver, ReportWriter,
};
use crate::controller::incidents::IncidentQueue;
use crate::controller::memory::MemoryCounters;
use crate::controller::pipeline::{LineCounters, Pipeline, SourceInfo};
use crate::controller::{Controller, Heartbeat, Parts, Role};
use crate::detect::{EngineConfig, Scopes};
use crate::guardrails::ClusterFacts;
use crate::limits;
use crate::notify::{NotifyCounters, NotifySettings, Wakeup};
use crate::observability::{EndpointError, LatencyHistogram, Missing, Read, serve};
use crate::respond::{
    Forgotten, Found, Isolating, Observer, RecordCounters, Recorder, Responder, ResponderSettings,
    Witness,
};
use crate::signals::attribute::Index;
use crate::signals::health::SignalHealth;
use crate::signals::source::relay::{self, RelayConfig, RelayCounters, RelayPacing};
use crate::signals::source::scrape::{SampleBatch, ScrapeCounters};
use crate::signals::source::{
    self, Batch, HealthReader, SourceConfig, SourceError, SourceHandle, SourceId, SourceKind,
    StartAt,
};

/// What this process is there for.
#[derive(Clone, Debug)]
pub enum Duty {
    /// Guardrails and response; detection too, where it has sources.
    Controller(Response),
    /// Detection on one node.
    Node {
        /// The node's name.
        name: String,
        /// Pods of other nodes are attributed too.
        all_pods: bool,
    },
}

/// How a controller responds.
#[derive(Clone, Debug)]
pub struct Response {
    /// Limits of the response.
    pub settings: ResponderSettings,
    /// The most actions per second.
    pub actions_per_second: f64,
    /// Who is told.
    pub notify: Box<NotifySettings>,
    /// How one leader is chosen among replicas. `None`: this process is the only one.
    pub election: Option<election::Election>,
}

/// For how many times the silence that makes a source stale its lines are judged together.
const JUDGED_OVER: u32 = 5;

/// Everything that the command line decides.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// What this process is there for.
    pub duty: Duty,
    /// The egress logs.
    pub sources: Vec<SourceArg>,
    /// The sources of node metrics.
    pub metrics: Vec<MetricsSource>,
    /// Where a log is begun that has no checkpoint.
    pub start_at: StartAt,
    /// Folder of checkpoints.
    pub checkpoint_dir: Option<PathBuf>,
    /// The detectors.
    pub engine: EngineConfig,
    /// Nothing is acted on.
    pub observe_all: bool,
    /// After which silence a source is stale.
    pub stale_after: Duration,
    /// Facts about the cluster that were configured.
    pub facts: ClusterFacts,
    /// Where the endpoints are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// The only namespace that is watched; `None` is all of them.
    pub namespace: Option<String>,
    /// Where node agents keep their Leases.
    pub agent_namespace: String,
}

/// Reads how a running source is.
struct SourceReader {
    name: String,
    health: HealthReader,
    relay: Option<Arc<RelayCounters>>,
}

/// The shared parts.
struct Operator {
    config: OperatorConfig,
    writer: Writer,
    stores: Stores,
    roster: Roster,
    witness: Witness,
    health: SignalHealth,
    forgotten: Forgotten,
    index: Arc<RwLock<Index>>,
    scopes: watch::Sender<Scopes>,
    controller: Arc<Controller>,
    incidents: IncidentQueue,
    reports: ContactReports,
    reports_left_out: Arc<AtomicU64>,
    lines: Arc<LineCounters>,
    memory: Arc<MemoryCounters>,
    records: Arc<RecordCounters>,
    wakeup: Wakeup,
    notified: Arc<NotifyCounters>,
    isolation_latency: LatencyHistogram,
    watches: Vec<(&'static str, WatchHealth)>,
    reads_lease: ReadsLease,
    sources: Mutex<Vec<SourceReader>>,
    scrapes: Mutex<Vec<(String, Arc<ScrapeCounters>)>>,
}

/// Runs until a signal, or until a part of it ends that must not.
pub async fn run(config: OperatorConfig) -> anyhow::Result<()> {
    let client = connect().await?;
    let shutdown = CancellationToken::new();
    let (operator, writers) = Operator::new(config, client.clone());
    let operator = Arc::new(operator);
    let mut tasks = JoinSet::new();
    operator.spawn_watches(&client, writers, &mut tasks);
    let (findings, found) = mpsc::channel(limits::FINDINGS_CHANNEL_MAX);
    operator.spawn_work(found, &shutdown, &mut tasks);
    operator.start_telling(&mut tasks)?;
    let endpoints = operator.endpoints(&shutdown);
    // One listener for the whole time: a signal that comes between two of them would be lost.
    let stopped = stop_signal();
    tokio::pin!(endpoints, stopped);
    tokio::select! {
        is_ready = operator.stores.wait_until_ready() => {
            anyhow::ensure!(is_ready, "a watch ended before its first list");
        }
        result = &mut endpoints => result?,
        () = &mut stopped => return Ok(()),
    }
    operator.settle_index();
    tracing::info!(
        sources = operator.config.sources.len(),
        metrics = operator.config.metrics.len(),
        runs = operator.stores.runs.len(),
        pods = operator.stores.pods.len(),
        "Yellowjack is ready."
    );
    let (reading, draining) = (CancellationToken::new(), CancellationToken::new());
    let samples = operator.start_metrics(&client, &mut tasks).await?;
    let (handles, mut pipeline) = operator.start_signals(findings, samples, &reading, &draining)?;
    let mut election = operator.start_election(&client);
    let mut has_ended = false;
    let result = loop {
        tokio::select! {
            () = &mut stopped => break Ok(()),
            result = &mut endpoints => break result.map_err(Into::into),
            Some(ended) = tasks.join_next() => {
                break Err(unexpected_end("a watch or a reconciler", ended));
            }
            // Standard input may come to its end; the operator goes on with what it found.
            ended = &mut pipeline, if !has_ended => {
                has_ended = true;
                if ended.is_err() {
                    break Err(unexpected_end("the pipeline", ended));
                }
            }
            ended = Election::ended(&mut election) => {
                election = None;
                break Err(unexpected_end("the part that keeps the Lease", ended));
            }
        }
    };
    tracing::info!("Stopping.");
    // The Lease before all else, so that another replica goes on at once. Evidence is still written.
    Election::end(election).await;
    let pipeline = (!has_ended).then_some(pipeline);
    let read = (handles, reading);
    wind_down(read, (pipeline, draining)).await?;
    shutdown.cancel();
    tasks.shutdown().await;
    operator.say_totals();
    result
}

/// Ends the way of the signals, each part with what stops it.
async fn wind_down(
    (mut handles, reading): (Vec<SourceHandle>, CancellationToken),
    (pipeline, draining): (Option<JoinHandle<()>>, CancellationToken),
) -> anyhow::Result<()> {
    // Readers first, then the pipeline with what they read, then the places in the logs, then the
    // rest: the recorder writes what the pipeline still finds.
    reading.cancel();
    let handles = tokio::task::spawn_blocking(move || {
        handles.iter_mut().for_each(stop);
        handles
    })
    .await?;
    draining.cancel();
    if let Some(pipeline) = pipeline
        && pipeline.await.is_err()
    {
        tracing::error!("The pipeline ended by a panic.");
    }
    tokio::task::spawn_blocking(move || handles.into_iter().for_each(close)).await?;
    Ok(())
}

/// A part that must run for ever has ended: better a restart than an operator that sees nothing.
fn unexpected_end(part: &str, ended: Result<(), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow::anyhow!("{part} ended by itself"),
        Err(error) => anyhow::Error::new(error).context(format!("{part} ended")),
    }
}

/// The name under which this process says what it saw.
fn observer_name(duty: &Duty) -> String {
    match duty {
        // Two replicas with one name would take back each other's entries.
        Duty::Controller(response) => response
            .election
            .as_ref()
            .map_or_else(|| "controller".to_owned(), |e| e.replica.clone()),
        Duty::Node { name, .. } => name.clone(),
    }
}

/// Waits for a reader to stop.
fn stop(handle: &mut SourceHandle) {
    if let Err(error) = handle.stop() {
        let error = crate::observability::chain(&error);
        tracing::error!(source = handle.name(), error, "A source ended badly.");
    }
}

/// Keeps the last place in a log.
fn close(handle: SourceHandle) {
    let name = handle.name().to_owned();
    if let Err(error) = handle.close() {
        let error = crate::observability::chain(&error);
        tracing::warn!(source = name, error, "The place in a log is not kept.");
    }
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        // Without SIGTERM there still is Ctrl-C.
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

impl Operator {
    fn new(config: OperatorConfig, client: Client) -> (Self, StoreWriters) {
        let (stores, writers) = Stores::new();
        let limit = Duration::from_secs(limits::API_TIMEOUT_S);
        let writer = Writer::new(client, limit, lead::gate_of(&config.duty));
        let metrics = config.metrics.iter().map(|source| source.name.clone());
        let logs = config.sources.iter().map(SourceArg::name);
        let window = config.stale_after * JUDGED_OVER;
        let health = SignalHealth::with_metrics(logs, metrics).judged_over(window);
        let (roster, cluster_deny) = (Roster::default(), ClusterDeny::default());
        let index: Arc<RwLock<Index>> = Arc::default();
        let (scopes, _) = watch::channel(config.engine.scopes.clone());
        let role = match config.duty {
            Duty::Controller(_) => Role::Operator,
            Duty::Node { .. } => Role::Observer,
        };
        let controller = Controller::new(Parts {
            role,
            stores: stores.clone(),
            writer: writer.clone(),
            roster: roster.clone(),
            index: Arc::clone(&index),
            cluster_deny: cluster_deny.clone(),
            signal_health: health.clone(),
            signals_stale_after: config.stale_after,
            configured_facts: config.facts.clone(),
            scopes: scopes.clone(),
        });
        let operator = Self {
            incidents: IncidentQueue::new(stores.incidents.clone()),
            reports: ContactReports::new(
                ReportObserver {
                    name: observer_name(&config.duty),
                    is_controller: matches!(config.duty, Duty::Controller(_)),
                },
                stores.contact_reports.clone(),
            ),
            reports_left_out: writers.contact_reports.left_out(),
            writer,
            stores,
            roster,
            witness: Witness::of(health.clone()),
            health,
            forgotten: Forgotten::default(),
            index,
            scopes,
            controller,
            lines: Arc::default(),
            memory: Arc::default(),
            records: Arc::default(),
            wakeup: Wakeup::default(),
            notified: Arc::default(),
            isolation_latency: LatencyHistogram::default(),
            watches: watches::kinds(&config.duty)
                .iter()
                .map(|kind| (*kind, WatchHealth::default()))
                .collect(),
            reads_lease: ReadsLease::default(),
            sources: Mutex::default(),
            scrapes: Mutex::default(),
            config,
        };
        (operator, writers)
    }

    fn spawn_work(
        self: &Arc<Self>,
        found: mpsc::Receiver<Found>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        let recorder = self.recorder().run(found);
        let done = shutdown.clone();
        tasks.spawn(async move {
            recorder.await;
            // Without sources there is nothing to record, and that is no reason to end.
            done.cancelled().await;
        });
        tasks.spawn(Arc::clone(&self.controller).run(shutdown.clone()));
        let reports = ReportWriter {
            reports: self.reports.clone(),
            stores: self.stores.clone(),
            writer: self.writer.clone(),
        };
        tasks.spawn(reports.run());
        match &self.config.duty {
            Duty::Controller(response) => {
                let incidents = self.incidents.clone();
                tasks.spawn(incidents.run(self.responder(response), shutdown.clone()));
                tasks.spawn(Arc::clone(self).lead());
                let keeper = ReportKeeper {
                    stores: self.stores.clone(),
                    roster: self.roster.clone(),
                    writer: self.writer.clone(),
                };
                tasks.spawn(keeper.run());
            }
            Duty::Node { name, .. } => {
                tasks.spawn(self.observer(name).run());
                tasks.spawn(self.heartbeat(name).run());
            }
        }
    }

    /// Serves the endpoints where that is wanted; never ends otherwise.
    async fn endpoints(
        self: &Arc<Self>,
        shutdown: &CancellationToken,
    ) -> Result<(), EndpointError> {
        let Some(address) = self.config.listen else {
            return std::future::pending().await;
        };
        let operator = Arc::clone(self);
        let missing: Missing = Arc::new(move || operator.missing());
        let operator = Arc::clone(self);
        let read: Read = Arc::new(move || operator.readings());
        serve(address, missing, read, shutdown.clone()).await
    }

    fn recorder(&self) -> Recorder {
        let controller = Arc::clone(&self.controller);
        Recorder {
            stores: self.stores.clone(),
            roster: self.roster.clone(),
            writer: self.writer.clone(),
            observer: observer_name(&self.config.duty),
            settings: Arc::new(move |run| controller.effective(run)),
            observe_all: self.config.observe_all,
            counters: Arc::clone(&self.records),
        }
    }

    fn heartbeat(&self, node: &str) -> Heartbeat {
        Heartbeat {
            writer: self.writer.clone(),
            health: self.health.clone(),
            stale_after: self.config.stale_after,
            node: node.to_owned(),
            namespace: self.config.agent_namespace.clone(),
        }
    }

    fn observer(&self, node: &str) -> Observer {
        Observer {
            stores: self.stores.clone(),
            writer: self.writer.clone(),
            witness: self.witness.clone(),
            node: node.to_owned(),
        }
    }

    fn responder(&self, response: &Response) -> Responder {
        let controller = Arc::clone(&self.controller);
        Responder {
            stores: self.stores.clone(),
            roster: self.roster.clone(),
            owners: Owners::default(),
            writer: self.writer.clone(),
            witness: self.witness.clone(),
            pacer: Pacer::new(response.actions_per_second),
            cluster_deny: self.controller.cluster_deny(),
            settings_of: Arc::new(move |run| controller.effective(run)),
            settings: response.settings.clone(),
            forgotten: self.forgotten.clone(),
            isolating: Isolating::default(),
            isolation_latency: self.isolation_latency.clone(),
        }
    }

    fn start_source(
        &self,
        id: SourceId,
        source: &SourceArg,
        sender: &mpsc::Sender<Batch>,
        reading: &CancellationToken,
    ) -> Result<SourceHandle, SourceError> {
        let (name, start_at) = (source.name(), self.config.start_at);
        let checkpoint_dir = self.config.checkpoint_dir.clone();
        let (sender, reading) = (sender.clone(), reading.clone());
        let kind = match &source.place {
            Place::Stdin => SourceKind::Stdin,
            Place::Path(path) => SourceKind::Path(path.clone()),
            Place::Relay(target) => {
                let config = RelayConfig {
                    id,
                    name,
                    target: target.clone(),
                    start_at,
                    checkpoint_dir,
                    pacing: RelayPacing::default(),
                };
                return relay::spawn(config, sender, self.health.clone(), reading);
            }
        };
        let config = SourceConfig {
            start_at,
            checkpoint_dir,
            ..SourceConfig::new(id, &name, kind)
        };
        source::spawn(config, sender, reading)
    }

    fn start_signals(
        &self,
        findings: mpsc::Sender<Found>,
        samples: mpsc::Receiver<SampleBatch>,
        reading: &CancellationToken,
        draining: &CancellationToken,
    ) -> anyhow::Result<(Vec<SourceHandle>, JoinHandle<()>)> {
        let (sender, batches) = source::channel();
        let mut handles = Vec::new();
        for (place, source) in self.config.sources.iter().enumerate() {
            handles.push(self.start_source(SourceId(place), source, &sender, reading)?);
        }
        let readers = handles.iter().map(|handle| SourceReader {
            name: handle.name().to_owned(),
            health: handle.health_reader(),
            relay: handle.relay_counters(),
        });
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = readers.collect();
        let info = |(source, handle): (&SourceArg, &SourceHandle)| {
            let reader = handle.health_reader();
            SourceInfo {
                name: source.name(),
                format: source.format,
                health: Box::new(move || reader.snapshot()),
                gap_count: 0,
            }
        };
        let sources = self.config.sources.iter().zip(&handles).map(info).collect();
        // What the controller learnt before comes with the first tick.
        let mut scopes = self.scopes.subscribe();
        scopes.mark_changed();
        let (engine, memory, unrecorded) = self.remember();
        let pipeline = Pipeline {
            engine,
            index: Arc::clone(&self.index),
            witness: self.witness.clone(),
            health: self.health.clone(),
            is_namespaced: self.config.namespace.is_some(),
            forgotten: self.forgotten.clone(),
            sources,
            scopes,
            reports: self.reports.clone(),
            findings,
            counters: Arc::clone(&self.lines),
            memory,
            unrecorded,
        };
        let runtime = tokio::runtime::Handle::current();
        let draining = draining.clone();
        let thread = tokio::task::spawn_blocking(move || {
            pipeline.run(batches, samples, &runtime, &draining);
        });
        Ok((handles, thread))
    }
}
