//! Reads an AgentRun or an Incident by its name. Where there is none of that name, the error suggests
//! what the user may have meant.

use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::cluster_args::Cluster;
use super::error::CommandError;
use super::read::{list, read};
use super::suggestion::did_you_mean;
use crate::api::{AgentRun, Incident};

/// The hint where no name is similar.
const OTHER_NAMESPACE: &str = "-n names another namespace";

/// The AgentRun of this name.
pub(super) async fn agent_run(cluster: &Cluster, name: &str) -> Result<AgentRun, CommandError> {
    let api: Api<AgentRun> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let error = match read("agentruns", api.get(name)).await {
        Ok(run) => return Ok(run),
        Err(error) if error.is_not_found() => error,
        Err(error) => return Err(error),
    };
    // Where the list fails too, the CRD is missing.
    let Ok(others) = list("agentruns", &api, ListParams::default()).await else {
        return Err(error);
    };
    let hint = similar_run(name, &others.items);
    let hint = hint.unwrap_or_else(|| OTHER_NAMESPACE.to_owned());
    Err(no_agent_run(cluster, name, hint))
}

/// The error for an AgentRun that does not exist.
pub(super) fn no_agent_run(cluster: &Cluster, name: &str, hint: String) -> CommandError {
    let namespace = &cluster.namespace;
    let what =
        format!("wanted the AgentRun {name}, and namespace {namespace} has none of that name");
    CommandError::refused(what, hint, 1)
}

/// A suggestion with the AgentRuns that have similar names.
pub(super) fn similar_run(name: &str, runs: &[AgentRun]) -> Option<String> {
    let names = runs.iter().filter_map(|run| run.metadata.name.as_deref());
    did_you_mean(name, names)
}

/// The Incident of this name.
pub(super) async fn incident(
    cluster: &Cluster,
    api: &Api<Incident>,
    name: &str,
) -> Result<Incident, CommandError> {
    match read("incidents", api.get(name)).await {
        Ok(incident) => Ok(incident),
        Err(error) if error.is_not_found() => Err(no_incident(cluster, api, name).await),
        Err(error) => Err(error),
    }
}

/// The error for an Incident that does not exist. It suggests the open Incident of a pod or run of this
/// name, and otherwise similar names.
async fn no_incident(cluster: &Cluster, api: &Api<Incident>, name: &str) -> CommandError {
    let namespace = &cluster.namespace;
    let listed = match list("incidents", api, ListParams::default()).await {
        Ok(listed) => listed.items,
        // Where the CRD is missing, this error is the more helpful one.
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
        did_you_mean(name, names.iter().map(String::as_str))
            .unwrap_or_else(|| format!("{} are open here; {OTHER_NAMESPACE}", open.len()))
    };
    CommandError::refused(
        format!("wanted the Incident {name}, and namespace {namespace} has none of that name"),
        hint,
        1,
    )
}
