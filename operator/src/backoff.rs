//! How long to wait after failures. Pure.

use std::time::Duration;

/// A wait that doubles with each failure, up to a most.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer than this.
    pub most: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row: up to a quarter shorter, differently for each `of`, so that what failed together
    /// is not tried again together.
    #[must_use]
    pub fn after(&self, failures: u32, of: &str) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(self.most);
        let spread = xxhash_rust::xxh3::xxh3_64(of.as_bytes()) % 256;
        doubled - doubled.mul_f64(0.25 * spread as f64 / 256.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_most_and_differs_by_name() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };
        let waits: Vec<_> = (1..12).map(|failures| backoff.after(failures, "plays")).collect();
        assert!(waits.is_sorted());
        for (failures, wait) in (1_u32..).zip(&waits) {
            let whole = Duration::from_secs(60.min(1 << (failures - 1)));
            assert!(*wait <= whole && *wait >= whole.mul_f64(0.75), "{failures}: {wait:?}");
        }
        assert_ne!(backoff.after(1, "plays"), backoff.after(1, "likes"));
        assert_eq!(backoff.after(u32::MAX, "plays"), backoff.after(12, "plays"));
    }
}
