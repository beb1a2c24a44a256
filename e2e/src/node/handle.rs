//! What tests and scenarios hold of the node that they run in: its client, its logs, the packets that
//! arrived outside, and ways to disturb it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

use super::inside::State;
use super::layout::{NODE_IP, STATE_VARIABLE, path};
use super::program::{in_world, run, sysctl, write};
use super::runtime;
use crate::control_plane::client_of;
use crate::supervise::{Supervised, log_tail};

/// A packet that reached the Internet's side of the link, whoever sent it and whatever became of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Arrival {
    /// When the kernel took it, in microseconds since 1970.
    pub time_us: i64,
    /// The sender's address: a pod's, for nothing is translated.
    pub from: String,
    /// The target's address.
    pub to: String,
    /// 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6.
    pub protocol: u8,
    /// The sender's port; 0 where the protocol has none.
    pub from_port: u16,
    /// The target's port.
    pub to_port: u16,
    /// Whether it opens a TCP connection.
    pub syn: bool,
    /// Its length with the IP header.
    pub bytes: u32,
}

impl Arrival {
    /// When the kernel took it.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_microsecond(self.time_us).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The node that this process runs in.
#[derive(Debug, Clone)]
pub struct TestNode {
    state: State,
}

impl TestNode {
    /// The node that `with-node` started around this process.
    pub fn find() -> anyhow::Result<Self> {
        let file = std::env::var_os(STATE_VARIABLE).context("this process runs in no test node")?;
        let text = std::fs::read(&file).context("failed to read the node's state")?;
        let state = serde_json::from_slice(&text).context("failed to parse the node's state")?;
        Ok(Self { state })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.state.kubeconfig
    }

    /// The administrator's client.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client_of(&self.state.kubeconfig).await
    }

    /// A client of the kubelet itself, which asks the API server what the token may do.
    pub fn kubelet_client(&self, token: &str) -> anyhow::Result<Client> {
        let url = format!("https://{NODE_IP}:10250").parse();
        let mut config = kube::Config::new(url.context("failed to name the kubelet")?);
        // The kubelet makes its certificate itself.
        config.accept_invalid_certs = true;
        config.auth_info = serde_json::from_value(serde_json::json!({ "token": token }))
            .context("failed to use the token")?;
        Client::try_from(config).context("failed to make a client of the kubelet")
    }

    /// The log that ulogd writes: NFLOG and NFCT lines.
    #[must_use]
    pub fn egress_log(&self) -> &Path {
        &self.state.egress_log
    }

    /// How long the node took from its namespaces to being ready.
    #[must_use]
    pub const fn start_time(&self) -> Duration {
        Duration::from_millis(self.state.start_ms)
    }

    /// The process id of a part: `kubelet`, `kube-apiserver`, `kube-controller-manager`,
    /// `kube-scheduler`, `kube-proxy`, `etcd`, `containerd` or `ulogd`.
    pub fn pid(&self, part: &str) -> anyhow::Result<u32> {
        let pid = self.state.pids.get(part);
        pid.copied()
            .with_context(|| format!("the node has no part {part}"))
    }

    /// Sends a signal to a part: `STOP` and `CONT` make the API server absent for a while.
    pub fn signal(&self, part: &str, signal: &str) -> anyhow::Result<()> {
        let pid = self.pid(part)?.to_string();
        run("kill", [format!("-{signal}"), pid]).map(|_| ())
    }

    /// The packets that arrived outside so far, in order, those without an IP header left out.
    pub fn arrivals(&self) -> anyhow::Result<Vec<Arrival>> {
        let text = std::fs::read_to_string(&self.state.arrivals)
            .context("failed to read the packets that arrived")?;
        // The last line may be in the middle of being written.
        let whole = text
            .rfind('\n')
            .map_or("", |end| text.get(..end).unwrap_or_default());
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not a packet: {line}")))
            .collect()
    }

    /// Those of one sender.
    pub fn arrivals_from(&self, address: &str) -> anyhow::Result<Vec<Arrival>> {
        let mut all = self.arrivals()?;
        all.retain(|arrival| arrival.from == address);
        Ok(all)
    }

