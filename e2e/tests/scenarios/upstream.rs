//! Kubernetes' own suite for NetworkPolicy engines, against the stand-in that the scenarios rest on. It
//! knows nothing of Yellowjack and takes minutes, so it runs once for each build of the stand-in and
//! each kernel.

use anyhow::{Context, ensure};
use yellowjack_e2e::node::{POD_NETWORK, POD_NETWORK_V6, TestNode, skip_reason};
use yellowjack_e2e::standin::{Standin, StandinMode, build, run_suite, suite_image};

/// Set to 0 by `make test-all`: the suite takes ten minutes to build.
const SUITE: &str = "YELLOWJACK_NETPOL_SUITE";

/// Processes that run specs at the same time.
const SHARDS: usize = 4;

#[tokio::test]
async fn the_stand_in_passes_the_suite_of_upstream() -> anyhow::Result<()> {
    if let Some(reason) = skip_reason() {
        println!("skipped: {reason}");
        return Ok(());
    }
    if std::env::var_os(SUITE).is_some_and(|value| value == "0") {
        println!("skipped: {SUITE}=0 leaves the suite out; `make e2e-node` runs it");
        return Ok(());
    }
    // Beside the program, whose name holds a hash of all that goes into it.
    let passed = build("standin")?.with_extension("passed");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    if std::fs::read_to_string(&passed).is_ok_and(|text| text == kernel) {
        println!("skipped: it passed before with this build of the stand-in on this kernel");
        return Ok(());
    }
    let node = TestNode::find()?;
    let (image, program) = suite_image()?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let root = folder.path().join("root");
    std::fs::create_dir(&root).context("failed to make a folder")?;
    std::fs::copy(program, root.join("agnhost")).context("failed to copy agnhost")?;
    node.import_image(&image, &root, &["/agnhost"])?;
    let networks = [POD_NETWORK, POD_NETWORK_V6];
    let log = folder.path().join("standin.log");
    let _standin =
        Standin::start(StandinMode::Connection, node.kubeconfig(), &networks, &log).await?;
    let result = run_suite(node.kubeconfig(), SHARDS, &folder.path().join("suite.log"))?;
    println!("figure netpol.run {} count", result.run);
    println!("figure netpol.passed {} count", result.passed);
    ensure!(result.run > 0 && result.passed == result.run, "{result:?}");
    std::fs::write(passed, kernel).context("failed to note that the suite passed")
}
