//! The operator, assembled: watches, sources, pipeline, recorder, responder, controller.
//!
//! Nothing is decided here. The parts know nothing of each other but what they are given.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::controller::SourceArg;
use crate::api::{Incident, labels};
use crate::cluster::{
    ClusterDeny, Roster, Seen, StoreWriters, Stores, WatchHealth, Writer, connect, follow,
    prune_job, prune_nothing, prune_pod,
};
use crate::controller::feed::{facts_of, has_ended};
use crate::controller::incidents::IncidentQueue;
use crate::controller::pipeline::{LineCounters, Pipeline, SourceInfo};
use crate::controller::{Controller, Parts};
use crate::detect::{Engine, EngineConfig};
use crate::guardrails::ClusterFacts;
use crate::limits;
use crate::model::{EventTime, PodKey};
use crate::respond::{
    Forgotten, Pacer, RecordCounters, Recorder, Responder, ResponderSettings, Witness,
};
use crate::signals::attribute::Index;
use crate::signals::health::SignalHealth;
use crate::signals::source::{self, SourceConfig, SourceHandle, SourceId, SourceKind, StartAt};

/// Everything that the command line decides.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// The egress logs.
    pub sources: Vec<SourceArg>,
    /// Where a log is begun that has no checkpoint.
    pub start_at: StartAt,
    /// Folder of checkpoints.
    pub checkpoint_dir: Option<PathBuf>,
    /// The detectors.
    pub engine: EngineConfig,
    /// Nothing is acted on.
    pub observe_all: bool,
    /// Limits of the response.
    pub responder: ResponderSettings,
    /// The most actions per second.
    pub actions_per_second: f64,
    /// After which silence a source is stale.
    pub stale_after: Duration,
    /// Facts about the cluster that were configured.
    pub facts: ClusterFacts,
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
    controller: Arc<Controller>,
    incidents: IncidentQueue,
    lines: Arc<LineCounters>,
    records: Arc<RecordCounters>,
}

/// Runs until a signal.
pub async fn run(config: OperatorConfig) -> anyhow::Result<()> {
    let client = connect().await?;
    let shutdown = CancellationToken::new();
    let (operator, writers) = Operator::new(config, client.clone());
    let operator = Arc::new(operator);
    let mut tasks = JoinSet::new();
    operator.spawn_watches(&client, writers, &mut tasks);
    let (findings, found) = mpsc::channel(limits::FINDINGS_CHANNEL_MAX);
    tasks.spawn(operator.recorder().run(found));
    tasks.spawn(Arc::clone(&operator.controller).run(shutdown.clone()));
    tasks.spawn(
        operator
            .incidents
            .clone()
            .run(operator.responder(), shutdown.clone()),
    );
    let ready = operator.stores.wait_until_ready();
    tokio::select! {
        is_ready = ready => anyhow::ensure!(is_ready, "a watch ended before its first list"),
        () = stop_signal() => return Ok(()),
    }
    operator.settle_index();
    tracing::info!(
        sources = operator.config.sources.len(),
        runs = operator.stores.runs.len(),
        pods = operator.stores.pods.len(),
        "Yellowjack is ready."
    );
    let (handles, pipeline) = operator.start_signals(findings, &shutdown)?;
    stop_signal().await;
    tracing::info!("Stopping.");
    shutdown.cancel();
    tokio::task::spawn_blocking(move || close(handles, pipeline)).await?;
    tasks.shutdown().await;
    operator.say_totals();
    Ok(())
}

