//! Kubernetes Events: written once each, and counted on where the same is said again.
//!
//! The name of an Event comes from what it says, so one that was written before a restart or by
//! another replica is found and not written twice. kube's own recorder was not taken: it forgets over
//! restarts, its memory has no bound, and it counts on an Event whose note has changed, so that the
//! new note is lost (its key leaves the note out, and the API server keeps the first one).

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

/// What one Event says.
#[derive(Clone, Debug, PartialEq)]
pub struct EventNote {
    /// Tells this occurrence from others, for ever.
    pub id: String,
    /// What it is about. Its namespace is the Event's.
    pub regarding: ObjectReference,
    /// Another object that has to do with it.
    pub related: Option<ObjectReference>,
    /// Why, one word.
    pub reason: &'static str,
    /// What was done, one word.
    pub action: &'static str,
    /// The sentence, at most 1,024 bytes.
    pub note: String,
    /// Whether it is a warning.
    pub is_warning: bool,
}

/// Writes Events.
pub struct Events {
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
    /// Events by this instance of the controller.
    #[must_use]
    pub fn new(writer: Writer, instance: &str) -> Self {
        Self {
            writer,
            instance: clip(instance, 128).to_owned(),
            series: HashMap::new(),
        }
    }

    /// Writes the Event, or counts one more occurrence where the same was said lately. What was
    /// written before is success.
    pub async fn publish(&mut self, said: &EventNote, now: Timestamp) -> Result<(), ApiError> {
        let age_max = SignedDuration::from_secs(limits::EVENT_SERIES_S);
        self.series
            .retain(|_, series| now.duration_since(series.last) < age_max);
        let key = digest(&[
            said.reason,
            said.action,
            said.regarding.uid.as_deref().unwrap_or_default(),
            // Two notes are two Events: only equal ones are one series.
            &said.note,
        ]);
        if let Some(series) = self.series.get_mut(&key) {
            if series.id == said.id {
                return Ok(());
            }
            let counted = count(&self.writer, said, series, now).await;
            if !matches!(counted, Err(ApiError::NotFound(_))) {
                return counted;
            }
            // It has expired meanwhile.
        }
        let name = event_name(said);
        match self.create(said, &name, now).await {
            Ok(()) | Err(ApiError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        if self.series.len() >= limits::EVENT_SERIES_MAX {
            self.series.clear();
        }
        let series = Series {
            id: said.id.clone(),
            name,
            count: 1,
            last: now,
        };
        self.series.insert(key, series);
        Ok(())
    }

    async fn create(&self, said: &EventNote, name: &str, now: Timestamp) -> Result<(), ApiError> {
        let namespace = namespace(said);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            regarding: Some(said.regarding.clone()),
            related: said.related.clone(),
            reason: Some(said.reason.to_owned()),
            action: Some(said.action.to_owned()),
            note: Some(clip(&said.note, limits::EVENT_NOTE_BYTES_MAX).to_owned()),
            type_: Some(if said.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let resource = resource();
        let mut object = DynamicObject::new(name, &resource).within(namespace);
        object.data = serde_json::to_value(&event).unwrap_or_default();
        if let Some(fields) = object.data.as_object_mut() {
            for key in ["apiVersion", "kind", "metadata"] {
                fields.remove(key);
            }
        }
        let manager = FieldManager::notifier();
        self.writer
            .create_dynamic(&manager, &resource, namespace, &object)
            .await
            .map(drop)
    }
}

async fn count(
    writer: &Writer,
    said: &EventNote,
    series: &mut Series,
    now: Timestamp,
) -> Result<(), ApiError> {
    let count = series.count.saturating_add(1);
    let patch = json!({ "series": { "count": count, "lastObservedTime": MicroTime(now) } });
    let manager = FieldManager::notifier();
    let resource = resource();
    writer
        .merge_dynamic(&manager, &resource, namespace(said), &series.name, &patch)
        .await?;
    series.count = count;
    series.last = now;
    series.id.clone_from(&said.id);
    Ok(())
}

fn resource() -> ApiResource {
    ApiResource::erase::<Event>(&())
}

fn namespace(said: &EventNote) -> &str {
    said.regarding.namespace.as_deref().unwrap_or("default")
}

/// The object's name and a digest of what is said, so that the same always has the same name.
fn event_name(said: &EventNote) -> String {
    const OBJECT_BYTES_MAX: usize = 200;
    let kind = said.regarding.kind.as_deref().unwrap_or_default();
    let name = said.regarding.name.as_deref().unwrap_or_default();
    let name = clip(name, OBJECT_BYTES_MAX).trim_end_matches(['.', '-']);
    let hex = u128::from_be_bytes(digest(&[&said.id, kind, said.reason]));
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
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use axum::Router;
    use axum::body::to_bytes;
    use axum::extract::Request;
    use axum::response::IntoResponse;
    use http::{Method, StatusCode};
    use serde_json::Value;

    use super::*;
    use crate::cluster::{LeaderGate, connect_plain};

    type Asked = Arc<Mutex<Vec<(Method, String, Value)>>>;

    /// An API server that knows Events by name and keeps what it was asked.
    async fn api() -> (Writer, Asked) {
        let asked = Asked::default();
        let kept = Arc::clone(&asked);
        let router = Router::new().fallback(move |request: Request| {
            let kept = Arc::clone(&kept);
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
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
            asked,
        )
    }

    fn said(id: &str, note: &str) -> EventNote {
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

    fn methods(asked: &Asked) -> Vec<Method> {
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|(method, ..)| method.clone()).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn the_same_note_again_is_counted_and_another_note_is_not_lost() {
        let (writer, asked) = api().await;
        let mut events = Events::new(writer, "pod-1");
        events
            .publish(&said("a", "n1 is silent"), at(0))
            .await
            .unwrap();
        events
            .publish(&said("b", "n1 is silent"), at(60))
            .await
            .unwrap();
        events
            .publish(&said("c", "n2 is silent"), at(61))
            .await
            .unwrap();
        assert_eq!(methods(&asked), [Method::POST, Method::PATCH, Method::POST]);
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, path, first) = &asked[0];
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/agents/events");
        assert_eq!(first["note"], "n1 is silent");
        assert_eq!(first["type"], "Warning");
        assert_eq!(first["regarding"]["uid"], "u");
        assert_eq!(asked[1].2["series"]["count"], 2);
        assert_eq!(asked[2].2["note"], "n2 is silent");
    }

    #[tokio::test]
    async fn what_was_written_before_a_restart_is_not_written_twice() {
        let (writer, asked) = api().await;
        for _ in 0..2 {
            let mut events = Events::new(writer.clone(), "pod-1");
            events.publish(&said("a", "n"), at(0)).await.unwrap();
            events.publish(&said("a", "n"), at(1)).await.unwrap();
        }
        // The second try found it; saying the same id twice in one life asks nobody.
        assert_eq!(methods(&asked), [Method::POST, Method::POST]);
    }

    #[tokio::test]
    async fn after_six_minutes_it_is_a_new_event_and_memory_has_a_bound() {
        let (writer, asked) = api().await;
        let mut events = Events::new(writer, "pod-1");
        events.publish(&said("a", "n"), at(0)).await.unwrap();
        events
            .publish(&said("b", "n"), at(limits::EVENT_SERIES_S))
            .await
            .unwrap();
        assert_eq!(methods(&asked), [Method::POST, Method::POST]);
        for note in 0..=limits::EVENT_SERIES_MAX {
            let said = said(&note.to_string(), &note.to_string());
            events
                .publish(&said, at(limits::EVENT_SERIES_S))
                .await
                .unwrap();
        }
        assert!(events.series.len() <= limits::EVENT_SERIES_MAX);
    }

    #[test]
    fn names_of_events_fit_whatever_the_object_is_called() {
        let mut long = said("a", "n");
        long.regarding.name = Some("a.".repeat(126));
        let name = event_name(&long);
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
        assert_ne!(event_name(&said("a", "n")), event_name(&said("b", "n")));
    }
}
