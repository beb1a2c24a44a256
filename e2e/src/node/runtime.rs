//! containerd and the pods' network plugin, with folders of their own. Called by `inside` before
//! the kubelet starts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::engine::{self, Engine};
use super::layout::{IMAGE, POD_NETWORK, POD_NETWORK_V6, path};
use super::program::{run_command, stay, write};
use crate::supervise::Supervised;
use crate::wait::wait_for;

const READY_LIMIT: Duration = Duration::from_secs(30);

/// containerd's socket.
pub(super) fn socket() -> PathBuf {
    path("containerd/containerd.sock")
}

/// Where the network plugin remembers which address it gave last.
pub(super) fn address_folder() -> PathBuf {
    path("addresses")
}

/// Starts containerd and gives it the image of the test pods.
pub(super) async fn start(
    built: &Path,
    engine: Option<&(Engine, PathBuf)>,
) -> anyhow::Result<Supervised> {
    let network = engine.and_then(|(engine, _)| engine::network_text(*engine));
    let network = network.unwrap_or_else(network_text);
    write(&path("cni/10-pods.conflist"), &network)?;
    let configuration = path("containerd.toml");
    let plugins = engine.map(|(_, folder)| folder.as_path());
    write(&configuration, &configuration_text(plugins))?;
    // containerd looks for its shim beside the programs on its path.
    let programs = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(built.join("containerd"));
    command
        .arg("--config")
        .arg(&configuration)
        .env("PATH", format!("{}:{programs}", built.display()));
    let mut process = stay("containerd", &command)?;
    wait_for("containerd to answer", READY_LIMIT, async || {
        if let Ok(Some(status)) = process.exited() {
            return Ok(Err(format!(
                "containerd ended with {status}: {}",
                process.log_tail(8)
            )));
        }
        run_command(ctr(built).arg("version"))
            .map(|_| Ok(()))
            .map_err(|error| format!("{error:#}"))
    })
    .await?
    .map_err(anyhow::Error::msg)?;
    import(built, &built.join("toolbox.tar"))?;
    Ok(process)
}

/// Gives containerd an image that `e2e/node/image.sh` packed.
pub(super) fn import(built: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut command = ctr(built);
    command.args(["images", "import"]).arg(archive);
    run_command(&mut command).map(|_| ())
}

fn ctr(built: &Path) -> Command {
    let mut command = Command::new(built.join("ctr"));
    command
        .arg("--address")
        .arg(socket())
        .args(["--namespace", "k8s.io"]);
    command
}

fn configuration_text(plugins: Option<&Path>) -> String {
    let folder = |name: &str| path(name).display().to_string();
    let own = plugins.map(|folder| folder.display().to_string());
    let plugin_folders: Vec<String> = std::iter::once("/usr/lib/cni".to_owned())
        .chain(own)
        .map(|folder| format!("{folder:?}"))
        .collect();
    format!(
        r#"version = 3
root = "{root}"
state = "{state}"
temp = "{temporary}"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
# Where lowering a score is refused, runc dies of it.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = [{plugins}]
conf_dir = "{network}"
"#,
        root = folder("containerd/root"),
        state = folder("containerd/state"),
        temporary = folder("containerd/temporary"),
        socket = socket().display(),
        opt = folder("containerd/opt"),
        network = folder("cni"),
        plugins = plugin_folders.join(", "),
    )
}

/// Each pod has a link of its own to the node, so that all its traffic passes the FORWARD chain.
fn network_text() -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": address_folder(),
                    "ranges": [[{ "subnet": POD_NETWORK }], [{ "subnet": POD_NETWORK_V6 }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}
