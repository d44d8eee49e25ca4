//! The counters that a scenario adds to, and what was acknowledged of each.

use std::sync::Arc;

/// Names of counters, shared by all callers.
#[derive(Debug, Clone)]
pub struct Counters(Arc<Vec<String>>);

impl Counters {
    /// Counters as an application might name them.
    pub fn new(count: usize) -> Self {
        Self(Arc::new((0..count).map(|nth| format!("video/{nth:08}")).collect()))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The account of one of the callers, who starts at a place of its own.
    pub fn acknowledged(&self, caller: usize) -> Acknowledged {
        Acknowledged { counters: self.clone(), adds: vec![0; self.0.len()], next: caller * 7_919 % self.0.len() }
    }
}

/// One caller's account: what was acknowledged to it, by counter.
#[derive(Debug)]
pub struct Acknowledged {
    counters: Counters,
    adds: Vec<u32>,
    next: usize,
}

impl Acknowledged {
    /// The counter to add to next: all of them in turn.
    pub fn next(&mut self) -> (usize, &str) {
        let index = self.next;
        self.next = (index + 1) % self.adds.len();
        (index, &self.counters.0[index])
    }

    /// An add of 1 was acknowledged.
    pub fn record(&mut self, index: usize) {
        self.adds[index] += 1;
    }

    /// What was acknowledged to all of them, by counter.
    pub fn sum<'a>(accounts: impl Iterator<Item = &'a Self>) -> Vec<u64> {
        let mut total: Vec<u64> = Vec::new();
        for account in accounts {
            total.resize(account.adds.len(), 0);
            total.iter_mut().zip(&account.adds).for_each(|(total, adds)| *total += u64::from(*adds));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_goes_round_all_counters_and_accounts_add_up() {
        let counters = Counters::new(3);
        let mut accounts = [counters.acknowledged(0), counters.acknowledged(1)];
        for account in &mut accounts {
            for _ in 0..4 {
                let (index, _) = account.next();
                account.record(index);
            }
        }
        let total = Acknowledged::sum(accounts.iter());
        assert_eq!(total.iter().sum::<u64>(), 8);
        assert!(total.iter().all(|adds| *adds >= 2));
    }
}
