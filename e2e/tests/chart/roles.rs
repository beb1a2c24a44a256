//! The operator under the chart's own roles: they are enough, and no rule of them is idle.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{
    ActionKind, ActionResult, AgentRun, Incident, condition_is, labels,
};
use yellowjack_e2e::build;
use yellowjack_e2e::cilium;
use yellowjack_e2e::cluster_policies::definition;
use yellowjack_e2e::fixture::{
    Fixture, LIMIT, action_results, incident_conditions, run_conditions,
};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{Operator, TestEnv, wait_for, with_own_cluster};

use crate::helm::{NAMESPACE, apply, install};
use crate::people::{account, agent_on_node};
use crate::recorder::{Recorder, Use};

const NODE: &str = "node-1";
const SCANNED_COUNT: u8 = 60;

/// Rules that no scenario here uses, and why they stay: role, verb, resource, reason.
const IDLE: [(&str, &str, &str, &str); 7] = [
    (
        "controller",
        "patch",
        "events",
        "only where the same is said again within minutes",
    ),
    (
        "controller",
        "get",
        "agentruns",
        "only for a run that cannot be decoded, which the CRD's schema keeps out",
    ),
    (
        "controller",
        "update",
        "agentruns/finalizers",
        "asked for by an admission plugin that is off here",
    ),
    (
        "controller",
        "delete",
        "contactreports",
        "only for reports that are empty or old",
    ),
    (
        "controller",
        "patch",
        "clusternetworkpolicies",
        "only where somebody changed the standing deny",
    ),
    (
        "controller",
        "patch",
        "ciliumclusterwidenetworkpolicies",
        "only where somebody changed the standing deny",
    ),
    (
        "controller",
        "list",
        "ciliumendpoints",
        "only where all pods of a run are isolated",
    ),
];

#[tokio::test]
async fn a_whole_quarantine_and_release_needs_every_rule_and_no_more() -> anyhow::Result<()> {
    with_own_cluster(async |env| {
        let fixture = ChartFixture::start(env).await?;
        fixture.guards_come_and_go().await?;
        fixture.a_pod_is_released().await?;
        fixture.a_pod_is_terminated().await?;
        fixture.a_job_is_suspended_and_restored().await?;
        fixture.an_owner_is_followed().await?;
        for (part, recorder) in [("controller", &fixture.controller), ("node", &fixture.node)] {
            let forbidden = recorder.forbidden();
            assert!(
                forbidden.is_empty(),
                "the {part}'s role is too small: {forbidden:#?}"
            );
            let idle = idle_rules(&fixture.env, part, &recorder.used()).await?;
            assert!(
                idle.is_empty(),
                "the {part}'s role has rules that nothing used: {idle:#?}"
            );
        }
        Ok(())
    })
    .await
}

/// Rules of a part's role that were not used, less those of `IDLE`.
async fn idle_rules(
    env: &TestEnv,
    part: &str,
    used: &BTreeSet<Use>,
) -> anyhow::Result<Vec<String>> {
    let name = format!("yellowjack-{part}");
    let roles: Api<ClusterRole> = Api::all(env.client.clone());
    let everywhere = roles.get(&name).await?.rules;
    let roles: Api<Role> = Api::namespaced(env.client.clone(), NAMESPACE);
    let own = roles.get(&name).await?.rules;
    let mut idle = Vec::new();
    for rule in everywhere.into_iter().chain(own).flatten() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    let wanted = Use {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                    };
                    let is_known = IDLE
                        .iter()
                        .any(|(role, v, r, _)| *role == part && v == verb && r == resource);
                    if !used.contains(&wanted) && !is_known {
                        idle.push(format!("{verb} {group}/{resource}"));
                    }
                }
            }
        }
    }
    Ok(idle)
}

struct ChartFixture {
    env: TestEnv,
    log: EgressLog,
    controller: Recorder,
    node: Recorder,
    _operators: [Operator; 2],
}

