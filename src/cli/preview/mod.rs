//! `yellowjack preview`: what Enforce would have done about a run, from the Incidents that Observe left.
//! Reads Incidents, policies and owners; `foresee` plays the responder's own plan through, `report` puts it
//! in order. What cannot be known from that is said.

mod foresee;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::nearest::near;
use super::people::{Cluster, ClusterArgs, OutputFormat, PeopleError, answer, ask, block_on, list};
use super::values::duration;
use crate::api::{AgentRun, GuardrailPolicy, Incident, labels};
use crate::cluster::{Owners, Stores};
use crate::guardrails::ClusterFacts;
use crate::guardrails::audit::{Protection, widening};
use crate::guardrails::ceiling::{Effective, evaluate};
use crate::limits;
use crate::respond::owner_control;
use crate::respond::plan::throttle::cpu_reduction;
use crate::respond::plan::{Bounds, CpuReduction, OwnerControl};
use foresee::Surroundings;
use report::{Material, Preview};

/// Arguments of `yellowjack preview`.
#[derive(clap::Args, Debug)]
pub struct PreviewArgs {
    /// The AgentRun.
    #[arg(value_name = "RUN")]
    run: String,

    /// How far to look back, for example `24h`.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    since: Duration,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the subcommand.
pub fn run(args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    let preview = block_on(look(args))?;
    answer(args.output, &preview, Preview::text)?;
    Ok(ExitCode::SUCCESS)
}

async fn look(args: &PreviewArgs) -> Result<Preview, PeopleError> {
    let cluster = args.cluster.connect().await?;
    let run = run_of(&cluster, &args.run).await?;
    let policies: Api<GuardrailPolicy> = Api::all(cluster.client.clone());
    let policy = ask("guardrailpolicies", policies.get_opt(&run.spec.policy)).await;
    let mut notes = Vec::new();
    let policy = policy.unwrap_or_else(|error| {
        if error.is_forbidden() {
            notes.push(
                "you may not read its GuardrailPolicy: the built-in defaults are taken".to_owned(),
            );
        }
        None
    });
    let spec = policy.as_ref().map(|policy| &policy.spec);
    let effective = evaluate(&run.spec, spec, &ClusterFacts::default()).effective;
    let now = Timestamp::now();
    let since = now.saturating_sub(args.since).unwrap_or(Timestamp::MIN);
    let api: Api<Incident> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let listed = list("incidents", &api, ListParams::default()).await?;
    if listed.is_cut {
        notes.push(format!(
            "only the first {} Incidents were read",
            listed.items.len()
        ));
    }
    let of_run = |incident: &Incident| {
        let of = incident.spec.run.as_ref();
        of.is_some_and(|of| Some(&of.uid) == run.metadata.uid.as_ref())
    };
    let incidents: Vec<Incident> = listed.items.into_iter().filter(of_run).collect();
    let around = surroundings(&cluster, &incidents, &effective, &mut notes).await?;
    Ok(report::of(&Material {
        run: &run,
        effective: &effective,
        incidents: &incidents,
        around: &around,
        since,
        now,
        notes,
    }))
}

async fn run_of(cluster: &Cluster, name: &str) -> Result<AgentRun, PeopleError> {
    let api: Api<AgentRun> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let error = match ask("agentruns", api.get(name)).await {
        Ok(run) => return Ok(run),
        Err(error) if error.is_not_found() => error,
        Err(error) => return Err(error),
    };
    // Where the list fails too, the CRD is missing.
    let Ok(others) = list("agentruns", &api, ListParams::default()).await else {
        return Err(error);
    };
    let names = others
        .items
        .iter()
        .filter_map(|run| run.metadata.name.as_deref());
    let hint = near(name, names).unwrap_or_else(|| "another namespace is named with -n".to_owned());
    let namespace = &cluster.namespace;
    let what =
        format!("wanted the AgentRun {name}, and namespace {namespace} has none of that name");
    Err(PeopleError::refused(what, hint, 1))
}

/// What is there now around the pods of these Incidents, by the pod's UID.
async fn surroundings(
    cluster: &Cluster,
    incidents: &[Incident],
    effective: &Effective,
    notes: &mut Vec<String>,
) -> Result<HashMap<String, Surroundings>, PeopleError> {
    let namespace = &cluster.namespace;
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), namespace);
    let policies = match list("networkpolicies", &policies, ListParams::default()).await {
        Ok(policies) => policies.items,
        Err(error) if error.is_forbidden() => {
            notes.push("you may not list NetworkPolicies: one that widens is not seen".to_owned());
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let (owners, (stores, _writers)) = (Owners::default(), Stores::new());
    let mut around = HashMap::new();
    for incident in incidents {
        let subject = &incident.spec.subject;
        if around.contains_key(&subject.uid) || around.len() >= limits::PREVIEWED_PODS_MAX {
            continue;
        }
        let pod = ask("pods", pods.get_opt(&subject.name)).await?;
        let pod = pod.filter(|pod| pod.uid().as_ref() == Some(&subject.uid));
        let mut found = Surroundings {
            bounds: Bounds {
                max_action: effective.max_action,
                scope: effective.scope,
            },
            owner: OwnerControl::Unsupported(
                "the pod is gone, and who owned it is not known".to_owned(),
            ),
            cpu: CpuReduction::Refused("the pod is gone".to_owned()),
            widened_by: Vec::new(),
            protected: None,
        };
        if let Some(pod) = &pod {
            found.cpu = cpu_reduction(&serde_json::to_value(pod).unwrap_or_default());
            found.widened_by = widened(pod, &policies);
            let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
            found.protected =
                on_host.then(|| "no network policy holds a pod on the host's network".to_owned());
            // Owners are followed from the metadata.
            let lean = crate::cluster::Pod {
                metadata: pod.metadata.clone(),
                ..crate::cluster::Pod::default()
            };
            let chain = owners.resolve(&cluster.client, &stores, &lean, true).await;
            let owner = match chain {
                Ok(chain) => owner_control(&owners, &cluster.client, namespace, chain.links).await,
                Err(error) => Err(error),
            };
            found.owner = owner.unwrap_or_else(|_| {
                OwnerControl::Unsupported("its owners could not be read".to_owned())
            });
        }
        around.insert(subject.uid.clone(), found);
    }
    Ok(around)
}

/// Policies that would let the pod's traffic through, were it in quarantine.
fn widened(pod: &Pod, policies: &[NetworkPolicy]) -> Vec<String> {
    let mut of_pod: BTreeMap<String, String> = pod.labels().clone();
    of_pod.insert(labels::QUARANTINE.to_owned(), "foreseen".to_owned());
    // Whether the cluster-wide deny stands is not asked: without it more is widened, never less.
    let stance = Protection::Quarantined {
        cluster_deny: false,
    };
    widening(&of_pod, policies, stance)
}
