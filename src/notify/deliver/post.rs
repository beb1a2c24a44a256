//! Sends JSON to a receiver outside of the cluster.
//!
//! Uses the same HTTP client as for the API server and node metrics: rustls with ring, no redirects, no retries. The path of
//! a URL may be a credential, so only the host appears in logs.

use std::path::Path;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;

use crate::cluster::{ClientError, connect_receiver};
use crate::limits;

/// An HTTP client for one receiver.
#[derive(Clone)]
pub(crate) struct Post {
    client: Client,
    path: String,
    host: String,
}

/// The receiver did not accept a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// The request cannot be built.
    #[error("unable to make a request")]
    Request(#[source] http::Error),
    /// There is no response.
    #[error("failed to reach the receiver")]
    Reach(#[source] kube::Error),
    /// The receiver did not accept it.
    #[error("failed to deliver: the response is {status}")]
    Status {
        /// Status of the response.
        status: StatusCode,
        /// The wait that the receiver requested.
        retry_after: Option<Duration>,
    },
    /// There is no response within the timeout.
    #[error("failed to get a response within {0:?}")]
    TimedOut(Duration),
}

impl PostError {
    /// Whether the receiver will reject the same request again, because its content is invalid.
    #[must_use]
    pub(crate) fn is_final(&self) -> bool {
        let Self::Status { status, .. } = self else {
            return false;
        };
        matches!(status.as_u16(), 400 | 405 | 410 | 411 | 413 | 415 | 422)
    }

    /// The wait that the receiver requested.
    #[must_use]
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Post {
    /// A client for the receiver at this URL.
    pub(crate) fn connect(url: &Uri, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        Ok(Self {
            client: connect_receiver(url, ca_file)?,
            path: url
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            host: url.authority().map_or("", |a| a.as_str()).to_owned(),
        })
    }

    /// The host, for logs.
    #[must_use]
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Sends a body; any 2xx is success.
    pub(crate) async fn send(
        &self,
        content_type: &'static str,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<(), PostError> {
        let mut request = Request::post(&self.path)
            .header(CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .map_err(PostError::Request)?;
        request.headers_mut().extend(headers);
        tokio::time::timeout(limit, self.request(request))
            .await
            .unwrap_or(Err(PostError::TimedOut(limit)))
    }

    async fn request(&self, request: Request<Body>) -> Result<(), PostError> {
        let response = self.client.send(request).await.map_err(PostError::Reach)?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        // The body is read so that the connection can be reused. Its content and errors do not matter.
        let body = Limited::new(response.into_body(), limits::NOTIFY_ANSWER_BYTES_MAX);
        drop(body.collect().await);
        if status.is_success() {
            return Ok(());
        }
        Err(PostError::Status {
            status,
            retry_after,
        })
    }
}

/// `Retry-After` in seconds. A date is ignored, because it depends on two clocks; the usual backoff applies.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
