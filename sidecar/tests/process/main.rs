//! The built `tallyman-sidecar`, over folders of documents that come, change and are wrong. What it speaks to clients is
//! tested in `tests/api`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod documents;
mod keyspace;
mod options;
mod reloading;
mod sidecar;
mod starting;
mod unreachable;
