//! Why a command that a person runs failed: an error with a hint and an exit code.

use std::time::Duration;

use super::output::{BAD, DIM, escaped, styled};
use crate::cluster::ClientError;
use crate::observability::chain;

/// Why a command failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// No client could be made from the kubeconfig.
    #[error("unable to connect")]
    Connect(#[source] ClientError),
    /// The API server was not reached, or answered with an error.
    #[error("failed to read {what}")]
    Read {
        /// What was requested.
        what: String,
        /// The error.
        #[source]
        source: kube::Error,
    },
    /// The API server did not answer within the time limit.
    #[error("failed to read {what} within {limit:?}")]
    TimedOut {
        /// What was requested.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The request itself cannot be carried out.
    #[error("{what}")]
    Refused {
        /// What was wanted and what was found.
        what: String,
        /// What to do.
        hint: String,
        /// The exit code.
        code: u8,
    },
}

impl CommandError {
    /// A request that cannot be carried out: what was wanted and found, and what to do.
    pub(super) fn refused(what: impl Into<String>, hint: impl Into<String>, code: u8) -> Self {
        Self::Refused {
            what: what.into(),
            hint: hint.into(),
            code,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub(super) fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Connect(_) => {
                "set KUBECONFIG, or name the file with --kubeconfig and the context with --context"
            }
            Self::TimedOut { .. } => "is the API server reachable? try: kubectl get --raw /readyz",
            Self::Refused { hint, .. } => return Some(hint.clone()),
            Self::Read { what, source } => return read_hint(what, source),
        };
        Some(text.to_owned())
    }

    /// The exit code.
    #[must_use]
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Connect(_) | Self::Read { .. } | Self::TimedOut { .. } => 1,
        }
    }

    /// Whether the API server denied access.
    #[must_use]
    pub(super) fn is_forbidden(&self) -> bool {
        self.status() == Some(403)
    }

    /// Whether the API server found no such object or resource.
    #[must_use]
    pub(super) fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    const fn status(&self) -> Option<u16> {
        match self {
            Self::Read {
                source: kube::Error::Api(status),
                ..
            } => Some(status.code),
            _ => None,
        }
    }

    /// Prints the error and its hint on standard error.
    pub(super) fn print(&self) {
        let text = escaped(&chain(self));
        anstream::eprintln!("{}: {text}", styled(BAD, "error"));
        if let Some(hint) = self.hint() {
            anstream::eprintln!("{}: {}", styled(DIM, "hint"), escaped(&hint));
        }
    }
}

fn read_hint(what: &str, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else {
        return Some("is the API server reachable? try: kubectl get --raw /readyz".to_owned());
    };
    Some(match status.code {
        401 => "the API server does not accept your credentials: check the user of your context"
            .to_owned(),
        403 => {
            format!("you may not read {what}: have an RBAC administrator grant you get and list")
        }
        404 => format!(
            "the API server does not serve {what}: are Yellowjack's CRDs installed? try: yellowjack doctor"
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_crd_and_a_missing_right_lead_to_different_hints() {
        let error = |code: u16| {
            let status = kube::core::Status {
                code,
                ..kube::core::Status::default()
            };
            CommandError::Read {
                what: "agentruns".to_owned(),
                source: kube::Error::Api(Box::new(status)),
            }
        };
        assert!(error(404).hint().unwrap().contains("CRDs"));
        assert!(error(403).hint().unwrap().contains("RBAC"));
        assert!(error(403).is_forbidden());
        assert_eq!(error(500).hint(), None);
    }
}
