//! Sending to real servers on this machine: ones that fail, hang, redirect, ask to be left alone, go
//! away and come back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::api::Incident;
use crate::cluster::{Gate, StoreWriters, Stores, Writer, connect_plain};
use crate::model::Severity;
use crate::notify::payload::{Format, Origin};
use crate::notify::{Bell, Incidents, NotifyCounters};

const LIMIT: Duration = Duration::from_secs(20);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A request as a server saw it.
#[derive(Clone, Debug)]
struct Heard {
    method: String,
    path: String,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Heard {
    fn id(&self) -> String {
        self.header("webhook-id")
    }

    fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server that hands every request to the test and answers what the script says to its number.
struct Server {
    url: http::Uri,
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Script = fn(usize, &Heard) -> Option<Response>;

async fn serve(script: Script) -> Server {
    serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
}

fn serve_on(listener: TcpListener, script: Script) -> Server {
    let address = listener.local_addr().unwrap();
    let (sender, heard) = mpsc::channel(1024);
    let count = Arc::new(Mutex::new(0));
    let router = Router::new().fallback(move |request: Request| {
        let (sender, count) = (sender.clone(), Arc::clone(&count));
        async move {
            let (parts, body) = request.into_parts();
            let heard = Heard {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                headers: parts.headers,
                body: to_bytes(body, 1 << 20).await.unwrap(),
            };
            let number = {
                let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
                *count += 1;
                *count
            };
            let answer = script(number, &heard);
            drop(sender.send(heard).await);
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    });
    let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
    let url = format!("http://{address}/hook").parse().unwrap();
    Server { url, heard, task }
}

impl Server {
    async fn next(&mut self) -> Heard {
        let next = tokio::time::timeout(LIMIT, self.heard.recv()).await;
        next.expect("a request within the limit").unwrap()
    }
}

// Of the type of every other script.
#[allow(clippy::unnecessary_wraps)]
fn fine(_: usize, _: &Heard) -> Option<Response> {
    Some(StatusCode::OK.into_response())
}

/// An API server that takes every patch.
#[allow(clippy::unnecessary_wraps)]
fn takes_all(_: usize, heard: &Heard) -> Option<Response> {
    let name = heard.path.split('/').nth(7).unwrap_or_default();
    let object = json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "Incident",
        "metadata": { "name": name },
    });
    let headers = [("content-type", "application/json")];
    Some((headers, object.to_string()).into_response())
}

fn incident(name: &str, conditions: &[(&str, &str, &str)]) -> Incident {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(type_, status, reason)| {
            json!({
                "type": type_,
                "status": status,
                "reason": reason,
                "message": "m",
                "lastTransitionTime": now.to_string(),
            })
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "Incident",
        "metadata": { "name": name, "namespace": "agents", "uid": format!("uid-{name}") },
        "spec": {
            "subject": { "name": "rogue", "uid": "pod-uid", "podIPs": [] },
            "evidence": [{
                "node": "n",
                "signature": "HorizontalScan",
                "severity": "Quarantine",
                "score": 1.0,
                "threshold": 1.0,
                "firstSeen": now.to_string(),
                "lastSeen": now.to_string(),
                "contacts": 1,
                "summary": "s",
            }],
        },
        "status": { "conditions": conditions },
    }))
    .unwrap()
}

fn detected(name: &str) -> Incident {
    incident(name, &[("Detected", "True", "FindingCrossed")])
}

/// What a sender runs on: stores that the test fills, an API server, a secret.
struct World {
    stores: Stores,
    writers: StoreWriters,
    api: Server,
    writer: Writer,
    secret: tempfile::NamedTempFile,
    bell: Bell,
    leads: Arc<AtomicBool>,
    counters: Arc<NotifyCounters>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

impl World {
    async fn new(incidents: &[Incident], api: Script) -> Self {
        use base64::Engine as _;
        let (stores, mut writers) = Stores::new();
        writers.fill_all_with_nothing();
        let api = serve(api).await;
        let client = connect_plain(&api.url).unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        let encoded = base64::engine::general_purpose::STANDARD.encode(SECRET);
        std::fs::write(secret.path(), format!("whsec_{encoded}\n")).unwrap();
        let mut world = Self {
            stores,
            writers,
            writer: Writer::new(client, Duration::from_secs(5), Gate::open()),
            api,
            secret,
            bell: Bell::default(),
            leads: Arc::new(AtomicBool::new(true)),
            counters: Arc::default(),
            tasks: Vec::new(),
        };
        for incident in incidents {
            world.put(incident);
        }
        world
    }

