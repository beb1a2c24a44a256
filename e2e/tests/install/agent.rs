//! The pod's agent as the adversary: its account may do everything by RBAC, and must not get free.

use anyhow::{Context, ensure};
use serde_json::json;

use crate::incident::{Rogue, incident_of, label_of};
use crate::site::{AGENTS, Site};

/// Tries each way out with a token of the namespace's own account. Every one must be refused by the
/// chart's admission policies, and the pod must still be held.
pub async fn cannot_free_itself(site: &Site, rogue: &Rogue) -> anyhow::Result<()> {
    let token = careless_token(site).await?;
    let all = site.get(&["-n", AGENTS, "incidents"]).await?;
    let incident = incident_of(&all, rogue).context("no Incident")?;
    let incident = incident["metadata"]["name"].as_str().context("no name")?;
    let pod = rogue.name.as_str();
    let guardrail = site.get(&["-n", AGENTS, "networkpolicies"]).await?;
    let guardrail = guardrail["items"].as_array().into_iter().flatten();
    let mut names = guardrail.filter_map(|policy| policy["metadata"]["name"].as_str());
    let guardrail = names.find(|name| name.starts_with("yellowjack-run-"));
    let guardrail = guardrail.context("no policy of a run")?.to_owned();
    ensure!(
        site.kubectl(&["auth", "whoami", &token])
            .await?
            .contains("system:serviceaccount:agents:default"),
        "the token is not the agents'"
    );
    let attempts = ways_out(pod, incident, &guardrail);
    for (attempt, refusal) in attempts {
        let mut arguments = vec![token.as_str(), "-n", AGENTS];
        arguments.extend_from_slice(&attempt);
        let said = site.kubectl(&arguments).await;
        let said = said.map_or_else(|e| format!("{e:#}"), |did| format!("it worked: {did}"));
        ensure!(said.contains(refusal), "{}: {said}", attempt.join(" "));
    }
    let label = label_of(site, rogue).await?;
    ensure!(label == incident, "label {label}");
    // It was not RBAC that refused.
    let other = ["annotate", "pod", pod, "-n", AGENTS, "note=yes", &token];
    site.kubectl(&other).await?;
    site.kubectl(&["delete", "clusterrolebinding", "careless"])
        .await?;
    Ok(())
}

/// Arguments of kubectl, and what the refusal says.
type Attempt<'a> = (Vec<&'a str>, &'static str);

fn ways_out<'a>(pod: &'a str, incident: &'a str, guardrail: &'a str) -> [Attempt<'a>; 7] {
    const RELEASE: &str = r#"{"spec":{"disposition":{"verdict":"Release","decidedBy":"me","justification":"trust me"}}}"#;
    let image = "--image=yellowjack.test/toolbox:test";
    [
        (
            vec!["label", "pod", pod, "yellowjack.dev/quarantine-"],
            "only Yellowjack sets or removes",
        ),
        (
            vec!["delete", "networkpolicy", "yellowjack-quarantine"],
            "this object is Yellowjack's",
        ),
        (
            vec!["delete", "networkpolicy", guardrail],
            "this object is Yellowjack's",
        ),
        (
            vec!["patch", "incident", incident, "--type=merge", "-p", RELEASE],
            "incidentResponseGroups",
        ),
        (vec!["delete", "incident", incident], "audit record"),
        (vec!["exec", pod, "--", "true"], "the pod is in quarantine"),
        (
            vec!["debug", pod, image, "--", "true"],
            "the pod is in quarantine",
        ),
    ]
}

/// The flag with a token of the agents' account, which somebody careless has bound to `cluster-admin`.
async fn careless_token(site: &Site) -> anyhow::Result<String> {
    site.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "careless" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": AGENTS }],
    }))
    .await?;
    let token = site
        .kubectl(&["create", "token", "default", "-n", AGENTS])
        .await?;
    Ok(format!("--token={}", token.trim()))
}
