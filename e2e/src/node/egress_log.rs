//! The kernel's egress log of the node: one JSON line per new connection that leaves a pod (NFLOG),
//! at most one a second per pod and target for packets of connections that live on (NFLOG), and one
//! per event of connection tracking (NFCT), all in one file. Called by `inside`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::layout::{POD_NETWORK, POD_NETWORK_V6, path};
use super::program::{run, stay, sysctl, write};
use crate::supervise::Supervised;
use crate::wait::wait_for;

const READY_LIMIT: Duration = Duration::from_secs(20);
const PLUGINS: [&str; 6] = [
    "inppkt_NFLOG",
    "inpflow_NFCT",
    "raw2packet_BASE",
    "filter_IFINDEX",
    "filter_IP2STR",
    "output_JSON",
];

/// Where the log is.
pub(super) fn file() -> PathBuf {
    path("egress/egress.jsonl")
}

/// Starts it, and waits until the kernel has somebody to send to.
pub(super) async fn start() -> anyhow::Result<Supervised> {
    // Packets, bytes and times of a connection, which the kernel does not keep by itself.
    sysctl("net/netfilter/nf_conntrack_acct", "1")?;
    sysctl("net/netfilter/nf_conntrack_timestamp", "1")?;
    let configuration = path("ulogd.conf");
    write(&configuration, &configuration_text()?)?;
    write(&file(), "")?;
    let mut command = std::process::Command::new("ulogd");
    command
        .arg("--configfile")
        .arg(&configuration)
        .arg("--pidfile")
        .arg(path("ulogd.pid"))
        .env("TZ", "UTC");
    let mut process = stay("ulogd", &command)?;
    wait_for("ulogd's netlink socket", READY_LIMIT, async || {
        if let Ok(Some(status)) = process.exited() {
            return Ok(Err(format!(
                "ulogd ended with {status}: {}",
                process.log_tail(5)
            )));
        }
        let readers = std::fs::read_to_string("/proc/net/netfilter/nfnetlink_log");
        match readers {
            Ok(text) if !text.trim().is_empty() => Ok(Ok(())),
            _ => Err("nobody listens to NFLOG".to_owned()),
        }
    })
    .await?
    .map_err(anyhow::Error::msg)?;
    let rule = |network: &'static str| {
        format!(
            "--wait --insert FORWARD --source {network} --match conntrack --ctstate NEW \
             --jump NFLOG --nflog-group 7"
        )
    };
    // Without this a connection that outlives its isolation is in the log at its end only. Not in
    // FORWARD: kube-proxy accepts what is established there, in a rule before this one.
    let alive = |network: &'static str| {
        format!(
            "--wait --table mangle --insert POSTROUTING --source {network} \
             --match conntrack --ctstate ESTABLISHED \
             --match hashlimit --hashlimit-name alive --hashlimit-mode srcip,dstip \
             --hashlimit-upto 1/sec --hashlimit-burst 1 \
             --jump NFLOG --nflog-group 7 --nflog-prefix alive"
        )
    };
    for text in [rule(POD_NETWORK), alive(POD_NETWORK)] {
        run("iptables", text.split_whitespace())?;
    }
    for text in [rule(POD_NETWORK_V6), alive(POD_NETWORK_V6)] {
        run("ip6tables", text.split_whitespace())?;
    }
    Ok(process)
}

fn configuration_text() -> anyhow::Result<String> {
    let found = run("find", ["/usr/lib", "-name", "ulogd_output_JSON.so"])?;
    let first = found
        .lines()
        .next()
        .context("unable to find ulogd's JSON plugin")?;
    let folder = Path::new(first)
        .parent()
        .context("a plugin without a folder")?;
    let plugin = |name: &str| format!("plugin=\"{}/ulogd_{name}.so\"", folder.display());
    let plugins = PLUGINS.map(plugin).join("\n");
    let log = file();
    let log = log.display();
    // Each line is flushed as it is written, so lines of the two stacks never mix. With ulogd's own
    // socket buffers events are lost when the kernel ends a scan's connections in one burst.
    Ok(format!(
        "[global]\nlogfile=\"stdout\"\nloglevel=3\n{plugins}\n\
         stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,json1:JSON\n\
         stack=ct1:NFCT,ip2str2:IP2STR,json2:JSON\n\
         [log1]\ngroup=7\nnetlink_qthreshold=1\n\
         netlink_socket_buffer_size=4194304\nnetlink_socket_buffer_maxsize=16777216\n\
         [ct1]\nhash_enable=0\n\
         netlink_socket_buffer_size=4194304\nnetlink_socket_buffer_maxsize=16777216\n\
         [json1]\nsync=1\nfile=\"{log}\"\n[json2]\nsync=1\nfile=\"{log}\"\n"
    ))
}
