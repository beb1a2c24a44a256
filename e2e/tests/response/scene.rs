//! What each test of the response stands on: an operator that watches the test's namespace alone
//! and reads a log of the test's own, through a proxy that notes every write.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{
    ActionKind, ActionRecord, ActionResult, AgentRun, Incident, condition_of, labels,
};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::proxy::{FaultProxy, Write};
use yellowjack_e2e::{Operator, TestEnv, pod, set_pod_ip, wait_for, with_namespace};

/// How long a state may take. It comes within a second or two; a loaded machine is slower.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Longer than the log must speak without the pod until the stop counts as proven.
pub const QUIET: Duration = Duration::from_secs(15);

/// The address of the pod that tests let do wrong.
pub const ROGUE_IP: &str = "10.244.1.66";

/// The address of the first pod of the run `honest`.
pub const HONEST_IP: &str = "10.244.2.1";

/// Hosts that a scan tries: far more than the 35 that it takes.
pub const MANY: u8 = 60;

/// A running operator and its surroundings.
pub struct Scene {
    pub env: TestEnv,
    pub log: EgressLog,
    pub proxy: FaultProxy,
    operator: Option<Operator>,
    agents: Vec<Operator>,
    honest_pods: AtomicU8,
}

/// Runs a test in a namespace with an operator of its own; `flags` are added to its command line.
pub async fn with_scene<F>(flags: &[&str], test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&Scene) -> anyhow::Result<()>,
{
    with_namespace(async |env| test(&Scene::start(env, flags).await?).await).await
}

/// Runs a test with a controller that reads no log, and an agent for each of these nodes that reads
/// the test's log; `flags` are added to the agents' command lines.
pub async fn with_agents<F>(nodes: &[&str], flags: &[&str], test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&Scene) -> anyhow::Result<()>,
{
    with_namespace(async |env| {
        let log = EgressLog::create()?;
        let mut scene = Scene::start_with(env, log, &[]).await?;
        for node in nodes {
            scene.start_agent(node, flags).await?;
        }
        test(&scene).await
    })
    .await
}

impl Scene {
    pub async fn start(env: TestEnv, flags: &[&str]) -> anyhow::Result<Self> {
        let log = EgressLog::create()?;
        let source = log.source();
        let mut arguments = vec!["--source", &source, "--start-at", "beginning"];
        arguments.extend_from_slice(flags);
        Self::start_with(env, log, &arguments).await
    }

    async fn start_agent(&mut self, node: &str, flags: &[&str]) -> anyhow::Result<()> {
        let (namespace, source) = (self.env.namespace.clone(), self.log.source());
        let mut arguments = vec!["node", "--node-name", node, "--namespace", &namespace];
        arguments.extend(["--source", &source, "--start-at", "beginning"]);
        arguments.extend(["--agent-namespace", &namespace, "--stale-after", "30s"]);
        arguments.extend_from_slice(flags);
        let kubeconfig = self.proxy.kubeconfig();
        let agent = self.env.operator(&kubeconfig, &arguments).await?;
        self.agents.push(agent);
        Ok(())
    }

    /// With a controller that has these flags and, without more, no source.
    pub async fn start_with(env: TestEnv, log: EgressLog, flags: &[&str]) -> anyhow::Result<Self> {
        let proxy = FaultProxy::start(env.client.clone()).await?;
        let mut arguments = vec!["controller", "--namespace", &env.namespace];
        arguments.extend(["--agent-namespace", &env.namespace]);
        arguments.extend_from_slice(flags);
        let operator = env.operator(&proxy.kubeconfig(), &arguments).await?;
        let scene = Self {
            env,
            log,
            proxy,
            operator: Some(operator),
            agents: Vec::new(),
            honest_pods: AtomicU8::new(0),
        };
        scene.run("honest", json!({})).await?;
        Ok(scene)
    }

    /// Kills the operator and starts another one on the same log; `flags` are added to its command
    /// line.
    pub async fn restart(&mut self, flags: &[&str]) -> anyhow::Result<()> {
        // Dropping it kills it.
        self.operator = None;
        let (namespace, source) = (self.env.namespace.clone(), self.log.source());
        let mut arguments = vec!["controller", "--namespace", &namespace];
        arguments.extend(["--agent-namespace", &namespace]);
        arguments.extend(["--source", &source, "--start-at", "beginning"]);
        arguments.extend_from_slice(flags);
        let kubeconfig = self.proxy.kubeconfig();
        self.operator = Some(self.env.operator(&kubeconfig, &arguments).await?);
        Ok(())
    }

    pub fn pods(&self) -> Api<Pod> {
        self.env.api()
    }

    /// A run over the pods `app=NAME`.
    pub async fn run(&self, name: &str, rest: Value) -> anyhow::Result<()> {
        let selector = json!({ "selector": { "matchLabels": { "app": name } } });
        self.run_over(name, selector, rest).await
    }

