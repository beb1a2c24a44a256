//! The end of the controller that leads, and how soon the other one acts in its place.

use std::process::Command;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use kube::ResourceExt;
use yellowjack_e2e::wait_for;

use crate::incident::{self, Rogue, label_of};
use crate::release::{pods, process_of};
use crate::site::{LIMIT, SYSTEM, Site, run};

/// The Lease of the controllers, which the program names so by itself.
const LEASE: [&str; 4] = ["-n", SYSTEM, "lease", "yellowjack-controller"];

/// The leader's process is killed, and somebody releases the pod: the other controller does it. The
/// kubelet stands still meanwhile, as it does on a node that is gone, or it would start the same pod's
/// container anew within the Lease's time.
pub async fn the_other_controller_releases(site: &Site, held: &Rogue) -> anyhow::Result<()> {
    // After a rollout the Lease is nobody's for a moment.
    let what = "one of two controllers to lead";
    let (leader, pid) = wait_for(what, LIMIT, async || {
        leading(site).await.map_err(|error| format!("{error:#}"))
    })
    .await?;
    site.node.signal("kubelet", "STOP")?;
    run(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
    let killed = Timestamp::now();
    let released = async {
        incident::release(site, held).await?;
        wait_for("the other controller to act", LIMIT, async || {
            let label = label_of(site, held).await.map_err(|e| format!("{e:#}"))?;
            if label.is_null() {
                Ok(())
            } else {
                Err(label.to_string())
            }
        })
        .await
    };
    let outcome = released.await;
    let took = Timestamp::now().duration_since(killed);
    site.node.signal("kubelet", "CONT")?;
    outcome?;
    println!("figure failover {:.1} s", took.as_secs_f64());
    let other = holder(site).await?;
    ensure!(other != leader, "{leader} holds the Lease still");
    Ok(())
}

/// The pod that leads, and its process.
async fn leading(site: &Site) -> anyhow::Result<(String, u32)> {
    let leader = holder(site).await?;
    let controllers = pods(site, "controller").await?;
    ensure!(controllers.len() == 2, "{} controllers", controllers.len());
    let pod = controllers.iter().find(|pod| pod.name_any() == leader);
    let pid = process_of(pod.with_context(|| format!("no pod {leader:?}"))?)?;
    Ok((leader, pid))
}

/// The pod that leads. The Lease names the process as well: `POD_RANDOM`.
async fn holder(site: &Site) -> anyhow::Result<String> {
    let lease = site.get(&LEASE).await?;
    let holder = lease["spec"]["holderIdentity"].as_str();
    let pod = holder.and_then(|holder| holder.split('_').next());
    Ok(pod.context("nobody holds the Lease")?.to_owned())
}
