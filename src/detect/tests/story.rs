//! Scenarios: the signals of a pod over minutes, in order of time.

use super::*;
use crate::model::{ComputeSample, GpuSample};

/// A connection as a log of connections has it.
#[derive(Clone, Copy)]
pub(super) struct Session {
    pub(super) host: &'static str,
    pub(super) port: u16,
    pub(super) from: i64,
    pub(super) seconds: u64,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
    pub(super) packets: u64,
}

/// Ten minutes and more with a pool of a processor coin behind an unknown proxy: figures of a real
/// one, stretched.
pub(super) const POOL: Session = Session {
    host: "198.51.100.7",
    port: 443,
    from: 100,
    seconds: 1_200,
    bytes_out: 6_000,
    bytes_in: 40_000,
    packets: 400,
};

/// A tracker that gets the figures of a training run every 15 s.
pub(super) const TRACKER: Session = Session {
    bytes_out: 120_000,
    bytes_in: 40_000,
    packets: 800,
    ..POOL
};

impl Session {
    pub(super) fn flow(&self) -> Flow<'static> {
        Flow {
            source_port: 40_000 + u16::try_from(self.from % 20_000).unwrap(),
            volume: Some(Volume {
                bytes_out: self.bytes_out,
                bytes_in: self.bytes_in,
                packets_out: self.packets / 2,
                packets_in: self.packets / 2,
                duration_us: self.seconds * 1_000_000,
                is_final: true,
            }),
            ..flow(self.host, self.port, Outcome::Answered, self.from)
        }
    }

    pub(super) fn signal(&self) -> Signal<'static> {
        Signal::Flow(self.flow())
    }
}

pub(super) fn cpu(seconds: i64, cpu: f64) -> Signal<'static> {
    Signal::Sample(ComputeSample {
        time: at(seconds),
        pod: "10.244.0.5".into(),
        cpu: Some(cpu),
        gpu: None,
    })
}

pub(super) fn gpu(seconds: i64, gpu: GpuSample) -> Signal<'static> {
    Signal::Sample(ComputeSample {
        time: at(seconds),
        pod: "10.244.0.5".into(),
        cpu: None,
        gpu: Some(gpu),
    })
}

/// A number between -1 and 1, the same on every run.
pub(super) fn noise(n: i64) -> f64 {
    let hash = u32::try_from(n).unwrap_or(0).wrapping_mul(2_654_435_761) >> 16;
    f64::from(hash) / 32_768.0 - 1.0
}

impl Bench {
    /// Another name than the session's is looked up, so the pod is known to use names.
    pub(super) fn with_names(mut self) -> Self {
        self.signal(&dns("pypi.example.org", &["192.0.2.80"], 0));
        self
    }

    pub(super) fn named(mut self, name: &str, host: &str) -> Self {
        self.signal(&dns(name, &[host], 0));
        self
    }

    /// Idle until 130 s, then `level` give or take `spread` until 1,300 s, one sample per 10 s.
    pub(super) fn plateau(&mut self, level: f64, spread: f64) -> &mut Self {
        for seconds in (0..1_300).step_by(10) {
            let base = if seconds < 130 { level / 8.0 } else { level };
            self.signal(&cpu(seconds, base + spread * noise(seconds)));
        }
        self
    }

    pub(super) fn session(&mut self, session: Session) -> &mut Self {
        self.signal(&session.signal())
    }
}
