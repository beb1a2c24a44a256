//! Judgement of a session whose destination is on no list.
//!
//! The sum is that of the families, less what speaks for an honest session. Called by `mining`.
//!
//! What separates a pool from its look-alikes, in the order of weight:
//! - *Processors.* A pool session lives with a plateau; a queue or a websocket does not start one.
//! - *The name.* Honest clients look names up. A bare address while the pod uses names elsewhere
//!   speaks for a pool; a plain name against it, though an attacker can buy one.
//! - *Who speaks more.* A metrics pusher sends requests and gets short answers; a pool of
//!   processor coins sends jobs. That is the only thing that tells a training run with a tracker
//!   from a miner in a log without names, so such a session is never more than an alert.
//! - *The place.* Inside a cluster, long thin sessions are the rule.
//!
//! What remains: a miner that buys a plain name on port 443, or uses a port of the web where the log
//! holds no names, is an alert, not a quarantine; one
//! that sends more than it gets there is not found without accelerator evidence or a list.

use super::super::contacts::Target;
use super::super::fusion::{ALERT_NATS, FAMILY_NATS_MAX, clipped, ruling};
use super::super::names::NameClass;
use super::super::scan::Crossing;
use super::super::scope::Scope;
use super::super::session::{Session, is_web};
use super::super::told::Word;
use super::Around;
use super::compute::Compute;
use crate::limits;
use crate::model::{BoundedText, Evidence, Example, Outcome, Severity, Signature, duration};

/// From here on a session is as long as sessions with pools are: nine real ones lasted 46 to
/// 1,155 s when their recordings ended, and web requests are over long before.
const LONG_US: i64 = 300_000_000;

/// A log of packets shows that the session goes on, not how thin it is.
const WITHOUT_VOLUME_SHARE: f64 = 0.8;

/// What names and ports add where no list speaks, and the most that they add together.
const POOL_NAME_NATS: f64 = 4.0;
const POOL_LIKE_NAME_NATS: f64 = 2.0;
const UNNAMED_NATS: f64 = 1.0;
const STRATUM_PORT_NATS: f64 = 3.0;
const UNLISTED_NATS_MAX: f64 = 6.0;

/// With a plateau: a pool of a processor coin sends twice what it gets at least, 6 of 6 recent ones.
const LED_BY_POOL_NATS: f64 = 1.0;

/// What speaks for an honest session.
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

/// A client that sends more than this many times what it gets is pushing.
const PUSHER_RATIO: u64 = 3;
const PUSHER_RATIO_PER: u64 = 2;

/// Sessions at once of an application; a miner has one, or one for each of two pools.
const MANY_SESSIONS: usize = 3;

/// Hosts on other ports than the web's, of which peer-to-peer traffic reaches many.
const MANY_HOSTS: u32 = 24;

/// Connections shorter than this on average are kept-alive requests; pools keep theirs.
const PIECE_US: i64 = 120_000_000;

/// Ports that pools commonly list and that hardly anything else uses. Bitcoin's own (8333), Litecoin's
/// (9332) and Dash's (9999) are not among them, whatever lists of ports say: see [`NODE_PORTS`].
const STRATUM_PORTS: [u16; 22] = [
    3333, 3334, 3335, 3336, 3357, 4444, 5555, 5556, 5588, 5730, 6666, 7777, 7778, 8899, 13333,
    14433, 14444, 17777, 20535, 45560, 45700, 10128,
];

/// More ports that pools have in their public documentation. Other software uses them too, so one alone
/// says nothing; several of them within an hour do (see `catalogue`).
const MORE_POOL_PORTS: [u16; 36] = [
    1800, 3032, 3256, 3332, 3337, 3338, 3340, 3341, 3344, 3345, 3346, 3347, 3353, 3371, 3533, 4533,
    7007, 7017, 10300, 10343, 12020, 13531, 15433, 15555, 16666, 18888, 20465, 20507, 20536, 20537,
    20555, 20556, 20570, 20580, 45777, 51777,
];

