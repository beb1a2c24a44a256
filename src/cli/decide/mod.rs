//! `yellowjack release`, `confirm` and `terminate`: store a human's disposition of an Incident, and wait for
//! its result. They write only `spec.disposition`, through `cluster`; the controller does the rest.

mod disposition_report;

use std::io::{BufRead, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use kube::{Api, ResourceExt};
use serde_json::json;

use super::cluster_args::{Cluster, ClusterArgs};
use super::error::CommandError;
use super::lookup;
use super::output;
use super::output::{OutputFormat, escaped, print_report};
use super::read::{block_on, read};
use super::values::duration;
use crate::api::{Disposition, Incident, Verdict};
use crate::cluster::{ApiError, FieldManager, LeaderGate, Writer, current_user};
use crate::limits;
use crate::model::clip;
use crate::observability::chain;
use disposition_report::{DispositionReport, Outcome, verdict_name};

/// The longest name of the person who decides, as in the schema.
const BY_CHARS_MAX: usize = 253;

/// Arguments of the three subcommands.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 it is done, 14 the decision is stored but was not carried out in \
time, 1 a failure, 2 bad use."
)]
pub(super) struct DecideArgs {
    /// The name of the Incident.
    #[arg(value_name = "INCIDENT")]
    incident: String,

    /// The justification, which is stored in the Incident.
    #[arg(long, value_name = "TEXT")]
    why: String,

    /// The person who decides; by default the user of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Do not prompt for confirmation.
    #[arg(short, long)]
    yes: bool,

    /// How long to wait until the decision is carried out, for example `60s`; `0s` does not wait.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    wait: Duration,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Format of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the subcommand with this verdict.
pub(super) fn run(args: &DecideArgs, verdict: Verdict) -> anyhow::Result<ExitCode> {
    let report = block_on(decide(args, verdict))?;
    print_report(args.output, &report, DispositionReport::text)?;
    Ok(ExitCode::from(match report.outcome {
        Outcome::Done | Outcome::Stored => 0,
        Outcome::Pending => output::PENDING,
    }))
}

async fn decide(args: &DecideArgs, verdict: Verdict) -> Result<DispositionReport, CommandError> {
    if args.why.trim().is_empty() || args.why.chars().count() > 1024 {
        return Err(CommandError::refused(
            "wanted --why with 1 to 1,024 characters",
            "write it for a reader who finds the Incident in a year",
            output::BAD_USE,
        ));
    }
    let cluster = args.cluster.connect().await?;
    let api: Api<Incident> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let incident = lookup::incident(&cluster, &api, &args.incident).await?;
    refuse_decided(&incident, verdict)?;
    let by = match &args.by {
        Some(by) => by.clone(),
        None => user_name(&cluster).await?,
    };
    let disposition = Disposition {
        verdict,
        decided_by: by.chars().take(BY_CHARS_MAX).collect(),
        justification: args.why.clone(),
    };
    let is_stored = incident
        .spec
        .disposition
        .as_ref()
        .is_some_and(|existing| existing.verdict == verdict && verdict != Verdict::Confirm);
    if !is_stored {
        confirm(args, &incident, &disposition)?;
        store(&cluster, &api, &incident, &disposition).await?;
    }
    wait(&api, incident, verdict, args.wait).await
}

/// Fails where the Incident is closed, or has another final disposition already.
fn refuse_decided(incident: &Incident, verdict: Verdict) -> Result<(), CommandError> {
    let name = incident.name_any();
    let Some(existing) = incident.spec.disposition.as_ref() else {
        return Ok(());
    };
    let by = format!(
        "{} by {} ({})",
        verdict_name(existing.verdict),
        existing.decided_by,
        existing.justification
    );
    if !incident.is_open() {
        let what = format!(
            "wanted to {} Incident {name}, and it is closed: {by}",
            verb(verdict)
        );
        let hint = "a closed Incident cannot change; a new finding creates a new Incident";
        return Err(CommandError::refused(what, hint, 1));
    }
    if existing.verdict != Verdict::Confirm && existing.verdict != verdict {
        let what = format!(
            "wanted to {} Incident {name}, and it has a final decision already: {by}",
            verb(verdict)
        );
        let hint = "a Release or Terminate is final, and is being carried out";
        return Err(CommandError::refused(what, hint, 1));
    }
    Ok(())
}

async fn user_name(cluster: &Cluster) -> Result<String, CommandError> {
    let name = current_user(&cluster.client).await.ok().flatten();
    name.ok_or_else(|| {
        CommandError::refused(
            "wanted your user name, and the API server does not return it",
            "give your name with --by",
            output::BAD_USE,
        )
    })
}

fn confirm(
    args: &DecideArgs,
    incident: &Incident,
    disposition: &Disposition,
) -> Result<(), CommandError> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::refused(
            format!(
                "wanted a confirmation to {} {}, and there is no terminal",
                verb(disposition.verdict),
                args.incident
            ),
            "give --yes",
            output::BAD_USE,
        ));
    }
    for line in disposition_report::question(incident, disposition) {
        anstream::eprintln!("{}", escaped(&line));
    }
    anstream::eprint!("{}? [y/N] ", verdict_name(disposition.verdict));
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(CommandError::refused(
        "nothing was done",
        "answer y to continue",
        1,
    ))
}

