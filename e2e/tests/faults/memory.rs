//! The memory of detection over a restart: 30 of the 35 failures that a quarantine takes come before it, 5 after.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use kube::Client;
use yellowjack_e2e::ScanLines;

use crate::fixture::{FaultFixture, in_cluster};

/// What happens while no agent runs.
type Meanwhile<'a> = &'a dyn Fn(&FaultFixture) -> anyhow::Result<()>;

const BEFORE: u32 = 30;
const AFTER: u32 = 5;

/// How the operator ends.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Terminate,
}

fn state(fixture: &FaultFixture) -> PathBuf {
    fixture.checkpoint_folder().join("detection.state")
}

/// A scan with a restart in it. `meanwhile` is what happens to the state while nothing runs.
async fn scan_over_restart(
    client: &Client,
    end: End,
    meanwhile: impl Fn(&FaultFixture) -> anyhow::Result<()>,
) -> anyhow::Result<FaultFixture> {
    let mut fixture = FaultFixture::new(client).await?;
    fixture.start_operator().await?;
    fixture.until_guarded("rogue").await?;
    let mut scan = ScanLines::new(&fixture.address);
    fixture.append(scan.take(BEFORE))?;
    // What the checkpoint says is read is in the state.
    fixture.until_read(fixture.log_size()?).await?;
    // 24 failures are an alert, with its Incident.
    ensure!(
        fixture.quarantine_label().await?.is_none(),
        "quarantined before the end"
    );
    match end {
        End::Kill => {
            fixture.operator_signal("KILL")?;
            fixture.until_killed().await?;
        }
        End::Terminate => fixture.stop_operator().await?,
    }
    meanwhile(&fixture)?;
    fixture.start_operator().await?;
    fixture.until_output("Yellowjack is ready", 2).await?;
    fixture.until_guarded("rogue").await?;
    fixture.append(scan.take(AFTER))?;
    fixture.until_read(fixture.log_size()?).await?;
    Ok(fixture)
}

#[test]
fn a_scan_that_a_restart_interrupts_is_found() -> anyhow::Result<()> {
    in_cluster(async |client| {
        for end in [End::Kill, End::Terminate] {
            let fixture = scan_over_restart(&client, end, |_| Ok(())).await?;
            let quarantined = fixture.until_quarantined().await;
            quarantined.with_context(|| fixture.operator_output())?;
            fixture.delete().await?;
        }
        Ok(())
    })
}

#[test]
fn without_the_state_it_is_not_found_and_a_state_that_cannot_be_used_is_left_aside()
-> anyhow::Result<()> {
    in_cluster(async |client| {
        let flip = |fixture: &FaultFixture, at: usize| {
            let mut bytes = std::fs::read(state(fixture))?;
            let byte = bytes.get_mut(at).context("the state is too short")?;
            *byte ^= 0x40;
            Ok(std::fs::write(state(fixture), bytes)?)
        };
        let cases: [(&str, Meanwhile<'_>); 4] = [
            ("", &|fixture| Ok(std::fs::remove_file(state(fixture))?)),
            ("its checksum does not fit", &|fixture| flip(fixture, 100)),
            ("of layout", &|fixture| flip(fixture, 16)),
            ("its checksum does not fit", &|fixture| {
                let bytes = std::fs::read(state(fixture))?;
                let half = bytes.get(..bytes.len() / 2).context("the state is empty")?;
                Ok(std::fs::write(state(fixture), half)?)
            }),
        ];
        for (said, meanwhile) in cases {
            let fixture = scan_over_restart(&client, End::Kill, meanwhile).await?;
            ensure!(
                fixture.quarantine_label().await?.is_none(),
                "quarantined without a memory: {said:?}"
            );
            let printed = fixture.operator_output();
            ensure!(printed.contains(said), "{said:?} is not in {printed}");
            let aside = fixture
                .checkpoint_folder()
                .join("detection.state.unreadable-1");
            ensure!(
                aside.exists() != said.is_empty(),
                "{said:?}: left aside or not"
            );
            fixture.delete().await?;
        }
        Ok(())
    })
}
