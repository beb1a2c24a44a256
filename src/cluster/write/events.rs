//! Kubernetes Events: each is written once, and repetitions are counted in its series.
//!
//! The name of an Event is derived from its content, so an Event that was written before a restart or by
//! another replica is not written twice. The recorder of kube does not fit: it forgets its Events on a
//! restart, its memory is not bounded, and it counts an Event with a changed note as a repetition, so
//! that the new note is lost.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::field_manager::FieldManager;
use super::writer::Writer;
use crate::cluster::error::ApiError;
use crate::limits;
use crate::model::clip;

const CONTROLLER: &str = "yellowjack.dev/controller";

/// The content of one Event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventNote {
    /// Identifies this occurrence.
    pub id: String,
    /// The object that it is about. The Event is in the same namespace.
    pub regarding: ObjectReference,
    /// A related object.
    pub related: Option<ObjectReference>,
    /// The reason, in one word.
    pub reason: &'static str,
    /// The action, in one word.
    pub action: &'static str,
    /// The message, at most 1,024 bytes.
    pub note: String,
    /// Whether it is a warning.
    pub is_warning: bool,
}

/// Writes Events.
pub(crate) struct Events {
    writer: Writer,
    instance: String,
    series: HashMap<[u8; 16], Series>,
}

struct Series {
    id: String,
    name: String,
    count: i32,
    last: Timestamp,
}

impl Events {
    /// Events that this instance of the controller reports.
    #[must_use]
    pub(crate) fn new(writer: Writer, instance: &str) -> Self {
        Self {
            writer,
            instance: clip(instance, 128).to_owned(),
            series: HashMap::new(),
        }
    }

    /// Writes the Event, or counts it as a repetition of a recent Event with the same content. Succeeds if
    /// it was written before.
    pub(crate) async fn publish(
        &mut self,
        event: &EventNote,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let age_max = SignedDuration::from_secs(limits::EVENT_SERIES_S);
        self.series
            .retain(|_, series| now.duration_since(series.last) < age_max);
        let key = digest(&[
            event.reason,
            event.action,
            event.regarding.uid.as_deref().unwrap_or_default(),
            // Events with different notes are different series.
            &event.note,
        ]);
        if let Some(series) = self.series.get_mut(&key) {
            if series.id == event.id {
                return Ok(());
            }
            let counted = count(&self.writer, event, series, now).await;
            if !matches!(counted, Err(ApiError::NotFound(_))) {
                return counted;
            }
            // The Event has expired.
        }
        let name = event_name(event);
        match self.create(event, &name, now).await {
            Ok(()) | Err(ApiError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        if self.series.len() >= limits::EVENT_SERIES_MAX {
            self.series.clear();
        }
        let series = Series {
            id: event.id.clone(),
            name,
            count: 1,
            last: now,
        };
        self.series.insert(key, series);
        Ok(())
    }

    async fn create(&self, event: &EventNote, name: &str, now: Timestamp) -> Result<(), ApiError> {
        let namespace = namespace(event);
        let object = Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            regarding: Some(event.regarding.clone()),
            related: event.related.clone(),
            reason: Some(event.reason.to_owned()),
            action: Some(event.action.to_owned()),
            note: Some(clip(&event.note, limits::EVENT_NOTE_BYTES_MAX).to_owned()),
            type_: Some(
                if event.is_warning {
                    "Warning"
                } else {
                    "Normal"
                }
                .to_owned(),
            ),
            ..Event::default()
        };
        let resource = resource();
        let mut dynamic = DynamicObject::new(name, &resource).within(namespace);
        dynamic.data = serde_json::to_value(&object).unwrap_or_default();
        if let Some(fields) = dynamic.data.as_object_mut() {
            for key in ["apiVersion", "kind", "metadata"] {
                fields.remove(key);
            }
        }
        let manager = FieldManager::notifier();
        self.writer
            .create_dynamic(&manager, &resource, namespace, &dynamic)
            .await
            .map(drop)
    }
}

async fn count(
    writer: &Writer,
    event: &EventNote,
    series: &mut Series,
    now: Timestamp,
) -> Result<(), ApiError> {
    let count = series.count.saturating_add(1);
    let patch = json!({ "series": { "count": count, "lastObservedTime": MicroTime(now) } });
    let manager = FieldManager::notifier();
    let resource = resource();
    writer
        .merge_dynamic(&manager, &resource, namespace(event), &series.name, &patch)
        .await?;
    series.count = count;
    series.last = now;
    series.id.clone_from(&event.id);
    Ok(())
}

fn resource() -> ApiResource {
    ApiResource::erase::<Event>(&())
}

fn namespace(event: &EventNote) -> &str {
    event.regarding.namespace.as_deref().unwrap_or("default")
}

/// The name of the object and a digest of the content, so that equal Events have equal names.
fn event_name(event: &EventNote) -> String {
    const OBJECT_BYTES_MAX: usize = 200;
    let kind = event.regarding.kind.as_deref().unwrap_or_default();
    let name = event.regarding.name.as_deref().unwrap_or_default();
    let name = clip(name, OBJECT_BYTES_MAX).trim_end_matches(['.', '-']);
    let hex = u128::from_be_bytes(digest(&[&event.id, kind, event.reason]));
    format!("{name}.{hex:032x}")
}

fn digest(parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    short
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::body::to_bytes;
    use axum::extract::Request;
    use axum::response::IntoResponse;
    use http::{Method, StatusCode};
    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;
    use crate::cluster::{LeaderGate, connect_plain};

    type Calls = Arc<Mutex<Vec<(Method, String, Value)>>>;

    /// An API server that stores Events by name and records the requests.
    async fn api() -> (Writer, Calls) {
        let calls = Calls::default();
        let kept = Arc::clone(&calls);
        let router = Router::new().fallback(move |request: Request| {
            let kept = Arc::clone(&kept);
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let mut kept = kept.lock();
                let name = body.pointer("/metadata/name").cloned();
                let is_there = head.method == Method::POST
                    && kept.iter().any(|(_, _, known)| known.pointer("/metadata/name") == name.as_ref());
                let answer = if is_there {
                    let status = json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "reason": "AlreadyExists", "message": "there", "code": 409,
                    });
                    (StatusCode::CONFLICT, status.to_string())
                } else {
                    let object = json!({
                        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name },
                    });
                    (StatusCode::OK, object.to_string())
                };
                kept.push((head.method, head.uri.path().to_owned(), body));
                (answer.0, [("content-type", "application/json")], answer.1).into_response()
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = connect_plain(&url.parse().unwrap()).unwrap();
        (
            Writer::new(client, Duration::from_secs(5), LeaderGate::always_open()),
            calls,
        )
    }

