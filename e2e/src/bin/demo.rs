//! `make demo`: two AgentRuns on a real API server, one of which scans. Shows what Yellowjack makes
//! of it, and ends with exit code 0 only if the rogue run is in quarantine and the honest one is well.
//!
//! There is no kubelet: the demo gives the Jobs' pods their recorded addresses, and it plays the
//! recorded egress log of a node. Everything else is real.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use yellowjack::testing::api::{
    ActionResult, AgentRun, Incident, condition_is, condition_of, labels,
};
use yellowjack_e2e::{
    Isolated, Operator, Recording, TestCluster, install_crds, recording_path, set_pod_ip, wait_for,
};

const NAMESPACE: &str = "agents";
const LIMIT: Duration = Duration::from_mins(1);
/// Addresses of the recording.
const HONEST_IP: &str = "10.244.0.21";
const ROGUE_IP: &str = "10.244.0.66";
/// What the recorded scan begins with.
const SCANNED_PORT: u64 = 22;
/// The log is played from this long before the scan.
const LEAD: Duration = Duration::from_secs(5);
/// And for this long: the scan, and long enough after it for proof that it stopped.
const SPAN: Duration = Duration::from_secs(40);

fn main() -> anyhow::Result<()> {
    step("Starting a Kubernetes control plane (etcd, API server, controller manager)");
    let cluster = TestCluster::start()?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(demo(&cluster))
}

async fn demo(cluster: &TestCluster) -> anyhow::Result<()> {
    let client = cluster.client().await?;
    let work = tempfile::tempdir().context("failed to make a folder")?;
    let log = work.path().join("egress.jsonl");
    std::fs::write(&log, "").context("failed to make the log")?;

    step("Installing the CRDs");
    install_crds(&client).await?;
    ensure_namespace(cluster).await?;

    step("Starting: yellowjack controller --source ulogd:egress.jsonl");
    let source = format!("ulogd:{}", log.display());
    let operator_log = work.path().join("operator.log");
    let arguments = ["controller", "--source", source.as_str()];
    let _operator = Operator::start(cluster.kubeconfig(), &arguments, &operator_log).await?;

    let result = play(cluster, &client, &log).await;
    if result.is_err() {
        eprintln!(
            "--- log of the operator\n{}",
            std::fs::read_to_string(&operator_log)?
        );
    }
    result
}

async fn play(cluster: &TestCluster, client: &Client, log: &Path) -> anyhow::Result<()> {
    step("Applying two AgentRuns: kubectl apply -f e2e/demo/");
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    kubectl(cluster, &["apply", "-f", &manifests.display().to_string()]).await?;
    for (run, address) in [("honest", HONEST_IP), ("rogue", ROGUE_IP)] {
        let pod = wait_for_pod(client, run).await?;
        set_pod_ip(client, NAMESPACE, &pod, address).await?;
    }
    kubectl(
        cluster,
        &[
            "wait",
            "--for=condition=Ready",
            "agentrun",
            "--all",
            "--timeout=60s",
        ],
    )
    .await?;
    kubectl(cluster, &["get", "agentruns"]).await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), NAMESPACE);
    ensure!(
        policies.list(&ListParams::default()).await?.items.len() >= 3,
        "the network policies are missing"
    );

    step("Playing the recorded egress log of a node, at its own pace");
    let recording = Recording::load(&recording_path())?;
    let scan_us = recording
        .first_contact_us(ROGUE_IP, SCANNED_PORT)
        .context("the recording has no scan")?;
    let from_us = scan_us - i64::try_from(LEAD.as_micros())?;
    let isolated = Isolated::default();
    let player = {
        let (isolated, log): (Isolated, PathBuf) = (isolated.clone(), log.to_owned());
        tokio::spawn(async move { recording.play(&log, from_us, SPAN, &isolated).await })
    };
    let scan_begins = Instant::now() + LEAD;

    let incident = wait_for_incident(client).await?;
    isolated.insert(ROGUE_IP);
    step(&format!(
        "The rogue pod is in quarantine, {:.1} s after its first scanning packet",
        scan_begins.elapsed().as_secs_f64()
    ));
    kubectl(cluster, &["get", "agentruns,incidents"]).await?;
    show_evidence(&incident);

    step("Waiting for the log to prove that the traffic stopped");
    let name = incident.name_any();
    wait_for_condition(client, &name, "Verified").await?;
    player.await.context("the player ended early")??;
    kubectl(cluster, &["get", "agentruns,incidents"]).await?;
    check(client, &name).await?;
    step("Done. A human would now look at the Incident and decide, for example:");
    println!(
        "  kubectl -n {NAMESPACE} patch incident {name} --type=merge -p \\\n    \
         '{{\"spec\":{{\"disposition\":{{\"verdict\":\"Release\",\"by\":\"ana@example.com\",\
         \"why\":\"a port check of our own\"}}}}}}'"
    );
    Ok(())
}

