//! Signals: do the node agents live, do their logs speak, and what do the runs say of that?

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::Context;
use super::check::{Check, Verdict};
use super::clock::some;
use crate::api::{AgentRun, AgentRunCondition, condition_of, labels};
use crate::cli::people::list;
use crate::controller::agents_say;
use crate::signals::health::SignalsVerdict;

pub(super) async fn checks(context: &Context<'_>) -> Vec<Check> {
    vec![agents(context).await, runs(context).await]
}

async fn agents(context: &Context<'_>) -> Check {
    let namespace = &context.args.operator_namespace;
    let wanted = format!("an agent on every node whose log speaks (Leases in {namespace})");
    let client = &context.cluster.client;
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let ours = format!("{}={}", labels::COMPONENT, labels::NODE_AGENT);
    let leases = match list("leases", &api, ListParams::default().labels(&ours)).await {
        Ok(leases) => leases.items,
        Err(error) => return Check::cannot("node-agents", wanted, &error),
    };
    let reports = agents_say(&leases, context.now);
    let api: Api<Node> = Api::all(client.clone());
    // Without the right to list nodes, what the agents say is all there is.
    let nodes = list("nodes", &api, ListParams::default()).await.ok();
    let nodes = nodes.map(|nodes| nodes.items.iter().map(ResourceExt::name_any).collect());
    judge_agents(&wanted, &reports, nodes.as_ref())
}

fn judge_agents(
    wanted: &str,
    reports: &[(String, SignalsVerdict)],
    nodes: Option<&BTreeSet<String>>,
) -> Check {
    let check = |verdict, found: String, todo: &str| {
        Check::new("node-agents", verdict, wanted, found, todo)
    };
    if reports.is_empty() {
        let found = "no node agent keeps a Lease".to_owned();
        let todo = "fine where the controller reads the log itself: SignalsFresh of the runs tells";
        return check(Verdict::Unknown, found, todo);
    }
    let chosen = |is: fn(&SignalsVerdict) -> bool| -> Vec<&str> {
        let of = reports.iter().filter(|(_, verdict)| is(verdict));
        of.map(|(node, _)| node.as_str()).collect()
    };
    let silent =
        chosen(|verdict| matches!(verdict, SignalsVerdict::Stale(_) | SignalsVerdict::NoSource));
    if !silent.is_empty() {
        let found = format!("silent, or without a log: {}", some(&silent));
        let todo = "look at the log's collector and the agent's pod on these nodes";
        return check(Verdict::Fail, found, todo);
    }
    let unusable = reports.iter().find_map(|(node, verdict)| match verdict {
        SignalsVerdict::Unusable { details, .. } => Some((node, details)),
        _ => None,
    });
    if let Some((node, sentences)) = unusable {
        let count = chosen(|verdict| matches!(verdict, SignalsVerdict::Unusable { .. })).len();
        let found = format!("{count} read a log of no use: {}", sentences.join("; "));
        let todo = format!("do what it says of {node}: runs on these nodes are not watched");
        return check(Verdict::Fail, found, &todo);
    }
    let known: BTreeSet<&str> = reports.iter().map(|(node, _)| node.as_str()).collect();
    let bare: Vec<&str> = nodes
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(|node| !known.contains(node))
        .collect();
    if !bare.is_empty() {
        let found = format!("{} agents speak; none on {}", reports.len(), some(&bare));
        let todo = "runs with pods on these nodes are not watched: see the DaemonSet's tolerations";
        return check(Verdict::Warn, found, todo);
    }
    let partly = chosen(|verdict| *verdict != SignalsVerdict::Fresh);
    if !partly.is_empty() {
        let found = format!(
            "lost events, metrics are silent, or many lines cannot be read: {}",
            some(&partly)
        );
        let todo = "raise the collector's buffers; see docs/metrics-sources.md";
        return check(Verdict::Warn, found, todo);
    }
    check(Verdict::Ok, format!("{} agents speak", reports.len()), "")
}

async fn runs(context: &Context<'_>) -> Check {
    let wanted = "every run says SignalsFresh";
    let api: Api<AgentRun> = Api::all(context.cluster.client.clone());
    match list("agentruns", &api, ListParams::default()).await {
        Ok(runs) => judge_runs(&runs.items),
        Err(error) => Check::cannot("flows", wanted, &error),
    }
}

fn judge_runs(runs: &[AgentRun]) -> Check {
    let wanted = "every run says SignalsFresh";
    if runs.is_empty() {
        let found = "there is no AgentRun yet";
        return Check::new("flows", Verdict::Unknown, wanted, found, "apply one");
    }
    let stale: Vec<String> = runs
        .iter()
        .filter_map(|run| {
            let conditions = run
                .status
                .as_ref()
                .map_or(&[][..], |status| &status.conditions);
            let fresh = condition_of(conditions, AgentRunCondition::SignalsFresh.name());
            let name = format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any());
            match fresh {
                Some(fresh) if fresh.status == "True" => None,
                Some(fresh) => Some(format!("{name} ({})", fresh.reason)),
                None => Some(format!("{name} (no controller looked at it)")),
            }
        })
        .collect();
    if stale.is_empty() {
        return Check::ok("flows", wanted, format!("{} runs are watched", runs.len()));
    }
    let names: Vec<&str> = stale.iter().map(String::as_str).collect();
    let found = format!(
        "{} of {} are not: {}",
        stale.len(),
        runs.len(),
        some(&names)
    );
    let todo = "yellowjack status -A tells each; what is not watched is not safe";
    Check::new("flows", Verdict::Fail, wanted, found, todo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn agent(node: &str, verdict: SignalsVerdict) -> (String, SignalsVerdict) {
        (node.to_owned(), verdict)
    }

    #[test]
    fn a_silent_agent_fails_and_a_node_without_one_is_to_know() {
        let nodes: BTreeSet<String> = ["a", "b"].map(ToOwned::to_owned).into();
        let verdict =
            |reports: &[(String, SignalsVerdict)]| judge_agents("", reports, Some(&nodes)).verdict;
        let (a, b) = (
            agent("a", SignalsVerdict::Fresh),
            agent("b", SignalsVerdict::Fresh),
        );
        assert_eq!(verdict(&[a.clone(), b]), Verdict::Ok);
        assert_eq!(verdict(std::slice::from_ref(&a)), Verdict::Warn);
        assert_eq!(
            verdict(&[a.clone(), agent("b", SignalsVerdict::NoSource)]),
            Verdict::Fail
        );
        assert_eq!(
            verdict(&[a, agent("b", SignalsVerdict::Lossy(vec![]))]),
            Verdict::Warn
        );
        assert_eq!(verdict(&[]), Verdict::Unknown);
    }

    #[test]
    fn a_run_that_nobody_watches_fails() {
        let run = |conditions: serde_json::Value| {
            serde_json::from_value::<AgentRun>(json!({
                "apiVersion": "yellowjack.dev/v1alpha1", "kind": "AgentRun",
                "metadata": { "name": "r", "namespace": "ns" }, "spec": { "target": {} },
                "status": { "conditions": conditions },
            }))
            .unwrap()
        };
        let fresh = json!([{ "type": "SignalsFresh", "status": "True", "reason": "SourcesFresh",
                             "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
        assert_eq!(judge_runs(&[run(fresh)]).verdict, Verdict::Ok);
        assert_eq!(judge_runs(&[run(json!([]))]).verdict, Verdict::Fail);
        assert_eq!(judge_runs(&[]).verdict, Verdict::Unknown);
    }
}
