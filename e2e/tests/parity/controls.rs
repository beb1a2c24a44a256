//! One control per value that reaches the engine in the shipped operator: the value decides the result, and the same
//! lines without it come to the other one. Where the way of a value is cut, its test fails.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{TestEnv, wait_for, with_namespace};

use crate::compare::Action;
use crate::world::{WantedPod, World, make_pods, make_run};
use yellowjack_e2e::fixture::LIMIT;

const LOG: &str = "egress.jsonl";

/// Findings per pod.
type Findings = BTreeMap<IpAddr, BTreeMap<String, Action>>;

/// Lines of a log, as of a moment.
type Lines = Box<dyn Fn(Timestamp) -> anyhow::Result<String>>;

/// What an operator is shown.
struct Scene {
    pods: Vec<WantedPod>,
    /// What the AgentRuns say besides their target.
    spec: Value,
    /// Pods that are gone before the lines come.
    departed: Vec<WantedPod>,
    /// Written when the operator knows all of this.
    lines: Lines,
}

impl Scene {
    fn new(
        pods: Vec<WantedPod>,
        lines: impl Fn(Timestamp) -> anyhow::Result<String> + 'static,
    ) -> Self {
        Self {
            pods,
            departed: Vec::new(),
            spec: json!({}),
            lines: Box::new(lines),
        }
    }
}

fn started() -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(1)
}

fn pod(number: u8, run: &str) -> WantedPod {
    WantedPod {
        name: format!("pod-{number}"),
        address: IpAddr::from([10, 244, 7, number]),
        node: None,
        run: run.to_owned(),
        since: started(),
    }
}

/// The host with this number of a range of 65,536.
fn host(range: [u8; 2], number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(range[0], range[1], high, low)
}

/// A packet that a policy dropped, as ulogd2 logs it.
fn blocked(source: IpAddr, target: Ipv4Addr, port: u16, time: Timestamp) -> String {
    let line = json!({
        "oob.time.sec": time.as_second(),
        "oob.time.usec": time.subsec_microsecond(),
        "oob.hook": 2,
        "oob.prefix": "",
        "raw.pktlen": 60,
        "action": "blocked",
        "ip.protocol": 6,
        "src_ip": source.to_string(),
        "src_port": 40_000,
        "dest_ip": target.to_string(),
        "dest_port": port,
        "tcp.syn": 1,
        "tcp.ack": 0,
        "tcp.rst": 0,
    });
    format!("{line}\n")
}

/// Connections that were answered, so that the log is seen to show answers.
fn answered(source: IpAddr, time: Timestamp) -> anyhow::Result<String> {
    let log = EgressLog::create()?;
    for second in 0..10 {
        log.answered(
            &source.to_string(),
            time - SignedDuration::from_secs(30 - second),
        )?;
    }
    Ok(std::fs::read_to_string(log.path())?)
}

/// What an operator makes of a scene. `is_reached` ends the wait early; what is there in the end counts.
async fn findings(
    scene: Scene,
    is_reached: impl Fn(&Findings) -> bool,
) -> anyhow::Result<Findings> {
    let mut found = Findings::new();
    with_namespace(async |env| {
        found = watched(&env, &scene, &is_reached).await?;
        let pods: Api<Pod> = env.api();
        pods.delete_collection(
            &DeleteParams::default().grace_period(0),
            &ListParams::default(),
        )
        .await?;
        Ok(())
    })
    .await?;
    Ok(found)
}

