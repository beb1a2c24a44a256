//! Connections that were open before the quarantine: a reverse SSH tunnel, and one that somebody
//! outside opened into the pod. Where established connections survive the deny, the ladder ends them.

use anyhow::ensure;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use yellowjack::testing::api::{ActionKind, ActionRecord, ActionResult};
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::node::{Arrival, SERVER_IP_V6, SSH_IP};
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::wait_for;

use crate::fixture::{
    LATER_GATE_PORT, NodeFixture, REFUSING_NETWORK, Rogue, gate, with_node_fixture,
};

/// The port that the pod listens on.
const LISTENED: u16 = 7000;
/// Packets after which a connection counts as open and in use.
const OPEN_PACKETS: usize = 20;

/// What a pod does: this in the background, and behind the second gate a scan, over and over.
pub fn with_scan(background: &str) -> String {
    format!(
        "( while true; do {background}; sleep 1; done ) &\n{}\n\
         while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done",
        gate(LATER_GATE_PORT)
    )
}

/// Whether the pod's Job is suspended.
pub async fn is_suspended(fixture: &NodeFixture) -> anyhow::Result<bool> {
    let jobs: Api<Job> = fixture.api();
    let job = jobs.get("work").await?;
    Ok(job.spec.and_then(|spec| spec.suspend) == Some(true))
}

/// A reverse tunnel to this server.
pub fn ssh(server: &str) -> String {
    format!("dbclient -y -K 1 -i /etc/tunnel_key -N -R 7022:127.0.0.1:22 {server}")
}

/// Waits until the connection is open and packets of it arrive.
pub async fn in_use(
    fixture: &NodeFixture,
    rogue: &Rogue,
    is_open: impl Fn(&Arrival) -> bool,
) -> anyhow::Result<()> {
    wait_for("the connection to be in use", LIMIT, async || {
        let seen = fixture.arrivals_of(rogue).map_err(|e| format!("{e:#}"))?;
        let count = seen.iter().filter(|arrival| is_open(arrival)).count();
        if count >= OPEN_PACKETS {
            Ok(())
        } else {
            Err(format!("{count} packets"))
        }
    })
    .await
}

/// Follows a pod whose connection is open until it is cut off, and keeps the row.
async fn follow(
    fixture: &NodeFixture,
    name: &str,
    rogue: &Rogue,
    is_open: impl Fn(&Arrival) -> bool,
) -> anyhow::Result<()> {
    in_use(fixture, rogue, &is_open).await?;
    fixture
        .open_gate_at(&rogue.address, LATER_GATE_PORT)
        .await?;
    fixture.until_labelled(&rogue.pod).await?;
    let pods: Api<Pod> = fixture.api();
    match fixture.mode {
        StandinMode::Connection => {
            let ended = ["PodGone", "OwnerSuspended"];
            fixture
                .incident_condition_in(&rogue.pod, "Contained", "True", &ended)
                .await?;
            wait_for("the pod to be gone", LIMIT, async || {
                match pods.get_opt(&rogue.pod).await {
                    Ok(None) => Ok(()),
                    other => Err(format!("{:?}", other.map(|_| "it is there"))),
                }
            })
            .await?;
            ensure!(is_suspended(fixture).await?, "the Job is not suspended");
        }
        StandinMode::Packet => {
            fixture
                .incident_condition(&rogue.pod, "Verified", "True", "Verified")
                .await?;
            ensure!(
                !is_suspended(fixture).await?,
                "the Job was suspended for nothing"
            );
            let pod = pods.get(&rogue.pod).await?;
            ensure!(
                pod.metadata.deletion_timestamp.is_none(),
                "the pod was deleted for nothing"
            );
            fixture.until_retry(rogue).await?;
        }
    }
    fixture.until_silent(rogue).await?;
    let row = fixture.measure(name, rogue, &is_open)?;
    fixture.conclude(row).await
}

async fn tunnel(mode: StandinMode) -> anyhow::Result<()> {
    with_node_fixture(mode, &[], async |fixture| {
        let rogue = fixture.start_rogue_job(&with_scan(&ssh(SSH_IP))).await?;
        follow(
            fixture,
            "reverse SSH tunnel, and a scan",
            &rogue,
            |arrival| arrival.to == SSH_IP,
        )
        .await
    })
    .await
}

