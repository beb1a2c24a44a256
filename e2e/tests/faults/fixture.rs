//! The fixture of every fault scenario: a namespace with a rogue pod under an AgentRun, an egress log, and an
//! operator behind the fault proxy. One operator runs at a time.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{AgentRun, Incident, condition_is, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{Fixture, LIMIT, run_conditions};
use yellowjack_e2e::proxy::FaultProxy;
use yellowjack_e2e::{Operator, TestCluster, install_crds, wait_for};

/// Contacts of a whole scan: well over the 35 that a quarantine takes.
pub const SCAN: u32 = 60;
/// The rogue Job.
pub const ROGUE_JOB: &str = "work";

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

pub struct FaultFixture {
    pub client: Client,
    pub proxy: FaultProxy,
    pub namespace: String,
    /// The rogue pod's address. Each fixture has another one, because the operator remembers pods that ended.
    pub address: String,
    /// The egress log.
    pub log: PathBuf,
    folder: tempfile::TempDir,
    operator: Option<Operator>,
}

impl Fixture for FaultFixture {
    fn client(&self) -> &Client {
        &self.client
    }

    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl FaultFixture {
    /// A namespace with the rogue Job, its pod and its AgentRun. No operator yet.
    pub async fn new(client: &Client) -> anyhow::Result<Self> {
        let fixture = Self::empty(client).await?;
        fixture.create_rogue_job().await?;
        fixture.create_run_of_job("rogue", ROGUE_JOB).await?;
        Ok(fixture)
    }

    /// The same with an operator that reads the log and has the rogue pod in its stores.
    pub async fn started(client: &Client) -> anyhow::Result<Self> {
        let mut fixture = Self::new(client).await?;
        fixture.start_operator().await?;
        fixture.until_guarded("rogue").await?;
        fixture.until_output("state=Reading", 1).await?;
        Ok(fixture)
    }

    /// A namespace with nothing in it.
    pub async fn empty(client: &Client) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("egress.jsonl");
        std::fs::write(&log, "")?;
        let fixture = Self {
            client: client.clone(),
            proxy: FaultProxy::start(client.clone()).await?,
            namespace: format!("faults-{}-{nth}", std::process::id()),
            address: format!("10.244.{}.{}", nth / 250, nth % 250 + 1),
            log,
            folder,
            operator: None,
        };
        fixture.create_namespace().await?;
        Ok(fixture)
    }

    async fn create_namespace(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(json!({ "metadata": { "name": self.namespace }}))?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .context("failed to create a namespace")?;
        // Without its service account a namespace takes no pods.
        self.until::<ServiceAccount>("default", "to exist", |_| true)
            .await
            .map(drop)
    }

    /// Creates the rogue Job, and gives its pod the status that a kubelet would.
    pub async fn create_rogue_job(&self) -> anyhow::Result<()> {
        let template = build::pod_template("agent", "Never");
        self.create(&build::job(ROGUE_JOB, &template, json!({}))?)
            .await?;
        let pod = self.pod_of_job(ROGUE_JOB).await?;
        // A suspended Job deletes its pod. The finalizer keeps the pod, as a slow node would, so that a
        // release has a label to remove.
        let stays = json!({ "metadata": { "finalizers": ["example.com/slow-node"] }});
        self.patch::<Pod>(&pod, &stays).await?;
        self.set_pod_ip(&pod, &self.address).await
    }

    /// Creates an AgentRun over a Job that need not exist.
    pub async fn create_run_of_job(&self, name: &str, job: &str) -> anyhow::Result<()> {
        self.create_run_for(name, build::job_target(job), json!({}))
            .await
            .map(drop)
    }

