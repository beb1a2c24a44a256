//! `make bench-scale`: what a large cluster costs. 10,000 AgentRuns and 20,000 pods on the real API server, where KWOK
//! plays 200 kubelets: how long until every run is reconciled, memory, requests at rest, a relist, 100 incidents at
//! once, and 100,000 pods that come and go within an hour. `ARGS="--runs 500 --pods 1000 --churn 0"` makes it small.
//! Prints figures and asserts what must hold whatever the machine.

mod churn;
mod incidents;
mod measure;
mod sizes;
mod watching;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::Client;
use yellowjack_e2e::bench::{figure, heartbeat, pause, print_machine};
use yellowjack_e2e::proxy::{Fault, FaultProxy, Matcher};
use yellowjack_e2e::{Operator, TestCluster, client_of, install_crds, lines::EgressLog, wait_for};

use measure::Watched;
use sizes::Sizes;

/// A bar that is missed is a figure; this limit only ends what will not end.
const SETTLE_LIMIT: Duration = Duration::from_mins(20);

fn main() -> anyhow::Result<()> {
    let sizes = Sizes::read(std::env::args().skip(1))?;
    let cluster = TestCluster::own()?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(bench(&cluster, &sizes))
}

async fn bench(cluster: &TestCluster, sizes: &Sizes) -> anyhow::Result<()> {
    let client = cluster.client().await?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    install_crds(&client).await?;
    let kubeconfig = world::identity(&client, cluster.kubeconfig(), folder.path()).await?;
    let mut kwok = world::start_kwok(cluster.kubeconfig(), folder.path())?;
    print_machine("start");
    println!("{sizes}");
    let started = Instant::now();
    world::make(&client, sizes, &mut kwok).await?;
    figure("scale.made", started.elapsed().as_secs_f64(), "s");

    let log = Arc::new(EgressLog::create()?);
    let log_of_beat = Arc::clone(&log);
    let beat = tokio::spawn(async move { heartbeat(&log_of_beat).await });
    let bench = Bench {
        client,
        sizes,
        log,
        folder: folder.path(),
    };
    let result = bench.phases(&kubeconfig).await;
    beat.abort();
    result
}

struct Bench<'a> {
    client: Client,
    sizes: &'a Sizes,
    log: Arc<EgressLog>,
    folder: &'a Path,
}

