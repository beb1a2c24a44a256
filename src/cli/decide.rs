//! `yellowjack release`, `confirm` and `terminate`: a human's word about an Incident, and what became of
//! it. Writes `spec.disposition` alone, through `cluster`; everything else is the controller's doing.

mod tale;

use std::io::{BufRead, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::nearest::near;
use super::people::{
    self, Cluster, ClusterArgs, OutputFormat, PeopleError, answer, ask, block_on, exit, list, shown,
};
use super::values::duration;
use crate::api::{Disposition, Incident, Verdict};
use crate::cluster::{ApiError, FieldManager, LeaderGate, Writer, current_user};
use crate::limits;
use crate::model::clip;
use crate::observability::chain;
use tale::{Outcome, Tale, verdict_name};

/// Longest name of whoever decides, as the schema has it.
const BY_CHARS_MAX: usize = 253;

/// Arguments of the three subcommands.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 it is done, 14 the word is stored and was not carried out in \
time, 1 a failure, 2 bad use."
)]
pub struct DecideArgs {
    /// The Incident.
    #[arg(value_name = "INCIDENT")]
    incident: String,

    /// Why. It stands in the record.
    #[arg(long, value_name = "TEXT")]
    why: String,

    /// Who says so, where it is not the user of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Do not ask back.
    #[arg(short, long)]
    yes: bool,

    /// How long to wait until it is carried out, for example `60s`; `0s` does not wait.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    wait: Duration,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the subcommand with this verdict.
pub fn run(args: &DecideArgs, verdict: Verdict) -> anyhow::Result<ExitCode> {
    let tale = block_on(decide(args, verdict))?;
    answer(args.output, &tale, Tale::text)?;
    Ok(exit(match tale.outcome {
        Outcome::Done | Outcome::Stored => 0,
        Outcome::Pending => people::PENDING,
    }))
}

async fn decide(args: &DecideArgs, verdict: Verdict) -> Result<Tale, PeopleError> {
    if args.why.trim().is_empty() || args.why.chars().count() > 1024 {
        return Err(PeopleError::refused(
            "wanted --why with 1 to 1,024 characters",
            "say it for whoever reads the record in a year",
            people::BAD_USE,
        ));
    }
    let cluster = args.cluster.connect().await?;
    let api: Api<Incident> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let incident = find(&cluster, &api, &args.incident).await?;
    refuse_settled(&incident, verdict)?;
    let by = match &args.by {
        Some(by) => by.clone(),
        None => me(&cluster).await?,
    };
    let word = Disposition {
        verdict,
        decided_by: by.chars().take(BY_CHARS_MAX).collect(),
        justification: args.why.clone(),
    };
    let is_said = incident
        .spec
        .disposition
        .as_ref()
        .is_some_and(|said| said.verdict == verdict && verdict != Verdict::Confirm);
    if !is_said {
        confirm(args, &incident, &word)?;
        store(&cluster, &api, &incident, &word).await?;
    }
    wait(&api, incident, verdict, args.wait).await
}

/// The Incident of this name, or an error that says which names come near.
pub(super) async fn find(
    cluster: &Cluster,
    api: &Api<Incident>,
    name: &str,
) -> Result<Incident, PeopleError> {
    match ask("incidents", api.get(name)).await {
        Ok(incident) => Ok(incident),
        Err(error) if error.is_not_found() => Err(not_found(cluster, api, name).await),
        Err(error) => Err(error),
    }
}

/// Which names come near: Incidents, and those of a pod or run of this name.
async fn not_found(cluster: &Cluster, api: &Api<Incident>, name: &str) -> PeopleError {
    let namespace = &cluster.namespace;
    let listed = match list("incidents", api, ListParams::default()).await {
        Ok(listed) => listed.items,
        // Without the CRD the list says more than the name does.
        Err(error) => return error,
    };
    let open: Vec<&Incident> = listed
        .iter()
        .filter(|incident| incident.is_open())
        .collect();
    let about = open.iter().find(|incident| {
        let run = incident.spec.run.as_ref();
        incident.spec.subject.name == name || run.is_some_and(|run| run.name == name)
    });
    let hint = if let Some(incident) = about {
        format!(
            "{name} is no Incident; its open one is {}",
            incident.name_any()
        )
    } else {
        let names: Vec<String> = open.iter().map(|incident| incident.name_any()).collect();
        near(name, names.iter().map(String::as_str)).unwrap_or_else(|| {
            format!(
                "{} are open here; another namespace is named with -n",
                open.len()
            )
        })
    };
    PeopleError::refused(
        format!("wanted the Incident {name}, and namespace {namespace} has none of that name"),
        hint,
        1,
    )
}

/// A record that is closed, or on which a final word stands, is no longer to decide on.
fn refuse_settled(incident: &Incident, verdict: Verdict) -> Result<(), PeopleError> {
    let name = incident.name_any();
    let Some(said) = incident.spec.disposition.as_ref() else {
        return Ok(());
    };
    let by = format!(
        "{} by {} ({})",
        verdict_name(said.verdict),
        said.decided_by,
        said.justification
    );
    if !incident.is_open() {
        let what = format!(
            "wanted to {} Incident {name}, and it is closed: {by}",
            verb(verdict)
        );
        let hint = "a closed record stays as it is; a new finding makes a new Incident";
        return Err(PeopleError::refused(what, hint, 1));
    }
    if said.verdict != Verdict::Confirm && said.verdict != verdict {
        let what = format!(
            "wanted to {} Incident {name}, and the word stands: {by}",
            verb(verdict)
        );
        let hint = "a Release or Terminate is final, and is being carried out";
        return Err(PeopleError::refused(what, hint, 1));
    }
    Ok(())
}

async fn me(cluster: &Cluster) -> Result<String, PeopleError> {
    let name = current_user(&cluster.client).await.ok().flatten();
    name.ok_or_else(|| {
        PeopleError::refused(
            "wanted to know who you are, and the API server does not tell",
            "name yourself with --by",
            people::BAD_USE,
        )
    })
}

fn confirm(args: &DecideArgs, incident: &Incident, word: &Disposition) -> Result<(), PeopleError> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(PeopleError::refused(
            format!(
                "wanted a yes to {} {}, and there is no terminal",
                verb(word.verdict),
                args.incident
            ),
            "give --yes",
            people::BAD_USE,
        ));
    }
    for line in tale::question(incident, word) {
        anstream::eprintln!("{}", shown(&line));
    }
    anstream::eprint!("{}? [y/N] ", verdict_name(word.verdict));
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(PeopleError::refused(
        "nothing was done",
        "answer y to go on",
        1,
    ))
}

