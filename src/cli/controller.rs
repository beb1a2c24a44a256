//! `yellowjack controller`: the arguments of the controller. `operator` assembles and runs it.

use std::time::Duration;

use ipnet::IpNet;

use super::election_args::ElectionArgs;
use super::notify_args::NotifyArgs;
use super::operator_args::{OperatorArgs, run_operator};
use super::values::duration;
use crate::guardrails::DnsTarget;
use crate::operator::{Component, ResponseConfig};
use crate::respond::ResponderSettings;
use crate::respond::plan::BreakerLimits;

/// Arguments of `yellowjack controller`.
#[derive(clap::Args, Debug)]
pub(super) struct ControllerArgs {
    #[command(flatten)]
    operator: OperatorArgs,

    #[command(flatten)]
    election: ElectionArgs,

    /// A namespace in which Yellowjack never acts automatically. May be given several times; replaces
    /// the default list.
    #[arg(
        long = "protected-namespace",
        value_name = "NAMESPACE",
        default_values = ["kube-system", "kube-public", "kube-node-lease", "yellowjack-system"]
    )]
    protected_namespaces: Vec<String>,

    /// The maximum number of pods in quarantine at the same time.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    max_quarantines: usize,

    /// The maximum number of pods in quarantine at the same time in one namespace, so that one tenant cannot take all
    /// places. Default: three quarters of `--max-quarantines`.
    #[arg(long, value_name = "COUNT")]
    max_quarantines_per_namespace: Option<usize>,

    /// The circuit breaker opens when more pods than this, and more than `--breaker-share` of the
    /// pods of all runs, cross the quarantine threshold within 5 minutes.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    breaker_pods: usize,

    /// See `--breaker-pods`.
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    breaker_share: f64,

    /// The maximum number of actions per second.
    #[arg(long, value_name = "RATE", default_value_t = 5.0)]
    actions_per_second: f64,

    /// How long a closed Incident is kept, for example `720h`.
    #[arg(long, value_name = "DURATION", default_value = "720h", value_parser = duration)]
    incident_ttl: Duration,

    /// How long an alert about a pod that no longer exists stays open, for example `24h`. An Incident for which something was
    /// done stays open until a human decides.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    alert_ttl: Duration,

    /// An address of a DNS server, in addition to the pods `k8s-app=kube-dns` in kube-system. May be
    /// given several times.
    #[arg(long = "dns-cidr", value_name = "CIDR")]
    dns_cidrs: Vec<IpNet>,

    #[command(flatten)]
    notify: NotifyArgs,
}

/// Runs the subcommand until a signal stops it.
pub(super) fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let response = ResponseConfig {
        settings: ResponderSettings {
            protected_namespaces: args.protected_namespaces,
            quarantine_max: args.max_quarantines,
            namespace_quarantine_max: args
                .max_quarantines_per_namespace
                .unwrap_or(args.max_quarantines - args.max_quarantines / 4),
            breaker: BreakerLimits {
                pods_min: args.breaker_pods,
                share: args.breaker_share,
            },
            incident_ttl: args.incident_ttl,
            alert_ttl: args.alert_ttl,
        },
        actions_per_second: args.actions_per_second,
        notify: Box::new(args.notify.settings()?),
        election: args.election.election()?,
    };
    let dns = args.dns_cidrs.into_iter().map(DnsTarget::Address);
    run_operator(
        args.operator,
        Component::Controller(response),
        dns.collect(),
    )
}
