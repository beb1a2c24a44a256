//! The operator under the chart's own roles: they are enough, and no rule of them is idle.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{AgentRun, Incident, condition_is, labels};
use yellowjack_e2e::cluster_policies::definition;
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{Operator, TestEnv, pod, set_pod_ip, wait_for, with_own_cluster};

use crate::helm::{NAMESPACE, apply, install};
use crate::people::account;
use crate::recorder::{Recorder, Use};

const LIMIT: Duration = Duration::from_mins(1);
const NODE: &str = "node-1";
const SCANNED_COUNT: u8 = 60;

/// Rules that no scenario here uses, and why they stay: role, verb, resource, reason.
const IDLE: [(&str, &str, &str, &str); 5] = [
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
];

#[tokio::test]
async fn a_whole_quarantine_and_release_needs_every_rule_and_no_more() -> anyhow::Result<()> {
    with_own_cluster(async |env| {
        let scene = Scene::start(env).await?;
        scene.guards_come_and_go().await?;
        scene.a_pod_is_released().await?;
        scene.a_pod_is_terminated().await?;
        scene.a_job_is_suspended_and_restored().await?;
        scene.an_owner_is_followed().await?;
        for (part, recorder) in [("controller", &scene.controller), ("node", &scene.node)] {
            let forbidden = recorder.forbidden();
            assert!(
                forbidden.is_empty(),
                "the {part}'s role is too small: {forbidden:#?}"
            );
            let idle = idle_rules(&scene.env, part, &recorder.used()).await?;
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

struct Scene {
    env: TestEnv,
    log: EgressLog,
    controller: Recorder,
    node: Recorder,
    _operators: [Operator; 2],
}

impl Scene {
    async fn start(env: TestEnv) -> anyhow::Result<Self> {
        let definition = definition().to_string();
        apply(env.cluster, &definition, &[]).await?;
        install(env.cluster).await?;
        let log = EgressLog::create()?;
        let controller =
            Recorder::start(account(&env, "yellowjack-controller", None).await?).await?;
        let uid = agent_pod(&env).await?;
        let token = account(&env, "yellowjack-node", Some(("agent", &uid))).await?;
        let node = Recorder::start(token).await?;
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

    async fn run(&self, name: &str, spec: &Value) -> anyhow::Result<()> {
        let run = json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "AgentRun",
            "metadata": { "name": name },
            "spec": spec,
        });
        let run: AgentRun = serde_json::from_value(run)?;
        self.env.api().create(&PostParams::default(), &run).await?;
        Ok(())
    }

    async fn pod(&self, name: &str, ip: &str) -> anyhow::Result<()> {
        self.env
            .api()
            .create(&PostParams::default(), &pod(name, &[("app", name)])?)
            .await?;
        set_pod_ip(&self.env.client, &self.env.namespace, name, ip).await?;
        self.run(
            name,
            &json!({ "target": { "selector": { "matchLabels": { "app": name } } } }),
        )
        .await?;
        self.wait_run(name, |run| pod_count(run) == 1).await
    }

    async fn wait_run(&self, name: &str, holds: impl Fn(&AgentRun) -> bool) -> anyhow::Result<()> {
        let runs: Api<AgentRun> = self.env.api();
        wait_for(&format!("run {name}"), LIMIT, async || {
            let run = runs.get(name).await.map_err(|error| error.to_string())?;
            if holds(&run) {
                Ok(())
            } else {
                Err(format!("{:?}", run.status))
            }
        })
        .await
    }

    async fn wait_incident(&self, pod: &str, condition: &str) -> anyhow::Result<Incident> {
        self.wait_incidents(&format!("{condition} of {pod}"), |incident| {
            let status = incident.status.clone().unwrap_or_default();
            incident.spec.subject.name == pod && condition_is(&status.conditions, condition)
        })
        .await
    }

    /// The log of a test jumps ahead of the clock, so the agent must have looked before it does.
    async fn wait_observed(&self, pod: &str) -> anyhow::Result<Incident> {
        self.wait_incidents(&format!("an observation of {pod}"), |incident| {
            incident.spec.subject.name == pod && !incident.spec.observations.is_empty()
        })
        .await
    }

    async fn wait_incidents(
        &self,
        what: &str,
        holds: impl Fn(&Incident) -> bool,
    ) -> anyhow::Result<Incident> {
        let incidents: Api<Incident> = self.env.api();
        wait_for(what, LIMIT, async || {
            let list = incidents.list(&kube::api::ListParams::default()).await;
            let list = list.map_err(|error| error.to_string())?.items;
            let seen = format!("{} Incidents", list.len());
            list.into_iter()
                .find(|incident| holds(incident))
                .ok_or(seen)
        })
        .await
    }

    /// The human's word; the closed record expires after a second.
    async fn decide(&self, incident: &Incident, verdict: &str) -> anyhow::Result<()> {
        let incidents: Api<Incident> = self.env.api();
        let word = json!({ "spec": { "disposition": { "verdict": verdict, "decidedBy": "ana", "justification": "a test" } } });
        let name = incident.name_any();
        incidents
            .patch(&name, &PatchParams::default(), &Patch::Merge(&word))
            .await?;
        wait_for("the record to expire", LIMIT, async || {
            match incidents
                .get_opt(&name)
                .await
                .map_err(|error| error.to_string())?
            {
                None => Ok(()),
                Some(found) => Err(format!("{:?}", found.status)),
            }
        })
        .await
    }

    /// A quota is made and taken back, and a guard of an older name goes.
    async fn guards_come_and_go(&self) -> anyhow::Result<()> {
        let spec = json!({
            "target": { "selector": { "matchLabels": { "app": "guarded" } } },
            "resources": {
                "quota": { "hard": { "limits.cpu": "4", "pods": "10" } },
                "defaults": { "limits": { "cpu": "1" } },
            },
        });
        self.run("guarded", &spec).await?;
        self.wait_run("guarded", |run| says(run, "QuotaBound"))
            .await?;
        let runs: Api<AgentRun> = self.env.api();
        let uid = runs.get("guarded").await?.uid().unwrap_or_default();
        let older = json!({
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
        });
        let policies: Api<NetworkPolicy> = self.env.api();
        policies
            .create(&PostParams::default(), &serde_json::from_value(older)?)
            .await?;
        let none = json!({ "spec": { "resources": null } });
        runs.patch("guarded", &PatchParams::default(), &Patch::Merge(&none))
            .await?;
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
        self.pod("rogue", "10.244.1.66").await?;
        self.log.scan_hosts("10.244.1.66", 0, SCANNED_COUNT)?;
        let incident = self.wait_incident("rogue", "Contained").await?;
        self.wait_observed("rogue").await?;
        self.log.chatter("10.244.2.1", Duration::from_secs(15))?;
        self.wait_incident("rogue", "Verified").await?;
        self.decide(&incident, "Release").await?;
        let pods: Api<Pod> = self.env.api();
        let label = pods
            .get("rogue")
            .await?
            .labels()
            .get(labels::QUARANTINE)
            .cloned();
        assert_eq!(label, None);
        Ok(())
    }

    async fn a_pod_is_terminated(&self) -> anyhow::Result<()> {
        self.pod("doomed", "10.244.1.67").await?;
        self.log.scan_hosts("10.244.1.67", 1, SCANNED_COUNT)?;
        let incident = self.wait_incident("doomed", "Contained").await?;
        self.decide(&incident, "Terminate").await
    }

    async fn a_job_is_suspended_and_restored(&self) -> anyhow::Result<()> {
        let template = json!({ "target": { "template": { "pod": { "spec": {
            "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }],
        }}}}});
        self.run("made", &template).await?;
        let pods: Api<Pod> = self.env.api();
        let chosen = kube::api::ListParams::default()
            .labels("batch.kubernetes.io/job-name=yellowjack-run-made");
        let name = wait_for("the Job's pod", LIMIT, async || {
            let list = pods
                .list(&chosen)
                .await
                .map_err(|error| error.to_string())?;
            list.items
                .first()
                .map(ResourceExt::name_any)
                .ok_or_else(|| "none".to_owned())
        })
        .await?;
        set_pod_ip(&self.env.client, &self.env.namespace, &name, "10.244.1.68").await?;
        self.wait_run("made", |run| pod_count(run) == 1).await?;
        self.log.scan_hosts("10.244.1.68", 2, SCANNED_COUNT)?;
        let incident = self.wait_incident(&name, "Contained").await?;
        self.wait_observed(&name).await?;
        self.log.answered(
            "10.244.1.68",
            jiff::Timestamp::now() + Duration::from_secs(30),
        )?;
        let incidents: Api<Incident> = self.env.api();
        let incident_name = incident.name_any();
        wait_for("the Job to be suspended", LIMIT, async || {
            let found = incidents
                .get(&incident_name)
                .await
                .map_err(|error| error.to_string())?;
            let status = found.status.unwrap_or_default();
            let is_done = status.actions.iter().any(|action| {
                action.kind == yellowjack::testing::api::ActionKind::Suspend
                    && action.result == yellowjack::testing::api::ActionResult::Succeeded
            });
            if is_done {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await?;
        self.decide(&incident, "Release").await
    }

    /// A run whose target is a Deployment, so that owners are read.
    async fn an_owner_is_followed(&self) -> anyhow::Result<()> {
        let deployment = json!({
            "metadata": { "name": "served" },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "app": "served" } },
                "template": {
                    "metadata": { "labels": { "app": "served" } },
                    "spec": { "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }] },
                },
            },
        });
        let deployments: Api<Deployment> = self.env.api();
        deployments
            .create(&PostParams::default(), &serde_json::from_value(deployment)?)
            .await?;
        let owner =
            json!({ "ref": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "served" } });
        self.run("served", &json!({ "target": owner })).await?;
        self.wait_run("served", |run| says(run, "TargetResolved"))
            .await?;
        let read = Use {
            verb: "get".to_owned(),
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
        };
        assert!(self.controller.used().contains(&read));
        Ok(())
    }
}

fn says(run: &AgentRun, condition: &str) -> bool {
    run.status
        .as_ref()
        .is_some_and(|status| condition_is(&status.conditions, condition))
}

fn pod_count(run: &AgentRun) -> i32 {
    let pods = run.status.as_ref().and_then(|status| status.pods.as_ref());
    pods.map_or(0, |pods| pods.total)
}

/// The pod of the agent, to whose node its token is bound.
async fn agent_pod(env: &TestEnv) -> anyhow::Result<String> {
    let mut agent = pod("agent", &[])?;
    if let Some(spec) = agent.spec.as_mut() {
        spec.node_name = Some(NODE.to_owned());
        spec.service_account_name = Some("yellowjack-node".to_owned());
    }
    let pods: Api<Pod> = Api::namespaced(env.client.clone(), NAMESPACE);
    let made = pods
        .create(&PostParams::default(), &agent)
        .await
        .context("failed to make the agent's pod")?;
    Ok(made.uid().unwrap_or_default())
}
