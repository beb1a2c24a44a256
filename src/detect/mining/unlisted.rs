//! Evaluation of a session with a destination that is on no list.
//!
//! The score is the sum of the families, minus the evidence for an honest session. Called by `mining`.
//!
//! What separates a pool from similar destinations, in order of weight:
//! - *Processors.* A pool session has the same lifetime as a plateau; a queue or a websocket does not start one.
//! - *The name.* Honest clients look up names. An address without a name, if the pod uses names otherwise, is evidence
//!   for a pool; a plain name is evidence against it, although an attacker can buy one.
//! - *Direction.* A metrics pusher sends requests and gets short answers; a pool of processor coins sends jobs. In a
//!   log without names nothing else separates a training run with a tracker from a miner, so such a session is never
//!   more than an alert.
//! - *The location.* Inside a cluster, long sessions with little traffic are normal.
//!
//! Remaining gaps: a miner with a plain name on port 443, or on a port of the web where the log contains no names,
//! leads to an alert and not to a quarantine; one that sends more than it receives there is not detected without
//! accelerator evidence or a list.

use super::compute::Compute;
use crate::detect::context::TrafficContext;
use crate::detect::detection::Detection;
use crate::detect::fusion::{ALERT_NATS, FAMILY_NATS_MAX, clipped, severity_for};
use crate::detect::reported::ReportLevel;
use crate::detect::scan::contacts::Target;
use crate::detect::scope::Scope;
use crate::detect::session::names::NameClass;
use crate::detect::session::{Session, is_web};
use crate::limits;
use crate::model::{BoundedText, Evidence, Example, Outcome, Severity, Signature, duration};

/// From this duration on a session is as long as pool sessions: nine real ones lasted 46 to 1,155 s when their
/// recordings ended, and web requests end much earlier.
const LONG_US: i64 = 300_000_000;

/// A log of packets shows that the session continues, but not how little it carries.
const WITHOUT_VOLUME_SHARE: f64 = 0.8;

/// The share of a shape in pieces.
const PIECES_SHARE: f64 = 0.5;

/// What names and ports add if the destination is on no list, and the maximum of their sum.
const POOL_NAME_NATS: f64 = 4.0;
const POOL_LIKE_NAME_NATS: f64 = 2.0;
const UNNAMED_NATS: f64 = 1.0;
const STRATUM_PORT_NATS: f64 = 3.0;
const UNLISTED_NATS_MAX: f64 = 6.0;

/// Added with a plateau: a pool of a processor coin sends at least twice what it receives, as 6 of 6 recent ones did.
const LED_BY_POOL_NATS: f64 = 1.0;

/// Evidence for an honest session.
const PLAIN_NAME_NATS: f64 = 4.0;
const NO_NAMES_NATS: f64 = 1.0;
const WEB_PORT_NATS: f64 = 1.5;
const OTHER_PORT_NATS: f64 = 1.5;
const SERVICE_PORT_NATS: f64 = 5.0;
const PUSHER_NATS: f64 = 5.0;
const INSIDE_NATS: f64 = 6.0;
const ONE_OF_MANY_NATS: f64 = 3.0;
const MANY_HOSTS_NATS: f64 = 4.0;
const PIECES_NATS: f64 = 3.0;

/// A client that sends more than this multiple of what it receives is pushing data.
const PUSHER_RATIO: u64 = 3;
const PUSHER_RATIO_PER: u64 = 2;

/// Simultaneous sessions of an application; a miner has one, or one for each of two pools.
const MANY_SESSIONS: usize = 3;

/// Hosts on other ports than those of the web; peer-to-peer traffic reaches many.
const MANY_HOSTS: u32 = 24;

/// Connections with a shorter average are keep-alive requests; connections to pools last.
const PIECE_US: i64 = 120_000_000;

