//! Reads one Incident and what belongs to it, for `explain` and `report`. It only reads.

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::cluster_args::ClusterArgs;
use super::error::CommandError;
use super::lookup;
use super::read::block_on;
use crate::api::{AgentRun, Incident};
use crate::limits;
use crate::model::escape::for_terminal;
use crate::report::{self, Lookup, ReportInput, Story};

/// Arguments that choose an Incident.
#[derive(clap::Args, Debug)]
pub(super) struct IncidentArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Name of the Incident.
    #[arg(value_name = "INCIDENT")]
    incident: String,
}

/// The story of the chosen Incident.
pub(super) fn story(args: &IncidentArgs) -> anyhow::Result<Story> {
    let input = block_on(read_input(args))?;
    Ok(report::story(&input))
}

/// Only the Incident itself is required. The story names whatever else could not be read.
async fn read_input(args: &IncidentArgs) -> Result<ReportInput, CommandError> {
    let cluster = args.cluster.connect().await?;
    let (client, namespace) = (&cluster.client, cluster.namespace.as_str());
    let incidents: Api<Incident> = Api::namespaced(client.clone(), namespace);
    let incident = lookup::incident(&cluster, &incidents, &args.incident).await?;
    let run = match &incident.spec.run {
        Some(run) => get::<AgentRun>(client, namespace, &run.name).await,
        None => Lookup::Gone,
    };
    let pod = get::<Pod>(client, namespace, &incident.spec.subject.name).await;
    let policies = policies(client, namespace).await;
    Ok(ReportInput {
        incident,
        run,
        pod,
        policies,
        now: jiff::Timestamp::now(),
    })
}

async fn get<K>(client: &Client, namespace: &str, name: &str) -> Lookup<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match limited(api.get_opt(name)).await {
        Ok(Some(found)) => Lookup::Found(found),
        Ok(None) => Lookup::Gone,
        Err(why) => Lookup::Unread(why),
    }
}

async fn policies(client: &Client, namespace: &str) -> Lookup<Vec<NetworkPolicy>> {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let page = ListParams::default().limit(limits::REPORT_POLICIES_READ_MAX);
    match limited(api.list(&page)).await {
        // A part of the policies would make the others look as if they did not exist.
        Ok(list) if list.metadata.continue_.is_some() => Lookup::Unread(format!(
            "the namespace has more than {}",
            limits::REPORT_POLICIES_READ_MAX
        )),
        Ok(list) => Lookup::Found(list.items),
        Err(why) => Lookup::Unread(why),
    }
}

async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    let limit = Duration::from_secs(limits::API_TIMEOUT_S);
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(for_terminal(&status.message)),
        Ok(Err(error)) => Err(crate::observability::chain(&error)),
        Err(_) => Err(format!("no answer within {} s", limits::API_TIMEOUT_S)),
    }
}