async fn ensure_namespace(cluster: &TestCluster) -> anyhow::Result<()> {
    // Against a cluster of the user's the namespace may be there already.
    if cluster
        .kubectl(&["get", "namespace", NAMESPACE])
        .await
        .is_err()
    {
        cluster.kubectl(&["create", "namespace", NAMESPACE]).await?;
    }
    Ok(())
}

async fn wait_for_pod(client: &Client, run: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let selector = ListParams::default().labels(&format!("{}={run}", labels::RUN));
    wait_for("a pod of the run", LIMIT, async || {
        let list = pods
            .list(&selector)
            .await
            .map_err(|error| error.to_string())?;
        list.items
            .first()
            .map(ResourceExt::name_any)
            .ok_or_else(|| format!("no pod of {run} yet"))
    })
    .await
}

async fn wait_for_incident(client: &Client) -> anyhow::Result<Incident> {
    let incidents: Api<Incident> = Api::namespaced(client.clone(), NAMESPACE);
    wait_for("an Incident that is contained", LIMIT, async || {
        let list = incidents
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let contained = |incident: &Incident| {
            incident
                .status
                .as_ref()
                .is_some_and(|s| condition_is(&s.conditions, "Contained"))
        };
        let count = list.items.len();
        list.items
            .into_iter()
            .find(contained)
            .ok_or_else(|| format!("{count} Incidents, none contained"))
    })
    .await
}

async fn wait_for_condition(client: &Client, name: &str, condition: &str) -> anyhow::Result<()> {
    let incidents: Api<Incident> = Api::namespaced(client.clone(), NAMESPACE);
    wait_for("proof in the log", LIMIT, async || {
        let incident = incidents
            .get(name)
            .await
            .map_err(|error| error.to_string())?;
        let conditions = incident
            .status
            .map(|status| status.conditions)
            .unwrap_or_default();
        if condition_is(&conditions, condition) {
            return Ok(());
        }
        let said = condition_of(&conditions, condition);
        Err(said.map_or_else(
            || "nothing said".to_owned(),
            |c| format!("{}: {}", c.reason, c.message),
        ))
    })
    .await
}

fn show_evidence(incident: &Incident) {
    for entry in &incident.spec.evidence {
        println!(
            "  {} ({}): {}",
            entry.signature,
            entry.severity.name(),
            entry.summary
        );
        println!(
            "  score {:.1} of {:.1} nats, {} contacts, for example:",
            entry.score, entry.threshold, entry.contacts
        );
        for flow in entry.examples.iter().take(3) {
            println!(
                "    {}:{} {} {}",
                flow.destination, flow.port, flow.protocol, flow.outcome
            );
        }
    }
}

/// What the demo promises.
async fn check(client: &Client, incident: &str) -> anyhow::Result<()> {
    let runs: Api<AgentRun> = Api::namespaced(client.clone(), NAMESPACE);
    let conditions = async |name: &str| -> anyhow::Result<_> {
        Ok(runs
            .get(name)
            .await?
            .status
            .map(|status| status.conditions)
            .unwrap_or_default())
    };
    let rogue = conditions("rogue").await?;
    ensure!(
        condition_is(&rogue, "Quarantined"),
        "the rogue run is not in quarantine"
    );
    let reason = condition_of(&rogue, "Quarantined")
        .map(|c| c.reason.clone())
        .unwrap_or_default();
    ensure!(!reason.is_empty(), "Quarantined has no reason");
    let honest = conditions("honest").await?;
    ensure!(
        condition_is(&honest, "Ready"),
        "the honest run is not Ready"
    );
    ensure!(
        !condition_is(&honest, "Suspicious"),
        "the honest run is suspected"
    );
    let incidents: Api<Incident> = Api::namespaced(client.clone(), NAMESPACE);
    let actions = incidents
        .get(incident)
        .await?
        .status
        .map(|s| s.actions)
        .unwrap_or_default();
    ensure!(
        actions
            .iter()
            .any(|action| action.result == ActionResult::Succeeded),
        "the Incident lists no action with a result"
    );
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let quarantined = pods
        .list(&ListParams::default().labels(labels::QUARANTINE))
        .await?;
    ensure!(
        quarantined.items.len() == 1,
        "exactly one pod must be in quarantine"
    );
    println!("  rogue:  Quarantined=True, reason {reason}");
    println!("  honest: Ready=True");
    Ok(())
}

async fn kubectl(cluster: &TestCluster, arguments: &[&str]) -> anyhow::Result<()> {
    let mut all = vec!["--namespace", NAMESPACE];
    all.extend(arguments);
    let output = cluster.kubectl(&all).await?;
    println!("$ kubectl {}", arguments.join(" "));
    for line in output.lines() {
        println!("  {line}");
    }
    Ok(())
}

fn step(text: &str) {
    println!("\n==> {text}");
}
