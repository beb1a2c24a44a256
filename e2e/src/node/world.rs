//! The servers of the namespace that plays the Internet, and the log of what arrived there. Called
//! by `inside` after `network`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::layout::{
    DNS_IP, PACKAGE_HOSTS, POOL_IP, POOL_NAME, POOL_PORT, POOL_TLS_PORT, SERVER_IP_V6, SSH_HOSTS,
    SSH_IP, path,
};
use super::program::{in_world, run_command, stay};
use crate::supervise::{Supervised, log_tail};
use crate::wait::wait_for;

const READY_LIMIT: Duration = Duration::from_secs(20);
/// dropbear listens on at most ten addresses.
const SSH_ADDRESSES_MAX: usize = 10;
/// Gives the SSH server a home of its own: the key that it takes must not enter the user's.
/// `$1`: the public key. The rest is the command.
const SSH_SCRIPT: &str = r#"
home=~root
key=$(cat "$1"); shift
mount -t tmpfs -o mode=0700 none "$home"
mkdir -m 0700 "$home/.ssh"
echo "$key" >"$home/.ssh/authorized_keys"
exec "$@"
"#;

/// Where the packets that arrived are written down.
pub(super) fn arrivals_file() -> PathBuf {
    path("arrivals.jsonl")
}

/// Starts everything and waits until all of it listens.
pub(super) async fn start(built: &Path) -> anyhow::Result<Vec<Supervised>> {
    let toolbox = built.join("toolbox");
    let mut processes = vec![stay("world-sniff", &sniff_command(&toolbox))?];
    processes.push(stay("world-dns", &dns_command())?);
    let web: Vec<_> = PACKAGE_HOSTS
        .iter()
        .map(|(_, address)| format!("{address}:80"))
        .chain([
            "203.0.113.80:8080".to_owned(),
            format!("[{SERVER_IP_V6}]:80"),
        ])
        .collect();
    let mut serve = in_world(&toolbox);
    serve.args(["serve", "-listen", &web.join(",")]);
    processes.push(stay("world-web", &serve)?);
    for (name, address, secure) in [
        ("world-pool", format!("{POOL_IP}:{POOL_PORT}"), false),
        ("world-pool-tls", format!("{POOL_IP}:{POOL_TLS_PORT}"), true),
        (
            "world-pool-v6",
            format!("[{SERVER_IP_V6}]:{POOL_PORT}"),
            false,
        ),
    ] {
        let mut pool = in_world(&toolbox);
        pool.arg("pool");
        if secure {
            pool.arg("-tls").arg(path("certificates"));
        }
        pool.arg(&address);
        processes.push(stay(name, &pool)?);
    }
    let ssh: Vec<_> = SSH_HOSTS
        .iter()
        .map(|host| format!("198.51.100.{host}:22"))
        .chain([format!("{SSH_IP}:22"), format!("[{SERVER_IP_V6}]:22")])
        .collect();
    for (number, addresses) in ssh.chunks(SSH_ADDRESSES_MAX).enumerate() {
        let command = ssh_command(built, addresses)?;
        processes.push(stay(&format!("world-ssh-{number}"), &command)?);
    }
    // One listener per address, and DNS.
    let wanted = web.len() + 3 + ssh.len() + 1;
    wait_for(
        "the servers of the Internet to listen",
        READY_LIMIT,
        async || ready(wanted).map_err(|error| format!("{error:#}")),
    )
    .await?;
    Ok(processes)
}

fn ready(wanted: usize) -> anyhow::Result<()> {
    let sockets = run_command(in_world("ss").args(["-H", "-l", "-n", "-t"]))?;
    let count = sockets.lines().count();
    anyhow::ensure!(count >= wanted, "{count} of {wanted} listen:\n{sockets}");
    let log = path("logs/world-sniff.log");
    anyhow::ensure!(log_tail(&log, 1) == "ready", "the sniffer is not ready");
    Ok(())
}

fn sniff_command(toolbox: &Path) -> Command {
    let mut sniff = in_world(toolbox);
    sniff.args(["sniff", "eth0"]).arg(arrivals_file());
    sniff
}

/// No servers above it: a name that is not listed does not exist.
fn dns_command() -> Command {
    let mut dns = in_world("dnsmasq");
    dns.args(["--keep-in-foreground", "--conf-file=/dev/null"])
        .args(["--no-resolv", "--no-hosts", "--bind-interfaces"])
        .args(["--user=root", "--pid-file=", "--log-facility=-"])
        .arg(format!("--listen-address={DNS_IP}"))
        .arg("--local=/example.com/example.net/example.org/")
        .arg(format!("--host-record={POOL_NAME},{POOL_IP}"));
    for (name, address) in PACKAGE_HOSTS {
        dns.arg(format!("--host-record={name},{address}"));
    }
    dns
}

fn ssh_command(built: &Path, addresses: &[String]) -> anyhow::Result<Command> {
    let key = path("ssh_host_key");
    if !key.exists() {
        let mut make = Command::new("dropbearkey");
        make.args(["-t", "ed25519", "-f"]).arg(&key);
        run_command(&mut make)?;
    }
    let mut ssh = in_world("unshare");
    ssh.args(["--mount", "sh", "-c", SSH_SCRIPT, "ssh"])
        .arg(built.join("tunnel_key.pub"))
        .args(["dropbear", "-F", "-E", "-s", "-r"])
        .arg(&key)
        // Not the default file of process ids: two servers run, and it is outside the node's folder.
        .args(["-P", ""]);
    for address in addresses {
        ssh.args(["-p", address]);
    }
    Ok(ssh)
}
