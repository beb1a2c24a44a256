//! What a human writes into an Incident.

use serde_json::{Value, json};

/// A merge patch with the decision of a human: `Release`, `Confirm` or `Terminate`.
#[must_use]
pub fn disposition(verdict: &str) -> Value {
    json!({ "spec": { "disposition": {
        "verdict": verdict,
        "decidedBy": "ana@example.com",
        "justification": "a port check of our own",
    }}})
}
