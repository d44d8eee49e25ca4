//! Rollup servers in this process over stores in memory, sidecars that stream to them, and the binary itself.

mod admin;
mod binary;
mod membership;
mod stopping;
mod streams;
mod world;
