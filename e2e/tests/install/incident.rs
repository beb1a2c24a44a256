//! Runs whose pods scan, from the first packet to the release.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use yellowjack_e2e::node::{Arrival, HEALTH_URL, agent_pod, running};
use yellowjack_e2e::wait_for;

use crate::release::{pods, process_of};
use crate::site::{AGENTS, LIMIT, REFUSING_NETWORK, Site, run};

/// A pod begins when somebody connects here,
const GATE_PORT: u16 = 9;
/// and stops scanning when somebody connects here.
const HONEST_GATE_PORT: u16 = 10;
/// Whose packets show that a pod may send again.
const HONEST_PORT: u16 = 8080;
/// A pod that tries on and gets nothing out for so long counts as stopped.
const QUIET: Duration = Duration::from_secs(5);
/// Who releases: in the group that the chart's values name.
const RESPONDER: [&str; 3] = [
    "--as=ana@example.com",
    "--as-group=yellowjack:incident-response",
    "--as-group=system:authenticated",
];

/// A pod of a run of its own name.
pub struct Rogue {
    pub name: String,
    pub address: String,
}

/// A run with one pod that scans.
pub async fn starts(site: &Site, name: &str) -> anyhow::Result<Rogue> {
    let rogue = waits_at_its_gate(site, name).await?;
    begins(&rogue).await?;
    Ok(rogue)
}

/// A run with one pod that will scan.
pub async fn waits_at_its_gate(site: &Site, name: &str) -> anyhow::Result<Rogue> {
    site.apply(&json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": { "name": name },
        "spec": {
            "target": { "selector": { "matchLabels": { "app": name } } },
            "network": { "egress": [{ "cidr": "0.0.0.0/0" }] },
        },
    }))
    .await?;
    let script = format!(
        "socat -u TCP4-LISTEN:{GATE_PORT} /dev/null
         (while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done) & scan=$!
         socat -u TCP4-LISTEN:{HONEST_GATE_PORT} /dev/null
         kill $scan; killall nmap
         toolbox get -count 0 -interval 200ms -timeout 1s {HEALTH_URL}"
    );
    let pods: Api<Pod> = site.api();
    let pod = agent_pod(name, &[("app", name)], &script)?;
    pods.create(&PostParams::default(), &pod).await?;
    let addresses = running(&pods, name).await?;
    let address = addresses.first().context("no address")?.to_string();
    let run = ["-n", AGENTS, "agentrun", name];
    site.until(&format!("the run {name} to be ready"), &run, |run| {
        says(run, "Ready", "True")
    })
    .await?;
    Ok(Rogue {
        name: name.to_owned(),
        address,
    })
}

/// Lets it scan.
pub async fn begins(rogue: &Rogue) -> anyhow::Result<()> {
    open(&rogue.address, GATE_PORT).await
}

async fn open(address: &str, port: u16) -> anyhow::Result<()> {
    wait_for("a pod's gate", LIMIT, async || {
        let connect = tokio::net::TcpStream::connect((address, port));
        connect.await.map(drop).map_err(|error| error.to_string())
    })
    .await
}

/// Waits until the pod is in quarantine, the log has proved it, and nothing gets out.
pub async fn is_contained(site: &Site, rogue: &Rogue) -> anyhow::Result<()> {
    let what = format!("the containment of {} to be verified", rogue.name);
    let incident = site
        .until(&what, &["-n", AGENTS, "incidents"], |all| {
            let incident = incident_of(all, rogue).ok_or("no Incident")?;
            says(incident, "Contained", "True")?;
            says(incident, "Verified", "True")
        })
        .await?;
    let label = label_of(site, rogue).await?;
    let incident = incident_of(&incident, rogue).context("it was there")?;
    ensure!(label == incident["metadata"]["name"], "{label}");
    let run = ["-n", AGENTS, "agentrun", &rogue.name];
    let what = format!("the run {} to say it", rogue.name);
    site.until(&what, &run, |run| says(run, "Quarantined", "True"))
        .await?;
    is_silent(site, rogue).await
}

/// The page to send on, by the program in the image, is whole and names the pod.
pub async fn can_be_reported(site: &Site, rogue: &Rogue) -> anyhow::Result<()> {
    let controllers = pods(site, "controller").await?;
    let pid = process_of(controllers.first().context("no controller")?)?;
    let label = label_of(site, rogue).await?;
    let incident = label.as_str().context("it is not held")?;
    let image = Path::new("/proc").join(pid.to_string()).join("root");
    let mut report = Command::new(image.join("yellowjack"));
    report.args([
        "report",
        "--namespace",
        AGENTS,
        incident,
        "--output",
        "html",
    ]);
    let page = run(&mut report)?;
    ensure!(page.trim_end().ends_with("</html>"), "{page}");
    ensure!(
        page.contains(&rogue.name) && page.contains("198.18."),
        "{page}"
    );
    Ok(())
}

