//! SIGKILL right before and right after every write of a whole response, from the first evidence
//! to the closed Incident: the end is the same as without the kill.

use anyhow::{Context, ensure};
use kube::ResourceExt;
use serde_json::json;
use yellowjack::testing::api::{
    ActionKind, ActionResult, Incident, IncidentCondition, condition_is,
};
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::proxy::{KillTime, Write};
use yellowjack_e2e::{ScanLines, wait_for};

use crate::fixture::{FaultFixture, SCAN, in_cluster};

/// More writes than any response has: the search for kill points ends by itself before.
const WRITES_MAX: usize = 40;

/// What the record of a whole response says was done: action, kind of object, result.
pub const DONE: [(ActionKind, &str, ActionResult); 5] = [
    (ActionKind::Isolate, "Pod", ActionResult::Succeeded),
    (ActionKind::Capture, "Pod", ActionResult::Succeeded),
    (ActionKind::Suspend, "Job", ActionResult::Succeeded),
    (ActionKind::Restore, "Pod", ActionResult::Succeeded),
    (ActionKind::Restore, "Job", ActionResult::Succeeded),
];

#[test]
fn the_end_is_the_same_wherever_the_operator_is_killed() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::new(&client).await?;
        respond_and_release(&mut fixture, None)
            .await
            .context("without a kill")?;
        let writes = response_writes(&fixture);
        println!("a whole response takes {} writes:", writes.len());
        for write in &writes {
            println!("  {} {}", write.method, write.path);
        }
        fixture.delete().await?;
        let mut tried = 0;
        for time in [KillTime::Before, KillTime::After] {
            for k in 1..=WRITES_MAX {
                let mut fixture = FaultFixture::new(&client).await?;
                let killed = respond_and_release(&mut fixture, Some((k, time))).await;
                let killed = killed.with_context(|| {
                    format!("killed {time:?} write {k}\n{}", fixture.operator_output())
                })?;
                fixture.delete().await?;
                if !killed {
                    break;
                }
                tried += 1;
            }
        }
        println!("figure faults.kill_points {tried} count");
        // How many writes there are depends on what comes in between; 12 are the least.
        ensure!(tried >= 2 * 12, "only {tried} kill points");
        Ok(())
    })
}

/// The whole way. With a kill, the operator is started again after it. Returns whether there was a
/// kill.
async fn respond_and_release(
    fixture: &mut FaultFixture,
    kill: Option<(usize, KillTime)>,
) -> anyhow::Result<bool> {
    fixture.allow_all_egress().await?;
    let pid = fixture.start_operator().await?;
    fixture.until_output("Yellowjack is ready", 1).await?;
    fixture.until_guarded("rogue").await?;
    fixture.proxy.forget_writes();
    if let Some((k, time)) = kill {
        let paths = response_paths(fixture);
        fixture.proxy.kill_at_write_of(&paths, k, time, pid);
    }
    fixture.append(ScanLines::new(&fixture.address).take(SCAN))?;
    let mut is_restarted = false;
    let incident = until(
        fixture,
        &mut is_restarted,
        kill.is_some(),
        async |fixture| stands(fixture).await,
    )
    .await?;
    fixture.decide(&incident, "Release").await?;
    until(
        fixture,
        &mut is_restarted,
        kill.is_some(),
        async |fixture| released(fixture).await,
    )
    .await?;
    // The kill may come after the last state that was waited for, with the very last write.
    if kill.is_some() && !is_restarted && !fixture.proxy.call_off_kill() {
        fixture.until_killed().await?;
        fixture.start_operator().await?;
        is_restarted = true;
    }
    if is_restarted {
        fixture.until_output("Yellowjack is ready", 2).await?;
    }
    // The next look at the log must not open the case again.
    fixture.stop_operator().await?;
    let closed = released(fixture).await.map_err(anyhow::Error::msg)?;
    let actions = closed
        .status
        .map(|status| status.actions)
        .unwrap_or_default();
    ensure!(actions.len() == DONE.len(), "a kill left {actions:?}");
    Ok(is_restarted)
}

