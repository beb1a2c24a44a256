//! The memory of detection over a restart: 30 of the 35 failures that a quarantine takes come before it, 5 after.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use kube::Client;
use yellowjack_e2e::ScanLines;

use crate::world::{World, in_cluster};

/// What happens while no agent runs.
type Meanwhile<'a> = &'a dyn Fn(&World) -> anyhow::Result<()>;

const BEFORE: u32 = 30;
const AFTER: u32 = 5;

/// How the operator ends.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Terminate,
}

fn state(world: &World) -> PathBuf {
    world.checkpoints().join("detection.state")
}

/// A scan with a restart in it. `meanwhile` is what happens to the state while nothing runs.
async fn scan_over_restart(
    client: &Client,
    end: End,
    meanwhile: impl Fn(&World) -> anyhow::Result<()>,
) -> anyhow::Result<World> {
    let mut world = World::new(client).await?;
    let pid = world.start().await?;
    world.wait_until_ready("rogue").await?;
    let mut scan = ScanLines::new(&world.address);
    world.write(scan.take(BEFORE))?;
    // What the checkpoint says is read is in the state.
    world.wait_until_read(world.size()?).await?;
    // 24 failures are an alert, with its Incident.
    ensure!(world.label().await?.is_none(), "quarantined before the end");
    match end {
        End::Kill => {
            let kill = format!("kill -KILL {pid}");
            let sent = std::process::Command::new("sh")
                .args(["-c", &kill])
                .status()?;
            ensure!(sent.success(), "the operator is not there any more");
            world.wait_until_dead().await?;
        }
        End::Terminate => world.stop().await?,
    }
    meanwhile(&world)?;
    world.start().await?;
    world.wait_until_printed("Yellowjack is ready", 2).await?;
    world.wait_until_ready("rogue").await?;
    world.write(scan.take(AFTER))?;
    world.wait_until_read(world.size()?).await?;
    Ok(world)
}

#[test]
fn a_scan_that_a_restart_interrupts_is_found() -> anyhow::Result<()> {
    in_cluster(async |client| {
        for end in [End::Kill, End::Terminate] {
            let world = scan_over_restart(&client, end, |_| Ok(())).await?;
            let quarantined = world.wait_for_quarantine().await;
            quarantined.with_context(|| world.printed())?;
            world.end().await?;
        }
        Ok(())
    })
}

#[test]
fn without_the_state_it_is_not_found_and_a_state_that_cannot_be_used_is_left_aside()
-> anyhow::Result<()> {
    in_cluster(async |client| {
        let flip = |world: &World, at: usize| {
            let mut bytes = std::fs::read(state(world))?;
            let byte = bytes.get_mut(at).context("the state is too short")?;
            *byte ^= 0x40;
            Ok(std::fs::write(state(world), bytes)?)
        };
        let cases: [(&str, Meanwhile<'_>); 4] = [
            ("", &|world| Ok(std::fs::remove_file(state(world))?)),
            ("its checksum does not fit", &|world| flip(world, 100)),
            ("of layout", &|world| flip(world, 16)),
            ("its checksum does not fit", &|world| {
                let bytes = std::fs::read(state(world))?;
                let half = bytes.get(..bytes.len() / 2).context("the state is empty")?;
                Ok(std::fs::write(state(world), half)?)
            }),
        ];
        for (said, meanwhile) in cases {
            let world = scan_over_restart(&client, End::Kill, meanwhile).await?;
            ensure!(
                world.label().await?.is_none(),
                "quarantined without a memory: {said:?}"
            );
            let printed = world.printed();
            ensure!(printed.contains(said), "{said:?} is not in {printed}");
            let aside = world.checkpoints().join("detection.state.unreadable-1");
            ensure!(
                aside.exists() != said.is_empty(),
                "{said:?}: left aside or not"
            );
            world.end().await?;
        }
        Ok(())
    })
}