/// Ports that pools commonly use and hardly any other software does. Those of Bitcoin (8333), Litecoin (9332) and Dash
/// (9999) are not among them, although lists of ports contain them: see [`NODE_PORTS`].
const STRATUM_PORTS: [u16; 22] = [
    3333, 3334, 3335, 3336, 3357, 4444, 5555, 5556, 5588, 5730, 6666, 7777, 7778, 8899, 13333,
    14433, 14444, 17777, 20535, 45560, 45700, 10128,
];

/// More ports from the public documentation of pools. Other software uses them too, so one alone is no evidence;
/// several of them within an hour are (see `catalogue`).
const MORE_POOL_PORTS: [u16; 36] = [
    1800, 3032, 3256, 3332, 3337, 3338, 3340, 3341, 3344, 3345, 3346, 3347, 3353, 3371, 3533, 4533,
    7007, 7017, 10300, 10343, 12020, 13531, 15433, 15555, 16666, 18888, 20465, 20507, 20536, 20537,
    20555, 20556, 20570, 20580, 45777, 51777,
];

/// Ports on which the nodes of currencies communicate with each other or with users: Bitcoin and its test networks,
/// Litecoin, Dash, Dogecoin, Zcash, Ravencoin, Monero, Ethereum, Kaspa, Lightning. Such sessions are long with little
/// traffic, without any mining.
const NODE_PORTS: [u16; 41] = [
    8332, 8333, 8334, 18332, 18333, 18443, 18444, 38332, 38333, 48332, 48333, 9332, 9333, 19332,
    19333, 19335, 9998, 9999, 19998, 19999, 22555, 22556, 8232, 8233, 18232, 18233, 8766, 8767,
    18080, 18081, 18089, 28080, 28081, 38080, 38081, 30303, 8545, 8546, 16110, 16111, 9735,
];

/// Further ports of web services. Event streams, websockets and long polls are as common there as on the usual ones.
const OTHER_WEB_PORTS: [u16; 22] = [
    81, 591, 2083, 2087, 2096, 3000, 3001, 4200, 4443, 5000, 5001, 5173, 7860, 8001, 8081, 8082,
    8088, 8090, 8501, 9000, 9090, 9443,
];

/// Ports of protocols with long sessions and little traffic: remote shells, mail, name and directory services,
/// databases, queues, telemetry, watches, media relays, virtual networks.
const SERVICE_PORTS: [u16; 44] = [
    22, 25, 53, 88, 123, 143, 179, 389, 465, 587, 636, 853, 873, 993, 995, 1194, 1433, 1521, 1883,
    2049, 2181, 2379, 2380, 3306, 3389, 3478, 4222, 4317, 4318, 5222, 5223, 5228, 5349, 5432, 5671,
    5672, 6379, 6443, 8883, 9092, 9093, 9200, 9300, 27017,
];

/// Whether pools are known to listen on this port.
pub(in crate::detect) fn is_pool_port(port: u16) -> bool {
    STRATUM_PORTS.contains(&port) || MORE_POOL_PORTS.contains(&port)
}