/// Waits for a state, and starts the operator again if it is killed meanwhile.
async fn until<T>(
    fixture: &mut FaultFixture,
    is_restarted: &mut bool,
    has_kill: bool,
    look: impl AsyncFn(&FaultFixture) -> Result<T, String>,
) -> anyhow::Result<T> {
    loop {
        let may_be_killed = has_kill && !*is_restarted;
        let seen = wait_for("the next state of the response", LIMIT, async || {
            if may_be_killed && !fixture.proxy.kill_pending() {
                return Ok(None);
            }
            look(fixture).await.map(Some)
        })
        .await?;
        if let Some(seen) = seen {
            return Ok(seen);
        }
        fixture.until_killed().await?;
        fixture.start_operator().await?;
        *is_restarted = true;
    }
}

/// The pod is labelled, its Job suspended, and both are in the record, with what to restore.
pub async fn stands(fixture: &FaultFixture) -> Result<Incident, String> {
    let incident = the_only_incident(fixture).await?;
    let status = incident.status.clone().unwrap_or_default();
    let is_done = done(&incident) == DONE[..3];
    let label = fixture
        .quarantine_label()
        .await
        .map_err(|error| format!("{error:#}"))?;
    let suspended = fixture
        .job_suspend()
        .await
        .map_err(|error| format!("{error:#}"))?;
    let saved: Vec<_> = status
        .restore
        .iter()
        .map(|e| e.original_value.clone())
        .collect();
    let is_said = status.conditions.iter().any(|c| c.type_ == "Contained");
    if is_done
        && is_said
        && label == Some(incident.name_any())
        && suspended == Some(true)
        && saved == [Some(json!(false))]
        && status.capture.is_some()
    {
        return Ok(incident);
    }
    Err(format!(
        "label {label:?}, suspended {suspended:?}, saved {saved:?}, record {:?}",
        done(&incident)
    ))
}

/// Everything is as it was, the record is whole, and the Incident is closed.
pub async fn released(fixture: &FaultFixture) -> Result<Incident, String> {
    let incident = the_only_incident(fixture).await?;
    let status = incident.status.clone().unwrap_or_default();
    let label = fixture
        .quarantine_label()
        .await
        .map_err(|error| format!("{error:#}"))?;
    let suspended = fixture
        .job_suspend()
        .await
        .map_err(|error| format!("{error:#}"))?;
    let is_closed = condition_is(&status.conditions, IncidentCondition::Closed.name());
    if is_closed
        && done(&incident) == DONE
        && label.is_none()
        && suspended == Some(false)
        && status.restore.is_empty()
    {
        return Ok(incident);
    }
    Err(format!(
        "closed {is_closed}, label {label:?}, suspended {suspended:?}, record {:?}",
        status.actions
    ))
}

async fn the_only_incident(fixture: &FaultFixture) -> Result<Incident, String> {
    let mut all = fixture
        .incidents()
        .await
        .map_err(|error| format!("{error:#}"))?;
    if all.len() > 1 {
        return Err(format!("{} Incidents", all.len()));
    }
    all.pop().ok_or_else(|| "no Incident".to_owned())
}

/// What the record says succeeded; a write that failed and was tried again is in it as well.
fn done(incident: &Incident) -> Vec<(ActionKind, &str, ActionResult)> {
    let actions = incident.status.as_ref().map_or(&[][..], |s| &s.actions);
    actions
        .iter()
        .filter(|action| action.result == ActionResult::Succeeded)
        .map(|action| (action.kind, action.target.kind.as_str(), action.result))
        .collect()
}

/// Writes to Incidents, pods and Jobs of this fixture: those of the response.
fn response_paths(fixture: &FaultFixture) -> Vec<String> {
    ["incidents", "pods", "jobs"]
        .map(|kind| format!("/namespaces/{}/{kind}/", fixture.namespace))
        .to_vec()
}

fn response_writes(fixture: &FaultFixture) -> Vec<Write> {
    let paths = response_paths(fixture);
    let is_ours = |write: &Write| paths.iter().any(|path| write.path.contains(path));
    fixture.proxy.writes().into_iter().filter(is_ours).collect()
}
