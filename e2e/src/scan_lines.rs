//! Generates lines of a ulogd2 log in which a pod scans, for tests that need no recording.
//!
//! Each line is a packet that was blocked: one failed first contact, judged at once. A connection of a
//! neighbour that passed comes first: in a log of drops alone a scan is an alert at most.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::json;

use crate::lines::answered_now;

/// The first address that is scanned: a private one. What a policy denies on its way to the Internet is
/// an alert at most.
const FIRST_TARGET: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
const PORT: u16 = 22;

/// Who has the connection that passes. No pod of a test has this address.
const NEIGHBOUR: &str = "10.255.0.2";

/// Lines that are written before those of the first target.
pub const LINES_OF_NEIGHBOUR: u32 = 1;

/// The scan of one pod over one port. Every target comes once.
#[derive(Clone, Debug)]
pub struct ScanLines {
    source: String,
    next: u32,
}

impl ScanLines {
    /// A scan by the pod that has this address.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            next: 0,
        }
    }

    /// The lines of the next `count` targets, each with its newline, as logged now. Before the first of all is
    /// the neighbour's line.
    pub fn take(&mut self, count: u32) -> String {
        let lines = self.next..self.next + count;
        let neighbour = (self.next == 0).then(passed);
        self.next += count;
        let scan = lines.map(|nth| {
            let target = Ipv4Addr::from_bits(FIRST_TARGET.to_bits() + nth);
            blocked(&self.source, &target.to_string(), PORT)
        });
        neighbour.into_iter().chain(scan).collect()
    }
}

/// One line about a contact of somebody else.
#[must_use]
pub fn other_line(source: &str) -> String {
    blocked(source, "203.0.113.9", 443)
}

/// The end of a connection that was answered.
fn passed() -> String {
    let [_, mut line] = answered_now(NEIGHBOUR).map(|line| line.to_string());
    line.push('\n');
    line
}

fn blocked(source: &str, target: &str, port: u16) -> String {
    let now = Timestamp::now();
    let mut line = json!({
        "oob.time.sec": now.as_second(),
        "oob.time.usec": now.subsec_microsecond(),
        "oob.hook": 2,
        "oob.prefix": "",
        "raw.pktlen": 60,
        "action": "blocked",
        "ip.protocol": 6,
        "src_ip": source,
        "src_port": 40_000,
        "dest_ip": target,
        "dest_port": port,
        "tcp.syn": 1,
        "tcp.ack": 0,
        "tcp.rst": 0,
    })
    .to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use yellowjack::testing::model::{Outcome, Signal};
    use yellowjack::testing::signals::decode::{Decoded, Format, decode};

    #[test]
    fn after_a_neighbours_connection_each_line_is_a_denied_contact_of_a_new_target() {
        let mut lines = ScanLines::new("10.244.9.1");
        let text = lines.take(2) + &lines.take(1);
        let first = text.lines().next().unwrap();
        match decode(Format::Ulogd, first.as_bytes()) {
            Decoded::Signal(Signal::Flow(flow)) => assert_eq!(flow.outcome, Outcome::Answered),
            other => panic!("{other:?}"),
        }
        let targets: Vec<_> = text
            .lines()
            .skip(1)
            .map(|line| match decode(Format::Ulogd, line.as_bytes()) {
                Decoded::Signal(Signal::Flow(flow)) => {
                    assert_eq!(flow.outcome, Outcome::Denied);
                    flow.destination.to_string()
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(targets, ["172.20.0.1", "172.20.0.2", "172.20.0.3"]);
    }
}
