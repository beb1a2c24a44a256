//! `yellowjack node`: the arguments of the node agent. It reads the node's egress log, detects, and writes
//! findings and observations into Incidents. The controller responds to them.

use super::operator_args::{OperatorArgs, run_operator};
use crate::operator::Component;

/// Arguments of `yellowjack node`.
#[derive(clap::Args, Debug)]
pub(super) struct NodeArgs {
    /// The name of the Node object. A DaemonSet sets NODE_NAME from `spec.nodeName`.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: String,

    /// Attribute flows to the pods of every node, not only of this one: for a log that also has the
    /// traffic of other nodes, such as the log of an egress gateway. The chart's admission policies refuse such evidence
    /// unless admissionPolicies.bindAgentsToNodes is false.
    #[arg(long)]
    all_pods: bool,

    #[command(flatten)]
    operator: OperatorArgs,
}

/// Runs the subcommand until a signal stops it.
pub(super) fn run(args: NodeArgs) -> anyhow::Result<()> {
    let agent = Component::NodeAgent {
        name: args.node_name,
        all_pods: args.all_pods,
    };
    run_operator(args.operator, agent, Vec::new())
}
