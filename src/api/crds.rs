//! The CustomResourceDefinitions as objects and as YAML. `yellowjack crds` prints them; a test
//! compares them with `crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::{AgentRun, ContactReport, GuardrailPolicy, Incident, former};

/// All CRDs, in the order in which a reader meets them.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        AgentRun::crd(),
        GuardrailPolicy::crd(),
        Incident::crd(),
        ContactReport::crd(),
    ];
    for crd in &mut crds {
        let is_incident = crd.spec.names.kind == "Incident";
        let versions = crd.spec.versions.iter_mut();
        for schema in versions.filter_map(|version| version.schema.as_mut()) {
            if let Some(root) = &mut schema.open_api_v3_schema {
                forbid_null(root);
                if is_incident {
                    former::accept(root);
                }
            }
        }
    }
    crds
}

/// Takes `nullable` away everywhere. The derive sets it on every optional field, and CEL's `has`
/// is true for a null: `cidr: null` would count as the one destination of a rule that has none.
fn forbid_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        forbid_null(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        forbid_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        forbid_null(values);
    }
}

/// One CRD as YAML.
///
/// serde-saphyr quotes every word that other YAML readers take for a boolean or a date, which the
/// unmaintained libraries do not (docs/decisions/0002-yaml.md).
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(crd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undescribed(schema: &JSONSchemaProps, path: &str, into: &mut Vec<String>) {
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            if property
                .description
                .as_deref()
                .unwrap_or_default()
                .is_empty()
            {
                into.push(path.clone());
            }
            undescribed(property, &path, into);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            undescribed(items, &format!("{path}[]"), into);
        }
    }

    #[test]
    fn every_field_has_a_description_for_kubectl_explain() {
        let mut missing = Vec::new();
        for crd in all() {
            for version in &crd.spec.versions {
                let schema = version
                    .schema
                    .as_ref()
                    .and_then(|s| s.open_api_v3_schema.as_ref());
                undescribed(schema.unwrap(), &crd.spec.names.kind, &mut missing);
            }
        }
        assert!(missing.is_empty(), "without a description: {missing:#?}");
    }
}
