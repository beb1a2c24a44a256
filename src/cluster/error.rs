//! Why a request to the API server failed. Returned by `read`, `write` and `leader`.

use std::time::Duration;

/// Why a write did not happen, or is not known to have happened.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another process leads, or nobody does. This one did not ask the API server.
    #[error("unable to write: this process does not lead")]
    NotLeader,
    /// The time limit passed. The write may have happened all the same.
    #[error("failed to hear from the API server within {0:?}")]
    TimedOut(Duration),
    /// The object changed since it was read, belongs to another manager, or is another object of
    /// the same name.
    #[error("unable to write: the object changed meanwhile or belongs to somebody else")]
    Conflict(#[source] kube::Error),
    /// The object is not there.
    #[error("unable to write: the object does not exist")]
    NotFound(#[source] kube::Error),
    /// The API server refused for good: the same write will fail again.
    #[error("unable to write: the API server refused it")]
    Refused(#[source] kube::Error),
    /// The API server was away, overloaded or broken: the same write may succeed later.
    #[error("failed to write: the API server is away or overloaded")]
    Transient(#[source] kube::Error),
}

impl WriteError {
    /// Sorts an error of the client by what the caller can do about it.
    #[must_use]
    pub fn from_kube(error: kube::Error) -> Self {
        let code = match &error {
            kube::Error::Api(status) => status.code,
            _ => return Self::Transient(error),
        };
        match code {
            404 => Self::NotFound(error),
            409 => Self::Conflict(error),
            400 | 401 | 403 | 405 | 413 | 422 => Self::Refused(error),
            _ => Self::Transient(error),
        }
    }

    /// The API server's own sentence, where it said one: fit for a condition, which people read.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::Conflict(error)
            | Self::NotFound(error)
            | Self::Refused(error)
            | Self::Transient(error) => match error {
                kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
                _ => self.to_string(),
            },
            Self::TimedOut(_) | Self::NotLeader => self.to_string(),
        }
    }

    /// Whether the namespace is going away, and with it whatever was to be written.
    #[must_use]
    pub fn is_namespace_going(&self) -> bool {
        let Self::Refused(kube::Error::Api(status)) = self else {
            return false;
        };
        let details = status.details.as_ref();
        details.is_some_and(|details| {
            let mut causes = details.causes.iter();
            causes.any(|cause| cause.reason == "NamespaceTerminating")
        })
    }
}
