//! What a machine must have to run a test node. Looked at before anything is built or started.

use std::process::{Command, Stdio};

use super::layout::STATE_VARIABLE;

/// Bits of `CapEff` that a container's root often lacks.
const CAPABILITIES: [(&str, u32); 2] = [("CAP_SYS_ADMIN", 21), ("CAP_NET_ADMIN", 12)];
/// Fails where the kernel has no connection tracking, neither built in nor as a module.
const TRACKING_SCRIPT: &str = "modprobe -q nf_conntrack_netlink; \
    test -e /proc/sys/net/netfilter/nf_conntrack_acct";

/// Why no node can run here, as one line; none where one can. Programs that can be installed are
/// `e2e/node/build.sh`'s matter, not a reason.
#[must_use]
pub fn missing() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    if field("Uid:").split_whitespace().next() != Some("0") {
        return Some("a test node needs Linux and root".to_owned());
    }
    let held = u64::from_str_radix(&field("CapEff:"), 16).unwrap_or_default();
    for (name, bit) in CAPABILITIES {
        if held & (1 << bit) == 0 {
            return Some(format!("a test node needs {name}"));
        }
    }
    if !works("setpriv", &["--pdeathsig", "clear", "true"]) {
        return Some("a test node needs the program setpriv of util-linux".to_owned());
    }
    let namespaces = [
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
    ];
    let inside = |script| works("unshare", &[namespaces.as_slice(), &[script]].concat());
    if !inside("true") {
        return Some("namespaces for network, mounts and processes are refused here".to_owned());
    }
    if !inside(TRACKING_SCRIPT) {
        return Some("the kernel has no connection tracking in network namespaces".to_owned());
    }
    None
}

/// Whether this process runs outside of any test node.
#[must_use]
pub fn running_elsewhere() -> bool {
    std::env::var_os(STATE_VARIABLE).is_none()
}

/// Whether a node must run here, and a skipped test is a failure: in continuous integration, which
/// installs what a node needs (`.ci/run`).
#[must_use]
pub fn is_required() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Why this process has no node: none where it has one.
#[must_use]
pub fn skip_reason() -> Option<String> {
    if !running_elsewhere() {
        return None;
    }
    if std::env::var_os("KUBECONFIG").is_some() {
        let why = "on the cluster of KUBECONFIG neither the kernel's log nor what arrives outside is seen";
        return Some(why.to_owned());
    }
    Some(missing().unwrap_or_else(|| "no test node: `make e2e-node` starts one".to_owned()))
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
