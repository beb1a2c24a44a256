//! Explains the evidence: what was observed and why it is a finding. Lists techniques.

use super::clean;
use super::story::{Contact, CoursePoint, Moment, ReportedFinding, Technique};
use crate::api::{EvidenceEntry, ExampleFlow, Incident};
use crate::limits;
use crate::model::{Severity, Signature};

/// The strongest entry: a quarantine before an alert, then the one with the largest ratio of score to threshold.
pub(super) fn strongest(incident: &Incident) -> Option<&EvidenceEntry> {
    let rank = |entry: &EvidenceEntry| {
        (
            entry.severity == Severity::Quarantine,
            entry.score / entry.threshold,
        )
    };
    incident.spec.evidence.iter().max_by(|a, b| {
        let ((a_severe, a_over), (b_severe, b_over)) = (rank(a), rank(b));
        a_severe.cmp(&b_severe).then(a_over.total_cmp(&b_over))
    })
}

/// All entries, strongest first.
pub(super) fn findings(incident: &Incident) -> Vec<ReportedFinding> {
    let entries = incident
        .spec
        .evidence
        .iter()
        .take(limits::REPORT_EVIDENCE_MAX);
    let mut findings: Vec<_> = entries.map(finding).collect();
    findings.sort_by(|a, b| {
        let rank = |one: &ReportedFinding| one.severity == Severity::Quarantine.name();
        rank(b)
            .cmp(&rank(a))
            .then((b.score / b.threshold).total_cmp(&(a.score / a.threshold)))
    });
    findings
}

fn finding(entry: &EvidenceEntry) -> ReportedFinding {
    let point = |point: &crate::api::HistoryPoint| CoursePoint {
        time: Moment::new(point.time.0),
        score: finite(point.score),
        threshold: finite(point.threshold),
        contacts: point.contacts,
    };
    let mut course: Vec<_> = entry
        .history
        .iter()
        .take(limits::COURSE_MAX)
        .map(point)
        .collect();
    course.sort_by_key(|point| point.time);
    ReportedFinding {
        node: clean(&entry.observer),
        signature: clean(&entry.signature),
        title: Signature::from_name(&entry.signature).map_or_else(
            || clean(&entry.signature),
            |signature| title(signature).to_owned(),
        ),
        severity: entry.severity.name().to_owned(),
        observe_only: entry.observe_only,
        score: finite(entry.score),
        threshold: finite(entry.threshold),
        first: Moment::new(entry.first_seen.0),
        last: Moment::new(entry.last_seen.0),
        contacts: entry.contacts,
        summary: clean(&entry.summary),
        why: why(entry),
        against: entry
            .counter_evidence
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

/// JSON and plots have no infinity.
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
        "NotAnAttempt" | "Established" => "no attempt".to_owned(),
        other => clean(other).to_lowercase(),
    }
}

/// Whether a contact was refused, denied or not answered.
pub(super) fn is_failed(contact: &Contact) -> bool {
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

/// What the pod did, as the predicate of a sentence about it.
pub(super) fn behavior_of(signature: &str) -> &'static str {
    match Signature::from_name(signature) {
        Some(Signature::HorizontalScan) => "scanned one port over many hosts",
        Some(Signature::VerticalScan) => "scanned many ports of one host",
        Some(Signature::Mining) => "behaved like a miner",
        Some(Signature::ReverseTunnel) => "held a session that looks like a reverse tunnel",
        Some(Signature::DnsTunnel) => "sent names that look like a tunnel through DNS",
        Some(Signature::TunnelService) => "contacted a tunnel service",
        None => "did something that this version does not recognize",
    }
}

/// Why the evidence is a finding. docs/detection.md explains it in detail.
fn why(entry: &EvidenceEntry) -> Vec<String> {
    let over = entry.score - entry.threshold;
    let is_quarantine = entry.severity == Severity::Quarantine;
    let line = if is_quarantine { "quarantine" } else { "alert" };
    let mut sentences = match Signature::from_name(&entry.signature) {
        Some(Signature::HorizontalScan | Signature::VerticalScan) => vec![
            "Agents look up names and mostly reach the addresses. A scanner tries a list of addresses, and most attempts fail. Each first contact that fails without a DNS name makes a scan 1.8 times as likely as an honest pod; one that is answered makes it 5 times less likely.".to_owned(),
        ],
        Some(Signature::Mining) => vec![
            "Three kinds of evidence are added up, each capped so that none leads to an action alone: where the pod connects to, the shape of the session, and the use of its processors.".to_owned(),
        ],
        Some(Signature::ReverseTunnel) => vec![
            "The pod opened a long session in which the remote side behaves like a client: short messages from outside, longer ones from the pod.".to_owned(),
        ],
        Some(Signature::DnsTunnel) => vec![
            "The names that the pod looked up in one domain contain more distinct bytes than names need, as names that carry data do.".to_owned(),
        ],
        Some(Signature::TunnelService) => {
            vec!["The pod contacted a name on your list of tunnel services.".to_owned()]
        }
        None => Vec::new(),
    };
    if over.is_finite() && entry.threshold > 0.0 {
        let share = over / entry.threshold * 100.0;
        sentences.push(format!(
            "The evidence adds up to {:.1} nats; the {line} threshold is {:.1}, so it is {over:.1} ({share:.0} %) over.",
            entry.score, entry.threshold
        ));
    }
    let is_scan = entry.signature.ends_with("Scan");
    if is_scan && is_quarantine && (1.0..40.0).contains(&entry.threshold) {
        sentences.push(format!(
            "An honest pod crosses this threshold at most once in {} contacts if half of its contacts succeed independently.",
            grouped(entry.threshold.exp())
        ));
    }
    if entry.observe_only {
        sentences
            .push("The mode is Observe: with Enforce the response would have started.".to_owned());
    }
    sentences
}

/// A large number in words, with two significant digits.
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

/// The techniques in the Incident, and those of its signatures.
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
    // Only known techniques get an address. Other ids are text that any writer of the status may have chosen.
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
