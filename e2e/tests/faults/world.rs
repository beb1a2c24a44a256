//! What every fault scenario has: a namespace, a rogue pod under an AgentRun, an egress log, and
//! the operator behind the fault proxy. One operator is alive at a time.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{AgentRun, Incident, condition_of, labels};
use yellowjack_e2e::proxy::FaultProxy;
use yellowjack_e2e::{Operator, TestCluster, install_crds, set_pod_ip, wait_for};

pub const LIMIT: Duration = Duration::from_mins(1);
/// Contacts of a whole scan: well over the 35 that a quarantine takes.
pub const SCAN: u32 = 60;
const JOB: &str = "work";

/// Held by each test: the operator watches the whole cluster, so that only one may run at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test in the cluster of this process with its CRDs installed.
pub fn in_cluster(test: impl AsyncFnOnce(Client) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let _alone = alone();
    let cluster = TestCluster::shared()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let client = cluster.client().await?;
        install_crds(&client).await?;
        test(client).await
    })
}

pub struct World {
    pub client: Client,
    pub proxy: FaultProxy,
    pub namespace: String,
    /// The rogue pod's address, its own in each world: the index remembers pods that ended.
    pub address: String,
    /// The egress log.
    pub log: PathBuf,
    folder: tempfile::TempDir,
    operator: Option<Operator>,
}

impl World {
    /// A namespace with the rogue Job, its pod and its AgentRun. No operator yet.
    pub async fn new(client: &Client) -> anyhow::Result<Self> {
        let world = Self::empty(client).await?;
        world.make_job().await?;
        world.make_run("rogue").await?;
        Ok(world)
    }