/// Ports on which the nodes of currencies talk to each other or answer their users: Bitcoin and its
/// test networks, Litecoin, Dash, Dogecoin, Zcash, Ravencoin, Monero, Ethereum, Kaspa, Lightning. Such
/// sessions are long and thin without any mining.
const NODE_PORTS: [u16; 41] = [
    8332, 8333, 8334, 18332, 18333, 18443, 18444, 38332, 38333, 48332, 48333, 9332, 9333, 19332,
    19333, 19335, 9998, 9999, 19998, 19999, 22555, 22556, 8232, 8233, 18232, 18233, 8766, 8767,
    18080, 18081, 18089, 28080, 28081, 38080, 38081, 30303, 8545, 8546, 16110, 16111, 9735,
];

/// Ports on which people run the web besides the usual ones. Event streams, websockets and long polls
/// are as common there.
const OTHER_WEB_PORTS: [u16; 22] = [
    81, 591, 2083, 2087, 2096, 3000, 3001, 4200, 4443, 5000, 5001, 5173, 7860, 8001, 8081, 8082,
    8088, 8090, 8501, 9000, 9090, 9443,
];

/// Ports of protocols whose sessions are long and thin: remote shells, mail, name and directory
/// services, databases, queues, telemetry, watches, media relays, virtual networks.
const SERVICE_PORTS: [u16; 44] = [
    22, 25, 53, 88, 123, 143, 179, 389, 465, 587, 636, 853, 873, 993, 995, 1194, 1433, 1521, 1883,
    2049, 2181, 2379, 2380, 3306, 3389, 3478, 4222, 4317, 4318, 5222, 5223, 5228, 5349, 5432, 5671,
    5672, 6379, 6443, 8883, 9092, 9093, 9200, 9300, 27017,
];

/// Whether pools are known to listen on this port.
pub(super) fn is_pool_port(port: u16) -> bool {
    STRATUM_PORTS.contains(&port) || MORE_POOL_PORTS.contains(&port)
}

