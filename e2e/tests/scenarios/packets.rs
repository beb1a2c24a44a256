//! Counting packets: those that left pods, and those that arrived outside.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::Value;
use yellowjack_e2e::node::{Arrival, HUBBLE_LOG, POD_NETWORK};

/// Counts what each pod sends to the Internet before any policy sees it. The cluster's own addresses
/// are left out: those packets never get there.
const COUNTERS: &str = "
table ip scenario_counters
delete table ip scenario_counters
table ip scenario_counters {
    set sent { type ipv4_addr; flags dynamic; counter; size 1024; }
    chain prerouting {
        type filter hook prerouting priority -310;
        ip saddr 10.244.0.0/24 ip daddr != { 10.0.0.0/8, 192.0.2.1 } update @sent { ip saddr }
    }
}";

fn nft(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("nft")
        .args(arguments)
        .output()
        .context("failed to run nft")?;
    ensure!(
        output.status.success(),
        "nft failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts counting anew.
pub fn count_anew() -> anyhow::Result<()> {
    nft(&[COUNTERS]).map(|_| ())
}

/// How many packets this pod has sent to the Internet, whether or not they got there.
pub fn sent_by(address: &str) -> anyhow::Result<u64> {
    let text = nft(&["-j", "list", "set", "ip", "scenario_counters", "sent"])?;
    let all: Value = serde_json::from_str(&text).context("failed to read nft's answer")?;
    let objects = all.get("nftables").and_then(Value::as_array);
    let sets = objects.into_iter().flatten().filter_map(|o| o.get("set"));
    let elements = sets.filter_map(|set| set.get("elem")?.as_array()).flatten();
    let own = elements
        .filter_map(|element| element.get("elem"))
        .find(|element| element.get("val").and_then(Value::as_str) == Some(address));
    let packets = own.and_then(|element| element.pointer("/counter/packets")?.as_u64());
    Ok(packets.unwrap_or(0))
}

/// How many packets of this pod Cilium has dropped. It logs each in the flow log, with its rotated files.
pub fn dropped_by_cilium(address: &str) -> anyhow::Result<u64> {
    let log = Path::new(HUBBLE_LOG);
    let folder = log.parent().context("the log lies in a folder")?;
    let mut count = 0;
    for file in std::fs::read_dir(folder).context("failed to list Cilium's logs")? {
        let file = file.context("failed to list Cilium's logs")?.path();
        let text = std::fs::read_to_string(&file).context("failed to read Cilium's log")?;
        for line in text.lines().filter(|line| line.contains("DROPPED")) {
            // The last line may be in the middle of being written.
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let is_of_pod = line.pointer("/flow/IP/source") == Some(&Value::from(address));
            // A policy verdict and the drop itself are two lines about one packet.
            let is_drop = line.pointer("/flow/event_type/type") == Some(&Value::from(1));
            count += u64::from(is_of_pod && is_drop);
        }
    }
    Ok(count)
}

/// The rule that logs first packets, moved in front of the stand-in's policies, as it stands on a node whose
/// engine has its policies behind it. Dropping this moves it back.
pub struct LogBeforePolicies(());

/// Where the rule stands otherwise, and where it stands in front of the policies.
const PLACES: [&str; 2] = ["filter", "mangle"];

impl LogBeforePolicies {
    /// Moves the rule.
    pub fn start() -> anyhow::Result<Self> {
        let [behind, before] = PLACES;
        log_rule(before, "--insert")?;
        let moved = Self(());
        log_rule(behind, "--delete")?;
        Ok(moved)
    }
}

impl Drop for LogBeforePolicies {
    fn drop(&mut self) {
        let [behind, before] = PLACES;
        for (table, change) in [(behind, "--insert"), (before, "--delete")] {
            if let Err(error) = log_rule(table, change) {
                eprintln!("failed to move the rule that logs first packets back: {error:#}");
            }
        }
    }
}

fn log_rule(table: &str, change: &str) -> anyhow::Result<()> {
    let rule = format!(
        "--wait --table {table} {change} FORWARD --source {POD_NETWORK} --match conntrack \
         --ctstate NEW --jump NFLOG --nflog-group 7"
    );
    let output = Command::new("iptables")
        .args(rule.split_whitespace())
        .output()
        .context("failed to run iptables")?;
    ensure!(
        output.status.success(),
        "iptables {rule} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The seconds from one moment to another.
pub fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// Whether a packet opens a connection, or belongs to a protocol without any.
pub fn is_new(arrival: &Arrival) -> bool {
    arrival.syn || arrival.protocol != 6
}
