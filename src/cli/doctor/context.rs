//! The arguments of `doctor`, and what all its checks need.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::cluster_args::{Cluster, ClusterArgs};
use crate::cli::output::OutputFormat;
use crate::cli::source_args::source;
use crate::cli::values::duration;
use crate::operator::LogSource;

/// Arguments of `yellowjack doctor`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 no check failed, 1 a check failed or the cluster does not answer, 2 \
bad use. A check that could not be made is unknown, which is no failure."
)]
pub(crate) struct DoctorArgs {
    /// The namespace that Yellowjack is installed in.
    #[arg(long, value_name = "NAME", default_value = "yellowjack-system")]
    pub(super) operator_namespace: String,

    /// The controller's service account, if it cannot be read from its Deployment.
    #[arg(long, value_name = "NAME", default_value = "yellowjack-controller")]
    pub(super) service_account: String,

    /// A log to check, as in --source of the controller and the node agents; `-` is standard input. Its
    /// beginning and its end are read. May be given several times.
    #[arg(long = "source", value_name = "[FORMAT:]PATH", value_parser = source)]
    pub(super) sources: Vec<LogSource>,

    /// Test whether a NetworkPolicy takes effect, with two pods in a temporary namespace and a deny between
    /// them. Everything is removed afterwards.
    #[arg(long)]
    pub(super) probe: bool,

    /// The image of the two pods, with this program as its entry point; by default the controller's
    /// image.
    #[arg(long, value_name = "IMAGE", requires = "probe")]
    pub(super) probe_image: Option<String>,

    /// Time limit for the deny to take effect. The pods have two minutes to start.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(super) probe_limit: Duration,

    #[command(flatten)]
    pub(super) cluster: ClusterArgs,

    /// Format of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: OutputFormat,
}

/// What all checks need.
pub(super) struct Context<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) args: &'a DoctorArgs,
    /// When the checks began, by this machine's clock.
    pub(super) now: Timestamp,
}
