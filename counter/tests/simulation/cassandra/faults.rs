//! What may go wrong between processes and replicas, and how often.

use std::time::Duration;

use crate::random::Random;

/// Probabilities of one run's faults, each per message or per request.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// A message to a replica is lost.
    pub drop: f64,
    /// A lost write becomes a hint.
    pub hint: f64,
    /// How late hints are delivered, in milliseconds.
    pub hint_delay_ms: (u64, u64),
    /// A message takes [`Faults::slow_ms`].
    pub slow: f64,
    pub slow_ms: (u64, u64),
    /// What other messages take, in microseconds.
    pub latency_us: (u64, u64),
    /// The coordinator refuses before it does anything.
    pub unavailable: f64,
    /// A write's acknowledgement does not come back.
    pub ack_lost: f64,
    /// The nodes' clocks cannot be read.
    pub node_clocks: f64,
    /// The most rows in a page, whatever was asked for.
    pub page_rows_max: usize,
    /// When a coordinator gives up, in milliseconds.
    pub request_timeout_ms: u64,
}

impl Faults {
    /// Nothing goes wrong; messages still take time.
    pub fn none() -> Self {
        Self {
            drop: 0.0,
            hint: 1.0,
            hint_delay_ms: (100, 1_000),
            slow: 0.0,
            slow_ms: (10, 100),
            latency_us: (200, 3_000),
            unavailable: 0.0,
            ack_lost: 0.0,
            node_clocks: 0.0,
            page_rows_max: 1_000,
            request_timeout_ms: 1_000,
        }
    }

    /// Some runs are calm, some are rough.
    pub fn drawn(random: &mut Random) -> Self {
        let roughness = *random.pick(&[0.1, 0.5, 1.0, 2.0]);
        Self {
            drop: 0.03 * roughness,
            hint: *random.pick(&[0.3, 0.7, 1.0]),
            hint_delay_ms: (500, *random.pick(&[5_000, 30_000, 60_000])),
            slow: 0.02 * roughness,
            slow_ms: (50, *random.pick(&[300, 1_500, 4_000])),
            latency_us: (200, *random.pick(&[2_000, 8_000])),
            unavailable: 0.005 * roughness,
            ack_lost: 0.01 * roughness,
            node_clocks: 0.02 * roughness,
            page_rows_max: *random.pick(&[1, 3, 1_000]),
            request_timeout_ms: *random.pick(&[300, 800]),
        }
    }

    /// How long one message takes.
    pub fn latency(&self, random: &mut Random) -> Duration {
        if random.chance(self.slow) {
            return random.millis(self.slow_ms.0, self.slow_ms.1);
        }
        let (low, high) = self.latency_us;
        Duration::from_micros(low + random.below((high - low + 1) as usize) as u64)
    }
}
