//! The operator under test as a child process, which tests kill and start again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::supervise::{Supervised, log_tail};
use crate::wait::{LIMIT, wait_for};

/// Names a `yellowjack` binary to use instead of building one.
const BINARY_VARIABLE: &str = "YELLOWJACK_BIN";
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running `yellowjack` process; dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Supervised,
    pid: u32,
    log: PathBuf,
}

impl Operator {
    /// Starts `yellowjack` with these arguments against the server that `kubeconfig` names. Its
    /// output is appended to `log`.
    pub async fn start(kubeconfig: &Path, arguments: &[&str], log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("KUBECONFIG", kubeconfig);
        let process = Supervised::start(&command, log, None)?;
        let pid = wait_for("the operator to start", START_LIMIT, async || {
            process.pid().ok_or_else(|| "no process id yet".to_owned())
        })
        .await?;
        Ok(Self {
            process,
            pid,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Everything that it printed so far.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log)
            .with_context(|| format!("failed to read {}", self.log.display()))
    }

    /// Waits until it has printed the address of its HTTP endpoints, and returns the address.
    pub async fn http_address(&self) -> anyhow::Result<String> {
        wait_for("the address of the endpoints", LIMIT, async || {
            let log = self.log().map_err(|error| format!("{error:#}"))?;
            let (_, rest) = log.split_once("address=").ok_or(log_tail(&self.log, 20))?;
            let address = rest.split_whitespace().next().unwrap_or_default();
            Ok(address.to_owned())
        })
        .await
    }

    /// The body that one of its HTTP endpoints returns.
    pub async fn http_get(&self, path: &str) -> anyhow::Result<String> {
        http_get(&self.http_address().await?, path).await
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("sh")
            .args([
                "-c",
                "kill -s \"$1\" \"$2\"",
                "kill",
                name,
                &self.pid.to_string(),
            ])
            .status()
            .context("failed to run kill")?;
        ensure!(sent.success(), "the operator does not run any more");
        Ok(())
    }

    /// Waits until it has ended, and returns its exit code; none where a signal ended it.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<Option<i32>> {
        let log = self.log.clone();
        let process = &mut self.process;
        let status = wait_for("the operator to end", limit, async || {
            match process.exited() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err(format!(
                    "it runs; its log ends with:\n{}",
                    log_tail(&log, 20)
                )),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
        // The supervising shell reports a death by signal N as 128 + N.
        Ok(status.code().filter(|code| *code < 128))
    }
}

/// The body that `http://ADDRESS/PATH` returns with status 200.
pub async fn http_get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the headers")?;
    Ok(body.to_owned())
}

/// The binary under test: the one that the user names, else a fresh debug build.
pub fn binary() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os(BINARY_VARIABLE).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!("{error}"))
}

/// Keeps from a command what `cargo test` and `cargo run` say about this package in the
/// environment: ring's build script looks at it, and an inner cargo and the outer one would
/// rebuild ring, and all that rests on it, in turns.
pub fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_package(&mut cargo);
    let output = cargo
        // The whole workspace, so that features are the same as for the tests and nothing is built
        // twice.
        .args(["build", "--workspace", "--bin", "yellowjack"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo")?;
    ensure!(output.status.success(), "failed to build the operator");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .context("cargo named no executable")
}