    /// A command in the namespace that plays the Internet.
    #[must_use]
    pub fn outside(&self, program: &str) -> Command {
        if program == "toolbox" {
            return in_world(self.state.built.join(program));
        }
        in_world(program)
    }

    /// Starts such a command and keeps it until the handle is dropped.
    pub fn keep_outside(&self, command: &Command, log: &Path) -> anyhow::Result<Supervised> {
        Supervised::start(command, log, None)
    }

    /// Packs a folder into an image and gives it to the node. The folder holds the image's files;
    /// `entrypoint` is the program and its arguments.
    pub fn import_image(&self, name: &str, root: &Path, entrypoint: &[&str]) -> anyhow::Result<()> {
        ensure!(
            name.contains(':') && !entrypoint.is_empty(),
            "wanted NAME:TAG and a program"
        );
        let archive = tempfile::Builder::new()
            .suffix(".tar")
            .tempfile()
            .context("failed to make a file for the image")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/image.sh");
        let mut command = Command::new(script);
        command
            .arg(name)
            .arg(root)
            .arg(archive.path())
            .args(entrypoint);
        super::program::run_command(&mut command)?;
        runtime::import(&self.state.built, archive.path())
    }

    /// Makes an image of one program of this machine, with the libraries that it loads, and gives it
    /// to the node: the operator becomes a pod in this way.
    pub fn import_program(&self, name: &str, program: &Path) -> anyhow::Result<()> {
        let root = tempfile::tempdir().context("failed to make a folder for the image")?;
        let file = program.file_name().context("a program has a name")?;
        let entrypoint = Path::new("/bin").join(file);
        copy_below(root.path(), program, &entrypoint)?;
        // Its output is "name => path (address)", or "path (address)" for the loader.
        let libraries = run("ldd", [program]).unwrap_or_default();
        for word in libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            copy_below(root.path(), Path::new(word), Path::new(word))?;
        }
        let entrypoint = entrypoint.display().to_string();
        self.import_image(name, root.path(), &[&entrypoint])
    }

    /// Writes a setting of the node's network, by its path below `/proc/sys/net`. The node has the
    /// kernel's own: with `netfilter/nf_conntrack_tcp_timeout_syn_sent` at 120 s, the end of an
    /// unanswered connection is in the egress log two minutes after its begin.
    pub fn set_network(&self, name: &str, value: &str) -> anyhow::Result<()> {
        sysctl(&format!("net/{name}"), value)
    }

    /// Renames the egress log to `egress.jsonl.1` and has ulogd open a new one, as logrotate does.
    pub fn rotate_egress_log(&self) -> anyhow::Result<()> {
        let log = self.egress_log();
        std::fs::rename(log, log.with_extension("jsonl.1")).context("failed to rename the log")?;
        self.signal("ulogd", "HUP")
    }

    /// Makes the node give this IPv4 address to its next pod, if it is free: the plugin goes on after
    /// the one that it gave last.
    pub fn give_next(&self, address: std::net::Ipv4Addr) -> anyhow::Result<()> {
        let before = std::net::Ipv4Addr::from_bits(address.to_bits().wrapping_sub(1));
        let file = runtime::address_folder().join("pods/last_reserved_ip.0");
        write(&file, &before.to_string())
    }

    /// The ends of the logs of all parts, for a test that failed.
    #[must_use]
    pub fn log_tails(&self, lines: usize) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(path("logs"))
            .into_iter()
            .flatten()
            .flatten();
        let logs: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        logs.into_iter()
            .map(|log| (log.display().to_string(), log_tail(&log, lines)))
            .collect()
    }
}

/// Copies a file to a path below a folder; what links point to becomes a file of its own.
fn copy_below(root: &Path, from: &Path, to: &Path) -> anyhow::Result<()> {
    let target = root.join(to.strip_prefix("/").unwrap_or(to));
    let folder = target.parent().context("a file lies in a folder")?;
    std::fs::create_dir_all(folder).context("failed to make a folder of the image")?;
    std::fs::copy(from, &target)
        .with_context(|| format!("failed to copy {}", from.display()))
        .map(|_| ())
}
