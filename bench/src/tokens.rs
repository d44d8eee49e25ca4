//! Idempotency tokens for those who do not use the client library: as long and as unique as its own, and cheaper to make.

use uuid::Uuid;

/// A source of tokens: 64 random bits of its own and a number.
#[derive(Debug, Clone)]
pub struct Tokens {
    source: u64,
    made: u64,
}

impl Tokens {
    /// A source unlike any other.
    pub fn new() -> Self {
        let (_, random) = Uuid::now_v7().as_u64_pair();
        Self { source: random, made: 0 }
    }

    /// How many it has made.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// The text of a new token: 32 hexadecimal digits, as the client library's.
    pub fn next_text(&mut self) -> String {
        self.made += 1;
        format!("{:016x}{:016x}", self.source, self.made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_tokens_of_any_sources_are_alike() {
        let mut sources = [Tokens::new(), Tokens::new()];
        let texts: HashSet<_> = (0..1_000).map(|nth| sources[nth % 2].next_text()).collect();
        assert_eq!(texts.len(), 1_000);
        assert!(texts.iter().all(|text| text.len() == 32));
    }
}