impl ChartFixture {
    async fn start(env: TestEnv) -> anyhow::Result<Self> {
        let definition = definition().to_string();
        apply(env.cluster, &definition, &[]).await?;
        cilium::serve(&env.client).await?;
        install(env.cluster).await?;
        let log = EgressLog::create()?;
        let controller =
            Recorder::start(account(&env, "yellowjack-controller", None).await?).await?;
        let agent = agent_on_node(&env, "agent", NODE).await?;
        let node = Recorder::start(agent).await?;
        let arguments = [
            "controller",
            "--incident-ttl=1s",
            "--leader-elect",
            "--replica-name=first",
        ];
        let first = env.operator(&controller.kubeconfig(), &arguments).await?;
        let source = log.source();
        let mut arguments = vec!["node", "--node-name", NODE, "--all-pods"];
        arguments.extend(["--source", &source, "--start-at", "beginning"]);
        let second = env.operator(&node.kubeconfig(), &arguments).await?;
        Ok(Self {
            env,
            log,
            controller,
            node,
            _operators: [first, second],
        })
    }

    /// Creates a pod and a run over it.
    async fn pod_with_run(&self, name: &str, ip: &str) -> anyhow::Result<()> {
        let pod = build::pod_on_node(name, name, NODE)?;
        self.env.start_pod(&pod, ip).await?;
        self.env.create_run(name, json!({})).await?;
        self.until_one_pod(name).await
    }

