//! Randomness from one seed: each component draws from its own stream, so that a new draw in one shifts no other.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One component's stream of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of the `index`-th `component` in the run of `seed`.
    pub fn stream(seed: u64, component: &str, index: usize) -> Self {
        Self { state: xxh3_64_with_seed(component.as_bytes(), seed ^ (index as u64).rotate_left(32)) }
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.number() >> 11) as f64 / (1_u64 << 53) as f64) < probability
    }

    /// A span from `low` to `high`, both in milliseconds, in steps of a microsecond.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        let span = (high - low) * 1_000;
        Duration::from_micros(low * 1_000 + if span == 0 { 0 } else { self.number() % (span + 1) })
    }

    /// A signed number of microseconds, up to `limit` either way.
    pub fn offset(&mut self, limit: Duration) -> i64 {
        let limit = limit.as_micros() as i64;
        if limit == 0 { 0 } else { (self.number() % (2 * limit as u64 + 1)) as i64 - limit }
    }

    pub fn pick<'a, T>(&mut self, options: &'a [T]) -> &'a T {
        &options[self.below(options.len())]
    }

    /// `items` in random order.
    pub fn shuffled<const N: usize>(&mut self, mut items: [usize; N]) -> [usize; N] {
        for last in (1..N).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_are_repeatable_and_independent() {
        let draws = |component, index| {
            let mut random = Random::stream(7, component, index);
            (0..8).map(|_| random.number()).collect::<Vec<_>>()
        };
        assert_eq!(draws("client", 0), draws("client", 0));
        assert_ne!(draws("client", 0), draws("client", 1));
        assert_ne!(draws("client", 0), draws("network", 0));
    }
}
