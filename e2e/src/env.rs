//! What one test gets: a client, a namespace of its own with the CRDs installed, and kubectl.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::cluster::TestCluster;
use crate::operator::Operator;
use crate::supervise::log_tail;
use crate::wait::wait_for;

/// The server publishes a CRD within a second; a loaded machine is slower.
const CRD_LIMIT: Duration = Duration::from_mins(1);
const NAMESPACE_LIMIT: Duration = Duration::from_mins(1);

/// A test's part of the cluster.
#[derive(Clone)]
pub struct TestEnv {
    /// The administrator's client, of this test's runtime.
    pub client: Client,
    /// The test's own namespace.
    pub namespace: String,
    /// The cluster.
    pub cluster: &'static TestCluster,
    logs: Arc<Mutex<Vec<PathBuf>>>,
}

impl TestEnv {
    /// Objects of a kind in the test's namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// kubectl in the test's namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend_from_slice(arguments);
        self.cluster.kubectl(&all).await
    }

    /// Starts the operator against the server that `kubeconfig` names. Where the test fails, the
    /// end of its log is shown.
    pub async fn operator(&self, kubeconfig: &Path, args: &[&str]) -> anyhow::Result<Operator> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e-logs");
        std::fs::create_dir_all(&folder).context("failed to make the folder for logs")?;
        let log = folder.join(format!("{}.log", self.namespace));
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(log.clone());
        Operator::start(kubeconfig, args, &log).await
    }

    /// The same cluster with another new namespace, which goes with the cluster.
    pub async fn in_another_namespace(&self) -> anyhow::Result<Self> {
        Ok(Self {
            namespace: make_namespace(&self.client).await?,
            ..self.clone()
        })
    }

    fn show_logs(&self) {
        let mut logs = self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        logs.dedup();
        for log in logs {
            eprintln!("{} ends with:\n{}", log.display(), log_tail(&log, 40));
        }
    }
}

/// Runs a test in a namespace of its own, with the CRDs installed, and deletes the namespace
/// whether the test passes, fails or panics.
pub async fn with_namespace<F>(test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(TestEnv) -> anyhow::Result<()>,
{
    with_namespace_in(TestCluster::shared()?, test).await
}

/// The same in a cluster that no other test sees, for what holds for a whole cluster. It costs some
/// seconds and 300 MiB.
pub async fn with_own_cluster<F>(test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(TestEnv) -> anyhow::Result<()>,
{
    let start = tokio::task::spawn_blocking(TestCluster::own);
    let cluster = start.await.context("the start of the cluster panicked")??;
    // As long as the process, like the shared one: its end is what stops both.
    with_namespace_in(Box::leak(Box::new(cluster)), test).await
}

async fn with_namespace_in<F>(cluster: &'static TestCluster, test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(TestEnv) -> anyhow::Result<()>,
{
    let client = cluster.client().await?;
    install_crds(&client).await?;
    let namespace = make_namespace(&client).await?;
    let env = TestEnv {
        client: client.clone(),
        namespace: namespace.clone(),
        cluster,
        logs: Arc::default(),
    };
    let outcome = AssertUnwindSafe(test(env.clone())).catch_unwind().await;
    if !matches!(outcome, Ok(Ok(()))) {
        env.show_logs();
    }
    // Its contents go in the background: nobody waits for them.
    let namespaces: Api<Namespace> = Api::all(client);
    let deleted = namespaces
        .delete(&namespace, &DeleteParams::default())
        .await;
    match outcome {
        Err(panic) => resume_unwind(panic),
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) => deleted
            .map(|_| ())
            .context("failed to delete the test's namespace"),
    }
}

/// Installs the CRDs as this build has them, and waits until the server serves them. Safe to call
/// from many tests at once.
pub async fn install_crds(client: &Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("yellowjack-e2e").force();
    for crd in yellowjack::testing::api::crds() {
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .with_context(|| format!("failed to install the CRD {name}"))?;
        wait_for(
            &format!("the CRD {name} to be served"),
            CRD_LIMIT,
            async || {
                let stored = api.get(&name).await.map_err(|error| error.to_string())?;
                let conditions = stored
                    .status
                    .and_then(|status| status.conditions)
                    .unwrap_or_default();
                let established = conditions.iter().any(|condition| {
                    condition.type_ == "Established" && condition.status == "True"
                });
                established
                    .then_some(())
                    .ok_or_else(|| format!("conditions {conditions:?}"))
            },
        )
        .await?;
    }
    Ok(())
}

async fn make_namespace(client: &Client) -> anyhow::Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "test-{}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed),
        // Process ids come back, and a namespace of an older run may still be going.
        Timestamp::now().as_millisecond()
    );
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .context("failed to make a namespace")?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
    if has_controllers(client).await {
        wait_for(
            "the namespace's service account",
            NAMESPACE_LIMIT,
            async || {
                accounts
                    .get("default")
                    .await
                    .map_err(|error| error.to_string())
            },
        )
        .await?;
    }
    Ok(name)
}

/// Whether somebody makes service accounts here: `default` has one then.
async fn has_controllers(client: &Client) -> bool {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    accounts.get("default").await.is_ok()
}
