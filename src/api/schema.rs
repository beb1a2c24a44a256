//! Schema parts that the derive cannot express: list maps, quantities, times, free-form objects.
//!
//! Used by the API types only, through `schemars(schema_with)`.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A list of metav1.Condition, keyed by type.
pub fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let condition =
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "items": condition,
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// Amounts by resource name, as in a ResourceQuota.
pub fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "type": "string",
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][0-9]+)?$",
        },
    })
}

/// Times by name.
pub fn times(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "format": "date-time" },
    })
}

/// Labels or annotations.
pub fn string_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 1024 },
    })
}

/// A pod spec, kept exactly as it was written: a typed copy would silently drop every field that
/// is newer than this build. The API server validates it when the Job is created. The fields that
/// rules use must be declared, because CEL sees no others.
pub fn pod_spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["containers"],
        "properties": {
            "containers": {
                "description": "The containers, as in a Job.",
                "type": "array",
                "minItems": 1,
                "maxItems": 64,
                "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            },
            "hostNetwork": {
                "description": "Refused where true: no network policy holds such a pod.",
                "type": "boolean",
            },
            "restartPolicy": {
                "description": "What happens when a container ends. Left out, Never.",
                "type": "string",
                "enum": ["Never", "OnFailure"],
            },
        },
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Any JSON object, kept as it was.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Any JSON value, kept for restoring a field exactly as it was.
pub fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}
