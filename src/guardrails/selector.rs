//! Label selectors: whether they match labels, and whether the API server accepts them.
//!
//! Called by `audit`, `membership` and `ceiling`. Labels are untrusted input and are only compared.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The label that the API server sets on every namespace.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Whether the selector matches. An empty selector matches everything, a requirement with an unknown operator nothing.
#[must_use]
pub(crate) fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|requirement| requirement_matches(requirement, labels))
}

fn requirement_matches(
    requirement: &LabelSelectorRequirement,
    labels: &BTreeMap<String, String>,
) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || {
        value.is_some_and(|value| {
            requirement
                .values
                .iter()
                .flatten()
                .any(|allowed| allowed == value)
        })
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The defect of a selector that the API server would refuse.
#[must_use]
pub(crate) fn defect(selector: &LabelSelector) -> Option<String> {
    selector
        .match_expressions
        .iter()
        .flatten()
        .find_map(|requirement| {
            let has_values = requirement.values.as_ref().is_some_and(|v| !v.is_empty());
            let key = &requirement.key;
            match requirement.operator.as_str() {
                "In" | "NotIn" if !has_values => {
                    Some(format!("the expression on {key} has no values"))
                }
                "Exists" | "DoesNotExist" if has_values => {
                    Some(format!("the expression on {key} must have no values"))
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" => None,
                other => Some(format!("the operator {other} on {key} is unknown")),
            }
        })
}

/// Whether a namespace selector requires a label, and does not select all namespaces or all except some.
#[must_use]
pub(crate) fn picks_by_label(selector: &LabelSelector) -> bool {
    let by_label = selector
        .match_labels
        .as_ref()
        .is_some_and(|l| !l.is_empty());
    by_label
        || selector
            .match_expressions
            .iter()
            .flatten()
            .any(|requirement| match requirement.operator.as_str() {
                "In" => true,
                // Every namespace has this label.
                "Exists" => requirement.key != NAMESPACE_NAME,
                _ => false,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
            match_labels: None,
        }
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(matches(&LabelSelector::default(), &labels(&[])));
    }

    #[test]
    fn each_operator_means_what_kubernetes_means() {
        let pod = labels(&[("app", "agent")]);
        for (key, operator, values, expected) in [
            ("app", "In", &["agent", "x"][..], true),
            ("app", "In", &["x"][..], false),
            ("gone", "In", &["x"][..], false),
            ("app", "NotIn", &["agent"][..], false),
            ("gone", "NotIn", &["x"][..], true),
            ("app", "Exists", &[][..], true),
            ("gone", "Exists", &[][..], false),
            ("app", "DoesNotExist", &[][..], false),
            ("gone", "DoesNotExist", &[][..], true),
            ("app", "Gt", &["1"][..], false),
        ] {
            assert_eq!(
                matches(&expression(key, operator, values), &pod),
                expected,
                "{key} {operator} {values:?}"
            );
        }
    }

    #[test]
    fn labels_and_expressions_must_both_hold() {
        let mut selector = expression("gone", "DoesNotExist", &[]);
        selector.match_labels = Some(labels(&[("app", "agent")]));
        assert!(matches(&selector, &labels(&[("app", "agent")])));
        assert!(!matches(
            &selector,
            &labels(&[("app", "agent"), ("gone", "")])
        ));
        assert!(!matches(&selector, &labels(&[("app", "other")])));
    }

    #[test]
    fn defects_are_reported() {
        assert!(
            defect(&expression("a", "In", &[]))
                .unwrap()
                .contains("has no values")
        );
        assert!(defect(&expression("a", "Exists", &["x"])).is_some());
        assert!(
            defect(&expression("a", "Gt", &["1"]))
                .unwrap()
                .contains("Gt")
        );
        assert_eq!(defect(&expression("a", "In", &["x"])), None);
    }

    #[test]
    fn a_selector_of_all_except_some_does_not_pick_by_label() {
        assert!(!picks_by_label(&LabelSelector::default()));
        assert!(!picks_by_label(&expression("team", "NotIn", &["x"])));
        assert!(!picks_by_label(&expression(NAMESPACE_NAME, "Exists", &[])));
        assert!(picks_by_label(&expression(
            NAMESPACE_NAME,
            "In",
            &["tools"]
        )));
        assert!(picks_by_label(&expression("team", "Exists", &[])));
    }
}
