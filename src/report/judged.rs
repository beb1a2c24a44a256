//! What was seen and why that is a finding, in plain words; techniques.

use super::clean;
use super::story::{Contact, CoursePoint, Judgement, Moment, Technique};
use crate::api::{EvidenceEntry, ExampleFlow, Incident};
use crate::limits;
use crate::model::{Severity, Signature};

/// The entry that says most: a quarantine before an alert, then the one farthest over its line.
pub(super) fn worst(incident: &Incident) -> Option<&EvidenceEntry> {
    let rank = |entry: &EvidenceEntry| {
        (
            entry.severity == Severity::Quarantine.name(),
            entry.score / entry.threshold,
        )
    };
    incident.spec.evidence.iter().max_by(|a, b| {
        let ((a_severe, a_over), (b_severe, b_over)) = (rank(a), rank(b));
        a_severe.cmp(&b_severe).then(a_over.total_cmp(&b_over))
    })
}

/// All entries, the worst first.
pub(super) fn judgements(incident: &Incident) -> Vec<Judgement> {
    let entries = incident
        .spec
        .evidence
        .iter()
        .take(limits::REPORT_EVIDENCE_MAX);
    let mut judgements: Vec<_> = entries.map(judgement).collect();
    judgements.sort_by(|a, b| {
        let rank = |one: &Judgement| one.severity == Severity::Quarantine.name();
        rank(b)
            .cmp(&rank(a))
            .then((b.score / b.threshold).total_cmp(&(a.score / a.threshold)))
    });
    judgements
}

fn judgement(entry: &EvidenceEntry) -> Judgement {
    let point = |point: &crate::api::CoursePoint| CoursePoint {
        time: Moment::new(point.time.0),
        score: finite(point.score),
        threshold: finite(point.threshold),
        contacts: point.contacts,
    };
    let mut course: Vec<_> = entry
        .course
        .iter()
        .take(limits::COURSE_MAX)
        .map(point)
        .collect();
    course.sort_by_key(|point| point.time);
    Judgement {
        node: clean(&entry.node),
        signature: clean(&entry.signature),
        title: Signature::from_name(&entry.signature).map_or_else(
            || clean(&entry.signature),
            |signature| title(signature).to_owned(),
        ),
        severity: clean(&entry.severity),
        observe_only: entry.observe_only,
        score: finite(entry.score),
        threshold: finite(entry.threshold),
        first: Moment::new(entry.first_seen.0),
        last: Moment::new(entry.last_seen.0),
        contacts: entry.contacts,
        summary: clean(&entry.summary),
        why: why(entry),
        against: entry
            .against
            .iter()
            .take(limits::AGAINST_MAX)
            .map(|text| clean(text))
            .collect(),
        course,
        examples: entry
            .examples
            .iter()
            .take(limits::EXAMPLES_MAX)
            .map(contact)
            .collect(),
    }
}

/// JSON has no infinity, and neither has a plot.
const fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}

fn contact(example: &ExampleFlow) -> Contact {
    let protocol = clean(&example.protocol);
    Contact {
        time: Moment::new(example.time.0),
        address: clean(&example.destination),
        name: example.name.as_deref().map(clean),
        service: if example.port == 0 {
            protocol
        } else {
            format!("{protocol}/{}", example.port)
        },
        outcome: outcome(&example.outcome),
    }
}

fn outcome(name: &str) -> String {
    match name {
        "Unseen" => "not in the log".to_owned(),
        "NotAnAttempt" => "no attempt".to_owned(),
        other => clean(other).to_lowercase(),
    }
}

/// Whether a contact came to nothing.
pub(super) fn has_failed(contact: &Contact) -> bool {
    ["refused", "unanswered", "denied"].contains(&contact.outcome.as_str())
}

const fn title(signature: Signature) -> &'static str {
    match signature {
        Signature::HorizontalScan => "Scan of one port over many hosts",
        Signature::VerticalScan => "Scan of many ports of one host",
        Signature::Mining => "Mining",
        Signature::ReverseTunnel => "Reverse tunnel",
        Signature::DnsTunnel => "Tunnel through DNS",
        Signature::TunnelService => "Tunnel service",
    }
}

/// What a pod did, after its name.
pub(super) fn deed(signature: &str) -> &'static str {
    match Signature::from_name(signature) {
        Some(Signature::HorizontalScan) => "scanned one port over many hosts",
        Some(Signature::VerticalScan) => "scanned many ports of one host",
        Some(Signature::Mining) => "behaved as a miner does",
        Some(Signature::ReverseTunnel) => "held a session that looks like a reverse tunnel",
        Some(Signature::DnsTunnel) => "sent names that look like a tunnel through DNS",
        Some(Signature::TunnelService) => "contacted a tunnel service",
        None => "did something that this version does not know",
    }
}

