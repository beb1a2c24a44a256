//! One POST of JSON to a receiver outside of the cluster.
//!
//! The client is the one that the API server and node metrics are spoken to with: rustls with ring,
//! no redirects, no retries of its own. The path of a URL may be a credential, so only the host
//! appears in logs.

use std::path::Path;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;

use crate::cluster::{ClientError, connect_receiver};
use crate::limits;

/// A receiver of JSON.
#[derive(Clone)]
pub struct Post {
    client: Client,
    path: String,
    host: String,
}

/// Why a receiver did not take what it was sent.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No request can be made of this.
    #[error("unable to make a request")]
    Request(#[source] http::Error),
    /// No answer.
    #[error("failed to reach the receiver")]
    Reach(#[source] kube::Error),
    /// The receiver did not accept it.
    #[error("failed to deliver: the answer is {status}")]
    Status {
        /// The answer.
        status: StatusCode,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer took too long.
    #[error("failed to get an answer within {0:?}")]
    TimedOut(Duration),
}

impl PostError {
    /// Whether the receiver will refuse the same again: what it was sent is wrong, and not the way
    /// there.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let Self::Status { status, .. } = self else {
            return false;
        };
        matches!(status.as_u16(), 400 | 405 | 410 | 411 | 413 | 415 | 422)
    }

    /// How long the receiver asked to be left alone.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Post {
    /// A receiver at this URL.
    pub fn connect(url: &Uri, ca_file: Option<&Path>) -> Result<Self, ClientError> {
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
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a body; any 2xx is success.
    pub async fn send(
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
        tokio::time::timeout(limit, self.ask(request))
            .await
            .unwrap_or(Err(PostError::TimedOut(limit)))
    }

    async fn ask(&self, request: Request<Body>) -> Result<(), PostError> {
        let answer = self.client.send(request).await.map_err(PostError::Reach)?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers());
        // Read, so that the connection can be used again; what it says does not matter, nor whether
        // it is too long.
        let body = Limited::new(answer.into_body(), limits::NOTIFY_ANSWER_BYTES_MAX);
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

/// `Retry-After` in seconds. The other form, a date, is left to our own backoff: it would hang on two
/// clocks.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
