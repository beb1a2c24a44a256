//! Two operators of which one leads: its death, its end and its isolation in the middle of an Incident
//! lose nothing and do nothing twice.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::Method;
use kube::{Client, ResourceExt};
use yellowjack::testing::api::{
    ActionKind, ActionResult, Incident, IncidentCondition, condition_is,
};
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::proxy::{Fault, KillTime, Matcher, Write};
use yellowjack_e2e::wait_for;

use crate::fixture::in_cluster;
use crate::kill::DONE;
use crate::replicas::{LEASE, Replica, Replicas};

/// As good as for ever.
const EVERY_TIME: usize = 1_000_000;
const SCANNED_COUNT: u8 = 60;
/// Somebody else's address, whose traffic shows that the log goes on.
const HONEST: &str = "10.244.250.1";

/// Where in an Incident the leader is killed: right after its n-th write of this kind.
const STEPS: [(&str, &str, usize); 3] = [
    ("evidence", "/incidents/", 1),
    ("label", "/pods/", 1),
    ("record", "/incidents/", 2),
];

#[test]
fn a_leader_that_is_killed_at_any_step_is_replaced_and_the_end_is_the_same() -> anyhow::Result<()> {
    in_cluster(async |client| {
        for (step, path, k) in STEPS {
            let took = killed_at(&client, path, k).await;
            let took = took.with_context(|| format!("killed after its {step}"))?;
            println!("figure failover {:.1} s", took.as_secs_f64());
        }
        Ok(())
    })
}

async fn killed_at(client: &Client, path: &str, k: usize) -> anyhow::Result<Duration> {
    let mut replicas = Replicas::start(client).await?;
    let leader = replicas.leader("").await?;
    let pid = replicas.at(leader).pid()?;
    let in_namespace = format!("/namespaces/{}", replicas.fixture.namespace);
    let path = format!("{in_namespace}{path}");
    let proxy = &replicas.at(leader).proxy;
    proxy.kill_at_write_of(&[path], k, KillTime::After, pid);
    let address = replicas.fixture.address.clone();
    replicas.log.scan_hosts(&address, 0, SCANNED_COUNT)?;
    let ended = replicas.at_mut(leader).ended().await?;
    let since = Instant::now();
    ensure!(ended.is_none(), "it ended with {ended:?}");
    let (next, took) = replicas.replaced(leader, since).await?;
    let incident = verified(&replicas).await?;
    let isolated = (ActionKind::Isolate, ActionResult::Succeeded);
    ensure!(actions(&incident) == [isolated], "{:?}", incident.status);
    ensure!(replicas.fixture.quarantine_label().await? == Some(incident.name_any()));
    in_turn(&replicas, leader, next)?;
    let labelled = |write: &Write| write.path.contains("/pods/");
    let acts = replicas.both.iter().flat_map(Replica::acts);
    let labels = acts.filter(labelled).count();
    // Whoever dies before it wrote the label down leaves it to the next one to look.
    ensure!(labels <= 2, "the pod was labelled {labels} times");
    replicas.end().await?;
    Ok(took)
}

#[test]
fn a_leader_that_is_told_to_end_hands_over_at_once_and_the_next_one_goes_on() -> anyhow::Result<()>
{
    in_cluster(async |client| {
        let mut replicas = Replicas::start(&client).await?;
        let leader = replicas.leader("").await?;
        let follower = replicas.at(1 - leader);
        ensure!(follower.get("/readyz").await? == "ok", "it is warm");
        ensure!(
            follower
                .get("/metrics")
                .await?
                .contains("yellowjack_leader 0")
        );
        let metrics = replicas.at(leader).get("/metrics").await?;
        ensure!(metrics.contains("yellowjack_leader 1"), "{metrics}");
        replicas.fixture.allow_all_egress().await?;
        let address = replicas.fixture.address.clone();
        replicas.log.scan_hosts(&address, 0, SCANNED_COUNT)?;
        let isolated = |incident: &Incident| !actions(incident).is_empty();
        replicas.incident("the first action", isolated).await?;
        let since = Instant::now();
        replicas.at(leader).signal("TERM")?;
        let (next, took) = replicas.replaced(leader, since).await?;
        println!("figure handover {:.2} s", took.as_secs_f64());
        let held = |incident: &Incident| actions(incident).len() == 3;
        let incident = replicas.incident("the Job to be held", held).await?;
        replicas.fixture.decide(&incident, "Release").await?;
        let closed = replicas.incident("the release", is_closed).await?;
        let done: Vec<_> = DONE
            .iter()
            .map(|(kind, _, result)| (*kind, *result))
            .collect();
        ensure!(actions(&closed) == done, "{:?}", closed.status);
        ensure!(replicas.fixture.quarantine_label().await?.is_none());
        ensure!(replicas.fixture.job_suspend().await? == Some(false));
        ensure!(replicas.at_mut(leader).ended().await? == Some(0));
        in_turn(&replicas, leader, next)?;
        replicas.end().await
    })
}

