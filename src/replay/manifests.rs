//! Manifests: the GuardrailPolicies and AgentRuns of a YAML file, as users apply them.
//!
//! Called by `setup` for `--policy`. Strict, because with a field that is ignored silently a replay would
//! promise what the operator does not do: unknown fields, kinds and versions of Yellowjack's API group are
//! errors with what was wanted, what was found, and what to do.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ReplayError;
use super::setup_file::read_text;
use crate::api::{AgentRunSpec, GROUP, GuardrailPolicySpec, Mode, VERSION};
use crate::limits;

/// The objects of a file, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Manifests {
    pub(super) policies: BTreeMap<String, GuardrailPolicySpec>,
    pub(super) runs: BTreeMap<String, AgentRunSpec>,
}

impl Manifests {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, ReplayError> {
        let text = read_text("policy", path)?;
        Self::parse(&text).map_err(|fault| ReplayError::Policy {
            path: path.to_owned(),
            fault,
        })
    }

    /// Parses YAML documents. The error is a message for the user.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text)
            .map_err(|error| format!("wanted YAML, found: {error}"))?;
        if documents.len() > limits::MANIFESTS_MAX {
            return Err(format!(
                "wanted at most {} documents, found {}",
                limits::MANIFESTS_MAX,
                documents.len()
            ));
        }
        let mut manifests = Self::default();
        for (index, document) in documents.iter().enumerate() {
            manifests
                .add(document)
                .map_err(|fault| format!("document {}: {fault}", index + 1))?;
        }
        if manifests.policies.is_empty() && manifests.runs.is_empty() {
            return Err(format!(
                "wanted a GuardrailPolicy or an AgentRun of {GROUP}/{VERSION}, found none; hint: give the file that you apply with kubectl"
            ));
        }
        Ok(manifests)
    }

    fn add(&mut self, document: &Value) -> Result<(), String> {
        let word = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let (api, kind) = (
            word("/apiVersion").unwrap_or_default(),
            word("/kind").unwrap_or_default(),
        );
        if api.split('/').next() != Some(GROUP) {
            // Applied files have other objects too, but all of them have a kind.
            return if kind.is_empty() && !document.is_null() {
                Err("wanted a Kubernetes object, found one without kind; hint: a policy is written as for kubectl, with apiVersion, kind, metadata and spec".to_owned())
            } else {
                Ok(())
            };
        }
        if api != format!("{GROUP}/{VERSION}") {
            return Err(format!("wanted {GROUP}/{VERSION}, found {api}"));
        }
        let name = word("/metadata/name").ok_or("wanted metadata.name, found none")?;
        let empty = Value::Object(serde_json::Map::new());
        let spec = document.get("spec").unwrap_or(&empty);
        let is_known = match kind {
            "GuardrailPolicy" => {
                let spec = read_strictly(spec)?;
                check_policy(&spec)?;
                self.policies.insert(name.to_owned(), spec).is_some()
            }
            "AgentRun" => {
                let spec = read_strictly(spec)?;
                self.runs.insert(name.to_owned(), spec).is_some()
            }
            _ => {
                return Err(format!(
                    "wanted kind GuardrailPolicy or AgentRun, found {kind}"
                ));
            }
        };
        if is_known {
            return Err(format!(
                "found a second {kind} of the name {name}; hint: a name means one object in a replay, whatever its namespace"
            ));
        }
        Ok(())
    }
}

/// Checks the validation rule of the CRD that is about modes. Its other rules are about parts that a replay
/// does not use.
fn check_policy(policy: &GuardrailPolicySpec) -> Result<(), String> {
    let detection = &policy.detection;
    let modes = serde_json::to_value(&detection.modes).unwrap_or_default();
    for (signature, mode) in modes.as_object().into_iter().flatten() {
        let Ok(mode) = serde_json::from_value::<Mode>(mode.clone()) else {
            continue; // it came from a mode
        };
        if mode < detection.minimum {
            return Err(format!(
                "spec.detection.modes.{signature}: wanted the minimum {:?} or a stricter mode, found {mode:?}; hint: set spec.detection.minimum too",
                detection.minimum
            ));
        }
    }
    Ok(())
}

