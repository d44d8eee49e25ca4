//! What replies taught the client about namespaces: whether they honour idempotency tokens.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use tonic::metadata::MetadataMap;

use crate::TOKEN_HONOURED;

/// Per namespace, whether its last reply said that tokens are honoured. It holds only namespaces that a server said it
/// serves, so it stays small.
#[derive(Debug, Default)]
pub(super) struct TokenSupport {
    honoured: RwLock<HashMap<Box<str>, bool>>,
}

impl TokenSupport {
    /// `None` until a reply has said.
    pub(super) fn get(&self, namespace: &str) -> Option<bool> {
        let known = self.honoured.read().unwrap_or_else(PoisonError::into_inner);
        known.get(namespace).copied()
    }

    pub(super) fn set(&self, namespace: &str, honoured: bool) {
        // Nearly every reply repeats what is known; it takes no write lock.
        if self.get(namespace) != Some(honoured) {
            let mut known = self.honoured.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(namespace.into(), honoured);
        }
    }

    /// Learns from the metadata of a reply or of an error.
    pub(super) fn learn(&self, namespace: &str, metadata: &MetadataMap) {
        match metadata.get(TOKEN_HONOURED).map(|value| value.as_bytes()) {
            Some(b"true") => self.set(namespace, true),
            Some(b"false") => self.set(namespace, false),
            _ => {}
        }
    }
}
