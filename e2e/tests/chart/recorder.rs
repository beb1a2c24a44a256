//! A proxy that speaks with the API server as one service account and notes each request in RBAC's words.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode, Uri};
use kube::Client;
use tokio::task::JoinHandle;

/// What a request asked for, as a rule of a role would allow it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub verb: String,
    pub group: String,
    /// With the subresource.
    pub resource: String,
}

#[derive(Default)]
struct Noted {
    used: BTreeSet<Use>,
    forbidden: BTreeSet<String>,
}

#[derive(Clone)]
struct Shared {
    client: Client,
    noted: Arc<Mutex<Noted>>,
}

/// A running recorder; dropping it stops it.
pub struct Recorder {
    shared: Shared,
    server: JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Recorder {
    pub async fn start(client: Client) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            client,
            noted: Arc::default(),
        };
        let handler = |State(shared): State<Shared>, request| handle(shared, request);
        let router = Router::new().fallback(handler).with_state(shared.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("recorder: {error}");
            }
        });
        let folder = tempfile::tempdir()?;
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "recorder",
            "clusters": [{ "name": "recorder", "cluster": { "server": format!("http://{address}") }}],
            "users": [{ "name": "recorder", "user": {} }],
            "contexts": [{ "name": "recorder", "context": { "cluster": "recorder", "user": "recorder" }}],
        });
        std::fs::write(folder.path().join("kubeconfig"), text.to_string())?;
        Ok(Self {
            shared,
            server,
            folder,
        })
    }

    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// What was asked for and not refused.
    pub fn used(&self) -> BTreeSet<Use> {
        self.noted(|noted| noted.used.clone())
    }

    /// What was refused, in words.
    pub fn forbidden(&self) -> BTreeSet<String> {
        self.noted(|noted| noted.forbidden.clone())
    }

    fn noted<T>(&self, read: impl FnOnce(&Noted) -> T) -> T {
        read(
            &self
                .shared
                .noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn handle(shared: Shared, request: Request<Body>) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    match forward(&shared.client, request).await {
        Ok(response) => {
            note(&shared, &method, &uri, response.status());
            response
        }
        Err(error) => {
            let mut response = Response::new(Body::from(format!("recorder: {error:#}")));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

async fn forward(client: &Client, request: Request<Body>) -> anyhow::Result<Response> {
    const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await?;
    let mut onward = Request::new(kube::client::Body::from(body));
    *onward.method_mut() = parts.method;
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    *onward.uri_mut() = target.parse()?;
    *onward.headers_mut() = parts.headers;
    for name in [
        HOST,
        AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
    ] {
        onward.headers_mut().remove(name);
    }
    let reply = client
        .send(onward)
        .await
        .context("failed to forward a request")?;
    let (mut head, body) = reply.into_parts();
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(head, Body::new(body)))
}

fn note(shared: &Shared, method: &Method, uri: &Uri, status: StatusCode) {
    let mut noted = shared.noted.lock().unwrap_or_else(PoisonError::into_inner);
    if status == StatusCode::FORBIDDEN {
        noted.forbidden.insert(format!("{method} {uri}"));
        return;
    }
    let Some(asked) = asked(method, uri) else {
        return;
    };
    // A server-side apply that makes the object needs both.
    if asked.verb == "patch" && status == StatusCode::CREATED {
        noted.used.insert(Use {
            verb: "create".to_owned(),
            ..asked.clone()
        });
    }
    noted.used.insert(asked);
}

/// The request in the words of RBAC; `None` where it is about no resource.
fn asked(method: &Method, uri: &Uri) -> Option<Use> {
    let mut parts: Vec<&str> = uri
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let group = match *parts.first()? {
        "api" if parts.len() > 2 => parts.drain(..2).next().map(|_| "")?,
        "apis" if parts.len() > 3 => parts.drain(..3).nth(1)?,
        _ => return None,
    };
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    let (resource, name, subresource) = (parts.first()?, parts.get(1), parts.get(2));
    let is_watch = uri
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let verb = match *method {
        Method::GET if is_watch => "watch",
        Method::GET if name.is_some() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => return None,
    };
    Some(Use {
        verb: verb.to_owned(),
        group: group.to_owned(),
        resource: match subresource {
            Some(subresource) => format!("{resource}/{subresource}"),
            None => (*resource).to_owned(),
        },
    })
}

#[test]
fn requests_are_told_in_the_words_of_rbac() {
    let said = |method: Method, path: &str| {
        let uri = path.parse().unwrap();
        asked(&method, &uri).map(|used| format!("{} {} {}", used.verb, used.group, used.resource))
    };
    for (method, path, expected) in [
        (Method::GET, "/api/v1/pods?limit=1", "list  pods"),
        (
            Method::GET,
            "/api/v1/namespaces/a/pods?x=1&watch=true",
            "watch  pods",
        ),
        (Method::GET, "/api/v1/namespaces/a/pods/b", "get  pods"),
        (
            Method::PATCH,
            "/apis/batch/v1/namespaces/a/jobs/b",
            "patch batch jobs",
        ),
        (
            Method::PATCH,
            "/apis/g/v1/namespaces/a/incidents/b/status",
            "patch g incidents/status",
        ),
        (Method::GET, "/apis/g/v1/cnps/b", "get g cnps"),
    ] {
        assert_eq!(said(method, path).as_deref(), Some(expected), "{path}");
    }
    assert_eq!(said(Method::GET, "/apis/batch/v1"), None, "discovery");
    assert_eq!(said(Method::GET, "/api"), None);
    assert_eq!(said(Method::GET, "/version"), None);
}
