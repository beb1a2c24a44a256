//! Arguments of `controller` about leader election.

use std::time::Duration;

use super::values::duration;
use crate::cluster::LeaseTimings;
use crate::operator::ElectionConfig;

/// Arguments about leader election.
#[derive(clap::Args, Debug)]
pub(super) struct ElectionArgs {
    /// Enable leader election, so that several replicas can run: all of them watch and detect, only the
    /// leader acts. Without it, this must be the only replica.
    #[arg(long)]
    leader_elect: bool,

    /// The unique name of this replica in the Lease and in the evidence that it writes; by default the
    /// host name.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    replica_name: Option<String>,

    /// The name of the Lease, which is in the namespace --agent-namespace.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "yellowjack-controller",
        value_parser = lease_name,
        requires = "leader_elect"
    )]
    lease_name: String,

    /// The time after the last renewal of the Lease until another replica takes over.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration, requires = "leader_elect")]
    lease_duration: Duration,

    /// The time after the last renewal of the Lease until the leader stops writing.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, requires = "leader_elect")]
    lease_renew_deadline: Duration,

    /// The time between two renewals by the leader. The other replicas read the Lease twice as often.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, requires = "leader_elect")]
    lease_retry_period: Duration,
}

impl ElectionArgs {
    /// The configuration of leader election. `None` where it is not enabled.
    pub(super) fn election(self) -> anyhow::Result<Option<ElectionConfig>> {
        if !self.leader_elect {
            return Ok(None);
        }
        let timings = LeaseTimings::new(
            self.lease_duration,
            self.lease_renew_deadline,
            self.lease_retry_period,
        )?;
        let named = self.replica_name.filter(|name| !name.is_empty());
        Ok(Some(ElectionConfig {
            lease: self.lease_name,
            replica: named.map_or_else(host_name, Ok)?,
            timings,
        }))
    }
}

fn host_name() -> anyhow::Result<String> {
    use anyhow::Context;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.context("failed to read the host name; give --replica-name")?;
    Ok(name.trim().to_owned())
}

/// Parses a name that the API server accepts for a Lease.
fn lease_name(text: &str) -> Result<String, String> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_good = text.len() <= 253
        && text.starts_with(is_inner)
        && text.ends_with(is_inner)
        && text.chars().all(|c| is_inner(c) || c == '-' || c == '.');
    if is_good {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "wants lower-case letters, digits, '-' and '.', got {text:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ElectionArgs,
    }

    fn election(arguments: &[&str]) -> Result<Option<ElectionConfig>, String> {
        let line = ["test", "--replica-name=a"].iter().chain(arguments);
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        line.args.election().map_err(|error| error.to_string())
    }

    #[test]
    fn without_the_flag_there_is_no_election_and_no_other_argument_of_it() {
        assert_eq!(election(&[]), Ok(None));
        let error = election(&["--lease-duration=30s"]).unwrap_err();
        assert!(error.contains("--leader-elect"), "{error}");
    }

    #[test]
    fn durations_of_the_lease_are_checked_before_anything_runs() {
        let found = election(&["--leader-elect"]).unwrap().unwrap();
        assert_eq!(found.lease, "yellowjack-controller");
        assert_eq!(found.replica, "a");
        assert_eq!(found.timings.duration, Duration::from_secs(15));
        let error = election(&["--leader-elect", "--lease-renew-deadline=15s"]).unwrap_err();
        assert!(error.contains("--lease-renew-deadline"), "{error}");
        let error = election(&["--leader-elect", "--lease-name=Not_A_Name"]).unwrap_err();
        assert!(error.contains("lower-case"), "{error}");
    }
}