    fn put(&mut self, incident: &Incident) {
        self.writers.incidents.apply(incident.clone());
        self.bell.ring();
    }

    fn times() -> Times {
        Times {
            retry_min: Duration::from_millis(1),
            retry_max: Duration::from_millis(20),
            timeout: Duration::from_secs(5),
            resend: Duration::from_hours(1),
            age_max: SignedDuration::from_hours(24),
        }
    }

    fn gate(&self) -> crate::notify::Gate {
        let leads = Arc::clone(&self.leads);
        Arc::new(move || leads.load(Ordering::Relaxed))
    }

    fn webhook(&mut self, url: &http::Uri, times: Times) {
        let task = Webhook {
            post: Post::connect(url, None).unwrap(),
            signer: Signer::new(self.secret.path().to_owned()),
            format: Format::Cloudevents,
            incidents: Incidents {
                stores: self.stores.clone(),
            },
            writer: self.writer.clone(),
            origin: Origin::default(),
            level_min: Severity::Alert,
            gate: self.gate(),
            counters: Arc::clone(&self.counters),
            times,
        };
        let bell = self.bell.0.subscribe();
        self.tasks.push(tokio::spawn(task.run(bell)));
    }

    fn alertmanager(&mut self, url: &http::Uri, times: Times) {
        let task = Alertmanager {
            post: Post::connect(url, None).unwrap(),
            incidents: Incidents {
                stores: self.stores.clone(),
            },
            origin: Origin::default(),
            level_min: Severity::Alert,
            gate: self.gate(),
            counters: Arc::clone(&self.counters),
            times,
        };
        let bell = self.bell.0.subscribe();
        self.tasks.push(tokio::spawn(task.run(bell)));
    }

    fn traces(&mut self, url: &http::Uri) {
        let task = Traces {
            post: Post::connect(url, None).unwrap(),
            incidents: Incidents {
                stores: self.stores.clone(),
            },
            origin: Origin::default(),
            level_min: Severity::Alert,
            gate: self.gate(),
            counters: Arc::clone(&self.counters),
            times: Self::times(),
        };
        let bell = self.bell.0.subscribe();
        self.tasks.push(tokio::spawn(task.run(bell)));
    }

    fn stop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }

    async fn until(&self, holds: impl Fn(&NotifyCounters) -> bool) {
        let wait = async {
            while !holds(&self.counters) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.unwrap();
    }
}

fn of(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// HMAC-SHA256 after RFC 2104, written out: not the code under test.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(text)
        .finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .to_vec()
}

#[tokio::test]
async fn a_transition_is_posted_signed_and_then_noted_in_its_incident() {
    use base64::Engine as _;
    let mut receiver = serve(fine).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    world.webhook(&receiver.url, World::times());
    let heard = receiver.next().await;
    assert_eq!(
        (heard.method.as_str(), heard.path.as_str()),
        ("POST", "/hook")
    );
    let content_type = heard.header("content-type");
    assert!(
        content_type.starts_with("application/cloudevents+json"),
        "{content_type}"
    );
    let signed = [
        heard.id().as_bytes(),
        b".",
        heard.header("webhook-timestamp").as_bytes(),
        b".",
        &heard.body,
    ]
    .concat();
    let expected = base64::engine::general_purpose::STANDARD.encode(hmac(SECRET, &signed));
    assert_eq!(heard.header("webhook-signature"), format!("v1,{expected}"));
    let event = heard.json();
    assert_eq!(event["id"], heard.id());
    assert_eq!(event["type"], "dev.yellowjack.incident.detected");
    let noted = world.api.next().await;
    assert_eq!(noted.method, "PATCH");
    assert!(
        noted
            .path
            .ends_with("/namespaces/agents/incidents/a/status"),
        "{}",
        noted.path
    );
    assert_eq!(noted.json()["metadata"]["uid"], "uid-a");
    assert!(noted.json()["status"]["notified"]["Detected"].is_string());
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_same_id_until_it_takes_it() {
    let script = |number, _: &Heard| {
        Some(
            if number < 3 {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::ACCEPTED
            }
            .into_response(),
        )
    };
    let mut receiver = serve(script).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    world.webhook(&receiver.url, World::times());
    let ids = [
        receiver.next().await.id(),
        receiver.next().await.id(),
        receiver.next().await.id(),
    ];
    assert!(
        ids.iter()
            .all(|id| *id == ids[0] && id.starts_with("uid-a-detected-")),
        "{ids:?}"
    );
    world.api.next().await;
    let told = &world.counters.webhook;
    assert_eq!(
        (of(&told.failed), of(&told.sent), of(&told.dead_lettered)),
        (2, 1, 0)
    );
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_pause_is_asked_again_when_it_said() {
    let script = |number, _: &Heard| {
        Some(match number {
            1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response(),
            _ => StatusCode::OK.into_response(),
        })
    };
    let mut receiver = serve(script).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    // Without its word it would be an hour.
    let times = Times {
        retry_min: Duration::from_hours(1),
        retry_max: Duration::from_hours(1),
        ..World::times()
    };
    world.webhook(&receiver.url, times);
    let first = receiver.next().await.id();
    assert_eq!(receiver.next().await.id(), first);
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_for_the_moment() {
    let script = |number, _: &Heard| (number > 1).then(|| StatusCode::OK.into_response());
    let mut receiver = serve(script).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    let times = Times {
        timeout: Duration::from_millis(100),
        ..World::times()
    };
    world.webhook(&receiver.url, times);
    let first = receiver.next().await.id();
    assert_eq!(receiver.next().await.id(), first);
    world
        .until(|counters| of(&counters.webhook.failed) >= 1)
        .await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let script = |_, heard: &Heard| {
        Some(if heard.path == "/hook" {
            (StatusCode::TEMPORARY_REDIRECT, [("location", "/stolen")]).into_response()
        } else {
            StatusCode::OK.into_response()
        })
    };
    let mut receiver = serve(script).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    world.webhook(&receiver.url, World::times());
    for _ in 0..3 {
        assert_eq!(receiver.next().await.path, "/hook");
    }
    assert_eq!(of(&world.counters.webhook.sent), 0);
}

#[tokio::test]
async fn a_receiver_that_was_away_is_told_everything_once_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/hook").parse().unwrap();
    let mut world = World::new(&[detected("a"), detected("b")], takes_all).await;
    world.webhook(&url, World::times());
    world
        .until(|counters| of(&counters.webhook.failed) >= 3)
        .await;
    let mut receiver = serve_on(TcpListener::bind(address).await.unwrap(), fine);
    let mut names = [receiver.next().await.id(), receiver.next().await.id()];
    names.sort();
    assert!(
        names[0].starts_with("uid-a-") && names[1].starts_with("uid-b-"),
        "{names:?}"
    );
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_is_given_up_and_holds_up_nobody() {
    let script = |_, heard: &Heard| {
        let is_bad = heard.id().starts_with("uid-bad-");
        Some(
            if is_bad {
                StatusCode::UNPROCESSABLE_ENTITY
            } else {
                StatusCode::OK
            }
            .into_response(),
        )
    };
    let receiver = serve(script).await;
    let mut world = World::new(&[detected("bad"), detected("good")], takes_all).await;
    world.webhook(&receiver.url, World::times());
    world
        .until(|counters| {
            of(&counters.webhook.dead_lettered) == 1 && of(&counters.webhook.sent) == 1
        })
        .await;
    assert_eq!(of(&world.counters.webhook.failed), 3);
}

#[tokio::test]
async fn what_was_accepted_and_not_noted_is_told_again_after_a_restart_under_the_same_id() {
    let refuses = |_, _: &Heard| Some(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let mut receiver = serve(fine).await;
    let mut world = World::new(&[detected("a")], refuses).await;
    world.webhook(&receiver.url, World::times());
    let first = receiver.next().await.id();
    // It is noted again and again, and delivered once.
    for _ in 0..3 {
        assert_eq!(world.api.next().await.method, "PATCH");
    }
    assert_eq!(of(&world.counters.webhook.sent), 1);
    world.stop();
    world.webhook(&receiver.url, World::times());
    assert_eq!(receiver.next().await.id(), first);
}

#[tokio::test]
async fn what_an_incident_notes_as_told_is_not_told_again() {
    let mut receiver = serve(fine).await;
    let conditions = [
        ("Detected", "True", "FindingCrossed"),
        ("Contained", "True", "Isolated"),
    ];
    let mut told = incident("a", &conditions);
    let status = told.status.as_mut().unwrap();
    let since = status.conditions[0].last_transition_time.clone();
    status.notified.insert("Detected".to_owned(), since);
    let mut world = World::new(&[told], takes_all).await;
    world.webhook(&receiver.url, World::times());
    assert!(receiver.next().await.id().starts_with("uid-a-contained-"));
}

#[tokio::test]
async fn what_was_long_ago_is_not_told_when_a_webhook_is_set_up() {
    let mut receiver = serve(fine).await;
    let mut old = detected("old");
    let two_days_ago = Timestamp::now() - SignedDuration::from_hours(48);
    for condition in &mut old.status.as_mut().unwrap().conditions {
        condition.last_transition_time.0 = two_days_ago;
    }
    let mut world = World::new(&[old, detected("new")], takes_all).await;
    world.webhook(&receiver.url, World::times());
    assert!(receiver.next().await.id().starts_with("uid-new-"));
    assert_eq!(of(&world.counters.webhook.dead_lettered), 0);
}

#[tokio::test]
async fn only_the_process_that_leads_tells() {
    let mut receiver = serve(fine).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    world.leads.store(false, Ordering::Relaxed);
    world.webhook(&receiver.url, World::times());
    world.alertmanager(&receiver.url, World::times());
    for _ in 0..100 {
        world.bell.ring();
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (
            of(&world.counters.webhook.sent),
            of(&world.counters.alertmanager.sent)
        ),
        (0, 0)
    );
    world.leads.store(true, Ordering::Relaxed);
    receiver.next().await;
    receiver.next().await;
}

#[tokio::test]
async fn nothing_is_sent_unsigned_and_a_secret_that_comes_later_is_used() {
    let mut receiver = serve(fine).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    let secret = std::fs::read(world.secret.path()).unwrap();
    std::fs::write(world.secret.path(), "not a secret").unwrap();
    world.webhook(&receiver.url, World::times());
    world
        .until(|counters| of(&counters.webhook.failed) >= 2)
        .await;
    assert!(receiver.heard.try_recv().is_err());
    std::fs::write(world.secret.path(), secret).unwrap();
    assert!(!receiver.next().await.header("webhook-signature").is_empty());
}

#[tokio::test]
async fn an_alertmanager_gets_what_holds_at_once_and_the_end_when_it_ends() {
    let mut receiver = serve(fine).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    world.alertmanager(&receiver.url, World::times());
    let first = receiver.next().await.json();
    assert_eq!(first[0]["labels"]["alertname"], "YellowjackIncident");
    let ends = |alert: &Value| -> Timestamp { alert["endsAt"].as_str().unwrap().parse().unwrap() };
    assert!(ends(&first[0]) > Timestamp::now());
    let conditions = [
        ("Detected", "True", "FindingCrossed"),
        ("Closed", "True", "Released"),
    ];
    world.put(&incident("a", &conditions));
    let last = receiver.next().await.json();
    assert_eq!(last[0]["labels"], first[0]["labels"]);
    assert!(ends(&last[0]) <= Timestamp::now());
}

#[tokio::test]
async fn alerts_are_sent_again_while_they_hold() {
    let mut receiver = serve(fine).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    let times = Times {
        resend: Duration::from_millis(5),
        ..World::times()
    };
    world.alertmanager(&receiver.url, times);
    for _ in 0..3 {
        assert_eq!(receiver.next().await.json()[0]["labels"]["incident"], "a");
    }
}

#[tokio::test]
async fn one_alertmanager_that_fails_does_not_keep_another_from_being_told() {
    let away = "http://127.0.0.1:1/api/v2/alerts".parse().unwrap();
    let mut receiver = serve(fine).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    world.alertmanager(&away, World::times());
    world
        .until(|counters| of(&counters.alertmanager.failed) >= 2)
        .await;
    world.alertmanager(&receiver.url, World::times());
    receiver.next().await;
}

#[tokio::test]
async fn many_alerts_go_in_posts_of_a_bounded_size() {
    let mut receiver = serve(fine).await;
    let many: Vec<Incident> = (0..150).map(|n| detected(&format!("a{n}"))).collect();
    let mut world = World::new(&many, takes_all).await;
    world.alertmanager(&receiver.url, World::times());
    let mut count = 0;
    while count < 150 {
        let batch = receiver.next().await.json().as_array().unwrap().len();
        assert!(batch <= crate::limits::ALERTS_PER_POST);
        count += batch;
    }
    assert_eq!(count, 150);
}

#[tokio::test]
async fn a_collector_that_fails_gets_each_span_once_it_works() {
    let script = |number, _: &Heard| {
        let status = if number == 1 {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::OK
        };
        Some(status.into_response())
    };
    let mut receiver = serve(script).await;
    let mut world = World::new(&[detected("a")], takes_all).await;
    world.traces(&receiver.url);
    let first = receiver.next().await.json();
    assert_eq!(receiver.next().await.json(), first);
    let conditions = [
        ("Detected", "True", "FindingCrossed"),
        ("Contained", "True", "Isolated"),
    ];
    world.put(&incident("a", &conditions));
    let later = receiver.next().await.json();
    let spans = later["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
    let names: Vec<&Value> = spans.unwrap().iter().map(|span| &span["name"]).collect();
    assert_eq!(names, ["contain"], "the rest was sent");
}