/// Stores the word on the Incident that was shown, and never over the word of somebody else that came
/// meanwhile.
async fn store(
    cluster: &Cluster,
    api: &Api<Incident>,
    incident: &Incident,
    word: &Disposition,
) -> Result<(), PeopleError> {
    let limit = Duration::from_secs(limits::PEOPLE_TIMEOUT_S);
    let writer = Writer::new(cluster.client.clone(), limit, LeaderGate::always_open());
    let name = incident.name_any();
    let mut seen = incident.clone();
    for _ in 0..limits::WORD_TRIES_MAX {
        let patch = json!({
            "metadata": { "uid": seen.metadata.uid, "resourceVersion": seen.metadata.resource_version },
            "spec": { "disposition": word },
        });
        let manager = FieldManager::person();
        let written = writer
            .merge::<Incident>(&manager, &cluster.namespace, &name, &patch)
            .await;
        match written {
            Ok(_) => return Ok(()),
            Err(ApiError::Conflict(_)) => {
                seen = ask("incidents", api.get(&name)).await?;
                let is_same = seen.metadata.uid == incident.metadata.uid
                    && seen.spec.disposition == incident.spec.disposition;
                if !is_same {
                    return Err(PeopleError::refused(
                        format!(
                            "wanted to {} Incident {name}, and somebody decided meanwhile",
                            verb(word.verdict)
                        ),
                        "look at it again",
                        1,
                    ));
                }
            }
            Err(error) => return Err(refused(&error, &name)),
        }
    }
    Err(PeopleError::refused(
        format!("unable to store the word: Incident {name} is written all the time"),
        "try again",
        1,
    ))
}

fn refused(error: &ApiError, name: &str) -> PeopleError {
    let hint = match error {
        ApiError::Refused(kube::Error::Api(status)) if status.code == 403 => {
            "you may not decide: it takes patch on incidents, and where the chart's admission policies \
             stand, one of the groups of admissionPolicies.incidentResponseGroups"
        }
        ApiError::Refused(_) => "the API server's sentence says why",
        ApiError::NotFound(_) => "it is gone",
        ApiError::Conflict(_)
        | ApiError::TimedOut(_)
        | ApiError::Transient(_)
        | ApiError::NotLeader => "try again",
    };
    let what = format!(
        "failed to store the word on Incident {name}: {}",
        clip(&chain(error), 400)
    );
    PeopleError::refused(what, hint, 1)
}

/// Waits until the word is carried out. A `Confirm` changes nothing, so there is nothing to wait for.
async fn wait(
    api: &Api<Incident>,
    before: Incident,
    verdict: Verdict,
    limit: Duration,
) -> Result<Tale, PeopleError> {
    let name = before.name_any();
    let deadline = tokio::time::Instant::now() + limit;
    let is_waiting = verdict != Verdict::Confirm && !limit.is_zero();
    let mut now = ask("incidents", api.get(&name)).await?;
    while is_waiting && now.is_open() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(limits::PEOPLE_POLL).await;
        now = match ask("incidents", api.get(&name)).await {
            Ok(now) => now,
            // A moment of an API server that is away is no reason to give up; the deadline is.
            Err(error) if error.is_forbidden() || error.is_not_found() => return Err(error),
            Err(_) => continue,
        };
    }
    Ok(Tale::of(&before, &now, is_waiting))
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
    fn what_is_settled_is_not_decided_again() {
        let word =
            |verdict: &str| json!({ "verdict": verdict, "decidedBy": "ana", "justification": "w" });
        let refused = |disposition: &serde_json::Value, closed, verdict| {
            refuse_settled(&incident(disposition, closed), verdict).is_err()
        };
        assert!(!refused(&json!(null), "False", Verdict::Release));
        assert!(!refused(&word("Confirm"), "False", Verdict::Release));
        assert!(!refused(&word("Release"), "False", Verdict::Release));
        assert!(refused(&word("Release"), "False", Verdict::Terminate));
        assert!(refused(&word("Release"), "True", Verdict::Release));
        assert!(refused(&word("Terminate"), "True", Verdict::Confirm));
    }
}
