//! `yellowjack node`: the agent on each node. It reads the node's egress log, detects, and writes what
//! it found and what it saw stop into Incidents. It does nothing else: the controller responds.

use super::operator_args::{OperatorArgs, run_operator};
use crate::operator::Component;

/// Arguments of `yellowjack node`.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    /// The node's name, as the API server knows it. A DaemonSet sets NODE_NAME from
    /// `spec.nodeName`.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: String,

    /// Attribute the log to the pods of every node, not of this one alone: for a log that shows
    /// others' traffic too, such as that of an egress gateway.
    #[arg(long)]
    all_pods: bool,

    #[command(flatten)]
    operator: OperatorArgs,
}

/// Runs the subcommand until a signal ends it.
pub fn run(args: NodeArgs) -> anyhow::Result<()> {
    let agent = Component::NodeAgent {
        name: args.node_name,
        all_pods: args.all_pods,
    };
    run_operator(args.operator, agent, Vec::new())
}
