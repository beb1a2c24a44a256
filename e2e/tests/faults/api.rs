//! Answers of the API server that a real one gives on bad days, met by the first write of every
//! kind: nothing is lost, nothing is done twice, and the end is the same.

use std::time::Duration;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use yellowjack::testing::api::{ActionResult, Incident};
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::proxy::{Fault, Matcher};
use yellowjack_e2e::{ScanLines, wait_for};

use crate::fixture::{FaultFixture, SCAN, in_cluster};
use crate::kill::{DONE, released, stands};

/// Longer than the operator waits for an answer, which is 5 s.
const TOO_LONG: Duration = Duration::from_secs(6);

#[test]
fn a_conflict_changes_nothing_in_the_end() -> anyhow::Result<()> {
    survives(&Fault::Reply(StatusCode::CONFLICT))
}

#[test]
fn throttling_changes_nothing_in_the_end() -> anyhow::Result<()> {
    survives(&Fault::Reply(StatusCode::TOO_MANY_REQUESTS))
}

#[test]
fn an_internal_error_changes_nothing_in_the_end() -> anyhow::Result<()> {
    survives(&Fault::Reply(StatusCode::INTERNAL_SERVER_ERROR))
}

#[test]
fn an_unavailable_server_changes_nothing_in_the_end() -> anyhow::Result<()> {
    survives(&Fault::Reply(StatusCode::SERVICE_UNAVAILABLE))
}

#[test]
fn a_connection_that_drops_before_the_write_changes_nothing_in_the_end() -> anyhow::Result<()> {
    survives(&Fault::DropBefore)
}

#[test]
fn a_reply_that_is_lost_changes_nothing_in_the_end() -> anyhow::Result<()> {
    survives(&Fault::DropAfter)
}

#[test]
fn an_answer_that_comes_too_late_changes_nothing_in_the_end() -> anyhow::Result<()> {
    survives(&Fault::Delay(TOO_LONG))
}

/// The whole way, where the first write of every kind meets this fault, once before the human's
/// word and once after it.
fn survives(fault: &Fault) -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::new(&client).await?;
        let outcome = respond_and_release(&mut fixture, fault).await;
        outcome.with_context(|| format!("{fault:?}\n{}", fixture.operator_output()))?;
        fixture.delete().await
    })
}

async fn respond_and_release(fixture: &mut FaultFixture, fault: &Fault) -> anyhow::Result<()> {
    fixture.allow_all_egress().await?;
    spoil(fixture, fault, &["/networkpolicies/", "/agentruns/"]);
    fixture.start_operator().await?;
    fixture.until_guarded("rogue").await?;
    ensure!(
        fixture.proxy.faults_left() == 0,
        "not every guardrail was met"
    );
    // The status first: its path contains that of the Incident.
    spoil(
        fixture,
        fault,
        &["/status", "/incidents/", "/pods/", "/jobs/"],
    );
    fixture.append(ScanLines::new(&fixture.address).take(SCAN))?;
    let incident: Incident =
        wait_for("the response", LIMIT, async || stands(fixture).await).await?;
    spoil(fixture, fault, &["/pods/", "/jobs/"]);
    spoil_incident_status(fixture, fault);
    fixture.decide(&incident, "Release").await?;
    let closed = wait_for("the release", LIMIT, async || released(fixture).await).await?;
    let done: Vec<_> = closed
        .status
        .iter()
        .flat_map(|status| &status.actions)
        .filter(|action| action.result == ActionResult::Succeeded)
        .collect();
    ensure!(done.len() == DONE.len(), "something is doubled: {done:?}");
    ensure!(fixture.proxy.faults_left() == 0, "not every write was met");
    fixture.stop_operator().await
}

fn spoil(fixture: &FaultFixture, fault: &Fault, parts: &[&str]) {
    for part in parts {
        let here = Matcher::method(Method::PATCH).containing(&fixture.namespace);
        fixture.proxy.fail(here.containing(part), fault.clone());
    }
}

fn spoil_incident_status(fixture: &FaultFixture, fault: &Fault) {
    let here = Matcher::method(Method::PATCH).containing(&fixture.namespace);
    let status = here.containing("/incidents/").containing("/status");
    fixture.proxy.fail(status, fault.clone());
}
