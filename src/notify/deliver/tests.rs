//! Delivery to real servers on this machine: ones that fail, hang, redirect, request a pause, go away and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::api::Incident;
use crate::cluster::{LeaderGate, StoreWriters, Stores, Writer, connect_plain};
use crate::model::Severity;
use crate::notify::payload::{Format, Origin};
use crate::observability::DeliveryResult;

const LIMIT: Duration = Duration::from_secs(20);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A request as a server received it.
#[derive(Clone, Debug)]
struct Received {
    method: String,
    path: String,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Received {
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

/// A server that hands every request to the test and answers as the script defines for its number.
struct Server {
    url: http::Uri,
    received: mpsc::Receiver<Received>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Script = fn(usize, &Received) -> Option<Response>;

async fn serve(script: Script) -> Server {
    serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
}

fn serve_on(listener: TcpListener, script: Script) -> Server {
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::channel(1024);
    let count = Arc::new(Mutex::new(0));
    let router = Router::new().fallback(move |request: Request| {
        let (sender, count) = (sender.clone(), Arc::clone(&count));
        async move {
            let (parts, body) = request.into_parts();
            let received = Received {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                headers: parts.headers,
                body: to_bytes(body, 1 << 20).await.unwrap(),
            };
            let number = {
                let mut count = count.lock();
                *count += 1;
                *count
            };
            let answer = script(number, &received);
            drop(sender.send(received).await);
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    });
    let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
    let url = format!("http://{address}/hook").parse().unwrap();
    Server {
        url,
        received,
        task,
    }
}

impl Server {
    async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(LIMIT, self.received.recv()).await;
        next.expect("a request within the limit").unwrap()
    }
}

// Of the type of every other script.
#[allow(clippy::unnecessary_wraps)]
fn fine(_: usize, _: &Received) -> Option<Response> {
    Some(StatusCode::OK.into_response())
}

/// An API server that takes every patch.
#[allow(clippy::unnecessary_wraps)]
fn takes_all(_: usize, received: &Received) -> Option<Response> {
    let name = received.path.split('/').nth(7).unwrap_or_default();
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
                "observer": "n",
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

/// What a delivery task runs on: stores that the test fills, an API server, a secret.
struct Fixture {
    stores: Stores,
    writers: StoreWriters,
    api: Server,
    writer: Writer,
    secret: tempfile::NamedTempFile,
    wakeup: Wakeup,
    severity_min: Severity,
    leads: Arc<AtomicBool>,
    counters: Arc<NotifyCounters>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Fixture {
    async fn new(incidents: &[Incident], api: Script) -> Self {
        use base64::Engine as _;
        let (stores, mut writers) = Stores::new();
        writers.fill_all_empty();
        let api = serve(api).await;
        let client = connect_plain(&api.url).unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        let encoded = base64::engine::general_purpose::STANDARD.encode(SECRET);
        std::fs::write(secret.path(), format!("whsec_{encoded}\n")).unwrap();
        let mut fixture = Self {
            stores,
            writers,
            writer: Writer::new(client, Duration::from_secs(5), LeaderGate::always_open()),
            api,
            secret,
            wakeup: Wakeup::default(),
            severity_min: Severity::Alert,
            leads: Arc::new(AtomicBool::new(true)),
            counters: Arc::default(),
            tasks: Vec::new(),
        };
        for incident in incidents {
            fixture.put(incident);
        }
        fixture
    }

    fn put(&mut self, incident: &Incident) {
        self.writers.incidents.apply(incident.clone());
        self.wakeup.wake();
    }

    fn timeouts() -> Timeouts {
        Timeouts {
            retry_min: Duration::from_millis(1),
            retry_max: Duration::from_millis(20),
            request: Duration::from_secs(5),
            resend: Duration::from_hours(1),
            age_max: SignedDuration::from_hours(24),
        }
    }

    fn context(&self, timeouts: Timeouts) -> Context {
        let leads = Arc::clone(&self.leads);
        Context {
            stores: self.stores.clone(),
            origin: Origin::default(),
            severity_min: self.severity_min,
            is_leader: Arc::new(move || leads.load(Ordering::Relaxed)),
            counters: Arc::clone(&self.counters),
            timeouts,
        }
    }

    fn webhook(&mut self, url: &http::Uri, timeouts: Timeouts) {
        let task = Webhook {
            post: Post::connect(url, None).unwrap(),
            signer: Signer::new(self.secret.path().to_owned()),
            format: Format::Cloudevents,
            writer: self.writer.clone(),
            context: self.context(timeouts),
        };
        let wakeups = self.wakeup.subscribe();
        self.tasks.push(tokio::spawn(task.run(wakeups)));
    }

    fn alertmanager(&mut self, url: &http::Uri, timeouts: Timeouts) {
        let task = Alertmanager {
            post: Post::connect(url, None).unwrap(),
            context: self.context(timeouts),
        };
        let wakeups = self.wakeup.subscribe();
        self.tasks.push(tokio::spawn(task.run(wakeups)));
    }

    fn traces(&mut self, url: &http::Uri) {
        let task = Traces {
            post: Post::connect(url, None).unwrap(),
            context: self.context(Self::timeouts()),
        };
        let wakeups = self.wakeup.subscribe();
        self.tasks.push(tokio::spawn(task.run(wakeups)));
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
async fn a_transition_is_posted_signed_and_then_recorded_in_its_incident() {
    use base64::Engine as _;
    let mut receiver = serve(fine).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    fixture.webhook(&receiver.url, Fixture::timeouts());
    let request = receiver.next().await;
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/hook")
    );
    let content_type = request.header("content-type");
    assert!(
        content_type.starts_with("application/cloudevents+json"),
        "{content_type}"
    );
    let signed = [
        request.id().as_bytes(),
        b".",
        request.header("webhook-timestamp").as_bytes(),
        b".",
        &request.body,
    ]
    .concat();
    let expected = base64::engine::general_purpose::STANDARD.encode(hmac(SECRET, &signed));
    assert_eq!(
        request.header("webhook-signature"),
        format!("v1,{expected}")
    );
    let event = request.json();
    assert_eq!(event["id"], request.id());
    assert_eq!(event["type"], "dev.yellowjack.incident.detected");
    let recorded = fixture.api.next().await;
    assert_eq!(recorded.method, "PATCH");
    assert!(
        recorded
            .path
            .ends_with("/namespaces/agents/incidents/a/status"),
        "{}",
        recorded.path
    );
    assert_eq!(recorded.json()["metadata"]["uid"], "uid-a");
    assert!(recorded.json()["status"]["notified"]["Detected"].is_string());
}

#[tokio::test]
async fn a_receiver_that_fails_receives_the_same_id_until_it_accepts() {
    let script = |number, _: &Received| {
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
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    fixture.webhook(&receiver.url, Fixture::timeouts());
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
    fixture.api.next().await;
    let counters = &fixture.counters.webhook;
    assert_eq!(
        (
            counters.of(DeliveryResult::Failed),
            counters.of(DeliveryResult::Sent),
            counters.of(DeliveryResult::DeadLettered)
        ),
        (2, 1, 0)
    );
}

#[tokio::test]
async fn a_receiver_that_requests_a_pause_is_retried_after_that_pause() {
    let script = |number, _: &Received| {
        Some(match number {
            1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response(),
            _ => StatusCode::OK.into_response(),
        })
    };
    let mut receiver = serve(script).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    // Without the header it would be an hour.
    let timeouts = Timeouts {
        retry_min: Duration::from_hours(1),
        retry_max: Duration::from_hours(1),
        ..Fixture::timeouts()
    };
    fixture.webhook(&receiver.url, timeouts);
    let first = receiver.next().await.id();
    assert_eq!(receiver.next().await.id(), first);
}

#[tokio::test]
async fn a_receiver_that_hangs_is_retried_after_a_timeout() {
    let script = |number, _: &Received| (number > 1).then(|| StatusCode::OK.into_response());
    let mut receiver = serve(script).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    let timeouts = Timeouts {
        request: Duration::from_millis(100),
        ..Fixture::timeouts()
    };
    fixture.webhook(&receiver.url, timeouts);
    let first = receiver.next().await.id();
    assert_eq!(receiver.next().await.id(), first);
    fixture
        .until(|counters| counters.webhook.of(DeliveryResult::Failed) >= 1)
        .await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let script = |_, received: &Received| {
        Some(if received.path == "/hook" {
            (StatusCode::TEMPORARY_REDIRECT, [("location", "/stolen")]).into_response()
        } else {
            StatusCode::OK.into_response()
        })
    };
    let mut receiver = serve(script).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    fixture.webhook(&receiver.url, Fixture::timeouts());
    for _ in 0..3 {
        assert_eq!(receiver.next().await.path, "/hook");
    }
    assert_eq!(fixture.counters.webhook.of(DeliveryResult::Sent), 0);
}

#[tokio::test]
async fn a_receiver_that_was_unavailable_receives_everything_once_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/hook").parse().unwrap();
    let mut fixture = Fixture::new(&[detected("a"), detected("b")], takes_all).await;
    fixture.webhook(&url, Fixture::timeouts());
    fixture
        .until(|counters| counters.webhook.of(DeliveryResult::Failed) >= 3)
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
async fn a_notification_that_is_rejected_for_good_is_dropped_and_blocks_no_other() {
    let script = |_, received: &Received| {
        let is_bad = received.id().starts_with("uid-bad-");
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
    let mut fixture = Fixture::new(&[detected("bad"), detected("good")], takes_all).await;
    fixture.webhook(&receiver.url, Fixture::timeouts());
    fixture
        .until(|counters| {
            counters.webhook.of(DeliveryResult::DeadLettered) == 1
                && counters.webhook.of(DeliveryResult::Sent) == 1
        })
        .await;
    assert_eq!(fixture.counters.webhook.of(DeliveryResult::Failed), 3);
}

#[tokio::test]
async fn an_accepted_notification_without_a_record_is_repeated_after_a_restart_under_the_same_id() {
    let refuses = |_, _: &Received| Some(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let mut receiver = serve(fine).await;
    let mut fixture = Fixture::new(&[detected("a")], refuses).await;
    fixture.webhook(&receiver.url, Fixture::timeouts());
    let first = receiver.next().await.id();
    // The record is retried, and the notification is delivered once.
    for _ in 0..3 {
        assert_eq!(fixture.api.next().await.method, "PATCH");
    }
    assert_eq!(fixture.counters.webhook.of(DeliveryResult::Sent), 1);
    fixture.stop();
    fixture.webhook(&receiver.url, Fixture::timeouts());
    assert_eq!(receiver.next().await.id(), first);
}

#[tokio::test]
async fn a_transition_that_the_incident_records_as_delivered_is_not_repeated() {
    let mut receiver = serve(fine).await;
    let conditions = [
        ("Detected", "True", "FindingCrossed"),
        ("Contained", "True", "Isolated"),
    ];
    let mut recorded = incident("a", &conditions);
    let status = recorded.status.as_mut().unwrap();
    let since = status.conditions[0].last_transition_time.clone();
    status.notified.insert("Detected".to_owned(), since);
    let mut fixture = Fixture::new(&[recorded], takes_all).await;
    fixture.webhook(&receiver.url, Fixture::timeouts());
    assert!(receiver.next().await.id().starts_with("uid-a-contained-"));
}

#[tokio::test]
async fn old_transitions_are_not_delivered_when_a_webhook_is_set_up() {
    let mut receiver = serve(fine).await;
    let mut old = detected("old");
    let two_days_ago = Timestamp::now() - SignedDuration::from_hours(48);
    for condition in &mut old.status.as_mut().unwrap().conditions {
        condition.last_transition_time.0 = two_days_ago;
    }
    let mut fixture = Fixture::new(&[old, detected("new")], takes_all).await;
    fixture.webhook(&receiver.url, Fixture::timeouts());
    assert!(receiver.next().await.id().starts_with("uid-new-"));
    assert_eq!(fixture.counters.webhook.of(DeliveryResult::DeadLettered), 0);
}

#[tokio::test]
async fn only_the_leader_delivers() {
    let mut receiver = serve(fine).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    fixture.leads.store(false, Ordering::Relaxed);
    fixture.webhook(&receiver.url, Fixture::timeouts());
    fixture.alertmanager(&receiver.url, Fixture::timeouts());
    for _ in 0..100 {
        fixture.wakeup.wake();
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (
            fixture.counters.webhook.of(DeliveryResult::Sent),
            fixture.counters.alertmanager.of(DeliveryResult::Sent)
        ),
        (0, 0)
    );
    fixture.leads.store(true, Ordering::Relaxed);
    receiver.next().await;
    receiver.next().await;
}

#[tokio::test]
async fn nothing_is_sent_unsigned_and_a_secret_that_comes_later_is_used() {
    let mut receiver = serve(fine).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    let secret = std::fs::read(fixture.secret.path()).unwrap();
    std::fs::write(fixture.secret.path(), "not a secret").unwrap();
    fixture.webhook(&receiver.url, Fixture::timeouts());
    fixture
        .until(|counters| counters.webhook.of(DeliveryResult::Failed) >= 2)
        .await;
    assert!(receiver.received.try_recv().is_err());
    std::fs::write(fixture.secret.path(), secret).unwrap();
    assert!(!receiver.next().await.header("webhook-signature").is_empty());
}

#[tokio::test]
async fn alertmanager_receives_an_open_incident_at_once_and_its_end_when_it_is_closed() {
    let mut receiver = serve(fine).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    fixture.alertmanager(&receiver.url, Fixture::timeouts());
    let first = receiver.next().await.json();
    assert_eq!(first[0]["labels"]["alertname"], "YellowjackIncident");
    let ends = |alert: &Value| -> Timestamp { alert["endsAt"].as_str().unwrap().parse().unwrap() };
    assert!(ends(&first[0]) > Timestamp::now());
    let conditions = [
        ("Detected", "True", "FindingCrossed"),
        ("Closed", "True", "Released"),
    ];
    fixture.put(&incident("a", &conditions));
    let last = receiver.next().await.json();
    assert_eq!(last[0]["labels"], first[0]["labels"]);
    assert!(ends(&last[0]) <= Timestamp::now());
}

#[tokio::test]
async fn alerts_are_sent_again_while_the_incident_is_open() {
    let mut receiver = serve(fine).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    let timeouts = Timeouts {
        resend: Duration::from_millis(5),
        ..Fixture::timeouts()
    };
    fixture.alertmanager(&receiver.url, timeouts);
    for _ in 0..3 {
        assert_eq!(receiver.next().await.json()[0]["labels"]["incident"], "a");
    }
}

#[tokio::test]
async fn an_alertmanager_that_fails_does_not_affect_another() {
    let unavailable = "http://127.0.0.1:1/api/v2/alerts".parse().unwrap();
    let mut receiver = serve(fine).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    fixture.alertmanager(&unavailable, Fixture::timeouts());
    fixture
        .until(|counters| counters.alertmanager.of(DeliveryResult::Failed) >= 2)
        .await;
    fixture.alertmanager(&receiver.url, Fixture::timeouts());
    receiver.next().await;
}

#[tokio::test]
async fn many_alerts_are_split_into_requests_of_a_bounded_size() {
    let mut receiver = serve(fine).await;
    let many: Vec<Incident> = (0..150).map(|n| detected(&format!("a{n}"))).collect();
    let mut fixture = Fixture::new(&many, takes_all).await;
    fixture.alertmanager(&receiver.url, Fixture::timeouts());
    let mut count = 0;
    while count < 150 {
        let batch = receiver.next().await.json().as_array().unwrap().len();
        assert!(batch <= crate::limits::ALERTS_PER_POST);
        count += batch;
    }
    assert_eq!(count, 150);
}

#[tokio::test]
async fn a_collector_that_failed_receives_each_span_once() {
    let script = |number, _: &Received| {
        let status = if number == 1 {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::OK
        };
        Some(status.into_response())
    };
    let mut receiver = serve(script).await;
    let mut fixture = Fixture::new(&[detected("a")], takes_all).await;
    fixture.traces(&receiver.url);
    let first = receiver.next().await.json();
    assert_eq!(receiver.next().await.json(), first);
    let conditions = [
        ("Detected", "True", "FindingCrossed"),
        ("Contained", "True", "Isolated"),
    ];
    fixture.put(&incident("a", &conditions));
    let later = receiver.next().await.json();
    let spans = later["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
    let names: Vec<&Value> = spans.unwrap().iter().map(|span| &span["name"]).collect();
    assert_eq!(names, ["contain"], "the rest was sent");
}

#[tokio::test]
async fn an_incident_below_the_lowest_severity_is_not_delivered() {
    let mut receiver = serve(fine).await;
    let mut weak = detected("weak");
    weak.spec.evidence[0].severity = Severity::Alert;
    let mut fixture = Fixture::new(&[weak, detected("strong")], takes_all).await;
    fixture.severity_min = Severity::Quarantine;
    fixture.webhook(&receiver.url, Fixture::timeouts());
    assert!(receiver.next().await.id().starts_with("uid-strong-"));
    fixture.alertmanager(&receiver.url, Fixture::timeouts());
    let alerts = receiver.next().await.json();
    let names: Vec<&Value> = alerts
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| &alert["labels"]["incident"])
        .collect();
    assert_eq!(names, ["strong"]);
}