/// The pod of a suspended Job has its grace period, by default 30 s, and a shell as the first process
/// ignores SIGTERM.
#[tokio::test]
async fn a_tunnel_that_survives_is_dead_long_before_the_grace_period_ends() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Connection, &[], async |fixture| {
        let rogue = fixture
            .create_rogue_job(&with_scan(&ssh(SSH_IP)), 30)
            .await?;
        fixture.open_gate(&rogue.address).await?;
        let is_open = |arrival: &Arrival| arrival.to == SSH_IP;
        in_use(fixture, &rogue, is_open).await?;
        fixture
            .open_gate_at(&rogue.address, LATER_GATE_PORT)
            .await?;
        fixture
            .incident_condition(&rogue.pod, "Contained", "True", "PodGone")
            .await?;
        fixture.until_silent(&rogue).await?;
        let mut row = fixture.measure("tunnel, grace period of 30 s", &rogue, is_open)?;
        row.mode = "connection, graceful".to_owned();
        let incident = fixture
            .incident_condition(&rogue.pod, "Contained", "True", "PodGone")
            .await?;
        let status = incident.status.unwrap_or_default();
        let is_hastened = |action: &ActionRecord| {
            action.kind == ActionKind::Suspend
                && action.result == ActionResult::Succeeded
                && action.message.contains("has 1 s")
        };
        ensure!(
            status.capture.is_some() && status.actions.iter().any(is_hastened),
            "the pod was not captured and hastened: {:?}",
            status.actions
        );
        fixture.conclude(row).await
    })
    .await
}

#[tokio::test]
async fn a_tunnel_that_survives_the_deny_is_dead_by_the_ladder() -> anyhow::Result<()> {
    tunnel(StandinMode::Connection).await
}

#[tokio::test]
async fn a_tunnel_is_cut_without_deleting_the_pod_where_every_packet_is_judged()
-> anyhow::Result<()> {
    tunnel(StandinMode::Packet).await
}

/// A policy of another team that lets the world in to pods that are not in quarantine.
fn let_in() -> anyhow::Result<NetworkPolicy> {
    let policy: Value = json!({
        "metadata": { "name": "theirs" },
        "spec": {
            "podSelector": { "matchExpressions": [
                { "key": yellowjack::testing::api::labels::QUARANTINE, "operator": "DoesNotExist" },
            ]},
            "policyTypes": ["Ingress"],
            "ingress": [{ "ports": [{ "port": LISTENED }] }],
        },
    });
    Ok(serde_json::from_value(policy)?)
}

async fn inbound(mode: StandinMode, name: &str, is_v6: bool) -> anyhow::Result<()> {
    with_node_fixture(mode, &[], async |fixture| {
        let policies: Api<NetworkPolicy> = fixture.api();
        policies.create(&PostParams::default(), &let_in()?).await?;
        let listen = format!("toolbox hold -listen :{LISTENED}");
        let rogue = fixture.start_rogue_job(&with_scan(&listen)).await?;
        let target = if is_v6 {
            format!("[{}]:{LISTENED}", rogue.address_v6)
        } else {
            format!("{}:{LISTENED}", rogue.address)
        };
        // Until the pod listens, each attempt is refused.
        let mut caller = fixture.node.outside("sh");
        let toolbox = fixture.node.outside("toolbox");
        let program = toolbox.get_args().last().unwrap_or_default().to_owned();
        caller.args([
            "-c",
            "while true; do \"$0\" hold -interval 100ms \"$1\"; sleep 0.2; done",
        ]);
        caller.arg(program).arg(&target);
        let _caller = fixture
            .node
            .keep_outside(&caller, &fixture.file("caller.log"))?;
        follow(fixture, name, &rogue, |arrival| {
            arrival.from_port == LISTENED
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_connection_opened_into_the_pod_is_dead_by_the_ladder() -> anyhow::Result<()> {
    inbound(StandinMode::Connection, "opened into the pod", false).await?;
    inbound(StandinMode::Connection, "opened into the pod, IPv6", true).await
}

#[tokio::test]
async fn a_connection_opened_into_the_pod_is_cut_where_every_packet_is_judged() -> anyhow::Result<()>
{
    inbound(StandinMode::Packet, "opened into the pod", false).await?;
    inbound(StandinMode::Packet, "opened into the pod, IPv6", true).await
}

#[tokio::test]
async fn a_tunnel_over_ipv6_is_cut_where_every_packet_is_judged() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        let rogue = fixture
            .start_rogue_job(&with_scan(&ssh(SERVER_IP_V6)))
            .await?;
        follow(fixture, "reverse SSH tunnel over IPv6", &rogue, |arrival| {
            arrival.to == SERVER_IP_V6
        })
        .await
    })
    .await
}