/// Why that is a finding. docs/detection.md says the same at length.
fn why(entry: &EvidenceEntry) -> Vec<String> {
    let over = entry.score - entry.threshold;
    let is_quarantine = entry.severity == Severity::Quarantine.name();
    let line = if is_quarantine { "quarantine" } else { "alert" };
    let mut sentences = match Signature::from_name(&entry.signature) {
        Some(Signature::HorizontalScan | Signature::VerticalScan) => vec![
            "Agents ask for names and mostly reach what they ask for. A scanner goes down a list of addresses, and most of them fail. Each first contact that fails without a name makes a scan 1.8 times as likely as an honest pod; one that is answered makes it 5 times less likely.".to_owned(),
        ],
        Some(Signature::Mining) => vec![
            "Three families of evidence are added up, each capped so that none acts alone: where the pod connects to, the shape of the session, and what its processors do.".to_owned(),
        ],
        Some(Signature::ReverseTunnel) => vec![
            "The pod opened a long session in which the far side talks like a client: short turns from outside, longer ones from the pod.".to_owned(),
        ],
        Some(Signature::DnsTunnel) => vec![
            "The names that the pod asked of one domain hold more distinct bytes than names need: that is how data is carried in them.".to_owned(),
        ],
        Some(Signature::TunnelService) => {
            vec!["The pod contacted a name that stands on your list of tunnel services.".to_owned()]
        }
        None => Vec::new(),
    };
    if over.is_finite() && entry.threshold > 0.0 {
        let share = over / entry.threshold * 100.0;
        sentences.push(format!(
            "The evidence adds up to {:.1} nats; the {line} line is {:.1}, so it is {over:.1} ({share:.0} %) over.",
            entry.score, entry.threshold
        ));
    }
    let is_scan = entry.signature.ends_with("Scan");
    if is_scan && is_quarantine && (1.0..40.0).contains(&entry.threshold) {
        sentences.push(format!(
            "An honest pod, half of whose contacts succeed independently, crosses this line at most once in {} contacts.",
            grouped(entry.threshold.exp())
        ));
    }
    if entry.observe_only {
        sentences
            .push("The mode is Observe: with Enforce the response would have begun.".to_owned());
    }
    sentences
}

/// A large number in words that one can read: two digits that count.
fn grouped(number: f64) -> String {
    let scales = [
        (1e15, "million billion"),
        (1e12, "trillion"),
        (1e9, "billion"),
        (1e6, "million"),
        (1e3, "thousand"),
    ];
    let scale = scales.into_iter().find(|(least, _)| number >= *least);
    scale.map_or_else(
        || format!("{number:.0}"),
        |(least, word)| format!("{:.0} {word}", number / least),
    )
}

/// What the Incident names, and what follows from the signatures.
pub(super) fn techniques(incident: &Incident) -> Vec<Technique> {
    let named = incident
        .status
        .iter()
        .flat_map(|status| &status.techniques)
        .map(|id| clean(id));
    let signatures = incident
        .spec
        .evidence
        .iter()
        .filter_map(|entry| Signature::from_name(&entry.signature));
    let follow =
        signatures.flat_map(|signature| signature.techniques().iter().map(|id| (*id).to_owned()));
    let mut ids: Vec<String> = Vec::new();
    for id in named.chain(follow).take(limits::REPORT_EVIDENCE_MAX) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.into_iter().map(technique).collect()
}

fn technique(id: String) -> Technique {
    let name = match id.as_str() {
        "T1046" => Some("Network Service Discovery"),
        "T1496.001" => Some("Resource Hijacking: Compute Hijacking"),
        "AML.T0034.002" => Some("Cost Harvesting: Agentic Resource Consumption"),
        "T1572" => Some("Protocol Tunneling"),
        "T1071.004" => Some("Application Layer Protocol: DNS"),
        "T1090.002" => Some("Proxy: External Proxy"),
        _ => None,
    };
    // Only what is known here becomes an address: the rest is text of whoever wrote the status.
    let address = name.map(|_| {
        if id.starts_with("AML.") {
            format!("https://atlas.mitre.org/techniques/{id}")
        } else {
            format!(
                "https://attack.mitre.org/techniques/{}/",
                id.replace('.', "/")
            )
        }
    });
    Technique {
        id,
        name: name.map(str::to_owned),
        address,
    }
}
