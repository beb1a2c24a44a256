//! Starts the readers of logs, the scrapers of node metrics, and the pipeline that both feed.

use std::sync::Arc;

use anyhow::Context;
use kube::Client;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::config::{LogLocation, LogSource, MetricsEndpoint};
use super::parts::{Operator, SourceReader};
use super::saved_state::restored_engine;
use crate::cluster::{connect_kubelet, connect_plain};
use crate::observability::chain;
use crate::pipeline::{Pipeline, SourceInfo};
use crate::respond::AttributedFinding;
use crate::signals::source::relay::{self, RelayConfig, RelayPacing};
use crate::signals::source::scrape::{self, SampleBatch, Scraper};
use crate::signals::source::{
    self, Batch, SourceConfig, SourceError, SourceHandle, SourceId, SourceKind,
};

/// The running readers and the pipeline, each with the token that stops it.
pub(super) struct SignalTasks {
    readers: Vec<SourceHandle>,
    stop_readers: CancellationToken,
    /// Ends by itself only when standard input ends. `None` once it has ended.
    pipeline: Option<JoinHandle<()>>,
    drain_pipeline: CancellationToken,
}

impl SignalTasks {
    /// Starts a reader for each log, and the pipeline.
    pub(super) fn start(
        operator: &Operator,
        findings: mpsc::Sender<AttributedFinding>,
        samples: mpsc::Receiver<SampleBatch>,
    ) -> anyhow::Result<Self> {
        let (stop_readers, drain_pipeline) = (CancellationToken::new(), CancellationToken::new());
        let (sender, batches) = source::channel();
        let mut readers = Vec::new();
        for (number, log) in operator.config.sources.iter().enumerate() {
            let id = SourceId(number);
            readers.push(start_reader(operator, id, log, &sender, &stop_readers)?);
        }
        let counted = readers.iter().map(|reader| SourceReader {
            name: reader.name().to_owned(),
            health: reader.health_reader(),
            relay: reader.relay_counters(),
        });
        *operator.sources.lock() = counted.collect();
        let pipeline = pipeline(operator, &readers, findings);
        let runtime = tokio::runtime::Handle::current();
        let drain = drain_pipeline.clone();
        let thread = tokio::task::spawn_blocking(move || {
            pipeline.run(batches, samples, &runtime, &drain);
        });
        Ok(Self {
            readers,
            stop_readers,
            pipeline: Some(thread),
            drain_pipeline,
        })
    }

    /// Waits until the pipeline ends by itself. Never returns once it has ended.
    pub(super) async fn pipeline_ended(&mut self) -> Result<(), tokio::task::JoinError> {
        let Some(pipeline) = &mut self.pipeline else {
            return std::future::pending().await;
        };
        let ended = pipeline.await;
        self.pipeline = None;
        ended
    }

    /// Stops the readers, then the pipeline once it has handled what they read, and saves the
    /// checkpoints. The recorder still runs and writes the last findings.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop_readers.cancel();
        let mut readers = self.readers;
        let readers = tokio::task::spawn_blocking(move || {
            readers.iter_mut().for_each(stop_reader);
            readers
        })
        .await?;
        self.drain_pipeline.cancel();
        if let Some(pipeline) = self.pipeline
            && pipeline.await.is_err()
        {
            tracing::error!("The pipeline panicked.");
        }
        tokio::task::spawn_blocking(move || readers.into_iter().for_each(save_checkpoint)).await?;
        Ok(())
    }
}

fn start_reader(
    operator: &Operator,
    id: SourceId,
    log: &LogSource,
    sender: &mpsc::Sender<Batch>,
    stop: &CancellationToken,
) -> Result<SourceHandle, SourceError> {
    let (name, start_at) = (log.name(), operator.config.start_at);
    let checkpoint_dir = operator.config.checkpoint_dir.clone();
    let (sender, stop) = (sender.clone(), stop.clone());
    let kind = match &log.location {
        LogLocation::Stdin => SourceKind::Stdin,
        LogLocation::Path(path) => SourceKind::Path(path.clone()),
        LogLocation::Relay(target) => {
            let config = RelayConfig {
                id,
                name,
                target: target.clone(),
                start_at,
                checkpoint_dir,
                pacing: RelayPacing::default(),
            };
            return relay::spawn(config, sender, operator.health.clone(), stop);
        }
    };
    let config = SourceConfig {
        start_at,
        checkpoint_dir,
        ..SourceConfig::new(id, &name, kind)
    };
    source::spawn(config, sender, stop)
}

fn pipeline(
    operator: &Operator,
    readers: &[SourceHandle],
    findings: mpsc::Sender<AttributedFinding>,
) -> Pipeline {
    let info = |(log, reader): (&LogSource, &SourceHandle)| {
        let reader = reader.health_reader();
        SourceInfo {
            name: log.name(),
            format: log.format,
            health: Box::new(move || reader.snapshot()),
            gap_count: 0,
        }
    };
    let sources = operator
        .config
        .sources
        .iter()
        .zip(readers)
        .map(info)
        .collect();
    // Ranges that the controller has read already arrive with the first tick.
    let mut scopes = operator.scopes.subscribe();
    scopes.mark_changed();
    let (engine, saver, unrecorded) = restored_engine(operator);
    Pipeline {
        engine,
        index: Arc::clone(&operator.index),
        traffic: operator.traffic.clone(),
        health: operator.health.clone(),
        is_namespaced: operator.config.namespace.is_some(),
        resets: operator.resets.clone(),
        sources,
        scopes,
        reports: operator.reports.clone(),
        findings,
        counters: Arc::clone(&operator.lines),
        saver,
        unrecorded,
    }
}

fn stop_reader(reader: &mut SourceHandle) {
    if let Err(error) = reader.stop() {
        let error = chain(&error);
        tracing::error!(
            source = reader.name(),
            error,
            "A source ended with an error."
        );
    }
}

fn save_checkpoint(reader: SourceHandle) {
    let name = reader.name().to_owned();
    if let Err(error) = reader.close() {
        let error = chain(&error);
        tracing::warn!(
            source = name,
            error,
            "Failed to save the checkpoint; lines may be read again."
        );
    }
}

/// Starts a scraper for each source of node metrics; they end with `tasks`.
pub(super) async fn start_scrapers(
    operator: &Operator,
    client: &Client,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<mpsc::Receiver<SampleBatch>> {
    let (sender, samples) = scrape::channel();
    // Sources of metrics are numbered after the logs.
    let first = operator.config.sources.len();
    for (number, source) in operator.config.metrics.iter().enumerate() {
        let client = match &source.endpoint {
            MetricsEndpoint::Kubelet(url, trust) => connect_kubelet(url, trust).await,
            MetricsEndpoint::Exporter(url) => connect_plain(url),
            MetricsEndpoint::ApiServer => Ok(client.clone()),
        };
        let scraper = Scraper {
            source: first + number,
            name: source.name.clone(),
            format: source.format,
            client: client.with_context(|| format!("failed to set up {}", source.name))?,
            path: source.path.clone(),
            interval: source.interval,
            counters: Arc::default(),
        };
        let counters = (source.name.clone(), Arc::clone(&scraper.counters));
        operator.scrapes.lock().push(counters);
        tasks.spawn(scraper.run(sender.clone()));
    }
    Ok(samples)
}