async fn watched(
    env: &TestEnv,
    scene: &Scene,
    is_reached: &impl Fn(&Findings) -> bool,
) -> anyhow::Result<Findings> {
    let pods = [scene.pods.as_slice(), &scene.departed].concat();
    let mut runs: Vec<_> = pods.iter().map(|pod| pod.run.as_str()).collect();
    runs.sort_unstable();
    runs.dedup();
    for run in runs {
        make_run(env, run, &scene.spec).await?;
    }
    make_pods(env, &pods).await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join(LOG);
    std::fs::write(&log, "")?;
    let mut world = World::start(
        env.clone(),
        folder,
        &[log.display().to_string()],
        &pods,
        &[],
    )
    .await?;
    for departed in &scene.departed {
        yellowjack_e2e::delete_pod(&env.client, &env.namespace, &departed.name).await?;
    }
    wait_for("the pods that go to be gone", LIMIT, async || {
        let known = world
            .metric("yellowjack_pods", "")
            .await
            .map_err(|error| format!("{error:#}"))?;
        if known == scene.pods.len() as u64 {
            Ok(())
        } else {
            Err(known.to_string())
        }
    })
    .await?;
    let lines = (scene.lines)(Timestamp::now())?;
    world.append(Path::new(LOG), lines.as_bytes())?;
    world
        .wait_metric("yellowjack_lines_total", lines.lines().count() as u64)
        .await?;
    world.wait_settled().await?;
    let reached = wait_for("the result", Duration::from_secs(20), async || match world
        .findings()
        .await
    {
        Ok(findings) if is_reached(&findings) => Ok(()),
        Ok(findings) => Err(format!("{findings:?}")),
        Err(error) => Err(format!("{error:#}")),
    });
    // The test says what is wrong with another result.
    let _ = reached.await;
    world.stop().await?;
    world.findings().await
}

fn count(findings: &Findings, wanted: Action) -> usize {
    findings
        .values()
        .filter(|of_pod| of_pod.values().max() == Some(&wanted))
        .count()
}

/// A honest pod whose connections are answered, and others whose contacts are denied.
fn denied(
    honest: WantedPod,
    others: Vec<WantedPod>,
    contacts: Vec<(IpAddr, Ipv4Addr, u16)>,
) -> Scene {
    let address = honest.address;
    Scene::new([vec![honest], others].concat(), move |now| {
        let denied = contacts
            .iter()
            .map(|(source, target, port)| blocked(*source, *target, *port, now));
        Ok(answered(address, now)? + &denied.collect::<String>())
    })
}

/// Ten pods try twelve hosts each, no host twice.
fn shared_scan(run_of: impl Fn(u8) -> String) -> Scene {
    let pods: Vec<_> = (1..=10)
        .map(|number| pod(number, &run_of(number)))
        .collect();
    let contacts = pods.iter().zip(1_u16..).flat_map(|(pod, number)| {
        (0..12).map(move |target| (pod.address, host([172, 20], number * 256 + target), 22))
    });
    let contacts = contacts.collect();
    denied(pod(99, "honest"), pods, contacts)
}

#[tokio::test]
async fn a_scan_shared_by_ten_pods_is_found_on_each_of_them_if_they_are_of_one_run()
-> anyhow::Result<()> {
    let shared = findings(shared_scan(|_| "sweep".to_owned()), |found| {
        count(found, Action::Quarantine) == 10
    });
    let apart = findings(
        shared_scan(|number| format!("run-{number}")),
        Findings::is_empty,
    );
    let (shared, apart) = tokio::try_join!(shared, apart)?;
    assert_eq!(
        count(&shared, Action::Quarantine),
        10,
        "of one run: {shared:?}"
    );
    assert_eq!(apart, Findings::new(), "of a run each");
    Ok(())
}

/// A worker asks 59 others for their port, and none has opened it yet.
fn ring(run_of: impl Fn(u8) -> String) -> Scene {
    let worker = pod(100, &run_of(100));
    let others: Vec<_> = (1..=59)
        .map(|number| pod(number, &run_of(number)))
        .collect();
    let contacts =
        (1..=59).map(|number| (worker.address, host([10, 244], 7 * 256 + number), 29_500));
    let contacts = contacts.collect();
    denied(worker, others, contacts)
}

