//! Serves `/livez`, `/readyz` and `/metrics` over HTTP. The endpoints are read-only.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::metrics::{Read, to_text};

/// Reasons why the operator is not ready. Empty when it is ready.
pub(crate) type Missing = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// The address is invalid or in use.
    #[error("unable to listen on {address}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The server failed.
    #[error("failed to serve the endpoints")]
    Serve(#[source] std::io::Error),
}

/// Serves the endpoints until `shutdown`.
pub(crate) async fn serve(
    address: SocketAddr,
    missing: Missing,
    read: Read,
    shutdown: CancellationToken,
) -> Result<(), EndpointError> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| EndpointError::Listen { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "Serving /livez, /readyz and /metrics.");
    }
    axum::serve(listener, router(missing, read))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .map_err(EndpointError::Serve)
}

fn router(missing: Missing, read: Read) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(move || std::future::ready(readiness(&missing()))),
        )
        .route(
            "/metrics",
            get(move || std::future::ready(metrics(Arc::clone(&read)))),
        )
}

fn readiness(missing: &[String]) -> Response {
    if missing.is_empty() {
        return "ok".into_response();
    }
    let text = missing
        .iter()
        .fold(String::new(), |text, line| text + line + "\n");
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

fn metrics(read: Read) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match to_text(read) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
