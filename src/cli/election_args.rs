//! Arguments about the leader's Lease, for `controller`.

use std::time::Duration;

use super::values::duration;
use crate::cluster::LeaseTimings;
use crate::operator::ElectionConfig;

/// Arguments about the election of a leader.
#[derive(clap::Args, Debug)]
pub struct ElectionArgs {
    /// Act only while a Lease is held, so that several replicas can run at once: all watch and detect,
    /// one acts. Left out, this process must be the only one.
    #[arg(long)]
    leader_elect: bool,

    /// This replica's name, in the Lease and in the evidence that it writes. No other replica may have
    /// it. The host's name where it is left out.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    replica_name: Option<String>,

    /// The Lease, in the namespace that --agent-namespace names.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "yellowjack-controller",
        value_parser = lease_name,
        requires = "leader_elect"
    )]
    lease_name: String,

    /// Another replica takes over when the leader has not renewed the Lease for this long.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration, requires = "leader_elect")]
    lease_duration: Duration,

    /// The leader stops writing when it could not renew for this long.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, requires = "leader_elect")]
    lease_renew_deadline: Duration,

    /// How often the leader renews. The others look twice as often.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, requires = "leader_elect")]
    lease_retry_period: Duration,
}

impl ElectionArgs {
    /// The election, where one is wanted.
    pub fn election(self) -> anyhow::Result<Option<ElectionConfig>> {
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
    let name = name.context("failed to read the host's name; give --replica-name")?;
    Ok(name.trim().to_owned())
}

/// A name that the API server takes for a Lease.
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
    fn without_the_flag_there_is_no_election_and_nothing_to_set_about_it() {
        assert_eq!(election(&[]), Ok(None));
        let said = election(&["--lease-duration=30s"]).unwrap_err();
        assert!(said.contains("--leader-elect"), "{said}");
    }

    #[test]
    fn terms_are_checked_before_anything_runs() {
        let found = election(&["--leader-elect"]).unwrap().unwrap();
        assert_eq!(found.lease, "yellowjack-controller");
        assert_eq!(found.replica, "a");
        assert_eq!(found.timings.duration, Duration::from_secs(15));
        let said = election(&["--leader-elect", "--lease-renew-deadline=15s"]).unwrap_err();
        assert!(said.contains("--lease-renew-deadline"), "{said}");
        let said = election(&["--leader-elect", "--lease-name=Not_A_Name"]).unwrap_err();
        assert!(said.contains("lower-case"), "{said}");
    }
}