/// Waits until nothing of it has arrived for a while.
pub async fn is_silent(site: &Site, rogue: &Rogue) -> anyhow::Result<()> {
    wait_for(&format!("{} to be silent", rogue.name), LIMIT, async || {
        let seen = site.node.arrivals_from(&rogue.address);
        let seen = seen.map_err(|error| format!("{error:#}"))?;
        let last = seen.last().map_or(Timestamp::UNIX_EPOCH, Arrival::time);
        let age = Timestamp::now().duration_since(last).unsigned_abs();
        if age >= QUIET {
            Ok(())
        } else {
            Err(format!("{age:?}"))
        }
    })
    .await
}

/// The value of its quarantine label, or null.
pub async fn label_of(site: &Site, rogue: &Rogue) -> anyhow::Result<Value> {
    let pod = site.get(&["-n", AGENTS, "pod", &rogue.name]).await?;
    Ok(pod["metadata"]["labels"]["yellowjack.dev/quarantine"].clone())
}

/// Its only Incident.
pub fn incident_of<'a>(all: &'a Value, rogue: &Rogue) -> Option<&'a Value> {
    let mut items = all["items"].as_array()?.iter();
    items.find(|item| item["spec"]["subject"]["name"] == rogue.name.as_str())
}

/// Somebody of the incident response releases it: it may send again, and its record is closed.
pub async fn is_released(site: &Site, rogue: &Rogue) -> anyhow::Result<()> {
    let name = release(site, rogue).await?;
    let what = format!("the Incident of {} to be closed", rogue.name);
    site.until(&what, &["-n", AGENTS, "incident", &name], |incident| {
        says(incident, "Closed", "True")
    })
    .await?;
    ensure!(label_of(site, rogue).await?.is_null(), "the label is there");
    wait_for("the pod's requests to arrive", LIMIT, async || {
        let seen = site.node.arrivals_from(&rogue.address);
        let mut seen = seen.map_err(|error| format!("{error:#}"))?.into_iter();
        let is_late = |a: &Arrival| a.to_port == HONEST_PORT && a.syn;
        seen.rfind(is_late)
            .map(drop)
            .ok_or_else(|| "none".to_owned())
    })
    .await?;
    let run = ["-n", AGENTS, "agentrun", &rogue.name];
    let what = format!("the run {} to be ready again", rogue.name);
    site.until(&what, &run, |run| says(run, "Ready", "True"))
        .await?;
    Ok(())
}

/// The word of somebody of the incident response, once the pod has stopped scanning; tells the Incident.
pub async fn release(site: &Site, rogue: &Rogue) -> anyhow::Result<String> {
    allow_responders(site).await?;
    let all = site.get(&["-n", AGENTS, "incidents"]).await?;
    let incident = incident_of(&all, rogue).context("no Incident")?;
    let name = incident["metadata"]["name"].as_str().context("no name")?;
    if incident["spec"]["disposition"].is_null() {
        open(&rogue.address, HONEST_GATE_PORT).await?;
    }
    let word = json!({ "spec": { "disposition": {
        "verdict": "Release", "decidedBy": "ana@example.com", "justification": "a port check of our own",
    }}});
    let word = word.to_string();
    let mut arguments = vec!["patch", "incident", "-n", AGENTS, name];
    arguments.extend(["--type=merge", "-p", &word]);
    arguments.extend(RESPONDER);
    site.kubectl(&arguments).await?;
    Ok(name.to_owned())
}

/// RBAC for the group, which the chart leaves to the cluster's owner.
async fn allow_responders(site: &Site) -> anyhow::Result<()> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": "responders" },
        "rules": [{ "apiGroups": ["yellowjack.dev"], "resources": ["incidents"], "verbs": ["get", "list", "patch"] }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": "responders" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "responders" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "yellowjack:incident-response" }],
    });
    site.apply(&role).await?;
    site.apply(&binding).await?;
    Ok(())
}

/// Whether a condition of an object has this status.
pub fn says(object: &Value, condition: &str, status: &str) -> Result<(), String> {
    let conditions = &object["status"]["conditions"];
    let mut all = conditions.as_array().into_iter().flatten();
    let holds = |c: &&Value| c["type"] == condition && c["status"] == status;
    all.find(holds)
        .map(drop)
        .ok_or_else(|| conditions.to_string())
}