    /// A run with this target; `rest` are the other fields of its spec.
    pub async fn run_over(&self, name: &str, target: Value, rest: Value) -> anyhow::Result<()> {
        let spec = with(rest, "target", target);
        let run = json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "AgentRun",
            "metadata": { "name": name },
            "spec": spec,
        });
        let run: AgentRun = serde_json::from_value(run)?;
        let runs: Api<AgentRun> = self.env.api();
        runs.create(&PostParams::default(), &run)
            .await
            .with_context(|| format!("failed to make the run {name}"))?;
        Ok(())
    }

    /// A bare pod of the run `app`, running with this address.
    pub async fn pod(&self, name: &str, app: &str, ip: &str) -> anyhow::Result<()> {
        self.pods()
            .create(&PostParams::default(), &pod(name, &[("app", app)])?)
            .await?;
        set_pod_ip(&self.env.client, &self.env.namespace, name, ip).await?;
        Ok(())
    }

    /// A Job whose pod has the rogue address, and the run `rogue` over it. Returns the pod's name.
    pub async fn rogue_job(&self, spec: Value, rest: Value) -> anyhow::Result<String> {
        let template = json!({ "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }],
        }});
        let spec = with(spec, "template", template);
        let job = json!({ "metadata": { "name": "work" }, "spec": spec });
        let jobs: Api<Job> = self.env.api();
        jobs.create(&PostParams::default(), &serde_json::from_value(job)?)
            .await?;
        let owner = json!({ "ref": { "apiVersion": "batch/v1", "kind": "Job", "name": "work" } });
        self.run_over("rogue", owner, rest).await?;
        let name = self.pod_of_job("work").await?;
        set_pod_ip(&self.env.client, &self.env.namespace, &name, ROGUE_IP).await?;
        self.settle().await?;
        Ok(name)
    }

    /// The newest pod of a Job that is not being deleted.
    pub async fn pod_of_job(&self, job: &str) -> anyhow::Result<String> {
        let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let pods = self.pods();
        wait_for("a pod of the Job", LIMIT, async || {
            let list = pods.list(&selector).await.map_err(said)?;
            let living = list
                .items
                .into_iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none());
            living
                .map(|pod| pod.name_any())
                .next()
                .ok_or_else(|| "no pod yet".to_owned())
        })
        .await
    }

    /// The run `rogue` and its one bare pod of the same name.
    pub async fn rogue_pod(&self, rest: Value) -> anyhow::Result<()> {
        self.run("rogue", rest).await?;
        self.pod("rogue", "rogue", ROGUE_IP).await?;
        self.settle().await
    }

    /// Waits until the operator knows every pod as it is now. Watches are in order: once it knows
    /// a pod that was made later, it knows the others.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let count = self.honest_pods.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("honest-{count}");
        self.pod(&name, "honest", &format!("10.244.2.{count}"))
            .await?;
        self.wait_run("honest", &format!("{count} pods"), |run| {
            let pods = run.status.as_ref().and_then(|status| status.pods.as_ref());
            pods.is_some_and(|pods| pods.total == i32::from(count))
        })
        .await?;
        Ok(())
    }

    pub async fn get_run(&self, name: &str) -> anyhow::Result<AgentRun> {
        let runs: Api<AgentRun> = self.env.api();
        Ok(runs.get(name).await?)
    }

    pub async fn get_job(&self) -> anyhow::Result<Job> {
        let jobs: Api<Job> = self.env.api();
        Ok(jobs.get("work").await?)
    }

    pub async fn wait_run(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&AgentRun) -> bool,
    ) -> anyhow::Result<AgentRun> {
        let runs: Api<AgentRun> = self.env.api();
        wait_for(&format!("run {name}: {what}"), LIMIT, async || {
            let run = runs.get(name).await.map_err(said)?;
            if holds(&run) {
                return Ok(run);
            }
            Err(brief(conditions_of_run(&run)))
        })
        .await
    }

    /// Waits until the run says this, and returns what it says in words.
    pub async fn run_says(
        &self,
        name: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> anyhow::Result<String> {
        let what = format!("{condition}={status}, {reason}");
        let run = self
            .wait_run(name, &what, |run| {
                says(conditions_of_run(run), condition, status, reason)
            })
            .await?;
        let found = condition_of(conditions_of_run(&run), condition);
        Ok(found.map(|c| c.message.clone()).unwrap_or_default())
    }

    /// The Incidents of a pod, by name of the pod.
    pub async fn incidents_of(&self, pod: &str) -> anyhow::Result<Vec<Incident>> {
        let incidents: Api<Incident> = self.env.api();
        let list = incidents.list(&ListParams::default()).await?;
        let of_pod = |incident: &Incident| incident.spec.subject.name == pod;
        Ok(list.items.into_iter().filter(of_pod).collect())
    }

    /// Waits for an Incident of this pod for which `holds`.
    pub async fn wait_incident(
        &self,
        pod: &str,
        what: &str,
        holds: impl Fn(&Incident) -> bool,
    ) -> anyhow::Result<Incident> {
        wait_for(&format!("Incident of {pod}: {what}"), LIMIT, async || {
            let all = self
                .incidents_of(pod)
                .await
                .map_err(|error| error.to_string())?;
            let seen: Vec<_> = all
                .iter()
                .map(|i| format!("{}: {}", i.name_any(), brief(conditions(i))))
                .collect();
            all.into_iter()
                .find(|i| holds(i))
                .ok_or_else(|| seen.join("; "))
        })
        .await
    }

    /// Waits until an Incident of this pod says this.
    pub async fn incident_says(
        &self,
        pod: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> anyhow::Result<Incident> {
        let what = format!("{condition}={status}, {reason}");
        self.wait_incident(pod, &what, |i| {
            says(conditions(i), condition, status, reason)
        })
        .await
    }

    /// Waits until the pod carries the label of this Incident; `None` is no label.
    pub async fn label_is(&self, pod: &str, wanted: Option<&str>) -> anyhow::Result<()> {
        let pods = self.pods();
        wait_for(
            &format!("label {wanted:?} on pod {pod}"),
            LIMIT,
            async || {
                let found = pods.get(pod).await.map_err(said)?;
                let label = found.labels().get(labels::QUARANTINE).map(String::as_str);
                if label == wanted {
                    Ok(())
                } else {
                    Err(format!("label {label:?}"))
                }
            },
        )
        .await
    }

    /// Waits until the Job's `spec.suspend` is this.
    pub async fn suspend_is(&self, wanted: bool) -> anyhow::Result<Job> {
        wait_for(&format!("suspend={wanted}"), LIMIT, async || {
            let job = self.get_job().await.map_err(|error| error.to_string())?;
            let suspend = job.spec.as_ref().and_then(|spec| spec.suspend);
            if suspend == Some(wanted) {
                Ok(job)
            } else {
                Err(format!("suspend {suspend:?}"))
            }
        })
        .await
    }

    /// The human's word about an Incident.
    pub async fn decide(&self, incident: &Incident, verdict: &str) -> anyhow::Result<()> {
        let incidents: Api<Incident> = self.env.api();
        let word = json!({ "spec": { "disposition": {
            "verdict": verdict,
            "decidedBy": "ana@example.com",
            "justification": "a test",
        }}});
        incidents
            .patch(
                &incident.name_any(),
                &PatchParams::default(),
                &Patch::Merge(word),
            )
            .await
            .context("failed to write the human's word")?;
        Ok(())
    }

    /// A NetworkPolicy of another team that selects the rogue pods.
    pub async fn foreign_policy(&self, name: &str, rules: Value) -> anyhow::Result<()> {
        let spec = with(rules, "podSelector", json!({}));
        let policy = json!({ "metadata": { "name": name }, "spec": spec });
        let policies: Api<NetworkPolicy> = self.env.api();
        policies
            .create(&PostParams::default(), &serde_json::from_value(policy)?)
            .await?;
        Ok(())
    }

    /// Places among all accepted writes of those for which `is` holds.
    pub fn places(&self, is: impl Fn(&Write) -> bool) -> Vec<usize> {
        let writes = self.proxy.writes().into_iter();
        let accepted = writes.filter(|write| write.status.is_success()).enumerate();
        accepted
            .filter(|(_, write)| is(write))
            .map(|(place, _)| place)
            .collect()
    }
}

pub fn conditions(incident: &Incident) -> &[Condition] {
    incident
        .status
        .as_ref()
        .map_or(&[], |status| &status.conditions)
}

pub fn conditions_of_run(run: &AgentRun) -> &[Condition] {
    run.status.as_ref().map_or(&[], |status| &status.conditions)
}

pub fn says(conditions: &[Condition], condition: &str, status: &str, reason: &str) -> bool {
    condition_of(conditions, condition).is_some_and(|c| c.status == status && c.reason == reason)
}

/// The rules of a policy that allows everything out.
pub fn everything_out() -> Value {
    json!({
        "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] }],
    })
}

/// The actions of this kind with their results.
pub fn results(incident: &Incident, kind: ActionKind) -> Vec<ActionResult> {
    let actions = incident.status.iter().flat_map(|status| &status.actions);
    let of_kind = |action: &&ActionRecord| action.kind == kind;
    actions
        .filter(of_kind)
        .map(|action| action.result)
        .collect()
}

/// Whether a write sets this quarantine label.
pub fn sets_label(write: &Write, incident: &str) -> bool {
    let set = write.body.pointer("/metadata/labels");
    set.and_then(|set| set.get(labels::QUARANTINE)) == Some(&json!(incident))
}

/// Whether a write stores a condition of an Incident as True.
pub fn says_true(write: &Write, condition: &str) -> bool {
    let conditions = write.body.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array);
    let is = |said: &Value, field: &str, value: &str| said.get(field) == Some(&json!(value));
    conditions
        .into_iter()
        .flatten()
        .any(|said| is(said, "type", condition) && is(said, "status", "True"))
}

fn brief(conditions: &[Condition]) -> String {
    let words: Vec<_> = conditions
        .iter()
        .map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message))
        .collect();
    words.join(", ")
}

/// The object with one more field.
pub fn with(mut object: Value, field: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    object
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn said(error: kube::Error) -> String {
    error.to_string()
}
