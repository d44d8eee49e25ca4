//! In which order rows are sent: each once, and some a second time a little later.

use std::collections::BTreeMap;

use fastrand::Rng;

/// Chooses what is sent twice, and when.
#[derive(Debug)]
pub struct Schedule<T> {
    share: f64,
    seed: u64,
    /// A second sending follows at most so many first ones later.
    reach: u64,
    firsts: u64,
    /// What is to be sent again, by the number of first sendings that are to come before it.
    again: BTreeMap<u64, Vec<T>>,
}

impl<T> Schedule<T> {
    /// `share` of the rows are sent again, at most `reach` rows later.
    pub fn new(share: f64, seed: u64, reach: u64) -> Self {
        Self { share, seed, reach, firsts: 0, again: BTreeMap::new() }
    }

    /// Whether a row is to be sent twice: always the same for the same seed.
    pub fn is_sent_twice(&self, row: u64) -> bool {
        self.generator(row).f64() < self.share
    }

    /// A row is sent for the first time; `again` is what to send if it is to be sent twice.
    pub fn first(&mut self, row: u64, again: Option<T>) {
        self.firsts += 1;
        if let Some(again) = again {
            let mut generator = self.generator(row);
            // The first number chose the row; the second chooses the moment.
            generator.u64(..);
            self.again.entry(self.firsts + generator.u64(0..=self.reach)).or_default().push(again);
        }
    }

    /// What is due to be sent again.
    pub fn due(&mut self) -> Option<T> {
        let at = *self.again.first_key_value()?.0;
        if at <= self.firsts { self.take(at) } else { None }
    }

    /// What is left to be sent again, after the last row.
    pub fn rest(&mut self) -> Option<T> {
        let at = *self.again.first_key_value()?.0;
        self.take(at)
    }

    fn take(&mut self, at: u64) -> Option<T> {
        let mut due = self.again.remove(&at)?;
        let one = due.pop();
        if !due.is_empty() {
            self.again.insert(at, due);
        }
        one
    }

    fn generator(&self, row: u64) -> Rng {
        Rng::with_seed(self.seed ^ row.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in the order they are sent.
    fn order(share: f64, seed: u64, reach: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(share, seed, reach);
        let mut order = Vec::new();
        for row in 1..=2_000 {
            while let Some(again) = schedule.due() {
                order.push(again);
            }
            let again = schedule.is_sent_twice(row).then_some(row);
            schedule.first(row, again);
            order.push(row);
        }
        order.extend(std::iter::from_fn(|| schedule.rest()));
        order
    }

    #[test]
    fn every_row_is_sent_once_and_the_share_a_second_time_a_little_later() {
        let order = order(0.2, 1, 10);
        let resent = order.len() - 2_000;
        assert!((300..500).contains(&resent), "{resent}");
        for row in 1..=2_000 {
            let places: Vec<_> = order.iter().enumerate().filter(|(_, sent)| **sent == row).map(|(at, _)| at).collect();
            match places[..] {
                [_] => {}
                [first, again] => {
                    let rows_between = order[first + 1..again].iter().filter(|between| **between > row).count();
                    assert!(rows_between <= 20, "{row}: {rows_between}");
                }
                _ => panic!("row {row} is sent {} times", places.len()),
            }
        }
    }

    #[test]
    fn the_order_depends_on_the_seed_alone() {
        assert_eq!(order(0.5, 7, 10), order(0.5, 7, 10));
        assert_ne!(order(0.5, 7, 10), order(0.5, 8, 10));
        assert_eq!(order(0.0, 7, 10), (1..=2_000).collect::<Vec<_>>());
        assert_eq!(order(1.0, 7, 10).len(), 4_000);
    }
}