    fn event(id: &str, note: &str) -> EventNote {
        EventNote {
            id: id.to_owned(),
            regarding: ObjectReference {
                kind: Some("Pod".to_owned()),
                name: Some("rogue".to_owned()),
                namespace: Some("agents".to_owned()),
                uid: Some("u".to_owned()),
                ..ObjectReference::default()
            },
            related: None,
            reason: "SignalsStale",
            action: "Observe",
            note: note.to_owned(),
            is_warning: true,
        }
    }

    fn methods(calls: &Calls) -> Vec<Method> {
        let calls = calls.lock();
        calls.iter().map(|(method, ..)| method.clone()).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn a_repeated_note_is_counted_and_another_note_is_not_lost() {
        let (writer, calls) = api().await;
        let mut events = Events::new(writer, "pod-1");
        events
            .publish(&event("a", "n1 is silent"), at(0))
            .await
            .unwrap();
        events
            .publish(&event("b", "n1 is silent"), at(60))
            .await
            .unwrap();
        events
            .publish(&event("c", "n2 is silent"), at(61))
            .await
            .unwrap();
        assert_eq!(methods(&calls), [Method::POST, Method::PATCH, Method::POST]);
        let calls = calls.lock();
        let (_, path, first) = &calls[0];
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/agents/events");
        assert_eq!(first["note"], "n1 is silent");
        assert_eq!(first["type"], "Warning");
        assert_eq!(first["regarding"]["uid"], "u");
        assert_eq!(calls[1].2["series"]["count"], 2);
        assert_eq!(calls[2].2["note"], "n2 is silent");
    }

    #[tokio::test]
    async fn an_event_from_before_a_restart_is_not_written_twice() {
        let (writer, calls) = api().await;
        for _ in 0..2 {
            let mut events = Events::new(writer.clone(), "pod-1");
            events.publish(&event("a", "n"), at(0)).await.unwrap();
            events.publish(&event("a", "n"), at(1)).await.unwrap();
        }
        // The second instance found it; a repeated id in one instance makes no request.
        assert_eq!(methods(&calls), [Method::POST, Method::POST]);
    }

    #[tokio::test]
    async fn after_six_minutes_it_is_a_new_event_and_memory_is_bounded() {
        let (writer, calls) = api().await;
        let mut events = Events::new(writer, "pod-1");
        events.publish(&event("a", "n"), at(0)).await.unwrap();
        events
            .publish(&event("b", "n"), at(limits::EVENT_SERIES_S))
            .await
            .unwrap();
        assert_eq!(methods(&calls), [Method::POST, Method::POST]);
        for note in 0..=limits::EVENT_SERIES_MAX {
            let note = event(&note.to_string(), &note.to_string());
            events
                .publish(&note, at(limits::EVENT_SERIES_S))
                .await
                .unwrap();
        }
        assert!(events.series.len() <= limits::EVENT_SERIES_MAX);
    }

    #[test]
    fn names_of_events_are_valid_whatever_the_name_of_the_object_is() {
        let mut long = event("a", "n");
        long.regarding.name = Some("a.".repeat(126));
        let name = event_name(&long);
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
        assert_ne!(event_name(&event("a", "n")), event_name(&event("b", "n")));
    }
}
