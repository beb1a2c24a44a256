//! The long-running programs, assembled: watches, sources, pipeline, recorder, responder, controller.
//!
//! Called by `cli`, which makes the configuration. `parts` builds the parts, the other files start them,
//! and `run` here starts and stops all of it in order. Nothing is decided here.

mod config;
mod leadership;
mod parts;
mod readings;
mod saved_state;
mod sources;
mod watches;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use config::{
    Component, ElectionConfig, LogLocation, LogSource, MetricsEndpoint, MetricsSource,
    OperatorConfig, RELAY_PREFIX, ResponseConfig,
};

use self::leadership::Election;
use self::parts::Operator;
use self::sources::SignalTasks;
use crate::cluster::connect;
use crate::limits;
use crate::observability::{EndpointError, Missing, Read, serve};
use crate::pipeline::contact_reports::{ReportReconciler, ReportWriter};
use crate::respond::AttributedFinding;

/// Runs until a signal arrives, or until a part ends that should run forever.
pub(crate) async fn run(config: OperatorConfig) -> anyhow::Result<()> {
    let client = connect().await?;
    let shutdown = CancellationToken::new();
    let (operator, writers) = Operator::new(config, client.clone());
    let operator = Arc::new(operator);
    let mut tasks = JoinSet::new();
    watches::start(&operator, &client, writers, &mut tasks);
    let (findings, found) = mpsc::channel(limits::FINDINGS_CHANNEL_MAX);
    start_work(&operator, found, &shutdown, &mut tasks)?;
    let endpoints = endpoints(&operator, &shutdown);
    // One listener for the whole time: a signal that arrived between two of them would be lost.
    let stopped = stop_signal();
    tokio::pin!(endpoints, stopped);
    tokio::select! {
        is_ready = operator.stores.wait_until_ready() => {
            anyhow::ensure!(is_ready, "a watch ended before its first list");
        }
        result = &mut endpoints => result?,
        () = &mut stopped => return Ok(()),
    }
    operator.reset_index();
    tracing::info!(
        sources = operator.config.sources.len(),
        metrics = operator.config.metrics.len(),
        runs = operator.stores.runs.len(),
        pods = operator.stores.pods.len(),
        "Yellowjack is ready."
    );
    let samples = sources::start_scrapers(&operator, &client, &mut tasks).await?;
    let mut signals = SignalTasks::start(&operator, findings, samples)?;
    let mut election = Election::start(&operator, &client);
    let result = loop {
        tokio::select! {
            () = &mut stopped => break Ok(()),
            result = &mut endpoints => break result.map_err(Into::into),
            Some(ended) = tasks.join_next() => {
                break Err(unexpected_end("a watch or a reconciler", ended));
            }
            // Standard input may end; the program then continues with what it has found.
            ended = signals.pipeline_ended() => {
                if ended.is_err() {
                    break Err(unexpected_end("the pipeline", ended));
                }
            }
            ended = Election::ended(&mut election) => {
                election = None;
                break Err(unexpected_end("leader election", ended));
            }
        }
    };
    tracing::info!("Stopping.");
    // The Lease is released first, so that another replica takes over at once. Evidence is still written.
    Election::end(election).await;
    signals.stop().await?;
    shutdown.cancel();
    tasks.shutdown().await;
    readings::log_totals(&operator);
    result
}

/// An error for a part that ended but should run forever: a restart is better than a program that
/// detects nothing.
fn unexpected_end(part: &str, ended: Result<(), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow::anyhow!("{part} ended by itself"),
        Err(error) => anyhow::Error::new(error).context(format!("{part} ended")),
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

/// Starts everything that works on stored objects and findings.
fn start_work(
    operator: &Arc<Operator>,
    found: mpsc::Receiver<AttributedFinding>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let recorder = operator.recorder().run(found);
    let done = shutdown.clone();
    tasks.spawn(async move {
        recorder.await;
        // Without sources the recorder ends at once, and the program must not end with it.
        done.cancelled().await;
    });
    tasks.spawn(Arc::clone(&operator.controller).run(shutdown.clone()));
    let reports = ReportWriter {
        reports: operator.reports.clone(),
        stores: operator.stores.clone(),
        writer: operator.writer.clone(),
    };
    tasks.spawn(reports.run());
    match &operator.config.component {
        Component::Controller(response) => {
            let incidents = operator.incidents.clone();
            tasks.spawn(incidents.run(operator.responder(response), shutdown.clone()));
            tasks.spawn(leadership::lead(Arc::clone(operator)));
            let keeper = ReportReconciler {
                stores: operator.stores.clone(),
                membership: operator.membership.clone(),
                writer: operator.writer.clone(),
            };
            tasks.spawn(keeper.run());
            operator.notifier(response).start(tasks)?;
        }
        Component::NodeAgent { name, .. } => {
            tasks.spawn(operator.observer(name).run());
            tasks.spawn(operator.heartbeat(name).run());
        }
    }
    Ok(())
}

/// Serves the HTTP endpoints. Never returns where none are configured.
async fn endpoints(
    operator: &Arc<Operator>,
    shutdown: &CancellationToken,
) -> Result<(), EndpointError> {
    let Some(address) = operator.config.listen else {
        return std::future::pending().await;
    };
    let shared = Arc::clone(operator);
    let missing: Missing = Arc::new(move || readings::missing(&shared));
    let shared = Arc::clone(operator);
    let read: Read = Arc::new(move || readings::all(&shared));
    serve(address, missing, read, shutdown.clone()).await
}
