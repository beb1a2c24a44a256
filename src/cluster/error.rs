//! Why a request to the API server failed. Returned by `read`, `write` and `leader`.

use std::time::Duration;

/// Why a request failed, or may have failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// This process is not the leader. The request was not sent.
    #[error("unable to write: this process is not the leader")]
    NotLeader,
    /// The time limit passed. A write may have succeeded.
    #[error("failed to get a response from the API server within {0:?}")]
    TimedOut(Duration),
    /// The object changed since it was read, another manager owns a field, or another object has this
    /// name.
    #[error("failed to write: the object changed since it was read, or has another owner")]
    Conflict(#[source] kube::Error),
    /// The object does not exist.
    #[error("unable to find the object on the API server")]
    NotFound(#[source] kube::Error),
    /// The API server refused the request; the same request will fail again.
    #[error("unable to make the request: the API server refused it")]
    Refused(#[source] kube::Error),
    /// The API server was unreachable, overloaded or broken; the same request may succeed later.
    #[error("failed to make the request: the API server is unreachable or overloaded")]
    Transient(#[source] kube::Error),
}

impl From<kube::Error> for ApiError {
    /// Classifies an error of the client by what the caller can do about it.
    fn from(error: kube::Error) -> Self {
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
}

impl ApiError {
    /// The message in the API server's response, if there is one: fit for a condition.
    #[must_use]
    pub(crate) fn server_message(&self) -> String {
        match self.status() {
            Some(status) if !status.message.is_empty() => status.message.clone(),
            _ => self.to_string(),
        }
    }

    /// Whether the service account has no permission.
    #[must_use]
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|status| status.code == 403)
    }

    /// Whether the namespace is being deleted.
    #[must_use]
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        let Self::Refused(kube::Error::Api(status)) = self else {
            return false;
        };
        let details = status.details.as_ref();
        details.is_some_and(|details| {
            let mut causes = details.causes.iter();
            causes.any(|cause| cause.reason == "NamespaceTerminating")
        })
    }

    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Conflict(kube::Error::Api(status))
            | Self::NotFound(kube::Error::Api(status))
            | Self::Refused(kube::Error::Api(status))
            | Self::Transient(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }
}