/// Ends the sources in order: the readers stop, the pipeline drains, the last places are kept.
fn close(mut handles: Vec<SourceHandle>, pipeline: std::thread::JoinHandle<()>) {
    for handle in &mut handles {
        if let Err(error) = handle.stop() {
            let error = crate::observability::chain(&error);
            tracing::error!(source = handle.name(), error, "A source ended badly.");
        }
    }
    if pipeline.join().is_err() {
        tracing::error!("The pipeline ended by a panic.");
    }
    for handle in handles {
        let name = handle.name().to_owned();
        if let Err(error) = handle.close() {
            let error = crate::observability::chain(&error);
            tracing::warn!(source = name, error, "The place in a log is not kept.");
        }
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
        let writer = Writer::new(client, Duration::from_secs(limits::API_TIMEOUT_S));
        let health = SignalHealth::new(config.sources.iter().map(SourceArg::name));
        let (roster, cluster_deny) = (Roster::default(), ClusterDeny::default());
        let controller = Controller::new(Parts {
            stores: stores.clone(),
            writer: writer.clone(),
            roster: roster.clone(),
            cluster_deny: cluster_deny.clone(),
            signal_health: health.clone(),
            signals_stale_after: config.stale_after,
            configured_facts: config.facts.clone(),
        });
        let operator = Self {
            incidents: IncidentQueue::new(stores.incidents.clone()),
            config,
            writer,
            stores,
            roster,
            witness: Witness::default(),
            health,
            forgotten: Forgotten::default(),
            index: Arc::default(),
            controller,
            lines: Arc::default(),
            records: Arc::default(),
        };
        (operator, writers)
    }

    fn recorder(&self) -> Recorder {
        let controller = Arc::clone(&self.controller);
        Recorder {
            stores: self.stores.clone(),
            roster: self.roster.clone(),
            writer: self.writer.clone(),
            observer: "controller".to_owned(),
            settings: Arc::new(move |run| controller.effective(run)),
            observe_all: self.config.observe_all,
            counters: Arc::clone(&self.records),
        }
    }

    fn responder(&self) -> Responder {
        let controller = Arc::clone(&self.controller);
        Responder {
            stores: self.stores.clone(),
            roster: self.roster.clone(),
            writer: self.writer.clone(),
            witness: self.witness.clone(),
            pacer: Pacer::new(self.config.actions_per_second),
            cluster_deny: self.controller.cluster_deny(),
            settings_of: Arc::new(move |run| controller.effective(run)),
            settings: self.config.responder.clone(),
            forgotten: self.forgotten.clone(),
        }
    }

    fn start_signals(
        &self,
        findings: mpsc::Sender<crate::respond::Found>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<(Vec<SourceHandle>, std::thread::JoinHandle<()>)> {
        let (sender, batches) = source::channel();
        let mut handles = Vec::new();
        for (place, source) in self.config.sources.iter().enumerate() {
            let kind = source
                .path
                .clone()
                .map_or(SourceKind::Stdin, SourceKind::Path);
            let mut config = SourceConfig::new(SourceId(place), &source.name(), kind);
            config.start_at = self.config.start_at;
            config
                .checkpoint_dir
                .clone_from(&self.config.checkpoint_dir);
            handles.push(source::spawn(config, sender.clone(), shutdown.clone())?);
        }
        let info = |source: &SourceArg| SourceInfo {
            name: source.name(),
            format: source.format,
        };
        let pipeline = Pipeline {
            engine: Engine::new(self.config.engine.clone()),
            index: Arc::clone(&self.index),
            roster: self.roster.clone(),
            witness: self.witness.clone(),
            health: self.health.clone(),
            forgotten: self.forgotten.clone(),
            sources: self.config.sources.iter().map(info).collect(),
            findings,
            counters: Arc::clone(&self.lines),
        };
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new()
            .name("pipeline".to_owned())
            .spawn(move || pipeline.run(batches, &runtime))
            .context("failed to start the pipeline's thread")?;
        Ok((handles, thread))
    }

    fn spawn_watches(
        self: &Arc<Self>,
        client: &Client,
        writers: StoreWriters,
        tasks: &mut JoinSet<()>,
    ) {
        let all = watcher::Config::default;
        let ours = || {
            let selector = format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_VALUE);
            watcher::Config::default().labels(&selector)
        };
        // A pod that has ended leaves the watch, which reads as its deletion.
        let living =
            || watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        macro_rules! watch {
            ($writer:expr, $config:expr, $prune:expr, $seen:ident) => {{
                let operator = Arc::clone(self);
                let on_seen = move |seen| {
                    operator.$seen(&seen);
                    std::future::ready(())
                };
                spawn_watch(tasks, client, $config, $prune, $writer, on_seen);
            }};
        }
        watch!(writers.runs, all(), prune_nothing, run_seen);
        watch!(writers.policies, all(), prune_nothing, policy_seen);
        watch!(writers.incidents, all(), prune_nothing, incident_seen);
        watch!(writers.pods, living(), prune_pod, pod_seen);
        watch!(
            writers.network_policies,
            all(),
            prune_nothing,
            network_policy_seen
        );
        watch!(writers.jobs, all(), prune_job, job_seen);
        watch!(writers.quotas, ours(), prune_nothing, quota_seen);
        watch!(
            writers.limit_ranges,
            ours(),
            prune_nothing,
            limit_range_seen
        );
    }

    fn run_seen(&self, seen: &Seen<crate::api::AgentRun>) {
        if let Seen::Changed { new, .. } = seen {
            let uid = new.uid().unwrap_or_default();
            let is_crawler = new.spec.detection.profile == crate::api::Profile::Crawler;
            self.roster.mark_crawler(&uid, is_crawler);
        }
        if matches!(seen, Seen::Relisted) {
            for run in self.stores.runs.state() {
                let is_crawler = run.spec.detection.profile == crate::api::Profile::Crawler;
                self.roster
                    .mark_crawler(&run.uid().unwrap_or_default(), is_crawler);
            }
        }
        self.controller.run_seen(seen);
    }

    fn policy_seen(&self, seen: &Seen<crate::api::GuardrailPolicy>) {
        self.controller.policy_seen(seen);
    }

    fn incident_seen(&self, seen: &Seen<Incident>) {
        self.incidents.incident_seen(seen);
        self.controller.incident_seen(seen);
    }

    fn pod_seen(&self, seen: &Seen<Pod>) {
        let now = EventTime::from(Timestamp::now());
        match seen {
            Seen::Changed { new, .. } => {
                if let Some(facts) = facts_of(new) {
                    let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                    index.apply(facts, now);
                }
                self.incidents.pod_seen(new);
            }
            Seen::Gone(pod) => {
                let key = PodKey::from(pod.uid().unwrap_or_default().as_str());
                self.index
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .delete(&key, now);
                self.forgotten.push(key);
                self.incidents.pod_seen(pod);
            }
            Seen::Relisted => {
                self.settle_index();
                self.incidents.wake_all();
            }
            Seen::Malformed { .. } => {}
        }
        self.controller.pod_seen(seen);
    }

    fn network_policy_seen(&self, seen: &Seen<k8s_openapi::api::networking::v1::NetworkPolicy>) {
        match seen {
            Seen::Changed { new: policy, .. } | Seen::Gone(policy) => {
                self.incidents
                    .wake_namespace(&policy.namespace().unwrap_or_default());
            }
            Seen::Relisted => self.incidents.wake_all(),
            Seen::Malformed { .. } => {}
        }
        self.controller.network_policy_seen(seen);
    }

    fn job_seen(&self, seen: &Seen<k8s_openapi::api::batch::v1::Job>) {
        if let Seen::Changed { new: job, .. } | Seen::Gone(job) = seen {
            self.incidents
                .wake_namespace(&job.namespace().unwrap_or_default());
        }
        self.controller.job_seen(seen);
    }

    fn quota_seen(&self, seen: &Seen<k8s_openapi::api::core::v1::ResourceQuota>) {
        self.controller.quota_seen(seen);
    }

    fn limit_range_seen(&self, seen: &Seen<k8s_openapi::api::core::v1::LimitRange>) {
        self.controller.limit_range_seen(seen);
    }

    /// Puts all pods of the store into the index; those that are no longer there have ended.
    fn settle_index(&self) {
        let pods = self.stores.pods.state();
        let living = pods
            .iter()
            .filter(|pod| !has_ended(pod))
            .filter_map(|pod| facts_of(pod));
        let now = EventTime::from(Timestamp::now());
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .reset(living, now);
    }

    fn say_totals(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let (lines, records) = (&self.lines, &self.records);
        tracing::info!(
            signals = lines.signals.load(Relaxed),
            skipped = lines.skipped.load(Relaxed),
            unknown = lines.unknown.load(Relaxed),
            malformed = lines.malformed.load(Relaxed),
            unattributed = lines.unattributed.load(Relaxed),
            lost = lines.lost.load(Relaxed),
            recorded = records.recorded.load(Relaxed),
            without_run = records.without_run.load(Relaxed),
            "Stopped."
        );
    }
}

fn spawn_watch<K, F, Followed>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    config: watcher::Config,
    prune: fn(&mut K),
    writer: kube::runtime::reflector::store::Writer<K>,
    follower: F,
) where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    F: FnMut(Seen<K>) -> Followed + Send + 'static,
    Followed: Future<Output = ()> + Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    tasks.spawn(follow(
        api,
        config,
        prune,
        writer,
        WatchHealth::default(),
        follower,
    ));
}
