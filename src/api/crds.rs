//! The CustomResourceDefinitions as objects and as YAML. `yellowjack crds` prints them; a test
//! compares them with `crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{AgentRun, GuardrailPolicy, Incident};

/// All CRDs, in the order in which a reader meets them.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![AgentRun::crd(), GuardrailPolicy::crd(), Incident::crd()]
}

/// One CRD as YAML.
///
/// serde-saphyr quotes every word that other YAML readers take for a boolean or a date, which the
/// unmaintained libraries do not (docs/decisions/0002-yaml.md).
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(crd)
}