    /// A namespace with nothing in it.
    pub async fn empty(client: &Client) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("egress.jsonl");
        std::fs::write(&log, "")?;
        let world = Self {
            client: client.clone(),
            proxy: FaultProxy::start(client.clone()).await?,
            namespace: format!("faults-{}-{nth}", std::process::id()),
            address: format!("10.244.{}.{}", nth / 250, nth % 250 + 1),
            log,
            folder,
            operator: None,
        };
        world.make_namespace().await?;
        Ok(world)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn make_namespace(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(json!({ "metadata": { "name": self.namespace }}))?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .context("failed to make a namespace")?;
        // Without its service account a namespace takes no pods.
        let accounts: Api<ServiceAccount> = self.api();
        wait_for("the service account", LIMIT, async || {
            let account = accounts.get("default").await;
            account.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    /// The rogue Job, and its pod as a kubelet would have started it.
    pub async fn make_job(&self) -> anyhow::Result<()> {
        let job: Job = serde_json::from_value(json!({
            "metadata": { "name": JOB },
            "spec": { "template": { "metadata": { "labels": { "app": "agent" }}, "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }],
            }}},
        }))?;
        let jobs: Api<Job> = self.api();
        jobs.create(&PostParams::default(), &job).await?;
        let pods: Api<Pod> = self.api();
        let pod = wait_for("the Job's pod", LIMIT, async || {
            let list = pods.list(&ListParams::default()).await;
            let first = list.map_err(|error| error.to_string())?.items.pop();
            first.ok_or_else(|| "no pod".to_owned())
        })
        .await?;
        // A suspended Job deletes its pod. As on a node that is slow to end it, the pod stays for a
        // while, so that a release has a label to take off.
        let stays = json!({ "metadata": { "finalizers": ["example.com/slow-node"] }});
        pods.patch(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(&stays),
        )
        .await?;
        set_pod_ip(
            &self.client,
            &self.namespace,
            &pod.name_any(),
            &self.address,
        )
        .await?;
        Ok(())
    }

    /// An AgentRun over the rogue Job.
    pub async fn make_run(&self, name: &str) -> anyhow::Result<()> {
        self.make_run_of(name, JOB).await
    }

    /// An AgentRun over a Job that need not be there.
    pub async fn make_run_of(&self, name: &str, job: &str) -> anyhow::Result<()> {
        let run: AgentRun = serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "AgentRun",
            "metadata": { "name": name },
            "spec": { "target": { "ref": {
                "apiVersion": "batch/v1", "kind": "Job", "name": job,
            }}},
        }))?;
        let runs: Api<AgentRun> = self.api();
        runs.create(&PostParams::default(), &run)
            .await
            .context("failed to make the AgentRun")?;
        Ok(())
    }

    /// Somebody else's policy that lets the pod out: policies are a union, so isolation alone
    /// cannot hold.
    pub async fn widen(&self) -> anyhow::Result<()> {
        let policy = serde_json::from_value(json!({
            "metadata": { "name": "legacy-allow-all" },
            "spec": { "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] },
        }))?;
        let policies: Api<NetworkPolicy> = self.api();
        policies.create(&PostParams::default(), &policy).await?;
        Ok(())
    }

    /// Starts the operator behind the proxy.
    pub async fn start(&mut self) -> anyhow::Result<u32> {
        let kubeconfig = self.proxy.kubeconfig();
        let source = format!("ulogd:{}", self.log.display());
        let checkpoints = self.checkpoints().display().to_string();
        let arguments = [
            "controller",
            "--source",
            &source,
            "--checkpoint-dir",
            &checkpoints,
            // Many scans within minutes are this test's doing, and no sign of a broken cluster.
            "--breaker-pods=100000",
            "--max-quarantines=100000",
            "--actions-per-second=1000",
        ];
        let operator = Operator::start(&kubeconfig, &arguments, &self.operator_log()).await?;
        let pid = operator.pid();
        self.operator = Some(operator);
        Ok(pid)
    }

    /// The folder of `--checkpoint-dir`.
    pub fn checkpoints(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    fn operator_log(&self) -> PathBuf {
        self.folder.path().join("operator.log")
    }

    /// Everything that the operators of this world printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.operator_log()).unwrap_or_default()
    }

    /// Waits until the operator has printed a text `count` times.
    pub async fn wait_until_printed(&self, text: &str, count: usize) -> anyhow::Result<()> {
        wait_for(&format!("{text:?} in the log"), LIMIT, async || {
            let seen = self.printed().matches(text).count();
            if seen >= count {
                Ok(())
            } else {
                Err(format!("{seen} times"))
            }
        })
        .await
    }

    /// Waits until the run's guardrails are stored: from then on the operator knows the pod.
    pub async fn wait_until_ready(&self, run: &str) -> anyhow::Result<()> {
        let outcome = self
            .wait_until_condition(run, "TargetResolved", "True")
            .await;
        outcome.with_context(|| self.printed())?;
        let policies: Api<NetworkPolicy> = self.api();
        wait_for("the standing deny", LIMIT, async || {
            let deny = policies.get(labels::STANDING_DENY).await;
            deny.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    /// Waits until a condition of a run has this status.
    pub async fn wait_until_condition(
        &self,
        run: &str,
        condition: &str,
        status: &str,
    ) -> anyhow::Result<()> {
        let runs: Api<AgentRun> = self.api();
        wait_for(&format!("{condition} of {run}"), LIMIT, async || {
            let run = runs.get(run).await.map_err(|error| error.to_string())?;
            let conditions = run.status.map(|s| s.conditions).unwrap_or_default();
            let is_so = condition_of(&conditions, condition).is_some_and(|c| c.status == status);
            is_so.then_some(()).ok_or_else(|| format!("{conditions:?}"))
        })
        .await
    }

    /// Bytes in the log.
    pub fn size(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(&self.log)?.len())
    }

    /// Waits until the checkpoint says that the log was read and dealt with up to here.
    pub async fn wait_until_read(&self, size: u64) -> anyhow::Result<()> {
        let folder = self.checkpoints();
        let wanted = format!("\"offset\":{size}");
        wait_for("the log to be read", LIMIT, async || {
            let files = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
            let texts: Vec<_> = files
                .flatten()
                .filter_map(|file| std::fs::read_to_string(file.path()).ok())
                .collect();
            let is_read = texts.iter().any(|text| text.contains(&wanted));
            is_read
                .then_some(())
                .ok_or_else(|| format!("{size}: {texts:?}"))
        })
        .await
    }

    /// Waits until the operator has died by a signal.
    pub async fn wait_until_dead(&mut self) -> anyhow::Result<()> {
        let mut operator = self.operator.take().context("no operator runs")?;
        let code = operator.ended(LIMIT).await?;
        ensure!(code.is_none(), "it ended with exit code {code:?}");
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut operator = self.operator.take().context("no operator runs")?;
        let pid = operator.pid().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "kill", &pid])
            .status()?;
        ensure!(sent.success(), "the operator is not there any more");
        let code = operator.ended(LIMIT).await?;
        ensure!(code == Some(0), "it ended with {code:?}");
        Ok(())
    }

    /// The operator's process id.
    pub fn pid(&self) -> Option<u32> {
        self.operator.as_ref().map(Operator::pid)
    }

    /// Appends to the egress log.
    pub fn write(&self, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        file.write_all(text.as_ref())?;
        Ok(())
    }

    pub async fn incidents(&self) -> anyhow::Result<Vec<Incident>> {
        let incidents: Api<Incident> = self.api();
        Ok(incidents.list(&ListParams::default()).await?.items)
    }

    /// Waits until there is an Incident of which `is_so` holds, and returns it.
    pub async fn wait_for_incident(
        &self,
        what: &str,
        is_so: impl Fn(&Incident) -> bool,
    ) -> anyhow::Result<Incident> {
        wait_for(what, LIMIT, async || {
            let all = self.incidents().await;
            let all = all.map_err(|error| format!("{error:#}"))?;
            let seen = format!("{all:?}");
            all.into_iter().find(|incident| is_so(incident)).ok_or(seen)
        })
        .await
    }

    /// Waits until the rogue pod carries the label of the one Incident.
    pub async fn wait_for_quarantine(&self) -> anyhow::Result<Incident> {
        let incident = self
            .wait_for_incident("the quarantine", |incident| {
                let status = incident.status.as_ref();
                status.is_some_and(|status| !status.actions.is_empty())
            })
            .await?;
        let name = incident.name_any();
        wait_for("the label", LIMIT, async || {
            let label = self.label().await.map_err(|error| format!("{error:#}"))?;
            if label.as_ref() == Some(&name) {
                Ok(())
            } else {
                Err(format!("{label:?}"))
            }
        })
        .await?;
        ensure!(self.incidents().await?.len() == 1, "more than one Incident");
        Ok(incident)
    }

    /// The quarantine label of the rogue pod, which has an address as the only one.
    pub async fn label(&self) -> anyhow::Result<Option<String>> {
        let pod = self.rogue_pod().await?;
        Ok(pod.labels().get(labels::QUARANTINE).cloned())
    }

    pub async fn rogue_pod(&self) -> anyhow::Result<Pod> {
        let pods: Api<Pod> = self.api();
        let list = pods.list(&ListParams::default()).await?;
        let has_address = |pod: &Pod| {
            let address = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
            address == Some(&self.address)
        };
        let found = list.items.into_iter().find(has_address);
        found.context("the rogue pod is gone")
    }

    /// `spec.suspend` of the rogue Job.
    pub async fn suspended(&self) -> anyhow::Result<Option<bool>> {
        let jobs: Api<Job> = self.api();
        Ok(jobs.get(JOB).await?.spec.and_then(|spec| spec.suspend))
    }

    /// A human's word.
    pub async fn release(&self, incident: &Incident) -> anyhow::Result<()> {
        let word = json!({ "spec": { "disposition": {
            "verdict": "Release", "decidedBy": "ana@example.com", "justification": "a check of our own",
        }}});
        let incidents: Api<Incident> = self.api();
        incidents
            .patch(
                &incident.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&word),
            )
            .await
            .context("failed to release")?;
        Ok(())
    }

    /// Ends the operator and deletes the namespace, in the background.
    pub async fn end(mut self) -> anyhow::Result<()> {
        drop(self.operator.take());
        let pods: Api<Pod> = self.api();
        for pod in pods.list(&ListParams::default()).await? {
            let free = json!({ "metadata": { "finalizers": null }});
            let params = PatchParams::default();
            let freed = pods
                .patch(&pod.name_any(), &params, &Patch::Merge(&free))
                .await;
            // Gone meanwhile is as good.
            drop(freed);
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("YELLOWJACK_SHOW_LOGS").is_some() {
            eprintln!(
                "--- log of the operator in {}\n{}",
                self.namespace,
                self.printed()
            );
        }
    }
}
