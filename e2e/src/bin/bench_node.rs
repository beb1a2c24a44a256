//! `make bench-node`, `bench-node [STEADY_SECONDS [BURST_SECONDS]]`: what the agent of a node costs while it reads a busy node's log, and whether it
//! keeps up: processor, memory, and lines that were written and not counted. Prints figures; asserts
//! that what is missing at the higher rate is at least reported.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use yellowjack_e2e::bench::process_cpu_seconds;
use yellowjack_e2e::{
    Operator, TestEnv, pod, process_resident_bytes, set_pod_ip, wait_for, with_namespace,
};

/// Flows a second and for how long: a busy node all day, and a burst.
const STEADY: (u64, Duration) = (5_000, Duration::from_mins(5));
const BURST: (u64, Duration) = (50_000, Duration::from_mins(1));
const PODS: u64 = 20;
/// Services that each pod talks to over and over.
const SERVICES: u64 = 30;
/// As logrotate does with `size`.
const LOG_BYTES_MAX: u64 = 256 << 20;
/// The log is written so often.
const TICK: Duration = Duration::from_millis(10);
/// How long the agent may take to read what is left, once nothing more is written.
const DRAIN_LIMIT: Duration = Duration::from_mins(1);
const START_LIMIT: Duration = Duration::from_mins(1);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(with_namespace(bench))
}

async fn bench(env: TestEnv) -> anyhow::Result<()> {
    for number in 0..PODS {
        let name = format!("agent-{number}");
        let pods: Api<Pod> = env.api();
        pods.create(&PostParams::default(), &pod(&name, &[("app", "agent")])?)
            .await?;
        set_pod_ip(&env.client, &env.namespace, &name, &address_of(number)).await?;
    }
    let steady = measure(&env, STEADY.0, span(1, STEADY.1)?).await?;
    steady.print("node");
    let burst = measure(&env, BURST.0, span(2, BURST.1)?).await?;
    burst.print("node.burst");
    ensure!(
        steady.lost == 0,
        "{} lines were lost at {} a second",
        steady.lost,
        STEADY.0
    );
    ensure!(
        burst.lost == 0 || burst.reported > 0,
        "{} lines were lost and nothing was said",
        burst.lost
    );
    Ok(())
}

/// The seconds of this argument, or the default.
fn span(argument: usize, default: Duration) -> anyhow::Result<Duration> {
    match std::env::args().nth(argument) {
        Some(text) => Ok(Duration::from_secs(text.parse().context("wanted seconds")?)),
        None => Ok(default),
    }
}

fn address_of(pod: u64) -> String {
    format!("10.244.7.{}", pod + 1)
}

/// What one run of the agent cost.
struct Cost {
    written: u64,
    cpu_percent: f64,
    rss_mib: f64,
    lost: u64,
    reported: u64,
}

impl Cost {
    fn print(&self, name: &str) {
        println!("figure {name}.lines {} count", self.written);
        println!("figure {name}.cpu {:.1} % of a core", self.cpu_percent);
        println!("figure {name}.rss {:.1} MiB", self.rss_mib);
        println!("figure {name}.lost {} lines", self.lost);
        println!(
            "figure {name}.reported {} gaps and lost events",
            self.reported
        );
    }
}

