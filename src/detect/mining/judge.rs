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
//! What remains: a miner that buys a plain name on port 443 is an alert, not a quarantine; one
//! that sends more than it gets there is not found without accelerator evidence or a list.

use super::super::contacts::Target;
use super::super::fusion::{FAMILY_NATS_MAX, clipped, ruling};
use super::super::names::NameClass;
use super::super::scan::{Crossing, span_us};
use super::super::scope::Scope;
use super::super::session::{Session, is_web};
use super::super::told::Word;
use super::Around;
use super::compute::Compute;
use crate::limits;
use crate::model::{BoundedText, Evidence, Example, Outcome, Signature};

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

/// Ports that pools commonly list and that hardly anything else uses.
const STRATUM_PORTS: [u16; 25] = [
    3333, 3334, 3335, 3336, 3357, 4444, 5555, 5556, 5588, 5730, 6666, 7777, 7778, 8333, 8899, 9332,
    9999, 13333, 14433, 14444, 17777, 20535, 45560, 45700, 10128,
];

/// Ports of protocols whose sessions are long and thin: remote shells, mail, name and directory
/// services, databases, queues, telemetry, watches, media relays, virtual networks.
const SERVICE_PORTS: [u16; 44] = [
    22, 25, 53, 88, 123, 143, 179, 389, 465, 587, 636, 853, 873, 993, 995, 1194, 1433, 1521, 1883,
    2049, 2181, 2379, 2380, 3306, 3389, 3478, 4222, 4317, 4318, 5222, 5223, 5228, 5349, 5432, 5671,
    5672, 6379, 6443, 8883, 9092, 9093, 9200, 9300, 27017,
];

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
    let (severity, threshold) = ruling(score)?;
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
        span_us(session.covered_us)
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
