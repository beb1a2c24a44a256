//! What a machine must have to run a test node. Looked at before anything is built or started.

use std::path::Path;

/// Files that the kernel shows when it was built with what the node needs.
const KERNEL_FILES: [(&str, &str); 4] = [
    ("/proc/net/nf_conntrack_expect", "connection tracking"),
    ("/proc/self/ns/net", "network namespaces"),
    ("/proc/self/ns/pid", "process namespaces"),
    ("/sys/fs/cgroup", "control groups"),
];

/// Why no node can run here, as one line; none where one can. Programs that can be installed are
/// `e2e/node/build.sh`'s matter, not a reason.
#[must_use]
pub fn missing() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    if !field("Uid:").starts_with('0') {
        return Some("a test node needs root".to_owned());
    }
    // Bit 21 is CAP_SYS_ADMIN, bit 12 CAP_NET_ADMIN: a container's root often lacks them.
    let capabilities = u64::from_str_radix(&field("CapEff:"), 16).unwrap_or_default();
    if capabilities & (1 << 21) == 0 || capabilities & (1 << 12) == 0 {
        return Some("a test node needs CAP_SYS_ADMIN and CAP_NET_ADMIN".to_owned());
    }
    for program in ["unshare", "setpriv", "mount", "sh"] {
        if !on_path(program) {
            return Some(format!("a test node needs the program {program}"));
        }
    }
    let absent = KERNEL_FILES
        .iter()
        .find(|(file, _)| !Path::new(file).exists());
    absent.map(|(file, what)| format!("the kernel has no {what} ({file})"))
}

/// Why this process has no node: none where it has one.
#[must_use]
pub fn skip_reason() -> Option<String> {
    if std::env::var_os(super::layout::STATE_VARIABLE).is_some() {
        return None;
    }
    Some(missing().unwrap_or_else(|| "no test node: `make e2e-node` starts one".to_owned()))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