/// Evaluates one session. Returns a detection that is to be reported.
pub(super) fn evaluate(
    session: &Session,
    compute_state: Option<&Compute>,
    context: TrafficContext<'_>,
) -> Option<Detection> {
    let thin = shape_nats(session);
    let disguised = disguised_nats(session);
    if thin.max(disguised) < FAMILY_NATS_MAX / 3.0 {
        return None;
    }
    let (compute, description) = compute(compute_state, session);
    let is_disguised =
        session.is_in_pieces() || compute > FAMILY_NATS_MAX / 2.0 && disguised > thin;
    let shape = if is_disguised { disguised } else { thin };
    let (mut destination, against) = destination_nats(session, context);
    if compute > FAMILY_NATS_MAX / 2.0 && is_led_by_far_side(session) {
        destination += LED_BY_POOL_NATS;
    }
    // The limit of the families holds also if something is subtracted.
    let score = (shape + compute + destination).min(FAMILY_NATS_MAX * 3.0);
    let (mut severity, mut threshold) = severity_for(score)?;
    let mut against = against;
    if severity == Severity::Quarantine && may_be_named_stream(session, context) {
        (severity, threshold) = (Severity::Alert, ALERT_NATS);
        against.push("without its name, an event stream of a web service looks the same");
    }
    if severity == Severity::Quarantine && is_disguised {
        (severity, threshold) = (Severity::Alert, ALERT_NATS);
        against.push("its connections are short, or carry more than those with pools do");
    }
    let contact_count = u64::from(session.connection_count.max(1));
    let word = ReportLevel {
        signature: Signature::Mining,
        severity,
        contact_count,
        score,
    };
    if !context.reported.should_report(word) {
        return None;
    }
    let name = context.names.pool_like_name(session.target.host);
    let summary = summary(session, name, description);
    let example = Example {
        time: session.first,
        destination: session.target.host,
        port: session.target.port,
        transport: session.target.transport,
        outcome: Outcome::Answered,
        name: name.cloned(),
    };
    Some(Detection {
        signature: Signature::Mining,
        severity,
        evidence: Evidence {
            score,
            threshold,
            first: session.first,
            last: session.last,
            contact_count,
            summary: BoundedText::new(&summary),
            examples: vec![example],
            against: against
                .into_iter()
                .take(limits::AGAINST_MAX)
                .map(BoundedText::new)
                .collect(),
        },
    })
}

fn summary(session: &Session, name: Option<&BoundedText>, processors: Option<String>) -> String {
    let destination = describe_destination(session.target, name);
    let covered = duration::rounded(session.covered_us.max(session.padded_us));
    match processors {
        Some(processors) => {
            format!("A steady session with {destination} lasted {covered}. {processors}")
        }
        None => format!(
            "A thin, steady session with {destination} lasted {covered}, as with a mining pool."
        ),
    }
}

/// The nats of the session's shape: the longer the session, the less likely is coincidence.
#[allow(clippy::cast_precision_loss)] // both are below 2^53
pub(super) fn shape_nats(session: &Session) -> f64 {
    let share = session.covered_us.clamp(0, LONG_US) as f64 / LONG_US as f64;
    let known = if session.has_volume {
        1.0
    } else {
        WITHOUT_VOLUME_SHARE
    };
    clipped(FAMILY_NATS_MAX * share * known)
}

/// The nats of the shape of a session that carries filler, or consists of many short connections. Many other sessions
/// look like that, so it is worth half for connections that are too short to be sessions, and an alert at most.
#[allow(clippy::cast_precision_loss)] // both are below 2^53
fn disguised_nats(session: &Session) -> f64 {
    let share = session.padded_us.clamp(0, LONG_US) as f64 / LONG_US as f64;
    let known = if session.has_volume {
        1.0
    } else {
        WITHOUT_VOLUME_SHARE
    };
    let whole = if session.is_in_pieces() {
        PIECES_SHARE
    } else {
        1.0
    };
    clipped(FAMILY_NATS_MAX * share * known * whole)
}

/// The nats of the processors, and their description.
pub(super) fn compute(compute: Option<&Compute>, session: &Session) -> (f64, Option<String>) {
    let (nats, description) = compute.map_or((0.0, None), |compute| compute.nats(session));
    (clipped(nats), description)
}