    /// Binds a pod to the agent's node, as the scheduler would.
    async fn bind(&self, pod: &str) -> anyhow::Result<()> {
        let namespace = &self.env.namespace;
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod },
            "target": { "apiVersion": "v1", "kind": "Node", "name": NODE },
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding");
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes())?;
        self.env.client.request_text(request).await?;
        Ok(())
    }

    /// Waits until the controller has counted one pod of the run.
    async fn until_one_pod(&self, run: &str) -> anyhow::Result<()> {
        self.env
            .until(run, "one pod", |run: &AgentRun| {
                let pods = run.status.as_ref().and_then(|status| status.pods.as_ref());
                pods.is_some_and(|pods| pods.total == 1)
            })
            .await
            .map(drop)
    }

    /// Waits until a condition of the run is True.
    async fn until_run_condition(&self, run: &str, condition: &str) -> anyhow::Result<()> {
        self.env
            .until(run, condition, |run: &AgentRun| {
                condition_is(run_conditions(run), condition)
            })
            .await
            .map(drop)
    }

    /// Waits until a condition of the pod's Incident is True.
    async fn until_condition(&self, pod: &str, condition: &str) -> anyhow::Result<Incident> {
        self.env
            .until_incident(pod, condition, |incident| {
                condition_is(incident_conditions(incident), condition)
            })
            .await
    }

    /// Waits for an observation: the log of a test jumps ahead of the clock, so the agent must have written its
    /// observation before that.
    async fn until_observed(&self, pod: &str) -> anyhow::Result<Incident> {
        self.env
            .until_incident(pod, "an observation", |incident| {
                !incident.spec.observations.is_empty()
            })
            .await
    }

    /// Writes a human's decision, and waits until the closed Incident has expired, after a second.
    async fn decide(&self, incident: &Incident, verdict: &str) -> anyhow::Result<()> {
        self.env.decide(incident, verdict).await?;
        self.env.until_gone::<Incident>(&incident.name_any()).await
    }

    /// Has Cilium know the pod `rogue` by its label, its run and these labels.
    async fn set_identity(&self, more: &[(&str, &str)]) -> anyhow::Result<()> {
        let own = [&[("app", "rogue"), (labels::RUN, "rogue")], more].concat();
        let (client, namespace) = (&self.env.client, &self.env.namespace);
        cilium::set_identity(client, namespace, "rogue", &own).await
    }

    /// A quota is made and taken back, and a guard of an older name goes.
    async fn guards_come_and_go(&self) -> anyhow::Result<()> {
        let spec = json!({
            "resources": {
                "quota": { "hard": { "limits.cpu": "4", "pods": "10" } },
                "defaults": { "limits": { "cpu": "1" } },
            },
        });
        self.env.create_run("guarded", spec).await?;
        self.until_run_condition("guarded", "QuotaBound").await?;
        let run = self.env.get::<AgentRun>("guarded").await?;
        let uid = run.uid().unwrap_or_default();
        let older: NetworkPolicy = serde_json::from_value(json!({
            "metadata": {
                "name": "yellowjack-run-older",
                "labels": {
                    labels::MANAGED_BY: labels::MANAGED_BY_VALUE,
                    labels::RUN: "guarded",
                    labels::RUN_UID: uid,
                },
                "ownerReferences": [{
                    "apiVersion": "yellowjack.dev/v1alpha1",
                    "kind": "AgentRun",
                    "name": "guarded",
                    "uid": uid,
                    "controller": true,
                }],
            },
            "spec": { "podSelector": { "matchLabels": { "app": "guarded" } } },
        }))?;
        self.env.create(&older).await?;
        let none = json!({ "spec": { "resources": null } });
        self.env.patch::<AgentRun>("guarded", &none).await?;
        let name = "yellowjack-run-guarded";
        wait_for("the old guards to go", LIMIT, async || {
            let kinds = "resourcequotas,limitranges,networkpolicies";
            let listed = self.env.kubectl(&["get", kinds, "--output=name"]).await;
            let listed = listed.map_err(|error| format!("{error:#}"))?;
            let is_left = |kind: &str, name: &str| listed.contains(&format!("{kind}/{name}"));
            let left = is_left("resourcequota", name)
                || is_left("limitrange", name)
                || listed.contains("yellowjack-run-older");
            if left { Err(listed) } else { Ok(()) }
        })
        .await
    }

    async fn a_pod_is_released(&self) -> anyhow::Result<()> {
        self.pod_with_run("rogue", "10.244.1.66").await?;
        self.set_identity(&[]).await?;
        self.log.scan_hosts("10.244.1.66", 0, SCANNED_COUNT)?;
        let incident = self.until_condition("rogue", "Contained").await?;
        self.set_identity(&[(labels::QUARANTINE, &incident.name_any())])
            .await?;
        self.env
            .until_incident("rogue", "no policy of its own", |incident| {
                let status = incident.status.as_ref();
                let known = status.and_then(|status| status.cilium.as_ref());
                known.is_some_and(|known| known.interim_identities.is_empty())
            })
            .await?;
        self.until_observed("rogue").await?;
        self.log.chatter("10.244.2.1", Duration::from_secs(15))?;
        self.until_condition("rogue", "Verified").await?;
        // A deleted one is made again.
        let name = incident.name_any();
        let incidents = self.env.api::<Incident>();
        incidents.delete(&name, &DeleteParams::default()).await?;
        let again = self
            .env
            .until::<Incident>(&name, "another one", |found| found.uid() != incident.uid())
            .await?;
        self.decide(&again, "Release").await?;
        let pod = self.env.get::<Pod>("rogue").await?;
        assert_eq!(pod.labels().get(labels::QUARANTINE), None);
        Ok(())
    }

    async fn a_pod_is_terminated(&self) -> anyhow::Result<()> {
        self.pod_with_run("doomed", "10.244.1.67").await?;
        self.log.scan_hosts("10.244.1.67", 1, SCANNED_COUNT)?;
        let incident = self.until_condition("doomed", "Contained").await?;
        self.env.decide(&incident, "Terminate").await?;
        self.env
            .until::<Pod>("doomed", "being deleted", |pod| {
                pod.metadata.deletion_timestamp.is_some()
            })
            .await?;
        // There is no kubelet that would end it.
        self.env.delete_pod("doomed").await?;
        self.env.until_gone::<Incident>(&incident.name_any()).await
    }

    async fn a_job_is_suspended_and_restored(&self) -> anyhow::Result<()> {
        self.env
            .create_run_for("made", build::template_target(), json!({}))
            .await?;
        let name = self.env.pod_of_job("yellowjack-run-made").await?;
        self.bind(&name).await?;
        self.env.set_pod_ip(&name, "10.244.1.68").await?;
        self.until_one_pod("made").await?;
        self.log.scan_hosts("10.244.1.68", 2, SCANNED_COUNT)?;
        let incident = self.until_condition(&name, "Contained").await?;
        self.until_observed(&name).await?;
        self.log.answered(
            "10.244.1.68",
            jiff::Timestamp::now() + Duration::from_secs(30),
        )?;
        self.env
            .until_incident(&name, "the Job to be suspended", |incident| {
                action_results(incident, ActionKind::Suspend).contains(&ActionResult::Succeeded)
            })
            .await?;
        self.decide(&incident, "Release").await
    }

    /// A run whose target is a Deployment, so that owners are read.
    async fn an_owner_is_followed(&self) -> anyhow::Result<()> {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": { "name": "served" },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "app": "served" } },
                "template": build::pod_template("served", "Always"),
            },
        }))?;
        self.env.create(&deployment).await?;
        let owner =
            json!({ "ref": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "served" } });
        self.env.create_run_for("served", owner, json!({})).await?;
        self.until_run_condition("served", "TargetResolved").await?;
        let read = Use {
            verb: "get".to_owned(),
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
        };
        assert!(self.controller.used().contains(&read));
        Ok(())
    }
}