/// Judges one session.
pub(super) fn unlisted(
    session: &Session,
    compute_state: Option<&Compute>,
    around: Around<'_>,
) -> Option<Crossing> {
    let shape = shape_nats(session);
    if shape < FAMILY_NATS_MAX / 3.0 {
        return None;
    }
    let (compute, words) = compute(compute_state, session);
    let (mut destination, against) = destination_nats(session, around);
    if compute > FAMILY_NATS_MAX / 2.0 && is_led_by_far_side(session) {
        destination += LED_BY_POOL_NATS;
    }
    // Nothing that is subtracted can make the rest more than its families allow.
    let score = (shape + compute + destination).min(FAMILY_NATS_MAX * 3.0);
    let (mut severity, mut threshold) = ruling(score)?;
    let mut against = against;
    if severity == Severity::Quarantine && may_be_named_stream(session, around) {
        (severity, threshold) = (Severity::Alert, ALERT_NATS);
        against.push("without its name, an event stream of a web service looks the same");
    }
    let contact_count = u64::from(session.connection_count.max(1));
    let word = Word {
        signature: Signature::Mining,
        severity,
        contact_count,
        score,
    };
    if !around.told.is_news(word) {
        return None;
    }
    let name = around.names.telling(session.target.host);
    let mut summary = format!(
        "A thin, steady session with {} lasted {}, as with a mining pool.",
        said(session.target, name),
        duration::rounded(session.covered_us)
    );
    if let Some(words) = words {
        summary = format!("{} {words}", summary.replace(", as with a mining pool", ""));
    }
    let example = Example {
        time: session.first,
        destination: session.target.host,
        port: session.target.port,
        transport: session.target.transport,
        outcome: Outcome::Answered,
        name: name.cloned(),
    };
    Some(Crossing {
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

/// What the shape adds: the longer a pod keeps such a session, the less it is chance.
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

/// What the processors add, and in which words.
pub(super) fn compute(compute: Option<&Compute>, session: &Session) -> (f64, Option<String>) {
    let (nats, words) = compute.map_or((0.0, None), |compute| compute.nats(session));
    (clipped(nats), words)
}

/// What the destination and the surroundings add or take away, and what speaks against it.
fn destination_nats(session: &Session, around: Around<'_>) -> (f64, Vec<&'static str>) {
    let mut tally = Tally::default();
    let (port, host) = (session.target.port, session.target.host);
    let is_inside = around.config.scopes.classify(host) != Scope::Internet;
    let is_stratum = STRATUM_PORTS.contains(&port);
    match around.names.class(host) {
        Some(NameClass::Pool) => tally.add(POOL_NAME_NATS),
        Some(NameClass::PoolLike) => tally.add(POOL_LIKE_NAME_NATS),
        Some(NameClass::Plain) => tally.take(PLAIN_NAME_NATS, "the destination has a plain name"),
        None if is_inside => {}
        None if around.names.are_all_kept() => tally.add(UNNAMED_NATS),
        None if around.names.has_any() => {}
        None => tally.take(
            NO_NAMES_NATS,
            "the log holds no names, so the destination may have one",
        ),
    }
    if is_stratum {
        tally.add(STRATUM_PORT_NATS);
    } else if is_web(port) {
        tally.take(WEB_PORT_NATS, "anything can be behind a port of the web");
    } else if NODE_PORTS.contains(&port) {
        tally.take(
            SERVICE_PORT_NATS,
            "the port is that of a currency's own nodes, which keep such sessions",
        );
    } else if SERVICE_PORTS.contains(&port) {
        tally.take(
            SERVICE_PORT_NATS,
            "the port is that of a service with long sessions",
        );
    } else {
        tally.take(OTHER_PORT_NATS, "the port is no usual one of a pool");
    }
    if is_inside {
        tally.take(
            INSIDE_NATS,
            "the destination is inside, where such sessions are usual",
        );
    }
    surroundings(session, around, is_stratum, &mut tally);
    (
        tally.added.min(UNLISTED_NATS_MAX) - tally.taken,
        tally.against,
    )
}

/// Whether the session may be an event stream, a websocket or a long poll of a web service whose name the
/// log did not show. Beside a busy processor that is what an agent's own work looks like, so it is not
/// enough to act on. Only where all names of the pod are known does a missing one say something.
fn may_be_named_stream(session: &Session, around: Around<'_>) -> bool {
    let target = session.target;
    let is_web_like = is_web(target.port) || OTHER_WEB_PORTS.contains(&target.port);
    let is_nameless = around.names.class(target.host).is_none() && !around.names.are_all_kept();
    is_web_like && is_nameless
}

fn is_led_by_far_side(session: &Session) -> bool {
    let volume = session.volume();
    session.has_volume && volume.bytes_in >= volume.bytes_out.saturating_mul(2)
}

fn surroundings(session: &Session, around: Around<'_>, is_stratum: bool, tally: &mut Tally) {
    let volume = session.volume();
    let (out, back) = (volume.bytes_out, volume.bytes_in);
    if session.has_volume
        && out.saturating_mul(PUSHER_RATIO_PER) > back.saturating_mul(PUSHER_RATIO)
    {
        // Pools of memory-hard accelerator coins get more than they send; pushers use no such port.
        if !is_stratum {
            tally.take(PUSHER_NATS, "it sends more than it gets, as telemetry does");
        }
    }
    let at_once = around
        .sessions
        .iter()
        .filter(|other| other.covered_us >= PIECE_US && other.overlaps(session))
        .count();
    if at_once >= MANY_SESSIONS {
        tally.take(
            ONE_OF_MANY_NATS,
            "it is one of many such sessions at a time",
        );
    }
    if around.sessions.host_count() >= MANY_HOSTS {
        tally.take(
            MANY_HOSTS_NATS,
            "the pod reaches many hosts, as peer-to-peer clients do",
        );
    }
    let pieces = i64::from(session.connection_count.max(1));
    if pieces > 1 && session.covered_us / pieces < PIECE_US {
        tally.take(
            PIECES_NATS,
            "its connections are short, as kept-alive requests are",
        );
    }
}

/// Nats for and against.
#[derive(Debug, Default)]
struct Tally {
    added: f64,
    taken: f64,
    against: Vec<&'static str>,
}

impl Tally {
    fn add(&mut self, nats: f64) {
        self.added += nats;
    }

    fn take(&mut self, nats: f64, why: &'static str) {
        self.taken += nats;
        self.against.push(why);
    }
}

fn said(target: Target, name: Option<&BoundedText>) -> String {
    let address = format!("{} port {}", target.host, target.port);
    match name {
        Some(name) => format!("{} ({address})", crate::model::clip(name.as_str(), 80)),
        None => address,
    }
}
