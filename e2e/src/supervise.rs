//! A child process that cannot outlive this one, however this one ends.
//!
//! The child runs under a small shell that holds the read end of a pipe. When the write end
//! closes, because the handle is dropped or because this process died in whatever way, the shell
//! kills the child with SIGKILL. Parent-death signals would need `unsafe` here and fire when the
//! thread that spawned ends, which test threads do.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context;

/// `$1`: file for the child's process id. `$2`: folder to remove at the end, or empty. The rest
/// is the command.
const SCRIPT: &str = r#"
pid_file=$1; folder=$2; shift 2
exec 3<&0
"$@" </dev/null 3<&- & child=$!
echo "$child" >"$pid_file"
{ read -r _ <&3; kill -9 "$child"; } 2>/dev/null & reader=$!
wait "$child"; code=$?
kill "$reader" 2>/dev/null
if [ -n "$folder" ]; then
    for _ in 1 2 3 4 5; do rm -rf "$folder" 2>/dev/null && break; done
fi
exit "$code"
"#;

/// A running child; dropping it kills the child and waits for its end.
#[derive(Debug)]
pub struct Supervised {
    shell: Child,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Supervised {
    /// Starts `command` with its output in `log`. `remove` is a folder that goes when the child
    /// has ended.
    pub fn start(command: &Command, log: &Path, remove: Option<&Path>) -> anyhow::Result<Self> {
        let pid_file = log.with_extension("pid");
        // A child before this one may have had the same log: its process id must not be read.
        match std::fs::remove_file(&pid_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("failed to remove an old process id");
            }
            _ => {}
        }
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT, "supervise"])
            .arg(&pid_file)
            .arg(remove.map_or(Path::new(""), |folder| folder))
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(output.try_clone().context("failed to share the log file")?)
            .stderr(output)
            // Ctrl-C in a terminal goes to the whole process group; this shell must outlive it.
            .process_group(0);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let shell = shell
            .spawn()
            .with_context(|| format!("failed to start {}", command.get_program().display()))?;
        Ok(Self {
            shell,
            pid_file,
            log: log.to_owned(),
        })
    }

    /// The child's process id, once the shell has started it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(&self.pid_file)
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// How the child ended; none while it runs.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.shell
            .try_wait()
            .context("failed to ask for a child's state")
    }

    /// The end of the child's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log, lines)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The shell ends after the child; an error here means that it was reaped already.
        let _ended = self.shell.wait();
    }
}

/// The last lines of a log file, or why it cannot be read.
#[must_use]
pub fn log_tail(log: &Path, lines: usize) -> String {
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("({}: {error})", log.display()),
    };
    let mut tail: Vec<&str> = text.lines().rev().take(lines).collect();
    tail.reverse();
    tail.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_for;
    use std::time::Duration;

    fn alive(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[tokio::test]
    async fn dropping_the_handle_kills_the_child_and_removes_its_folder() {
        let folder = tempfile::tempdir().unwrap().keep();
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new("tail");
        command.args(["-f", "/dev/null"]);
        let child =
            Supervised::start(&command, &logs.path().join("tail.log"), Some(&folder)).unwrap();
        wait_for("the child to start", Duration::from_secs(10), async || {
            child.pid().ok_or("no process id yet".to_owned())
        })
        .await
        .unwrap();
        let pid = child.pid().unwrap();
        assert!(alive(pid));
        drop(child);
        assert!(!alive(pid), "the child outlived its handle");
        assert!(!folder.exists(), "the folder outlived the child");
    }

    #[tokio::test]
    async fn an_ended_child_is_seen_with_its_exit_code() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; exit 7"]);
        let mut child = Supervised::start(&command, &logs.path().join("sh.log"), None).unwrap();
        let status = wait_for("the child to end", Duration::from_secs(10), async || {
            child.exited().unwrap().ok_or("still running".to_owned())
        })
        .await
        .unwrap();
        assert_eq!(status.code(), Some(7));
        assert_eq!(child.log_tail(5), "said");
    }
}
