//! The control groups of a node: made before the kubelet starts, removed after everything in them
//! has ended. Versions 1 and 2. They are the one thing that does not end with the namespaces.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::wait::wait_for;

/// The kernel empties the groups of killed processes within milliseconds; a loaded machine is slower.
const REMOVE_LIMIT: Duration = Duration::from_secs(20);
/// Controllers that the kubelet needs where they are enabled one by one.
const CONTROLLERS_V2: &str = "+cpu +cpuset +memory +pids";

/// The roots of the mounted hierarchies, and whether each is of version 2.
fn roots() -> anyhow::Result<Vec<(PathBuf, bool)>> {
    let mounts =
        std::fs::read_to_string("/proc/self/mounts").context("failed to read the mounts")?;
    let roots = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (root, kind) = (fields.next()?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| (PathBuf::from(root), kind == "cgroup2"))
    });
    Ok(roots.collect())
}

/// Makes the group of this name in every hierarchy.
pub(super) fn make(name: &str) -> anyhow::Result<()> {
    for (root, is_version_2) in roots()? {
        let group = root.join(name);
        std::fs::create_dir_all(&group)
            .with_context(|| format!("failed to make {}", group.display()))?;
        if is_version_2 {
            // Beside version 1 this hierarchy has no controllers, and nothing can be enabled.
            let available = std::fs::read_to_string(root.join("cgroup.controllers"));
            if available.is_ok_and(|text| text.contains("memory")) {
                for folder in [&root, &group] {
                    let file = folder.join("cgroup.subtree_control");
                    std::fs::write(&file, CONTROLLERS_V2)
                        .with_context(|| format!("failed to write {}", file.display()))?;
                }
            }
        } else {
            fill_cpuset(&root, &group)?;
        }
    }
    Ok(())
}

/// A new cpuset of version 1 is empty, and no process can enter it.
fn fill_cpuset(root: &Path, group: &Path) -> anyhow::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = std::fs::read_to_string(root.join(file)) {
            std::fs::write(group.join(file), value)
                .with_context(|| format!("failed to fill {file} of {}", group.display()))?;
        }
    }
    Ok(())
}

/// The names of all groups that begin like this.
pub(super) fn names_with(prefix: &str) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for (root, _) in roots()? {
        let entries = std::fs::read_dir(&root)
            .with_context(|| format!("failed to list {}", root.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                names.push(name);
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Removes the group of this name, and all below it, from every hierarchy. Waits for the kernel to
/// bury what was killed in them.
pub(super) async fn remove(name: &str) -> anyhow::Result<()> {
    let roots = roots()?;
    wait_for("the control groups to be empty", REMOVE_LIMIT, async || {
        for (root, _) in &roots {
            remove_tree(&root.join(name)).map_err(|error| format!("{error:#}"))?;
        }
        Ok(())
    })
    .await
}

fn remove_tree(group: &Path) -> anyhow::Result<()> {
    // The files in a group are the kernel's: only folders can be removed, the innermost first.
    let entries = match std::fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to list {}", group.display()));
        }
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(group).with_context(|| format!("failed to remove {}", group.display()))
}