    /// Starts the operator behind the proxy, and returns its process id.
    pub async fn start_operator(&mut self) -> anyhow::Result<u32> {
        let kubeconfig = self.proxy.kubeconfig();
        let source = format!("ulogd:{}", self.log.display());
        let checkpoints = self.checkpoint_folder().display().to_string();
        let arguments = [
            "controller",
            "--source",
            &source,
            "--checkpoint-dir",
            &checkpoints,
            // This test causes many scans within minutes; they are no sign of a broken cluster.
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
    pub fn checkpoint_folder(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    fn operator_log(&self) -> PathBuf {
        self.folder.path().join("operator.log")
    }

    /// The output of all operators of this fixture.
    pub fn operator_output(&self) -> String {
        std::fs::read_to_string(self.operator_log()).unwrap_or_default()
    }

    /// Waits until the operator has printed a text `count` times.
    pub async fn until_output(&self, text: &str, count: usize) -> anyhow::Result<()> {
        wait_for(&format!("{text:?} in the log"), LIMIT, async || {
            let found = self.operator_output().matches(text).count();
            if found >= count {
                Ok(())
            } else {
                Err(format!("{found} times"))
            }
        })
        .await
    }

    /// Waits until the run's guardrails are stored: from then on the operator has the pod in its stores.
    pub async fn until_guarded(&self, run: &str) -> anyhow::Result<()> {
        self.until(run, "TargetResolved=True", |run: &AgentRun| {
            condition_is(run_conditions(run), "TargetResolved")
        })
        .await
        .with_context(|| self.operator_output())?;
        self.until::<NetworkPolicy>(labels::STANDING_DENY, "to exist", |_| true)
            .await
            .map(drop)
    }

    /// Bytes in the log.
    pub fn log_size(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(&self.log)?.len())
    }

    /// Waits until the checkpoint shows that everything up to this offset is read and processed.
    pub async fn until_read(&self, size: u64) -> anyhow::Result<()> {
        let folder = self.checkpoint_folder();
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

    /// Waits until a signal has ended the operator.
    pub async fn until_killed(&mut self) -> anyhow::Result<()> {
        let mut operator = self.operator.take().context("no operator runs")?;
        let code = operator.ended(LIMIT).await?;
        ensure!(code.is_none(), "it ended with exit code {code:?}");
        Ok(())
    }

    /// Sends SIGTERM, and waits until the operator has ended with success.
    pub async fn stop_operator(&mut self) -> anyhow::Result<()> {
        let mut operator = self.operator.take().context("no operator runs")?;
        operator.signal("TERM")?;
        let code = operator.ended(LIMIT).await?;
        ensure!(code == Some(0), "it ended with {code:?}");
        Ok(())
    }

    /// Sends a signal to the operator.
    pub fn operator_signal(&self, name: &str) -> anyhow::Result<()> {
        self.operator
            .as_ref()
            .context("no operator runs")?
            .signal(name)
    }

    /// The operator's process id.
    pub fn operator_pid(&self) -> Option<u32> {
        self.operator.as_ref().map(Operator::pid)
    }

    /// Appends to the egress log.
    pub fn append(&self, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        file.write_all(text.as_ref())?;
        Ok(())
    }

    /// Waits until the rogue pod has the label of the one Incident.
    pub async fn until_quarantined(&self) -> anyhow::Result<Incident> {
        let incident = self
            .until_any_incident("the quarantine", |incident| {
                let status = incident.status.as_ref();
                status.is_some_and(|status| !status.actions.is_empty())
            })
            .await?;
        let pod = self.rogue_pod().await?.name_any();
        self.until_quarantine_label(&pod, Some(&incident.name_any()))
            .await?;
        ensure!(self.incidents().await?.len() == 1, "more than one Incident");
        Ok(incident)
    }

    /// Waits for the quarantine and until the whole log is read; then stops the operator.
    pub async fn stop_after_quarantine(&mut self) -> anyhow::Result<()> {
        self.until_quarantined()
            .await
            .with_context(|| self.operator_output())?;
        self.until_read(self.log_size()?).await?;
        self.stop_operator().await
    }

    /// The quarantine label of the rogue pod.
    pub async fn quarantine_label(&self) -> anyhow::Result<Option<String>> {
        let pod = self.rogue_pod().await?;
        Ok(pod.labels().get(labels::QUARANTINE).cloned())
    }

    /// The rogue pod: the only one with an address.
    pub async fn rogue_pod(&self) -> anyhow::Result<Pod> {
        let list = self.api::<Pod>().list(&ListParams::default()).await?;
        let has_address = |pod: &Pod| {
            let address = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
            address == Some(&self.address)
        };
        let found = list.items.into_iter().find(has_address);
        found.context("the rogue pod is gone")
    }

    /// `spec.suspend` of the rogue Job.
    pub async fn job_suspend(&self) -> anyhow::Result<Option<bool>> {
        let job = self.get::<Job>(ROGUE_JOB).await?;
        Ok(job.spec.and_then(|spec| spec.suspend))
    }

    /// Ends the operator and deletes the namespace, in the background.
    pub async fn delete(mut self) -> anyhow::Result<()> {
        drop(self.operator.take());
        for pod in self.api::<Pod>().list(&ListParams::default()).await? {
            let free = json!({ "metadata": { "finalizers": null }});
            // A pod that is gone by now needs no patch.
            drop(self.patch::<Pod>(&pod.name_any(), &free).await);
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        Ok(())
    }
}

impl Drop for FaultFixture {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("YELLOWJACK_SHOW_LOGS").is_some() {
            eprintln!(
                "--- log of the operator in {}\n{}",
                self.namespace,
                self.operator_output()
            );
        }
    }
}