/// Parses `given`, and refuses fields that the type does not have.
fn read_strictly<T: DeserializeOwned + Serialize>(given: &Value) -> Result<T, String> {
    let spec: T = serde_json::from_value(given.clone()).map_err(|error| {
        let place = invalid_field::<T>(given).map_or_else(|| "spec".to_owned(), |at| format!("spec{at}"));
        let error = error.to_string();
        let hint = if error.contains("boolean") {
            "; hint: YAML reads the words on, off, yes and no as booleans, a mode is Disabled, Observe or Enforce"
        } else {
            ""
        };
        format!("{}: {error}{hint}", place.replace('/', "."))
    })?;
    let known = serde_json::to_value(&spec).unwrap_or_default();
    match unknown_field(given, &known) {
        None => Ok(spec),
        Some(at) => Err(format!(
            "spec{}: wanted a field of the API, found an unknown one; hint: compare it with `yellowjack crds`",
            at.replace('/', ".")
        )),
    }
}

/// The field without which the rest can be parsed.
fn invalid_field<T: DeserializeOwned>(given: &Value) -> Option<String> {
    let leaf = |value: &Value| !value.is_object();
    pointers(given).into_iter().find(|pointer| {
        let Some((parent, key)) = pointer.rsplit_once('/') else {
            return false;
        };
        if !given.pointer(pointer).is_some_and(leaf) {
            return false;
        }
        let mut rest = given.clone();
        let parent = rest.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.is_some_and(|parent| parent.remove(key).is_some())
            && serde_json::from_value::<T>(rest).is_ok()
    })
}

/// The first field of `given` that is not in `known`. Empty values are ignored.
fn unknown_field(given: &Value, known: &Value) -> Option<String> {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    pointers(given).into_iter().find(|pointer| {
        given.pointer(pointer).is_some_and(is_set) && known.pointer(pointer).is_none()
    })
}

/// The pointers to all parts of a value, parents first.
fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            fields
                .iter()
                .map(|(key, child)| (escaped(key), child))
                .collect()
        }
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered
                .map(|(index, child)| (index.to_string(), child))
                .collect()
        }
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (key, child) in children {
        all.push(format!("/{key}"));
        all.extend(
            pointers(child)
                .into_iter()
                .map(|below| format!("/{key}{below}")),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "apiVersion: yellowjack.dev/v1alpha1\nkind: AgentRun\nmetadata: {name: crawl}\nspec:\n  target: {selector: {matchLabels: {app: crawl}}}\n";

    fn fault(text: &str) -> String {
        Manifests::parse(text).unwrap_err()
    }

    #[test]
    fn a_file_is_read_as_it_is_applied_and_other_kinds_are_ignored() {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: rl}}\n---\n{RUN}  detection: {{profile: Crawler}}\n---\napiVersion: yellowjack.dev/v1alpha1\nkind: GuardrailPolicy\nmetadata: {{name: default}}\n"
        );
        let manifests = Manifests::parse(&text).unwrap();
        assert_eq!(manifests.runs.keys().collect::<Vec<_>>(), ["crawl"]);
        assert!(manifests.policies.contains_key("default"));
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let fault = fault(&format!("{RUN}  detecton: {{profile: Crawler}}\n"));
        assert!(fault.contains("document 1: spec.detecton"), "{fault}");
        assert!(fault.contains("hint:"), "{fault}");
    }

    #[test]
    fn an_invalid_value_is_named_with_its_field_and_the_valid_ones() {
        for word in ["Loud", "Off"] {
            let fault = fault(&format!("{RUN}  detection: {{modes: {{scan: {word}}}}}\n"));
            for part in ["spec.detection.modes.scan", "Disabled", "Observe"] {
                assert!(fault.contains(part), "{fault}");
            }
        }
    }

    #[test]
    fn other_objects_are_refused_with_what_was_found() {
        for (text, part) in [
            ("a: [", "wanted YAML"),
            ("scan: Observe\n", "without kind"),
            ("apiVersion: v1\nkind: Pod\n", "found none"),
            (
                "apiVersion: yellowjack.dev/v2\nkind: AgentRun\n",
                "found yellowjack.dev/v2",
            ),
            (
                "apiVersion: yellowjack.dev/v1alpha1\nkind: Incident\nmetadata: {name: a}\n",
                "found Incident",
            ),
            (
                "apiVersion: yellowjack.dev/v1alpha1\nkind: AgentRun\n",
                "metadata.name",
            ),
            (
                "apiVersion: yellowjack.dev/v1alpha1\nkind: GuardrailPolicy\nmetadata: {name: a}\nspec: {detection: {modes: {scan: Disabled}}}\n",
                "wanted the minimum Observe",
            ),
        ] {
            let fault = fault(text);
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
