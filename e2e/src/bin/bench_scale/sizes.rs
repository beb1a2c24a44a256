//! How large the cluster of the bench is: the arguments.

use std::fmt;

use anyhow::{Context, bail, ensure};

/// Pods that one node may have in this bench: as many as its range has addresses.
const PODS_PER_NODE_MAX: usize = 250;

/// How many of everything.
#[derive(Debug, Clone)]
pub struct Sizes {
    pub runs: usize,
    pub pods: usize,
    pub nodes: usize,
    pub namespaces: usize,
    pub incidents: usize,
    pub rest_s: u64,
    /// Pods that are made and deleted, and how long that takes.
    pub churn: usize,
    pub churn_s: u64,
}

impl Sizes {
    /// From the command line; what is not given is of the size of the bars.
    pub fn read(arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut sizes = Self {
            runs: 10_000,
            pods: 20_000,
            nodes: 200,
            namespaces: 100,
            incidents: 100,
            rest_s: 60,
            churn: 100_000,
            churn_s: 3_600,
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{name} needs a number"))?;
            let number: usize = value
                .parse()
                .with_context(|| format!("{name} is a number, not {value:?}"))?;
            match name.as_str() {
                "--runs" => sizes.runs = number,
                "--pods" => sizes.pods = number,
                "--nodes" => sizes.nodes = number,
                "--namespaces" => sizes.namespaces = number,
                "--incidents" => sizes.incidents = number,
                "--rest-s" => sizes.rest_s = number.try_into()?,
                "--churn" => sizes.churn = number,
                "--churn-s" => sizes.churn_s = number.try_into()?,
                _ => bail!(
                    "unknown argument {name}; hint: --runs, --pods, --nodes, --namespaces, --incidents, --rest-s, --churn, --churn-s"
                ),
            }
        }
        ensure!(
            sizes.runs > 0 && sizes.pods >= sizes.runs && sizes.incidents <= sizes.runs,
            "each run needs a pod, and each incident a run"
        );
        ensure!(
            sizes.pods <= sizes.nodes * PODS_PER_NODE_MAX && sizes.nodes <= 65_536,
            "a node has room for {PODS_PER_NODE_MAX} pods"
        );
        ensure!(sizes.namespaces > 0, "no namespace");
        ensure!(sizes.churn_s > 0, "pods cannot come and go in no time");
        Ok(sizes)
    }

    /// The namespace of a run and its pods.
    pub fn namespace_of(&self, run: usize) -> String {
        format!("bench-{}", run % self.namespaces)
    }

    /// The run of a pod.
    pub const fn run_of(&self, pod: usize) -> usize {
        pod % self.runs
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "objects: {} AgentRuns, {} pods, {} nodes, {} namespaces",
            self.runs, self.pods, self.nodes, self.namespaces
        )
    }
}
