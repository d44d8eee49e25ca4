//! Rollup servers in this process over stores in memory, sidecars that stream to them, and the binary itself.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod admin;
mod binary;
mod membership;
mod stopping;
mod streams;
mod tls;
mod world;
