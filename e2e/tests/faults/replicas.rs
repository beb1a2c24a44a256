//! Two operators of which one leads, each behind a proxy of its own, over one egress log.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use yellowjack::testing::api::Incident;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::proxy::{FaultProxy, Write};
use yellowjack_e2e::{Operator, wait_for};

use crate::fixture::FaultFixture;

pub const LEASE: &str = "yellowjack-controller";

/// In the managers, as a URL has them, that only tell what was seen, which every replica may.
const TELLING: [&str; 2] = ["yellowjack%2Fevidence-", "yellowjack%2Fcontacts-"];

/// One operator.
pub struct Replica {
    pub name: &'static str,
    pub proxy: FaultProxy,
    folder: tempfile::TempDir,
    operator: Option<Operator>,
}

/// A fixture with two of them.
pub struct Replicas {
    pub fixture: FaultFixture,
    pub log: EgressLog,
    pub both: [Replica; 2],
}

impl Replicas {
    /// Both are ready, one leads, and it knows the rogue pod.
    pub async fn start(client: &Client) -> anyhow::Result<Self> {
        let fixture = FaultFixture::new(client).await?;
        let log = EgressLog::create()?;
        let mut both = [
            Replica::start(&fixture, &log, "one").await?,
            Replica::start(&fixture, &log, "two").await?,
        ];
        for replica in &mut both {
            replica
                .wait_until_printed("Yellowjack is ready")
                .await
                .context(replica.name)?;
            replica.wait_until_printed("state=Reading").await?;
        }
        let replicas = Self { fixture, log, both };
        replicas.leader("").await?;
        let ready = replicas.fixture.until_guarded("rogue").await;
        ready.with_context(|| replicas.printed())?;
        for replica in &replicas.both {
            replica.proxy.forget_writes();
        }
        Ok(replicas)
    }

    /// The first or the second one.
    pub const fn at(&self, nth: usize) -> &Replica {
        let [one, two] = &self.both;
        if nth == 0 { one } else { two }
    }

    /// The same, to be changed.
    pub const fn at_mut(&mut self, nth: usize) -> &mut Replica {
        let [one, two] = &mut self.both;
        if nth == 0 { one } else { two }
    }

    /// Waits until a replica of another name than `other` holds the Lease and acts, and tells which.
    pub async fn leader(&self, other: &str) -> anyhow::Result<usize> {
        let leases: Api<Lease> = self.fixture.api();
        let what = format!("another leader than {other:?}");
        wait_for(&what, LIMIT, async || {
            let lease = leases.get(LEASE).await.map_err(|error| error.to_string())?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity);
            let holder = holder.unwrap_or_default();
            let name = holder.split_once('_').map_or("", |(name, _)| name);
            let found = self.both.iter().position(|r| r.name == name);
            let acts = |replica: &Replica| replica.printed().contains("Acquired leadership");
            found
                .filter(|nth| self.at(*nth).name != other && acts(self.at(*nth)))
                .ok_or(holder)
        })
        .await
        .with_context(|| self.printed())
    }

    /// Waits until the other one leads; returns its index, and how long that took.
    pub async fn replaced(
        &self,
        leader: usize,
        since: Instant,
    ) -> anyhow::Result<(usize, Duration)> {
        let next = self.leader(self.at(leader).name).await?;
        Ok((next, since.elapsed()))
    }

    /// The one Incident, once `is_so` holds of it.
    pub async fn incident(
        &self,
        what: &str,
        is_so: impl Fn(&Incident) -> bool,
    ) -> anyhow::Result<Incident> {
        let found = self.fixture.until_any_incident(what, is_so).await;
        let found = found.with_context(|| self.printed())?;
        ensure!(self.fixture.incidents().await?.len() == 1, "two Incidents");
        Ok(found)
    }

    /// What both printed.
    pub fn printed(&self) -> String {
        let [one, two] = &self.both;
        format!("--- one\n{}\n--- two\n{}", one.printed(), two.printed())
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        for replica in &mut self.both {
            drop(replica.operator.take());
        }
        self.fixture.delete().await
    }
}

impl Replica {
    async fn start(
        fixture: &FaultFixture,
        log: &EgressLog,
        name: &'static str,
    ) -> anyhow::Result<Self> {
        let mut replica = Self {
            name,
            proxy: FaultProxy::start(fixture.client.clone()).await?,
            folder: tempfile::tempdir()?,
            operator: None,
        };
        let source = log.source();
        let checkpoints = replica.folder.path().join("places").display().to_string();
        let replica_name = format!("--replica-name={name}");
        let arguments = [
            "controller",
            "--leader-elect",
            &replica_name,
            "--listen=127.0.0.1:0",
            "--namespace",
            &fixture.namespace,
            "--agent-namespace",
            &fixture.namespace,
            "--source",
            &source,
            "--start-at=beginning",
            "--checkpoint-dir",
            &checkpoints,
        ];
        let kubeconfig = replica.proxy.kubeconfig();
        let operator = Operator::start(&kubeconfig, &arguments, &replica.operator_log()).await?;
        replica.operator = Some(operator);
        Ok(replica)
    }

    fn operator_log(&self) -> PathBuf {
        self.folder.path().join("operator.log")
    }

    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.operator_log()).unwrap_or_default()
    }

    pub async fn wait_until_printed(&self, text: &str) -> anyhow::Result<()> {
        let what = format!("{text:?} in the log of {}", self.name);
        wait_for(&what, LIMIT, async || {
            let printed = self.printed();
            printed.contains(text).then_some(()).ok_or(printed)
        })
        .await
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        let operator = self.operator.as_ref().context("it does not run")?;
        Ok(operator.pid())
    }

    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let operator = self.operator.as_ref().context("it does not run")?;
        operator.signal(signal)
    }

    /// Waits for its end and tells its exit code; none where a signal ended it.
    pub async fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        let operator = self.operator.as_mut().context("it does not run")?;
        operator.ended(LIMIT).await
    }

    /// Its writes that act and were accepted.
    pub fn acts(&self) -> Vec<Write> {
        let tells = |write: &Write| {
            let manager = write.field_manager.as_deref().unwrap_or_default();
            TELLING.iter().any(|prefix| manager.starts_with(prefix))
        };
        let writes = self.proxy.writes().into_iter();
        writes
            .filter(|write| write.status.is_success() && !tells(write))
            .collect()
    }

    /// One of its endpoints.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        let operator = self.operator.as_ref().context("it does not run")?;
        operator.http_get(path).await
    }
}
