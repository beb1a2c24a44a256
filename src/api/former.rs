//! Former names of fields of an Incident. Objects that an older version stored keep them until the object is
//! written again, so they are accepted in the schema and read here. They are never written.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Disposition, EvidenceEntry, RestoreEntry};

/// A former name and the name of today.
type Names = [(&'static str, &'static str)];

const EVIDENCE: &Names = &[
    ("node", "observer"),
    ("against", "counterEvidence"),
    ("course", "history"),
];
const DISPOSITION: &Names = &[("by", "decidedBy"), ("why", "justification")];
const RESTORE: &Names = &[("before", "originalValue"), ("set", "appliedValue")];

/// Reads `spec.evidence`. An entry under the former names gives way to one of the same observer and signature.
pub fn evidence<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<EvidenceEntry>, D::Error> {
    let mut values = Vec::<Map<String, Value>>::deserialize(deserializer)?;
    // An entry of an older version has the schema's default for the key that it does not know.
    let is_former =
        |value: &Map<String, Value>| value.get("observer").is_none_or(|name| name == "");
    values.sort_by_key(is_former);
    let mut entries: Vec<EvidenceEntry> = Vec::new();
    for mut value in values {
        let was_former = is_former(&value);
        if was_former {
            value.remove("observer");
        }
        let entry: EvidenceEntry = parsed(value, EVIDENCE)?;
        let is_same = |known: &EvidenceEntry| {
            known.observer == entry.observer && known.signature == entry.signature
        };
        if !(was_former && entries.iter().any(is_same)) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Reads `spec.disposition`.
pub fn disposition<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Disposition>, D::Error> {
    let value = Option::<Map<String, Value>>::deserialize(deserializer)?;
    value.map(|value| parsed(value, DISPOSITION)).transpose()
}

/// Reads `status.restore`.
pub fn restore<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RestoreEntry>, D::Error> {
    let values = Vec::<Map<String, Value>>::deserialize(deserializer)?;
    values
        .into_iter()
        .map(|value| parsed(value, RESTORE))
        .collect()
}

fn parsed<T: DeserializeOwned, E: serde::de::Error>(
    mut value: Map<String, Value>,
    names: &Names,
) -> Result<T, E> {
    for (former, name) in names {
        if let Some(content) = value.remove(*former) {
            // A default of the schema does not override what an older version wrote.
            let is_unset = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
            if value.get(*name).is_none_or(is_unset) {
                value.insert((*name).to_owned(), content);
            }
        }
    }
    T::deserialize(Value::Object(value)).map_err(E::custom)
}

/// Adds the former names to the schema of an Incident: without that the API server cuts them off what is stored.
pub fn accept(incident: &mut JSONSchemaProps) {
    let field =
        |schema: &mut JSONSchemaProps, names: &[&str], change: &dyn Fn(&mut JSONSchemaProps)| {
            let mut at = Some(schema);
            for name in names {
                at = at.and_then(|schema| schema.properties.as_mut()?.get_mut(*name));
            }
            if let Some(schema) = at {
                match &mut schema.items {
                    Some(JSONSchemaPropsOrArray::Schema(items)) => change(items),
                    _ => change(schema),
                }
            }
        };
    field(incident, &["spec", "evidence"], &|entry| {
        add(entry, EVIDENCE);
        require_one(
            entry,
            "self.observer != '' || has(self.node)",
            "observer is required",
        );
        let observer = entry
            .properties
            .as_mut()
            .and_then(|all| all.get_mut("observer"));
        if let Some(observer) = observer {
            // The key of a list must be in every entry, so those of older versions get an empty one.
            observer.default = Some(
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON("".into()),
            );
            observer.min_length = None;
        }
    });
    field(incident, &["spec", "disposition"], &|word| {
        add(word, DISPOSITION);
        require_one(
            word,
            "has(self.decidedBy) || has(self.by)",
            "decidedBy is required",
        );
        require_one(
            word,
            "has(self.justification) || has(self.why)",
            "justification is required",
        );
    });
    field(incident, &["status", "restore"], &|entry| {
        add(entry, RESTORE);
    });
}

fn add(schema: &mut JSONSchemaProps, names: &Names) {
    for (former, name) in names {
        let properties = schema.properties.get_or_insert_default();
        if let Some(mut property) = properties.get(*name).cloned() {
            property.description = Some(format!(
                "The former name of `{name}`: still read, never written."
            ));
            property.default = None;
            properties.insert((*former).to_owned(), property);
        }
        if let Some(required) = &mut schema.required {
            required.retain(|required| required != name);
        }
    }
}

fn require_one(schema: &mut JSONSchemaProps, rule: &str, message: &str) {
    let rules = schema.x_kubernetes_validations.get_or_insert_default();
    rules.push(ValidationRule {
        rule: rule.to_owned(),
        message: Some(message.to_owned()),
        ..ValidationRule::default()
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::Incident;

    fn entry(names: &[(&str, &str)], contacts: i64) -> serde_json::Value {
        let mut entry = json!({
            "signature": "Mining", "severity": "Alert", "score": 1.0, "threshold": 2.0, "contacts": contacts,
            "firstSeen": "2026-01-01T00:00:00Z", "lastSeen": "2026-01-01T00:00:00Z", "summary": "s",
        });
        for (name, value) in names {
            entry[*name] = json!(value);
        }
        entry
    }

    fn incident(evidence: &[serde_json::Value]) -> Incident {
        serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident", "metadata": { "name": "i" },
            "spec": {
                "subject": { "name": "p", "uid": "u", "podIPs": [] },
                "evidence": evidence,
                "disposition": { "verdict": "Release", "by": "ana", "why": "a test" },
            },
            "status": { "restore": [{
                "target": { "apiVersion": "batch/v1", "kind": "Job", "name": "j" },
                "field": "/spec/suspend", "before": false, "set": true,
            }] },
        }))
        .unwrap()
    }

    #[test]
    fn what_an_older_version_stored_is_read() {
        let mut former = entry(&[("node", "n1")], 1);
        former["against"] = json!(["it may be a test"]);
        former["counterEvidence"] = json!([]);
        former["course"] = json!([{ "time": "2026-01-01T00:00:00Z", "contacts": 1, "score": 1.0, "threshold": 2.0 }]);
        let read = incident(&[former]);
        let evidence = &read.spec.evidence[0];
        assert_eq!(evidence.observer, "n1");
        assert_eq!(evidence.counter_evidence, ["it may be a test"]);
        assert_eq!(evidence.history.len(), 1);
        let disposition = read.spec.disposition.as_ref().unwrap();
        assert_eq!(
            (
                disposition.decided_by.as_str(),
                disposition.justification.as_str()
            ),
            ("ana", "a test")
        );
        let restore = &read.status.as_ref().unwrap().restore[0];
        assert_eq!(restore.original_value, Some(json!(false)));
        assert_eq!(restore.applied_value, json!(true));
        let written = serde_json::to_string(&read).unwrap();
        for former in [
            "\"node\":\"n1\"",
            "\"against\"",
            "\"course\"",
            "\"by\"",
            "\"why\"",
            "\"before\"",
            "\"set\"",
        ] {
            assert!(!written.contains(former), "{former} in {written}");
        }
    }

    #[test]
    fn an_entry_of_today_takes_the_place_of_the_former_one_of_its_observer() {
        let former = |node| entry(&[("node", node), ("observer", "")], 1);
        let read = incident(&[former("n1"), entry(&[("observer", "n1")], 2), former("n2")]);
        let found: Vec<_> = read
            .spec
            .evidence
            .iter()
            .map(|entry| (entry.observer.as_str(), entry.contacts))
            .collect();
        assert_eq!(found, [("n1", 2), ("n2", 1)]);
    }
}
