//! Makes idempotency tokens.

use std::{sync::Arc, time::SystemTime};

use uuid::Uuid;

use crate::{proto::IdempotencyToken, time::Timestamp};

/// What the API's 256 bytes leave beside a slash and the 32 digits of a UUID.
const SOURCE_BYTES_MAX: usize = 256 - 1 - 32;

/// Makes idempotency tokens: a UUIDv7 behind the name of their source, and the client's now in microseconds.
#[derive(Debug, Clone, Default)]
pub struct TokenSource {
    source: Option<Arc<str>>,
}

impl TokenSource {
    /// Tokens without a source.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Tokens that name their source, usually the pod: `<source>/<uuid>`. Of a source longer than 223 bytes the end is
    /// taken, where pods of one set differ, so that a token keeps within 256 bytes.
    pub fn named(source: &str) -> Self {
        let start = source.ceil_char_boundary(source.len().saturating_sub(SOURCE_BYTES_MAX));
        Self { source: Some(source[start..].into()) }
    }

    /// A token for one mutation, made now.
    #[allow(
        clippy::disallowed_methods,
        reason = "the client's wall clock is what generation_time is; no engine code runs here"
    )]
    pub fn next(&self) -> IdempotencyToken {
        self.token(Uuid::now_v7(), SystemTime::now())
    }

    fn token(&self, id: Uuid, now: SystemTime) -> IdempotencyToken {
        let id = id.simple();
        IdempotencyToken {
            token: match &self.source {
                Some(source) => format!("{source}/{id}"),
                None => id.to_string(),
            },
            generation_time: Some(Timestamp::from_system_time(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, time::Duration};

    #[test]
    fn a_token_names_its_source_and_its_time_is_truncated_to_microseconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_001_999);
        let token = TokenSource::named("web-0").token(Uuid::nil(), now);
        assert_eq!(token.token, "web-0/00000000000000000000000000000000");
        assert_eq!(token.generation_time, Some(Timestamp { seconds: 1, nanos: 1_000 }));
        let token = TokenSource::anonymous().token(Uuid::nil(), now);
        assert_eq!(token.token, "00000000000000000000000000000000");
    }

    #[test]
    fn the_longest_source_keeps_its_end_and_its_token_within_256_bytes() {
        let source = format!("{}-0", "é".repeat(200));
        let token = TokenSource::named(&source).next().token;
        assert!((254..=256).contains(&token.len()) && token.contains("é-0/"), "{token}");
    }

    #[test]
    fn tokens_differ_and_grow() {
        let source = TokenSource::anonymous();
        let tokens: Vec<_> = (0..1_000).map(|_| source.next().token).collect();
        assert!(tokens.is_sorted());
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len());
    }
}