impl Bench<'_> {
    async fn phases(&self, kubeconfig: &Path) -> anyhow::Result<()> {
        let operator = self.start("new", kubeconfig, &self.sources()).await?;
        self.new_runs(&operator)
            .await
            .with_context(|| operator.log_tail())?;
        drop(operator);
        let operator = self.start("again", kubeconfig, &self.sources()).await?;
        self.again(&operator)
            .await
            .with_context(|| operator.log_tail())?;
        drop(operator);
        // Only here: a proxy takes processor time.
        let proxy = FaultProxy::start(client_of(kubeconfig).await?).await?;
        let kubeconfig_of_proxy = proxy.kubeconfig();
        let operator = self
            .start("faults", &kubeconfig_of_proxy, &self.sources())
            .await?;
        self.under_faults(&proxy, &operator)
            .await
            .with_context(|| operator.log_tail())?;
        drop((operator, proxy));
        self.come_and_go(kubeconfig).await
    }

    /// Two operators side by side, of which one reads a log and one reads none. Neither has anything to
    /// write but how many pods a run has, and both write the same.
    async fn come_and_go(&self, kubeconfig: &Path) -> anyhow::Result<()> {
        if self.sizes.churn == 0 {
            return Ok(());
        }
        let with_sources = self.start("churn", kubeconfig, &self.sources()).await?;
        let without = self.start("churn-without", kubeconfig, &[]).await?;
        for operator in [&with_sources, &without] {
            self.wait_until_enrolled(operator)
                .await
                .with_context(|| operator.log_tail())?;
        }
        let churn = churn::Churn {
            client: &self.client,
            sizes: self.sizes,
            log: &self.log,
        };
        churn.run(&with_sources, &without).await
    }

    fn sources(&self) -> Vec<String> {
        vec!["--source".to_owned(), self.log.source()]
    }

    async fn start(
        &self,
        name: &str,
        kubeconfig: &Path,
        sources: &[String],
    ) -> anyhow::Result<Watched> {
        print_machine(name);
        let quarantine_max = incidents::QUARANTINES_MAX.to_string();
        let mut arguments = vec![
            "controller",
            "--listen",
            "127.0.0.1:0",
            "--max-quarantines",
            &quarantine_max,
            "--breaker-pods",
            "1000",
        ];
        arguments.extend(sources.iter().map(String::as_str));
        let log = self.folder.join(format!("{name}.log"));
        let operator = Operator::start(kubeconfig, &arguments, &log).await?;
        Ok(Watched::new(operator))
    }

    /// The operator meets runs that it never saw: guardrails and status are written for each.
    async fn new_runs(&self, operator: &Watched) -> anyhow::Result<()> {
        let started = Instant::now();
        let before = measure::requests(&self.client).await?;
        watching::until_reconciled(&self.client, self.sizes.runs, SETTLE_LIMIT).await?;
        figure("scale.reconciled_new", started.elapsed().as_secs_f64(), "s");
        self.settle(operator).await?;
        let requests = measure::requests(&self.client).await? - before;
        figure("scale.new.requests", as_f64(requests), "count");
        figure(
            "scale.new.writes",
            as_f64(operator.writes().await?),
            "count",
        );
        operator.say("scale.new")
    }

    /// The operator starts where all stands: nothing is to be written. Then it rests.
    async fn again(&self, operator: &Watched) -> anyhow::Result<()> {
        let started = Instant::now();
        let before = measure::requests(&self.client).await?;
        self.wait_until_enrolled(operator).await?;
        figure("scale.reconciled", started.elapsed().as_secs_f64(), "s");
        self.settle(operator).await?;
        let requests = measure::requests(&self.client).await? - before;
        figure("scale.start.requests", as_f64(requests), "count");
        figure(
            "scale.start.writes",
            as_f64(operator.writes().await?),
            "count",
        );
        operator.say("scale")?;
        self.rest(operator).await
    }

    async fn under_faults(&self, proxy: &FaultProxy, operator: &Watched) -> anyhow::Result<()> {
        self.wait_until_enrolled(operator).await?;
        self.settle(operator).await?;
        self.relist(proxy, operator).await?;
        incidents::at_once(&self.client, self.sizes, &self.log).await?;
        operator.say("scale.end")
    }

    /// A pod is on the roster once its run was reconciled.
    async fn wait_until_enrolled(&self, operator: &Watched) -> anyhow::Result<()> {
        let pods = self.sizes.pods as u64;
        wait_for("all pods to be on the roster", SETTLE_LIMIT, async || {
            pause(Duration::from_millis(200)).await;
            match operator.metric("yellowjack_pods ").await {
                Ok(count) if count == pods => Ok(()),
                Ok(count) => Err(format!("{count} of {pods}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// Waits until the operator neither writes nor works.
    async fn settle(&self, operator: &Watched) -> anyhow::Result<()> {
        wait_for("the operator to come to rest", SETTLE_LIMIT, async || {
            let look = async || -> anyhow::Result<(u64, f64)> {
                let writes = operator.writes().await?;
                Ok((writes, operator.cpu_seconds()?))
            };
            let before = look().await.map_err(|error| format!("{error:#}"))?;
            pause(Duration::from_secs(5)).await;
            let after = look().await.map_err(|error| format!("{error:#}"))?;
            if before.0 == after.0 && after.1 - before.1 < 0.5 {
                Ok(())
            } else {
                Err(format!("{before:?}, 5 s later {after:?}"))
            }
        })
        .await
    }

    async fn rest(&self, operator: &Watched) -> anyhow::Result<()> {
        print_machine("rest");
        let span = Duration::from_secs(self.sizes.rest_s);
        let requests = measure::requests(&self.client).await?;
        let writes = operator.writes().await?;
        let cpu = operator.cpu_seconds()?;
        pause(span).await;
        let requests = measure::requests(&self.client).await? - requests;
        let writes = operator.writes().await? - writes;
        let cpu = operator.cpu_seconds()? - cpu;
        let seconds = span.as_secs_f64();
        figure("scale.rest_requests", as_f64(requests) / seconds, "per_s");
        figure("scale.rest_writes", as_f64(writes), "count");
        figure("scale.rest_cpu", 100.0 * cpu / seconds, "percent");
        ensure!(writes == 0, "{writes} writes at rest in {span:?}");
        Ok(())
    }

    /// Every watch fails and may not go on where it was: all is listed anew.
    async fn relist(&self, proxy: &FaultProxy, operator: &Watched) -> anyhow::Result<()> {
        /// Watches of a controller: one per kind.
        const WATCHES: usize = 9;
        print_machine("relist");
        operator.forget_peak()?;
        let (before, cpu) = (
            measure::requests(&self.client).await?,
            operator.cpu_seconds()?,
        );
        let watches = Matcher::any().containing("watch=true");
        proxy.fail_times(watches, Fault::Expired, WATCHES);
        proxy.close_watches();
        let started = Instant::now();
        wait_for("every watch to fail", SETTLE_LIMIT, async || {
            match proxy.faults_left() {
                0 => Ok(()),
                left => Err(format!("{left} to go")),
            }
        })
        .await?;
        self.settle(operator).await?;
        self.wait_until_enrolled(operator).await?;
        figure("scale.relist", started.elapsed().as_secs_f64(), "s");
        figure("scale.relist_cpu", operator.cpu_seconds()? - cpu, "s");
        let requests = measure::requests(&self.client).await? - before;
        figure("scale.relist_requests", as_f64(requests), "count");
        operator.say("scale.relist")
    }
}

#[expect(clippy::cast_precision_loss)] // a figure for people
fn as_f64(count: u64) -> f64 {
    count as f64
}
