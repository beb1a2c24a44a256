//! `yellowjack preview`: what Enforce would have done about a run, from the Incidents of Observe mode. Reads
//! Incidents, policies and owners; `dry_run` carries out the responder's own plan, `report` makes the output,
//! which also lists what cannot be known.

mod dry_run;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::cluster_args::{Cluster, ClusterArgs};
use super::error::CommandError;
use super::lookup;
use super::output::{OutputFormat, print_report};
use super::read::{block_on, list, read};
use super::values::duration;
use crate::api::{GuardrailPolicy, Incident, labels};
use crate::cluster::{Owners, Stores};
use crate::guardrails::ClusterFacts;
use crate::guardrails::audit::{Protection, widening};
use crate::guardrails::ceiling::{Effective, evaluate};
use crate::limits;
use crate::respond::owner_control;
use crate::respond::plan::throttle::cpu_reduction;
use crate::respond::plan::{Bounds, CpuReduction, OwnerControl};
use dry_run::PodContext;
use report::{Material, Preview};

/// Arguments of `yellowjack preview`.
#[derive(clap::Args, Debug)]
pub(super) struct PreviewArgs {
    /// The name of the AgentRun.
    #[arg(value_name = "RUN")]
    run: String,

    /// The period to look back, for example `24h`.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    since: Duration,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Format of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the subcommand.
pub(super) fn run(args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    let preview = block_on(preview(args))?;
    print_report(args.output, &preview, Preview::text)?;
    Ok(ExitCode::SUCCESS)
}

async fn preview(args: &PreviewArgs) -> Result<Preview, CommandError> {
    let cluster = args.cluster.connect().await?;
    let run = lookup::agent_run(&cluster, &args.run).await?;
    let policies: Api<GuardrailPolicy> = Api::all(cluster.client.clone());
    let policy = read("guardrailpolicies", policies.get_opt(&run.spec.policy)).await;
    let mut notes = Vec::new();
    let policy = policy.unwrap_or_else(|error| {
        if error.is_forbidden() {
            notes.push(
                "you may not read its GuardrailPolicy: the built-in defaults are used".to_owned(),
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
    if listed.is_truncated {
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
    let contexts = pod_contexts(&cluster, &incidents, &effective, &mut notes).await?;
    Ok(report::of(&Material {
        run: &run,
        effective: &effective,
        incidents: &incidents,
        contexts: &contexts,
        since,
        now,
        notes,
    }))
}

/// The current context of the pods of these Incidents, by the UID of the pod.
async fn pod_contexts(
    cluster: &Cluster,
    incidents: &[Incident],
    effective: &Effective,
    notes: &mut Vec<String>,
) -> Result<HashMap<String, PodContext>, CommandError> {
    let namespace = &cluster.namespace;
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), namespace);
    let policies = match list("networkpolicies", &policies, ListParams::default()).await {
        Ok(policies) => policies.items,
        Err(error) if error.is_forbidden() => {
            notes.push(
                "you may not list NetworkPolicies: those that allow more traffic are not known"
                    .to_owned(),
            );
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let (owners, (stores, _writers)) = (Owners::default(), Stores::new());
    let mut contexts = HashMap::new();
    for incident in incidents {
        let subject = &incident.spec.subject;
        if contexts.contains_key(&subject.uid) || contexts.len() >= limits::PREVIEWED_PODS_MAX {
            continue;
        }
        let pod = read("pods", pods.get_opt(&subject.name)).await?;
        let pod = pod.filter(|pod| pod.uid().as_ref() == Some(&subject.uid));
        let mut found = PodContext {
            bounds: Bounds {
                max_action: effective.max_action,
                scope: effective.scope,
            },
            owner: OwnerControl::Unsupported(
                "the pod was deleted, and its owner is not known".to_owned(),
            ),
            cpu: CpuReduction::Refused("the pod was deleted".to_owned()),
            widened_by: Vec::new(),
            protected: None,
        };
        if let Some(pod) = &pod {
            found.cpu = cpu_reduction(&serde_json::to_value(pod).unwrap_or_default());
            found.widened_by = widened(pod, &policies);
            let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
            found.protected = on_host
                .then(|| "no NetworkPolicy applies to a pod on the host's network".to_owned());
            // The metadata is enough to find the owners.
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
        contexts.insert(subject.uid.clone(), found);
    }
    Ok(contexts)
}

/// The NetworkPolicies that would still allow the pod's traffic in quarantine.
fn widened(pod: &Pod, policies: &[NetworkPolicy]) -> Vec<String> {
    let mut of_pod: BTreeMap<String, String> = pod.labels().clone();
    of_pod.insert(labels::QUARANTINE.to_owned(), "preview".to_owned());
    // Whether the cluster-wide deny is in force is not read: without it more traffic is allowed, never less.
    let stance = Protection::Quarantined {
        cluster_deny: false,
    };
    widening(&of_pod, policies, stance)
}