#[tokio::test]
async fn a_worker_whose_59_siblings_are_not_there_yet_is_honest_and_one_that_asks_strangers_is_not()
-> anyhow::Result<()> {
    let siblings = findings(ring(|_| "grid".to_owned()), Findings::is_empty);
    let strangers = ring(|number| if number == 100 { "worker" } else { "grid" }.to_owned());
    let strangers = findings(strangers, |found| count(found, Action::Quarantine) == 1);
    let (siblings, strangers) = tokio::try_join!(siblings, strangers)?;
    assert_eq!(siblings, Findings::new(), "siblings");
    assert_eq!(
        count(&strangers, Action::Quarantine),
        1,
        "strangers: {strangers:?}"
    );
    Ok(())
}

#[tokio::test]
async fn pods_that_have_just_ended_are_no_targets_and_hosts_that_never_were_are()
-> anyhow::Result<()> {
    let scene = |has_departed: bool| {
        let mut scene = ring(|number| if number == 100 { "worker" } else { "gone" }.to_owned());
        let others = scene.pods.split_off(1);
        if has_departed {
            scene.departed = others;
        }
        scene
    };
    let departed = findings(scene(true), Findings::is_empty);
    let never = findings(scene(false), |found| count(found, Action::Quarantine) == 1);
    let (departed, never) = tokio::try_join!(departed, never)?;
    assert_eq!(departed, Findings::new(), "departed");
    assert_eq!(
        count(&never, Action::Quarantine),
        1,
        "never there: {never:?}"
    );
    Ok(())
}

/// A line of Hubble's exporter.
fn hubble(
    node: &str,
    source: IpAddr,
    target: Ipv4Addr,
    flags: &Value,
    is_reply: bool,
    time: Timestamp,
) -> String {
    let (from, to) = if is_reply {
        (IpAddr::from(target), source)
    } else {
        (source, IpAddr::from(target))
    };
    let ports = if is_reply {
        (8_443, 44_000)
    } else {
        (44_000, 8_443)
    };
    let line = json!({ "flow": {
        "time": time,
        "verdict": "FORWARDED",
        "IP": { "source": from, "destination": to, "ipVersion": "IPv4" },
        "l4": { "TCP": { "source_port": ports.0, "destination_port": ports.1, "flags": flags } },
        "Type": "L3_L4",
        "node_name": node,
        // The direction of the connection, as Hubble has it for answers too.
        "traffic_direction": "EGRESS",
        "is_reply": is_reply,
        "event_type": { "type": 4, "sub_type": if is_reply { 0 } else { 3 } },
    }, "node_name": node, "time": time });
    format!("{line}\n")
}

/// Sixty hosts do not answer a pod on `node-1`, while the log loses records of some node.
fn silent_scan(lossy_node: &str) -> Scene {
    silent_hosts(lossy_node, &|second| host([172, 20], second), 60)
}

/// So many hosts do not answer a pod on `node-1`, while others of the log are answered and it loses records of
/// some node.
fn silent_hosts(lossy_node: &str, target: &dyn Fn(u16) -> Ipv4Addr, count: u16) -> Scene {
    let on = |number, node: &str| WantedPod {
        node: Some(node.to_owned()),
        ..pod(number, &format!("run-{number}"))
    };
    let (scanner, honest, other) = (on(1, "node-1"), on(2, "node-1"), on(3, "node-2"));
    let lossy_node = lossy_node.to_owned();
    let targets: Vec<_> = (0..count).map(target).collect();
    let pods = vec![scanner.clone(), honest.clone(), other.clone()];
    Scene::new(pods, move |now| {
        let start = now - SignedDuration::from_secs(90);
        let (syn, reply) = (json!({ "SYN": true }), json!({ "SYN": true, "ACK": true }));
        let mut lines = String::new();
        for second in 0..60_u8 {
            let time = start + SignedDuration::from_secs(second.into());
            for pod in [&honest, &other] {
                let (node, target) = (pod.node.as_deref().unwrap_or_default(), host([192, 168], 1));
                lines += &hubble(node, pod.address, target, &syn, false, time);
                lines += &hubble(node, pod.address, target, &reply, true, time);
            }
            if let Some(target) = targets.get(usize::from(second)) {
                lines += &hubble("node-1", scanner.address, *target, &syn, false, time);
            }
            if second % 10 == 0 {
                let lost = json!({ "source": "PERF_EVENT_RING_BUFFER", "num_events_lost": 90 });
                let record = json!({ "lost_events": lost, "node_name": lossy_node, "time": time });
                lines += &record.to_string();
                lines.push('\n');
            }
        }
        Ok(lines)
    })
}

