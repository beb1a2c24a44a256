//! One request's way through the proxy.

use std::sync::Arc;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Request, StatusCode, Uri};
use jiff::Timestamp;

use super::Shared;
use super::fault::{Fault, Kill, KillTime, Write, counts_as_write};

/// Longest request body; the API server itself takes 3 MiB.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Serves one request. A failure of the proxy itself is a 502 that says why.
pub(super) async fn handle(shared: Arc<Shared>, request: Request<Body>) -> Response {
    match serve(&shared, request).await {
        Ok(response) => response,
        Err(error) => status_reply(StatusCode::BAD_GATEWAY, &format!("proxy: {error:#}")),
    }
}

async fn serve(shared: &Shared, request: Request<Body>) -> anyhow::Result<Response> {
    let asked_at = Timestamp::now();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .context("failed to read a body")?;
    let (fault, kill) = {
        let mut script = shared.script();
        let fault = script.fault_for(&parts.method, &parts.uri);
        // A request that a fault answers is no write.
        let forwarded = matches!(fault, None | Some(Fault::Delay(_) | Fault::DropAfter));
        let kill = forwarded
            .then(|| script.kill_for(&parts.method, &parts.uri))
            .flatten();
        (fault, kill)
    };
    match fault {
        Some(Fault::Reply(status)) => {
            record(shared, &parts, &body, status, asked_at);
            return Ok(status_reply(status, "injected by the test"));
        }
        Some(Fault::Expired) => return Ok(expired_watch()),
        Some(Fault::DropBefore) => return Ok(dropped_connection()),
        Some(Fault::Delay(time)) => {
            let never = std::future::pending::<()>();
            let _elapsed = tokio::time::timeout(time, never).await;
        }
        Some(Fault::DropAfter) | None => {}
    }
    if let Some(Kill {
        time: KillTime::Before,
        pid,
        ..
    }) = kill
    {
        kill_process(pid).await?;
        return Ok(dropped_connection());
    }
    let is_write = counts_as_write(&parts.method, &parts.uri);
    let response = forward(shared, &parts, body.clone()).await?;
    record(shared, &parts, &body, response.status(), asked_at);
    let response = if is_write {
        whole(response).await?
    } else {
        response
    };
    if let Some(Kill { pid, .. }) = kill {
        kill_process(pid).await?;
        return Ok(dropped_connection());
    }
    Ok(if fault == Some(Fault::DropAfter) {
        dropped_connection()
    } else {
        response
    })
}

async fn forward(
    shared: &Shared,
    parts: &http::request::Parts,
    body: Bytes,
) -> anyhow::Result<Response> {
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut request = Request::new(kube::client::Body::from(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = target.parse().context("failed to read a path")?;
    *request.headers_mut() = end_to_end(&parts.headers);
    // The epoch is read before the server answers: a close in between must reach this watch.
    let mut epoch = shared.watch_epoch.subscribe();
    let reply = shared
        .client
        .0
        .send(request)
        .await
        .context("failed to forward a request")?;
    let (head, reply_body) = reply.into_parts();
    let frames = Body::new(reply_body).into_data_stream();
    let body = if is_watch(&parts.uri) {
        Body::from_stream(frames.take_until(async move {
            // An error means that the proxy is gone, which ends the watch as well.
            let _ended = epoch.changed().await;
        }))
    } else {
        Body::from_stream(frames)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = end_to_end(&head.headers);
    Ok(response)
}

fn is_watch(uri: &Uri) -> bool {
    let is_true = |pair: &str| matches!(pair, "watch=true" | "watch=1");
    uri.query()
        .is_some_and(|query| query.split('&').any(is_true))
}

/// The headers without those that belong to one connection, and without credentials: the client
/// sets its own.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        HOST,
        AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}

/// A response that has arrived completely.
async fn whole(response: Response) -> anyhow::Result<Response> {
    let (head, body) = response.into_parts();
    let chunks: Vec<Bytes> = body
        .into_data_stream()
        .try_collect()
        .await
        .context("failed to read a reply")?;
    Ok(Response::from_parts(head, Body::from(chunks.concat())))
}

/// A response whose body fails at once: the server closes the connection over it.
fn dropped_connection() -> Response {
    let failure = Err::<Bytes, _>(std::io::Error::other("dropped by the test"));
    Response::new(Body::from_stream(stream::iter([failure])))
}

/// One event, which says that the version to watch from is too old.
fn expired_watch() -> Response {
    let event = serde_json::json!({ "type": "ERROR", "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "too old resource version: injected by the test",
        "reason": "Expired",
        "code": StatusCode::GONE.as_u16(),
    }});
    json_reply(format!("{event}\n"))
}

fn json_reply(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn status_reply(status: StatusCode, message: &str) -> Response {
    let reason = match status {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "Unknown",
    };
    let body = serde_json::json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status.as_u16(),
    });
    let mut response = json_reply(body.to_string());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert("retry-after", http::HeaderValue::from_static("1"));
    }
    response
}

fn record(
    shared: &Shared,
    parts: &http::request::Parts,
    body: &[u8],
    status: StatusCode,
    asked_at: Timestamp,
) {
    if !counts_as_write(&parts.method, &parts.uri) {
        return;
    }
    let field_manager = parts.uri.query().and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("fieldManager="))
            .map(str::to_owned)
    });
    shared.script().writes.push(Write {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        field_manager,
        body: serde_json::from_slice(body).unwrap_or_default(),
        status,
        asked_at,
        answered_at: Timestamp::now(),
    });
}

/// SIGKILL; when this returns, the process does nothing any more.
async fn kill_process(pid: u32) -> anyhow::Result<()> {
    let status = tokio::process::Command::new("sh")
        .args(["-c", "kill -9 \"$1\"", "kill", &pid.to_string()])
        .status()
        .await
        .context("failed to run kill")?;
    anyhow::ensure!(status.success(), "failed to kill process {pid}");
    Ok(())
}