/// Stores the disposition on the Incident that was shown. Never overwrites the disposition of another
/// person.
async fn store(
    cluster: &Cluster,
    api: &Api<Incident>,
    incident: &Incident,
    disposition: &Disposition,
) -> Result<(), CommandError> {
    let limit = Duration::from_secs(limits::COMMAND_TIMEOUT_S);
    let writer = Writer::new(cluster.client.clone(), limit, LeaderGate::always_open());
    let name = incident.name_any();
    let mut seen = incident.clone();
    for _ in 0..limits::DISPOSITION_TRIES_MAX {
        let patch = json!({
            "metadata": { "uid": seen.metadata.uid, "resourceVersion": seen.metadata.resource_version },
            "spec": { "disposition": disposition },
        });
        let manager = FieldManager::person();
        let written = writer
            .merge::<Incident>(&manager, &cluster.namespace, &name, &patch)
            .await;
        match written {
            Ok(_) => return Ok(()),
            Err(ApiError::Conflict(_)) => {
                seen = read("incidents", api.get(&name)).await?;
                let is_same = seen.metadata.uid == incident.metadata.uid
                    && seen.spec.disposition == incident.spec.disposition;
                if !is_same {
                    return Err(CommandError::refused(
                        format!(
                            "wanted to {} Incident {name}, and another person has just decided",
                            verb(disposition.verdict)
                        ),
                        "read the Incident again: yellowjack explain",
                        1,
                    ));
                }
            }
            Err(error) => return Err(refused(&error, &name)),
        }
    }
    Err(CommandError::refused(
        format!("unable to store the decision: Incident {name} changes too often"),
        "try again",
        1,
    ))
}

fn refused(error: &ApiError, name: &str) -> CommandError {
    let hint = match error {
        ApiError::Refused(kube::Error::Api(status)) if status.code == 403 => {
            "you may not decide: it needs patch on incidents, and with the chart's admission policies also \
             one of the groups of admissionPolicies.incidentResponseGroups"
        }
        ApiError::Refused(_) => "the API server's message has the reason",
        ApiError::NotFound(_) => "it was deleted",
        ApiError::Conflict(_)
        | ApiError::TimedOut(_)
        | ApiError::Transient(_)
        | ApiError::NotLeader => "try again",
    };
    let what = format!(
        "failed to store the decision on Incident {name}: {}",
        clip(&chain(error), 400)
    );
    CommandError::refused(what, hint, 1)
}

/// Waits until the disposition is carried out. A `Confirm` changes nothing, so there is nothing to wait for.
async fn wait(
    api: &Api<Incident>,
    before: Incident,
    verdict: Verdict,
    limit: Duration,
) -> Result<DispositionReport, CommandError> {
    let name = before.name_any();
    let deadline = tokio::time::Instant::now() + limit;
    let is_waiting = verdict != Verdict::Confirm && !limit.is_zero();
    let mut now = read("incidents", api.get(&name)).await?;
    while is_waiting && now.is_open() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(limits::COMMAND_POLL).await;
        now = match read("incidents", api.get(&name)).await {
            Ok(now) => now,
            // A short outage of the API server does not end the wait; the deadline does.
            Err(error) if error.is_forbidden() || error.is_not_found() => return Err(error),
            Err(_) => continue,
        };
    }
    Ok(DispositionReport::of(&before, &now, is_waiting))
}

const fn verb(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Release => "release",
        Verdict::Confirm => "confirm",
        Verdict::Terminate => "terminate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(disposition: &serde_json::Value, closed: &str) -> Incident {
        let incident = json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident",
            "metadata": { "name": "i", "namespace": "ns" },
            "spec": { "subject": { "name": "p", "uid": "u" }, "disposition": disposition },
            "status": { "conditions": [{ "type": "Closed", "status": closed, "reason": "R",
                        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] },
        });
        serde_json::from_value(incident).unwrap()
    }

    #[test]
    fn a_closed_or_final_incident_is_not_decided_again() {
        let decided =
            |verdict: &str| json!({ "verdict": verdict, "decidedBy": "ana", "justification": "w" });
        let refused = |disposition: &serde_json::Value, closed, verdict| {
            refuse_decided(&incident(disposition, closed), verdict).is_err()
        };
        assert!(!refused(&json!(null), "False", Verdict::Release));
        assert!(!refused(&decided("Confirm"), "False", Verdict::Release));
        assert!(!refused(&decided("Release"), "False", Verdict::Release));
        assert!(refused(&decided("Release"), "False", Verdict::Terminate));
        assert!(refused(&decided("Release"), "True", Verdict::Release));
        assert!(refused(&decided("Terminate"), "True", Verdict::Confirm));
    }
}
