//! Checks of signals: whether the node agents run, whether their logs are fresh, and SignalsFresh of the runs.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::check::{Check, Verdict};
use super::clock::some;
use super::context::Context;
use crate::api::{AgentRun, AgentRunCondition, condition_of, labels};
use crate::cli::read::list;
use crate::controller::agent_verdicts;
use crate::signals::health::SignalsVerdict;

pub(super) async fn checks(context: &Context<'_>) -> Vec<Check> {
    vec![agents(context).await, runs(context).await]
}

async fn agents(context: &Context<'_>) -> Check {
    let namespace = &context.args.operator_namespace;
    let wanted = format!("an agent with a fresh log on every node (Leases in {namespace})");
    let client = &context.cluster.client;
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let ours = format!("{}={}", labels::COMPONENT, labels::NODE_AGENT);
    let leases = match list("leases", &api, ListParams::default().labels(&ours)).await {
        Ok(leases) => leases.items,
        Err(error) => return Check::cannot("node-agents", wanted, &error),
    };
    let agents = agent_verdicts(&leases, context.now);
    let api: Api<Node> = Api::all(client.clone());
    // Without the right to list nodes, only the agents are known.
    let nodes = list("nodes", &api, ListParams::default()).await.ok();
    let nodes = nodes.map(|nodes| nodes.items.iter().map(ResourceExt::name_any).collect());
    judge_agents(&wanted, &agents, nodes.as_ref())
}

fn judge_agents(
    wanted: &str,
    agents: &[(String, SignalsVerdict)],
    nodes: Option<&BTreeSet<String>>,
) -> Check {
    let check = |verdict, found: String, todo: &str| {
        Check::new("node-agents", verdict, wanted, found, todo)
    };
    if agents.is_empty() {
        let found = "there is no Lease of a node agent".to_owned();
        let todo =
            "this is fine where the controller reads the log itself: see SignalsFresh of the runs";
        return check(Verdict::Unknown, found, todo);
    }
    let chosen = |is: fn(&SignalsVerdict) -> bool| -> Vec<&str> {
        let of = agents.iter().filter(|(_, verdict)| is(verdict));
        of.map(|(node, _)| node.as_str()).collect()
    };
    let silent =
        chosen(|verdict| matches!(verdict, SignalsVerdict::Stale(_) | SignalsVerdict::NoSource));
    if !silent.is_empty() {
        let found = format!("stale, or without a log: {}", some(&silent));
        let todo = "check the log's collector and the agent's pod on these nodes";
        return check(Verdict::Fail, found, todo);
    }
    let unusable = agents.iter().find_map(|(node, verdict)| match verdict {
        SignalsVerdict::Unusable { details, .. } => Some((node, details)),
        _ => None,
    });
    if let Some((node, sentences)) = unusable {
        let count = chosen(|verdict| matches!(verdict, SignalsVerdict::Unusable { .. })).len();
        let found = format!("{count} read an unusable log: {}", sentences.join("; "));
        let todo = format!("fix the log of {node}: runs on these nodes are not watched");
        return check(Verdict::Fail, found, &todo);
    }
    let known: BTreeSet<&str> = agents.iter().map(|(node, _)| node.as_str()).collect();
    let bare: Vec<&str> = nodes
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(|node| !known.contains(node))
        .collect();
    if !bare.is_empty() {
        let found = format!("{} agents are fresh; none on {}", agents.len(), some(&bare));
        let todo = "runs with pods on these nodes are not watched: see the DaemonSet's tolerations";
        return check(Verdict::Warn, found, todo);
    }
    let partly = chosen(|verdict| *verdict != SignalsVerdict::Fresh);
    if !partly.is_empty() {
        let found = format!(
            "lost events, stale metrics, or many unreadable lines: {}",
            some(&partly)
        );
        let todo = "enlarge the collector's buffers; see docs/metrics-sources.md";
        return check(Verdict::Warn, found, todo);
    }
    check(
        Verdict::Ok,
        format!("{} agents are fresh", agents.len()),
        "",
    )
}

async fn runs(context: &Context<'_>) -> Check {
    let wanted = "SignalsFresh is True for every run";
    let api: Api<AgentRun> = Api::all(context.cluster.client.clone());
    match list("agentruns", &api, ListParams::default()).await {
        Ok(runs) => judge_runs(&runs.items),
        Err(error) => Check::cannot("flows", wanted, &error),
    }
}

fn judge_runs(runs: &[AgentRun]) -> Check {
    let wanted = "SignalsFresh is True for every run";
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
            let condition = condition_of(conditions, AgentRunCondition::SignalsFresh.name());
            let name = format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any());
            match condition {
                Some(condition) if condition.status == "True" => None,
                Some(condition) => Some(format!("{name} ({})", condition.reason)),
                None => Some(format!("{name} (not reconciled)")),
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
    let todo = "list them with yellowjack status -A; a run that is not watched is not safe";
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
    fn a_stale_agent_fails_and_a_node_without_one_warns() {
        let nodes: BTreeSet<String> = ["a", "b"].map(ToOwned::to_owned).into();
        let verdict =
            |agents: &[(String, SignalsVerdict)]| judge_agents("", agents, Some(&nodes)).verdict;
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
    fn a_run_that_is_not_watched_fails() {
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
