//! Several tenants under one controller: what one of them does leaves the response in the namespaces of others as it was.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use yellowjack::testing::api::{AgentRun, Incident};
use yellowjack_e2e::fixture::{Fixture, SCANNED_HOSTS, has_condition, incident_conditions};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{Operator, TestEnv, with_own_cluster};

/// A controller for all namespaces.
struct Controller {
    env: TestEnv,
    log: EgressLog,
    _operator: Operator,
}

/// A namespace with one run that selects all of its pods.
struct Tenant {
    env: TestEnv,
    number: u8,
}

impl Controller {
    async fn start(env: TestEnv, flags: &[&str]) -> anyhow::Result<Self> {
        let log = EgressLog::create()?;
        let source = log.source();
        let mut arguments = vec!["controller", "--listen", "127.0.0.1:0"];
        arguments.extend(["--source", &source, "--start-at", "beginning"]);
        arguments.extend_from_slice(flags);
        let operator = env.operator(env.cluster.kubeconfig(), &arguments).await?;
        Ok(Self {
            env,
            log,
            _operator: operator,
        })
    }

    async fn tenant(&self, number: u8) -> anyhow::Result<Tenant> {
        let env = self.env.in_another_namespace().await?;
        env.create_run("agents", json!({})).await?;
        Ok(Tenant { env, number })
    }

    /// Creates the pod of this number, and lets it scan once its run has it.
    async fn scan(&self, tenant: &Tenant, pod: u8) -> anyhow::Result<String> {
        let name = format!("agent-{pod}");
        let address = format!("10.244.{}.{pod}", tenant.number);
        tenant.env.create_pod(&name, "agents", &address).await?;
        tenant
            .env
            .until::<AgentRun>("agents", "the pod", |run| {
                let pods = run.status.as_ref().and_then(|status| status.pods.as_ref());
                pods.is_some_and(|pods| pods.total == i32::from(pod))
            })
            .await?;
        self.log
            .scan_hosts(&address, tenant.number, SCANNED_HOSTS)?;
        Ok(name)
    }
}

fn is_decided(incident: &Incident) -> bool {
    let conditions = incident_conditions(incident);
    has_condition(conditions, "Contained", "True", "Isolated")
        || has_condition(conditions, "Contained", "False", "BreakerOpen")
}

#[tokio::test]
async fn a_namespace_of_which_many_pods_cross_holds_back_itself_and_no_other() -> anyhow::Result<()>
{
    with_own_cluster(async |env| {
        let controller = Controller::start(env, &[]).await?;
        let noisy = controller.tenant(1).await?;
        for pod in 1..=7 {
            let name = controller.scan(&noisy, pod).await?;
            noisy
                .env
                .until_incident(&name, "a decision", is_decided)
                .await?;
        }
        let message = noisy
            .env
            .incident_condition("agent-7", "Contained", "False", "BreakerOpen")
            .await?
            .status
            .unwrap_or_default()
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "Contained");
        let message = message.map(|condition| condition.message);
        let message = message.unwrap_or_default();
        assert!(message.starts_with("7 pods of this namespace"), "{message}");

        // The crossings of the noisy namespace count as two.
        for number in 2..=4 {
            let tenant = controller.tenant(number).await?;
            let name = controller.scan(&tenant, 1).await?;
            tenant.env.until_isolated(&name).await?;
        }
        // Pods of many namespaces: a shared cause is likely.
        let late = controller.tenant(5).await?;
        let name = controller.scan(&late, 1).await?;
        late.env
            .incident_condition(&name, "Contained", "False", "BreakerOpen")
            .await?;
        late.env.until_quarantine_label(&name, None).await
    })
    .await
}

#[tokio::test]
async fn one_namespace_cannot_take_all_places_and_a_pod_that_is_being_deleted_takes_none()
-> anyhow::Result<()> {
    with_own_cluster(async |env| {
        let flags = ["--breaker-pods=100", "--max-quarantines=4"];
        let controller = Controller::start(env, &flags).await?;
        let (noisy, other) = (controller.tenant(1).await?, controller.tenant(2).await?);
        for pod in 1..=3 {
            let name = controller.scan(&noisy, pod).await?;
            noisy.env.until_isolated(&name).await?;
        }
        let fourth = controller.scan(&noisy, 4).await?;
        let incident = noisy
            .env
            .incident_condition(&fourth, "Contained", "False", "CapReached")
            .await?;
        let conditions = incident_conditions(&incident);
        let message = conditions
            .iter()
            .find(|condition| condition.type_ == "Contained")
            .map_or("", |condition| condition.message.as_str());
        assert!(
            message.contains("--max-quarantines-per-namespace"),
            "{message}"
        );
        let name = controller.scan(&other, 1).await?;
        other.env.until_isolated(&name).await?;

        // It stays in the API server, with its label.
        let finalizer = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
        noisy.env.patch::<Pod>("agent-1", &finalizer).await?;
        noisy.env.delete_pod("agent-1").await?;
        noisy.env.until_isolated(&fourth).await.map(drop)
    })
    .await
}