/// The nodes that the lines name, as the API server knows them.
async fn make_nodes() -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(yellowjack_e2e::TestCluster::shared()?.client().await?);
    for name in ["node-1", "node-2"] {
        let node = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        match nodes.create(&PostParams::default(), &node).await {
            // Another test made it.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => drop(made?),
        }
    }
    Ok(())
}

#[tokio::test]
async fn records_lost_on_another_node_do_not_hide_a_scan_and_those_of_its_own_node_do()
-> anyhow::Result<()> {
    make_nodes().await?;
    let elsewhere = findings(silent_scan("node-2"), |found| {
        count(found, Action::Quarantine) == 1
    });
    let here = findings(silent_scan("node-1"), Findings::is_empty);
    let (elsewhere, here) = tokio::try_join!(elsewhere, here)?;
    assert_eq!(
        count(&elsewhere, Action::Quarantine),
        1,
        "lost on another node: {elsewhere:?}"
    );
    assert_eq!(here, Findings::new(), "lost on its own node");
    Ok(())
}

/// A pod is denied 60 hosts of a range that is not private.
fn public_range(range: [u8; 2]) -> Scene {
    let scanner = WantedPod {
        address: host(range, 7).into(),
        ..pod(1, "scanner")
    };
    let contacts = (1_000..1_060)
        .map(|number| (scanner.address, host(range, number), 22))
        .collect();
    denied(pod(2, "honest"), vec![scanner], contacts)
}

#[tokio::test]
async fn a_range_of_pods_that_the_nodes_alone_name_is_the_clusters_and_one_that_none_names_is_the_internets()
-> anyhow::Result<()> {
    let client = yellowjack_e2e::TestCluster::shared()?.client().await?;
    let nodes: Api<Node> = Api::all(client);
    let name = format!("parity-{}", std::process::id());
    let node = json!({
        "metadata": { "name": name },
        "spec": { "podCIDR": "34.64.0.0/16", "podCIDRs": ["34.64.0.0/16"] },
    });
    nodes
        .create(&PostParams::default(), &serde_json::from_value(node)?)
        .await?;
    let known = findings(public_range([34, 64]), |found| {
        count(found, Action::Quarantine) == 1
    });
    let unknown = findings(public_range([34, 65]), |found| {
        count(found, Action::Alert) == 1
    });
    let found = tokio::try_join!(known, unknown);
    nodes.delete(&name, &DeleteParams::default()).await?;
    let (known, unknown) = found?;
    assert_eq!(
        count(&known, Action::Quarantine),
        1,
        "a range that a node names: {known:?}"
    );
    assert_eq!(
        count(&unknown, Action::Alert),
        1,
        "a range that none names: {unknown:?}"
    );
    Ok(())
}

/// A pod follows 45 links by address, all of them dead, in a log that shows what others are answered.
fn dead_links(spec: Value) -> Scene {
    let mut scene = silent_hosts("node-2", &|second| host([203, 0], 113 * 256 + second), 45);
    scene.spec = spec;
    scene
}

#[tokio::test]
async fn a_crawlers_dead_links_weigh_half_and_those_of_another_run_do_not() -> anyhow::Result<()> {
    make_nodes().await?;
    let crawler = dead_links(json!({ "detection": { "profile": "Crawler" } }));
    let declared = findings(crawler, |found| count(found, Action::Quarantine) == 0);
    let silent = findings(dead_links(json!({})), |found| {
        count(found, Action::Quarantine) == 1
    });
    let (declared, silent) = tokio::try_join!(declared, silent)?;
    assert_eq!(
        count(&declared, Action::Quarantine),
        0,
        "declared: {declared:?}"
    );
    assert_eq!(
        count(&silent, Action::Quarantine),
        1,
        "not declared: {silent:?}"
    );
    Ok(())
}
