//! End to end: the built binary as a server, the built binary as a client, on loopback ports and folders of their own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod commands;
mod configuration;
mod crash;
mod data;
mod flights;
mod memcached;
mod plan;
mod process;
mod promises;
mod quick_start;
mod schema;
mod server;
mod traces;