#[test]
fn a_leader_that_cannot_renew_stops_acting_before_another_begins() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let lease_only = Matcher::any().containing(LEASE);
        for (what, cut) in [("its Lease", lease_only), ("everything", Matcher::any())] {
            let outcome = cut_off(&client, cut).await;
            outcome.with_context(|| format!("cut off from {what}"))?;
        }
        Ok(())
    })
}

/// The leader cannot reach this any more; meanwhile a pod scans.
async fn cut_off(client: &Client, cut: Matcher) -> anyhow::Result<()> {
    let replicas = Replicas::start(client).await?;
    let leader = replicas.leader("").await?;
    let proxy = &replicas.at(leader).proxy;
    proxy.fail_times(cut, Fault::DropBefore, EVERY_TIME);
    proxy.close_watches();
    let (next, _) = replicas.replaced(leader, Instant::now()).await?;
    let address = replicas.fixture.address.clone();
    replicas.log.scan_hosts(&address, 0, SCANNED_COUNT)?;
    replicas
        .incident("the quarantine", |i| !actions(i).is_empty())
        .await?;
    // Back again, it follows, and sees what the other one did.
    replicas.at(leader).proxy.clear();
    let told = replicas.at(leader).name;
    let evidence = |incident: &Incident| incident.spec.evidence.iter().any(|e| e.observer == told);
    replicas.incident("its own evidence", evidence).await?;
    let incident = verified(&replicas).await?;
    let isolated = (ActionKind::Isolate, ActionResult::Succeeded);
    ensure!(actions(&incident) == [isolated], "{:?}", incident.status);
    let printed = replicas.at(leader).printed();
    ensure!(
        printed.contains("Failed to renew the Lease in time"),
        "{printed}"
    );
    in_turn(&replicas, leader, next)?;
    replicas.end().await
}

/// Whatever the old leader did came before everything that the new one did.
fn in_turn(replicas: &Replicas, old: usize, new: usize) -> anyhow::Result<()> {
    let acts = replicas.at(new).acts();
    let first = acts.iter().map(|write| write.asked_at).min();
    let first = first.context("the new leader wrote nothing")?;
    let before = replicas.at(old).acts();
    let late = before.iter().find(|write| write.answered_at >= first);
    ensure!(
        late.is_none(),
        "after {first}: {late:?}\n{}",
        replicas.printed()
    );
    // A pod is ended only once its owner is held.
    let held = acts.iter().position(|write| write.path.contains("/jobs/"));
    let ended = acts.iter().position(|write| write.method == Method::DELETE);
    ensure!(
        ended.is_none_or(|ended| held.is_some_and(|held| held < ended)),
        "a pod was deleted before its owner was held: {acts:?}"
    );
    Ok(())
}

/// Waits for the proof, while the log goes on about others.
async fn verified(replicas: &Replicas) -> anyhow::Result<Incident> {
    let mut span = Duration::ZERO;
    let is_verified = |incident: &Incident| holds(incident, IncidentCondition::Verified);
    wait_for("the proof", LIMIT, async || {
        // A new leader counts from the newest line that it knows, so the log has to go on.
        span += Duration::from_secs(3);
        let written = replicas.log.chatter(HONEST, span);
        written.map_err(|error| format!("{error:#}"))?;
        let all = replicas.fixture.incidents().await;
        let all = all.map_err(|error| format!("{error:#}"))?;
        let seen = format!("{all:?}");
        all.into_iter().find(|i| is_verified(i)).ok_or(seen)
    })
    .await
    .with_context(|| replicas.printed())
}

fn actions(incident: &Incident) -> Vec<(ActionKind, ActionResult)> {
    let actions = incident.status.as_ref().map_or(&[][..], |s| &s.actions);
    actions.iter().map(|a| (a.kind, a.result)).collect()
}

fn is_closed(incident: &Incident) -> bool {
    holds(incident, IncidentCondition::Closed)
}

fn holds(incident: &Incident, condition: IncidentCondition) -> bool {
    let conditions = incident.status.as_ref().map_or(&[][..], |s| &s.conditions);
    condition_is(conditions, condition.name())
}
