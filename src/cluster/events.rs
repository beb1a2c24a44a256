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

use super::write::{FieldManager, WriteError, Writer};
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
    pub async fn publish(&mut self, said: &EventNote, now: Timestamp) -> Result<(), WriteError> {
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
            if !matches!(counted, Err(WriteError::NotFound(_))) {
                return counted;
            }
            // It has expired meanwhile.
        }
        let name = event_name(said);
        match self.create(said, &name, now).await {
            Ok(()) | Err(WriteError::Conflict(_)) => {}
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

    async fn create(&self, said: &EventNote, name: &str, now: Timestamp) -> Result<(), WriteError> {
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
) -> Result<(), WriteError> {
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
    let hex: String = digest(&[&said.id, kind, said.reason])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{name}.{hex}")
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
