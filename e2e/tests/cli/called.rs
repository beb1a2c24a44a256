//! Calls the program as a person would, and tells what it said.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use kube::config::Kubeconfig;
use serde_json::Value;
use yellowjack_e2e::{TestEnv, binary};

/// How a call ended.
#[derive(Debug)]
pub struct Called {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Called {
    /// The answer as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {self:?}"))
    }
}

/// `yellowjack` with these arguments, as the administrator, in the namespace of the test.
pub async fn yellowjack(env: &TestEnv, arguments: &[&str]) -> anyhow::Result<Called> {
    let mut all = arguments.to_vec();
    all.extend(["--namespace", &env.namespace]);
    call(&binary()?, env.cluster.kubeconfig(), &all).await
}

/// A program with these arguments and this kubeconfig, without a terminal.
pub async fn call(program: &Path, kubeconfig: &Path, arguments: &[&str]) -> anyhow::Result<Called> {
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("failed to run {}", program.display()))?;
    Ok(Called {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).context("invalid UTF-8")?,
        stderr: String::from_utf8(output.stderr).context("invalid UTF-8")?,
    })
}

/// A kubeconfig of somebody else, whom no role knows.
pub fn kubeconfig_of(env: &TestEnv, user: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let mut config = Kubeconfig::read_from(env.cluster.kubeconfig()).context("no kubeconfig")?;
    for info in config
        .auth_infos
        .iter_mut()
        .filter_map(|named| named.auth_info.as_mut())
    {
        info.impersonate = Some(user.to_owned());
    }
    let path = folder.join("kubeconfig");
    // JSON is YAML.
    std::fs::write(&path, serde_json::to_string(&config)?)?;
    Ok(path)
}