async fn measure(env: &TestEnv, rate: u64, span: Duration) -> anyhow::Result<Cost> {
    println!("{rate} flows a second for {span:?}, a line each.");
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let log = folder.path().join("egress.jsonl");
    File::create(&log).context("failed to make the log")?;
    let agent = start_agent(env, folder.path(), &log).await?;
    wait_for("the agent to serve metrics", START_LIMIT, async || {
        let text = agent
            .http_get("/metrics")
            .await
            .map_err(|error| format!("{error:#}"))?;
        // A log that is new to the agent is read from its end on.
        let is_read = agent.log().is_ok_and(|log| log.contains("state=Reading"));
        if is_read && text.contains("yellowjack_pods ") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await?;
    let before = process_cpu_seconds(agent.pid())?;
    let started = Instant::now();
    let writer = tokio::task::spawn_blocking(move || write_log(&log, rate, span));
    let written = writer.await.context("the writer panicked")??;
    let mut counted = 0;
    let drained = wait_for("the agent to read what is left", DRAIN_LIMIT, async || {
        let text = agent
            .http_get("/metrics")
            .await
            .map_err(|error| format!("{error:#}"))?;
        counted = sum_of(&text, "yellowjack_lines_total");
        if counted >= written {
            Ok(())
        } else {
            Err(format!("{counted} of {written}"))
        }
    })
    .await;
    if let Err(error) = drained {
        println!("{error:#}");
    }
    let cpu = process_cpu_seconds(agent.pid())? - before;
    let text = agent.http_get("/metrics").await?;
    println!(
        "{} lines without a pod, {} signals",
        sum_of(&text, "yellowjack_signals_unattributed"),
        sum_of(&text, "yellowjack_lines_total{result=\"signal\"}"),
    );
    let resident = process_resident_bytes(agent.pid()).context("the agent is gone")?;
    #[allow(clippy::cast_precision_loss)] // a figure for people
    let rss_mib = resident as f64 / f64::from(1 << 20);
    Ok(Cost {
        written,
        cpu_percent: 100.0 * cpu / started.elapsed().as_secs_f64(),
        rss_mib,
        lost: written.saturating_sub(counted),
        reported: sum_of(&text, "yellowjack_source_gaps") + sum_of(&text, "yellowjack_events_lost"),
    })
}

async fn start_agent(env: &TestEnv, folder: &Path, log: &Path) -> anyhow::Result<Operator> {
    let checkpoints = folder.join("checkpoints");
    std::fs::create_dir(&checkpoints).context("failed to make a folder")?;
    let (source, checkpoints) = (
        format!("ulogd:{}", log.display()),
        checkpoints.display().to_string(),
    );
    let arguments = [
        "node",
        "--node-name",
        "bench",
        "--all-pods",
        "--namespace",
        &env.namespace,
        "--listen",
        "127.0.0.1:0",
        "--checkpoint-dir",
        &checkpoints,
        "--source",
        &source,
    ];
    let own_log = folder.join("agent.log");
    Operator::start(env.cluster.kubeconfig(), &arguments, &own_log).await
}

/// Writes that many lines a second, in small portions, and rotates the log. Blocks. Tells how many.
fn write_log(log: &Path, rate: u64, span: Duration) -> anyhow::Result<u64> {
    let lines: Vec<[String; 3]> = (0..PODS * SERVICES).map(line).collect();
    let mut file = open(log)?;
    let (mut written, mut bytes) = (0_u64, 0_u64);
    let mut chosen = lines.iter().cycle();
    let started = Instant::now();
    let mut portion = Vec::new();
    loop {
        let elapsed = started.elapsed().min(span);
        let due = rate * u64::try_from(elapsed.as_millis())? / 1000;
        let second = Timestamp::now().as_second().to_string();
        portion.clear();
        while written < due {
            if let Some([before, between, after]) = chosen.next() {
                for part in [before, &second, between, &second, after] {
                    portion.extend_from_slice(part.as_bytes());
                }
            }
            written += 1;
        }
        file.write_all(&portion)
            .context("failed to write to the log")?;
        bytes += u64::try_from(portion.len())?;
        if elapsed >= span {
            return Ok(written);
        }
        if bytes > LOG_BYTES_MAX {
            bytes = 0;
            let old = log.with_extension("jsonl.1");
            std::fs::rename(log, old).context("failed to rotate the log")?;
            file = open(log)?;
        }
        std::thread::park_timeout(TICK);
    }
}

fn open(log: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .context("failed to open the log")
}

/// The end of a connection as conntrack has it (NFCT), around the two places of its second.
fn line(number: u64) -> [String; 3] {
    let (pod, service) = (number % PODS, number / PODS);
    let before = format!(
        "{{\"timestamp\": \"2026-11-24T10:14:57\", \"dvc\": \"Netfilter\", \"orig.ip.protocol\": 6, \
         \"orig.l4.sport\": {}, \"orig.l4.dport\": 443, \"orig.raw.pktlen\": 2170, \
         \"orig.raw.pktcount\": 14, \"reply.ip.protocol\": 6, \"reply.l4.sport\": 443, \
         \"reply.l4.dport\": {}, \"reply.raw.pktlen\": 18200, \"reply.raw.pktcount\": 21, \
         \"ct.mark\": 0, \"ct.id\": {number}, \"ct.event\": 4, \"flow.start.sec\": ",
        32_768 + number,
        32_768 + number,
    );
    let between = ", \"flow.start.usec\": 984524, \"flow.end.sec\": ".to_owned();
    let after = format!(
        ", \"flow.end.usec\": 998012, \"oob.family\": 2, \"oob.protocol\": 0, \"src_ip\": \"{}\", \
         \"dest_ip\": \"203.0.113.{}\", \"reply.ip.saddr.str\": \"203.0.113.{}\", \
         \"reply.ip.daddr.str\": \"{}\"}}\n",
        address_of(pod),
        service + 1,
        service + 1,
        address_of(pod),
    );
    [before, between, after]
}

/// The sum of all series whose name begins so.
fn sum_of(text: &str, name: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    values.sum()
}
