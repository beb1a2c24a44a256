//! Finds the programs of the control plane: a folder that the user names wins over the cached
//! build, which `cluster/build.sh` makes when it is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Where the programs come from.
#[derive(Debug, Clone)]
pub enum Binaries {
    /// A folder with one file per program, as Kubernetes' envtest lays it out.
    Folder(PathBuf),
    /// The multi-call binary of `e2e/cluster`.
    MultiCall(PathBuf),
}

impl Binaries {
    /// `KUBEBUILDER_ASSETS` if it is set, else the cached build, made now if it is missing.
    pub fn find() -> anyhow::Result<Self> {
        match std::env::var_os("KUBEBUILDER_ASSETS") {
            Some(folder) if !folder.is_empty() => Self::in_folder(PathBuf::from(folder)),
            _ => Self::build(),
        }
    }

    fn in_folder(folder: PathBuf) -> anyhow::Result<Self> {
        for program in ["etcd", "kube-apiserver"] {
            ensure!(
                folder.join(program).exists(),
                "KUBEBUILDER_ASSETS is {}, which has no {program}",
                folder.display()
            );
        }
        Ok(Self::Folder(folder))
    }

    fn build() -> anyhow::Result<Self> {
        run_build_script("cluster/build.sh", &[]).map(Self::MultiCall)
    }

    /// The command that runs a program.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        match self {
            Self::Folder(folder) => Command::new(folder.join(program)),
            Self::MultiCall(file) => {
                let mut command = Command::new(file);
                command.arg(program);
                command
            }
        }
    }

    /// Whether the program is there. Envtest's folders have no controller manager.
    #[must_use]
    pub fn has(&self, program: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(program).exists(),
            Self::MultiCall(_) => true,
        }
    }
}

/// A command as text, for messages and for other processes.
#[must_use]
pub fn words_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

/// Runs a script of this package that builds something once, and returns the path that it prints.
pub(crate) fn run_build_script(script: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    // The script's progress goes straight to the terminal.
    let output = Command::new(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to run {}", script.display()))?;
    ensure!(
        output.status.success(),
        "{} {} failed; see above",
        script.display(),
        arguments.join(" ")
    );
    let path = String::from_utf8(output.stdout).context("the build printed no path")?;
    Ok(PathBuf::from(path.trim()))
}