/// The nats of the destination and of the pod's other traffic, and the evidence against a detection.
fn destination_nats(session: &Session, context: TrafficContext<'_>) -> (f64, Vec<&'static str>) {
    let mut score = DestinationScore::default();
    let (port, host) = (session.target.port, session.target.host);
    let is_inside = context.config.scopes.classify(host) != Scope::Internet;
    let is_stratum = STRATUM_PORTS.contains(&port);
    match context.names.class(host) {
        Some(NameClass::Pool) => score.add(POOL_NAME_NATS),
        Some(NameClass::PoolLike) => score.add(POOL_LIKE_NAME_NATS),
        Some(NameClass::Plain) => score.take(PLAIN_NAME_NATS, "the destination has a plain name"),
        None if is_inside => {}
        None if context.names.are_all_kept() => score.add(UNNAMED_NATS),
        None if context.names.has_any() => {}
        None => score.take(
            NO_NAMES_NATS,
            "the log holds no names, so the destination may have one",
        ),
    }
    if is_stratum {
        score.add(STRATUM_PORT_NATS);
    } else if is_web(port) {
        score.take(WEB_PORT_NATS, "anything can be behind a port of the web");
    } else if NODE_PORTS.contains(&port) {
        score.take(
            SERVICE_PORT_NATS,
            "the port is that of a currency's own nodes, which keep such sessions",
        );
    } else if SERVICE_PORTS.contains(&port) {
        score.take(
            SERVICE_PORT_NATS,
            "the port is that of a service with long sessions",
        );
    } else {
        score.take(OTHER_PORT_NATS, "the port is no usual one of a pool");
    }
    if is_inside {
        score.take(
            INSIDE_NATS,
            "the destination is inside, where such sessions are usual",
        );
    }
    subtract_for_context(session, context, is_stratum, &mut score);
    (
        score.added.min(UNLISTED_NATS_MAX) - score.taken,
        score.against,
    )
}

/// Whether the session may be an event stream, a websocket or a long poll of a web service, and the log does not show
/// the name of the service. Together with a busy processor this is what an agent's own work looks like, so it is not
/// enough for an action. Only if all names of the pod are known is a missing name evidence.
fn may_be_named_stream(session: &Session, context: TrafficContext<'_>) -> bool {
    let target = session.target;
    let is_web_like = is_web(target.port) || OTHER_WEB_PORTS.contains(&target.port);
    let is_nameless = context.names.class(target.host).is_none() && !context.names.are_all_kept();
    is_web_like && is_nameless
}

fn is_led_by_far_side(session: &Session) -> bool {
    let volume = session.volume();
    session.has_volume && volume.bytes_in >= volume.bytes_out.saturating_mul(2)
}

fn subtract_for_context(
    session: &Session,
    context: TrafficContext<'_>,
    is_stratum: bool,
    score: &mut DestinationScore,
) {
    let volume = session.volume();
    let (out, back) = (volume.bytes_out, volume.bytes_in);
    if session.has_volume
        && out.saturating_mul(PUSHER_RATIO_PER) > back.saturating_mul(PUSHER_RATIO)
    {
        // Pools of memory-hard accelerator coins receive more than they send; clients that push data use no such port.
        if !is_stratum {
            score.take(PUSHER_NATS, "it sends more than it gets, as telemetry does");
        }
    }
    let at_once = context
        .sessions
        .iter()
        .filter(|other| other.covered_us >= PIECE_US && other.overlaps(session))
        .count();
    if at_once >= MANY_SESSIONS {
        score.take(
            ONE_OF_MANY_NATS,
            "it is one of many such sessions at a time",
        );
    }
    if context.sessions.host_count() >= MANY_HOSTS {
        score.take(
            MANY_HOSTS_NATS,
            "the pod reaches many hosts, as peer-to-peer clients do",
        );
    }
    let pieces = i64::from(session.connection_count.max(1));
    if pieces > 1 && session.covered_us / pieces < PIECE_US {
        score.take(
            PIECES_NATS,
            "its connections are short, as kept-alive requests are",
        );
    }
}

/// Nats for and against mining.
#[derive(Debug, Default)]
struct DestinationScore {
    added: f64,
    taken: f64,
    against: Vec<&'static str>,
}

impl DestinationScore {
    fn add(&mut self, nats: f64) {
        self.added += nats;
    }

    fn take(&mut self, nats: f64, why: &'static str) {
        self.taken += nats;
        self.against.push(why);
    }
}

fn describe_destination(target: Target, name: Option<&BoundedText>) -> String {
    let address = format!("{} port {}", target.host, target.port);
    match name {
        Some(name) => format!("{} ({address})", crate::model::clip(name.as_str(), 80)),
        None => address,
    }
}
